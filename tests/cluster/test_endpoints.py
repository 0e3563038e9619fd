from __future__ import annotations

import random
from typing import Any

import pytest

from labs.cluster.endpoints import HEADLESS_LABEL, endpoints, slices
from labs.cluster.mirroring import mirror
from labs.cluster.slicing import MANAGER_LABEL, SERVICE_LABEL, SLICE_SIZE
from labs.cluster.writes import Create, Delete, Replace, Write

Json = dict[str, Any]


def service(*, families: tuple[str, ...] = ("IPv4",), ports: list[Json] | None = None, **spec: Any) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": "n", "uid": "s", "labels": {"team": "a"}},
        "spec": {
            "selector": {"app": "web"},
            "ipFamilies": list(families),
            "clusterIP": "10.96.0.1",
            "ports": [{"name": "http", "port": 80, "targetPort": 8080}] if ports is None else ports,
            **spec,
        },
    }


def pod(number: int, *, ready: bool = True, leaving: bool = False, app: str = "web", **spec: Any) -> Json:
    metadata: Json = {"name": f"web-{number}", "namespace": "n", "uid": f"u{number}", "labels": {"app": app}}
    if leaving:
        metadata["deletionTimestamp"] = "2030-01-01T00:00:00Z"
    ips = [f"10.4.{number // 250}.{number % 250 + 2}", f"fd00::{number + 2:x}"]
    return {
        "metadata": metadata,
        "spec": {"nodeName": "node1", "containers": [{"name": "c"}], **spec},
        "status": {
            "phase": "Running",
            "podIPs": [{"ip": ip} for ip in ips],
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        },
    }


def apply(held: list[Json], writes: list[Write]) -> list[Json]:
    """The slices after the writes."""
    known = {each["metadata"]["name"]: each for each in held}
    for write in writes:
        assert isinstance(write, Create | Replace | Delete)
        name = write.obj["metadata"]["name"]
        if isinstance(write, Create):
            assert name not in known
        if isinstance(write, Delete):
            del known[name]
        else:
            known[name] = write.obj
    return list(known.values())


def addresses(held: list[Json]) -> list[str]:
    return sorted(each["addresses"][0] for one in held for each in one["endpoints"])


def test_one_slice_a_family_with_all_there_is_to_say() -> None:
    nodes = {"node1": {"metadata": {"labels": {"topology.kubernetes.io/zone": "z1"}}}}
    held = apply([], slices(service(families=("IPv6", "IPv4")), [pod(1)], nodes, []))
    assert [each["addressType"] for each in held] == ["IPv6", "IPv4"]
    (endpoint,) = held[1]["endpoints"]
    assert endpoint == {
        "addresses": ["10.4.0.3"],
        "conditions": {"ready": True, "serving": True, "terminating": False},
        "nodeName": "node1",
        "zone": "z1",
        "targetRef": {"kind": "Pod", "name": "web-1", "namespace": "n", "uid": "u1"},
    }
    assert held[1]["ports"] == [{"name": "http", "port": 8080, "protocol": "TCP"}]
    assert held[1]["metadata"]["labels"][SERVICE_LABEL] == "web"
    assert held[1]["metadata"]["labels"]["team"] == "a"
    assert held[1]["metadata"]["ownerReferences"][0]["uid"] == "s"


@pytest.mark.parametrize(
    ("states", "anyway", "conditions"),
    [
        ({}, False, (True, True, False)),
        ({"ready": False}, False, (False, False, False)),
        ({"leaving": True}, False, (False, True, True)),
        ({"ready": False}, True, (True, False, False)),
        ({"leaving": True}, True, (True, True, True)),
    ],
)
def test_conditions(states: Json, anyway: bool, conditions: tuple[bool, bool, bool]) -> None:
    held = apply([], slices(service(publishNotReadyAddresses=anyway), [pod(1, **states)], {}, []))
    told = held[0]["endpoints"][0]["conditions"]
    assert (told["ready"], told["serving"], told["terminating"]) == conditions


ZONES = {"node1": {"metadata": {"labels": {"topology.kubernetes.io/zone": "z1"}}}}
IN_ZONE, ON_NODE = {"forZones": [{"name": "z1"}]}, {"forNodes": [{"name": "node1"}]}


@pytest.mark.parametrize(
    ("wanted", "nodes", "states", "hints"),
    [
        (None, ZONES, {}, None),
        ("PreferClose", ZONES, {}, IN_ZONE),
        ("PreferSameZone", ZONES, {}, IN_ZONE),
        ("PreferSameNode", ZONES, {}, IN_ZONE | ON_NODE),
        ("PreferSameNode", {}, {}, ON_NODE),
        ("PreferClose", {}, {}, None),
        ("PreferClose", ZONES, {"ready": False}, None),
        ("PreferClose", ZONES, {"leaving": True}, None),
    ],
)
def test_hints(wanted: str | None, nodes: Json, states: Json, hints: Json | None) -> None:
    near = service(**({"trafficDistribution": wanted} if wanted else {}))
    held = apply([], slices(near, [pod(1, **states)], nodes, []))
    assert held[0]["endpoints"][0].get("hints") == hints
    assert slices(near, [pod(1, **states)], nodes, held) == []
    told = apply(held, slices(service(), [pod(1, **states)], nodes, held))
    assert "hints" not in told[0]["endpoints"][0], "hints go with the wish"


def test_pods_that_do_not_count() -> None:
    ended, bare = pod(1), pod(2)
    ended["status"]["phase"] = "Succeeded"
    bare["status"] = {"phase": "Pending"}
    held = apply([], slices(service(), [ended, bare, pod(3, app="other")], {}, []))
    assert [each["endpoints"] for each in held] == [[]]


def test_named_ports_are_resolved_pod_by_pod_and_split_the_slices() -> None:
    def serving(number: int, port: int) -> Json:
        return pod(number, containers=[{"name": "c", "ports": [{"name": "web", "containerPort": port}]}])

    ports = [{"port": 80, "targetPort": "web"}]
    pods = [serving(1, 8080), serving(2, 9090), serving(3, 8080), pod(4)]
    held = apply([], slices(service(ports=ports), pods, {}, []))
    by_port = {each["ports"][0]["port"]: addresses([each]) for each in held}
    assert by_port == {8080: ["10.4.0.3", "10.4.0.5"], 9090: ["10.4.0.4"]}


def test_a_headless_service_names_its_pods() -> None:
    named = pod(0, hostname="web-0", subdomain="web")
    held = apply([], slices(service(clusterIP="None", ports=[]), [named], {}, []))
    assert held[0]["endpoints"][0]["hostname"] == "web-0"
    assert HEADLESS_LABEL in held[0]["metadata"]["labels"]
    assert held[0]["ports"] == []


def test_slices_hold_a_hundred_and_change_one_at_a_time() -> None:
    pods = [pod(number) for number in range(250)]
    held = apply([], slices(service(), pods, {}, []))
    assert sorted(len(each["endpoints"]) for each in held) == [50, 100, 100]
    assert slices(service(), random.sample(pods, len(pods)), {}, held) == []

    pods[7] = pod(7, ready=False)
    writes = slices(service(), pods, {}, held)
    assert len(writes) == 1, "one pod's readiness rewrites one slice"
    held = apply(held, writes)
    writes = slices(service(), pods[1:], {}, held)
    assert len(writes) == 1, "one pod less rewrites one slice"
    held = apply(held, writes)
    writes = slices(service(), [*pods[1:], pod(300)], {}, held)
    assert len(writes) == 1, "one pod more rewrites one slice"


def test_any_sequence_of_changes_ends_with_exactly_the_pods_there_are() -> None:
    chance = random.Random(7)
    held: list[Json] = []
    alive: dict[int, Json] = {}
    for _ in range(60):
        for number in chance.sample(range(400), 30):
            if alive.pop(number, None) is None:
                alive[number] = pod(number, ready=chance.random() < 0.9)
        held = apply(held, slices(service(), list(alive.values()), {}, held))
        expected = sorted(each["status"]["podIPs"][0]["ip"] for each in alive.values())
        assert addresses(held) == expected, "every pod once, and no other"
        assert max(len(each["endpoints"]) for each in held) <= SLICE_SIZE


def test_a_service_without_pods_keeps_one_empty_slice_and_gone_families_go() -> None:
    held = apply([], slices(service(families=("IPv4", "IPv6")), [pod(1)], {}, []))
    held = apply(held, slices(service(), [], {}, held))
    assert [(each["addressType"], each["endpoints"]) for each in held] == [("IPv4", [])]
    assert slices(service(), [], {}, held) == []


def test_foreign_slices_and_services_without_selector_are_left_alone() -> None:
    foreign = {"metadata": {"name": "mine", "labels": {MANAGER_LABEL: "me"}}, "addressType": "IPv4", "endpoints": []}
    writes = slices(service(), [pod(1)], {}, [foreign])
    assert all(isinstance(each, Create) for each in writes)
    assert slices(service(selector=None), [pod(1)], {}, [foreign]) == []
    assert slices(service(type="ExternalName"), [pod(1)], {}, []) == []
    assert endpoints(service(selector=None), [pod(1)], None) == []


def test_endpoints_tell_ready_from_not_ready_in_the_first_family() -> None:
    (write,) = endpoints(service(families=("IPv6", "IPv4")), [pod(2), pod(1), pod(3, ready=False)], None)
    assert isinstance(write, Create)
    (subset,) = write.obj["subsets"]
    assert [each["ip"] for each in subset["addresses"]] == ["fd00::3", "fd00::4"]
    assert [each["targetRef"]["name"] for each in subset["notReadyAddresses"]] == ["web-3"]
    assert subset["ports"] == [{"name": "http", "port": 8080, "protocol": "TCP"}]
    assert endpoints(service(families=("IPv6", "IPv4")), [pod(1), pod(2), pod(3, ready=False)], write.obj) == []


@pytest.mark.parametrize(("anyway", "names"), [(False, ["web-1"]), (True, ["web-1", "web-2"])])
def test_endpoints_have_no_pod_that_is_leaving_unless_all_are_published(anyway: bool, names: list[str]) -> None:
    pods = [pod(1), pod(2, leaving=True)]
    (write,) = endpoints(service(publishNotReadyAddresses=anyway), pods, None)
    assert isinstance(write, Create)
    (subset,) = write.obj["subsets"]
    assert [each["targetRef"]["name"] for each in subset["addresses"]] == names
    assert "notReadyAddresses" not in subset


def test_endpoints_are_rewritten_when_a_pod_goes() -> None:
    (made,) = endpoints(service(), [pod(1), pod(2)], None)
    assert isinstance(made, Create)
    (write,) = endpoints(service(), [pod(2)], made.obj)
    assert isinstance(write, Replace)
    assert [each["ip"] for each in write.obj["subsets"][0]["addresses"]] == ["10.4.0.4"]
    assert endpoints(service(), [], write.obj) != []


def test_families_of_a_server_that_knows_none() -> None:
    old = service()
    del old["spec"]["ipFamilies"]
    assert [each["addressType"] for each in apply([], slices(old, [pod(1)], {}, []))] == ["IPv4"]
    old["spec"]["clusterIP"] = "None"
    assert [each["addressType"] for each in apply([], slices(old, [pod(1)], {}, []))] == ["IPv4", "IPv6"]


def test_pods_that_share_their_hosts_address_are_two_endpoints() -> None:
    pods = [pod(1), pod(2, ready=False)]
    pods[1]["status"]["podIPs"] = pods[0]["status"]["podIPs"]
    held = apply([], slices(service(), pods, {}, []))
    assert [each["conditions"]["ready"] for each in held[0]["endpoints"]] == [True, False]
    assert slices(service(), pods, {}, held) == []


def by_hand(*subsets: Json) -> Json:
    metadata = {"name": "web", "namespace": "n", "uid": "e"}
    return {"apiVersion": "v1", "kind": "Endpoints", "metadata": metadata, "subsets": list(subsets)}


def test_endpoints_written_by_hand_are_mirrored_by_family() -> None:
    bare = service(selector=None)
    ports = [{"name": "http", "port": 8080, "protocol": "TCP"}]
    both = [{"ip": "192.0.2.1"}, {"ip": "2001:db8::1", "hostname": "one"}]
    held = apply([], mirror(by_hand({"addresses": both, "ports": ports}), bare, []))
    assert {each["addressType"]: addresses([each]) for each in held} == {"IPv4": ["192.0.2.1"], "IPv6": ["2001:db8::1"]}
    assert held[0]["ports"] == ports
    assert held[0]["metadata"]["ownerReferences"][0]["kind"] == "Endpoints"
    assert mirror(by_hand({"addresses": both, "ports": ports}), bare, held) == []

    fewer = by_hand({"notReadyAddresses": both[:1], "ports": ports})
    held = apply(held, mirror(fewer, bare, held))
    assert [each["endpoints"][0]["conditions"] for each in held] == [{"ready": False}]
    assert apply(held, mirror(fewer, service(), held)) == [], "with a selector the service speaks for itself"
    assert apply(held, mirror(by_hand(), bare, held)) == []
