"""A lab of one node with little room: single tier, small subnets, short rest, wishes of namespaces and stateful sets."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from ipaddress import ip_address, ip_network

import pytest
from scapy.layers.inet import ICMP, IP
from scapy.layers.inet6 import ICMPv6EchoReply, IPv6

from labs.wish import Wish
from ncp.probe.model import Probe
from ncp.probe.run import ask, site
from ncp.probe.site import matrix
from ncp.probe.wire import Station, build
from tests.support.lab import Lab
from tests.wire.conftest import namespace, pod, receive

pytestmark = pytest.mark.lab
REST = 3
INI = f"""
[coe]
cluster = small
[k8s]
enable_namespace_subnets = True
statefulset_ip_range = True
[nsx_v3]
container_ip_blocks = 10.4.0.0/26, fd00:10:4::/56
no_snat_ip_blocks = 10.5.0.0/24, fd00:10:5::/56
subnet_prefix = 29
ip_reallocation_time = {REST}
single_tier_topology = True
[nsx_node_agent]
enable_ipv6 = True
[ncp]
exit_node = node1
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Iterator[Lab]:
    directory = tmp_path_factory.mktemp("small")
    (directory / "ncp.ini").write_text(INI)
    with Lab(directory / "state", Wish(topology="one-node", config=directory / "ncp.ini")) as lab:
        yield lab


@pytest.fixture
def space(small, request) -> Iterator[str]:
    """A namespace of the test's own, gone with everything in it at the end."""
    name = request.node.name.replace("_", "-")[5:35].strip("-")
    yield name
    small.kubectl("delete", "namespace", name, "--ignore-not-found", "--timeout=30s")


def annotations(lab, kind, name, namespace=""):
    return lab.get(kind, name, *(["-n", namespace] if namespace else []))["metadata"].get("annotations", {})


def ready(lab, space):
    lab.kubectl("wait", "pods", "-n", space, "--all", "--for=condition=Ready", "--timeout=30s")


def address(lab, space, name):
    return annotations(lab, "pod", name, space).get("ncp/port", "")


def test_ttl_falls_by_one_between_namespaces_under_one_router(small, space):
    other = f"{space[:20]}-b"
    small.apply(namespace(space), namespace(other), pod(f"{space}/a"), pod(f"{other}/b"))
    try:
        ready(small, space)
        ready(small, other)
        seen = site(None, small.state.root)
        source, destination = seen.endpoints[f"{space}/a"], seen.endpoints[f"{other}/b"]
        assert {s.router for s in seen.translation.intent.switches.values()} == {1}
        for family in (4, 6):
            with Station(source) as station:
                station.send(build(source, destination, Probe(source.name, destination.name, family, "icmp"), 9))
                answered = receive(station.receiving, lambda p: ICMP in p or ICMPv6EchoReply in p, 3)[-1]
            assert (answered[IP].ttl if family == 4 else answered[IPv6].hlim) == 63
    finally:
        small.kubectl("delete", "namespace", other, "--timeout=30s")


def test_a_full_subnet_is_followed_by_another_and_both_route_to_each_other(small, space):
    small.apply(namespace(space), *(pod(f"{space}/p{n}") for n in range(7)))  # a /29 has five addresses for pods
    ready(small, space)
    segments = json.loads(annotations(small, "namespace", space)["ncp/segments"])
    assert len(segments) >= 2  # more where a subnet's former addresses still rest
    seen = site(None, small.state.root)
    names = [f"{space}/p{n}" for n in range(7)]
    assert len({seen.endpoints[name].vni for name in names}) >= 2
    results = ask(seen, matrix(seen, names, (4, 6), ("icmp", "tcp")), quiet=True)
    assert len(results) == 7 * 6 * 2 * 2
    assert [r for r in results if not r.agrees] == []
    nets = [ip_network(g.rsplit("/", 1)[0] + "/29", strict=False) for s in segments for g in s["gateways"] if "." in g]
    for name in names:
        mine = ip_address(str(seen.endpoints[name].address(4)))
        net = next(net for net in nets if mine in net)
        assert mine not in (net.network_address, net.network_address + 1, net.broadcast_address)


def test_an_exhausted_block_keeps_a_pod_pending_with_a_reason_until_space_returns(small, space):
    hog = f"{space[:20]}-hog"
    small.apply(namespace(hog), *(pod(f"{hog}/p{n}") for n in range(32)))  # more than the /26 can hold

    def waiting():
        pods = small.get("pods", "-n", hog)["items"]
        return [
            p for p in pods if "IP_BLOCK_EXHAUSTED" in p["metadata"].get("annotations", {}).get("ncp/error.network", "")
        ]

    try:
        stuck = small.wait(waiting, "a pod says IP_BLOCK_EXHAUSTED")[0]
        name = stuck["metadata"]["name"]
        assert small.get("pod", name, "-n", hog)["status"]["phase"] == "Pending"
        events = small.get("events", "-n", hog, "--field-selector", f"involvedObject.name={name}")["items"]
        assert any("IP_BLOCK_EXHAUSTED" in (e["reason"], *e["message"].split(":")) for e in events)
        happy = next(
            p["metadata"]["name"]
            for p in small.get("pods", "-n", hog)["items"]
            if "ncp/port" in p["metadata"].get("annotations", {})
        )
        small.kubectl("delete", "pod", happy, "-n", hog)
        before = len(waiting())
        small.wait(lambda: len(waiting()) < before, "a waiting pod gets the address that came free", REST + 20)
    finally:
        small.kubectl("delete", "namespace", hog, "--timeout=60s")


def test_an_address_rests_before_it_is_used_again(small, space):
    small.apply(namespace(space), *(pod(f"{space}/p{n}") for n in range(5)))  # the whole subnet
    ready(small, space)
    first = json.loads(address(small, space, "p0"))["addresses"]
    small.kubectl("delete", "pod", "p0", "-n", space)
    released = time.monotonic()
    small.apply(pod(f"{space}/next"))
    second = json.loads(small.wait(lambda: address(small, space, "next"), "the next pod is decided"))["addresses"]
    assert second[0] != first[0]
    assert time.monotonic() - released < REST, "the decision came while the address still rested"
    small.wait(lambda: time.monotonic() - released > REST + 1, "the rest is over", REST + 5)
    used = {second[0]}
    for n in range(10, 40):  # free addresses are used in turn: its own comes within the namespace's few subnets
        small.apply(pod(f"{space}/p{n}"))
        used.add(json.loads(small.wait(lambda n=n: address(small, space, f"p{n}"), f"p{n} is decided"))["addresses"][0])
        if first[0] in used:
            break
    assert first[0] in used


def test_a_namespaces_own_subnets_are_honoured_at_creation_only(small, space):
    wished = namespace(space)
    wished["metadata"]["annotations"] = {"ncp/subnets": "10.9.0.0/28,fd09::/64"}
    small.apply(wished, pod(f"{space}/a"))
    ready(small, space)
    assert small.get("pod", "a", "-n", space)["status"]["podIP"].startswith("10.9.0.")
    before = annotations(small, "namespace", space)["ncp/segments"]
    small.kubectl("annotate", "namespace", space, "ncp/subnets=10.9.1.0/28", "--overwrite")
    small.wait(
        lambda: (
            annotations(small, "namespace", space)
            .get("ncp/error.subnets", "")
            .startswith("SUBNETS_ON_EXISTING_NAMESPACE_NOT_SUPPORTED")
        ),
        "the change is refused",
    )
    assert annotations(small, "namespace", space)["ncp/segments"] == before


def test_a_no_snat_namespace_has_its_addresses_from_its_own_block(small, space):
    wished = namespace(space)
    wished["metadata"]["annotations"] = {"ncp/no_snat": "true"}
    small.apply(wished, pod(f"{space}/a"))
    ready(small, space)
    assert small.get("pod", "a", "-n", space)["status"]["podIP"].startswith("10.5.0.")
    assert json.loads(annotations(small, "namespace", space)["ncp/segments"])[0]["snat"] is False


def stateful(space, name, replicas, ip_range):
    template = {
        "metadata": {"labels": {"app": name}, "annotations": {"ncp/ip_range": ip_range}},
        "spec": {"containers": [{"name": "main", "image": "lab/responder"}]},
    }
    spec = {"serviceName": name, "replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template}
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": name, "namespace": space},
        "spec": spec,
    }


def test_stateful_pods_keep_their_addresses_and_say_when_the_range_is_wrong_or_used_up(small, space):
    wished = namespace(space)
    wished["metadata"]["annotations"] = {"ncp/subnets": "10.9.8.0/24"}
    small.apply(wished)
    small.wait(lambda: "ncp/segments" in annotations(small, "namespace", space), "the namespace has its segment")
    small.apply(stateful(space, "db", 3, "10.9.8.100-10.9.8.101"), stateful(space, "bad", 1, "10.9.8.9-10.9.8.4"))

    def error(name):
        return annotations(small, "pod", name, space).get("ncp/error.ip_range", "").split(":")[0]

    for name in ("db-2", "bad-0"):
        small.wait(lambda name=name: small.kubectl("get", "pod", name, "-n", space, check=False), f"{name} exists")
    small.wait(lambda: error("bad-0") == "INVALID_IP_RANGE", "the wrong range is told")
    small.wait(lambda: error("db-2") == "IP_RANGE_EXHAUSTED", "the used-up range is told")
    first = json.loads(address(small, space, "db-0"))["addresses"][0]
    assert first == "10.9.8.100/24"
    uid = small.get("pod", "db-0", "-n", space)["metadata"]["uid"]
    small.kubectl("delete", "pod", "db-0", "-n", space)

    def again():
        got = small.get("pods", "-n", space)["items"]
        return [
            p
            for p in got
            if p["metadata"]["name"] == "db-0"
            and p["metadata"]["uid"] != uid
            and "ncp/port" in p["metadata"].get("annotations", {})
        ]

    made = small.wait(again, "db-0 is back")[0]
    assert json.loads(made["metadata"]["annotations"]["ncp/port"])["addresses"][0] == first


BASELINES = {
    "": {("a", "b"), ("a", "c"), ("a", "external"), ("external", "a")},
    "allow_cluster": {("a", "b"), ("a", "c"), ("a", "external"), ("external", "a")},
    "allow_namespace": {("a", "b"), ("a", "external"), ("external", "a")},
    "allow_namespace_strict": {("a", "b"), ("external", "a")},
}


@pytest.mark.parametrize("baseline", BASELINES)
def test_each_baseline_policy_lets_through_what_it_says(small, space, baseline):
    other, ini = f"{space[:20]}-b", small.state.root / "ncp.ini"
    before = ini.read_text()
    ini.write_text(before.replace("[k8s]\n", f"[k8s]\nbaseline_policy_type = {baseline}\n"))
    spaces = (namespace(space, no_snat="true"), namespace(other))  # the first is reached from outside
    small.apply(*spaces, *(pod(name) for name in (f"{space}/a", f"{space}/b", f"{other}/c")))
    try:
        small.restart("node", "node1")
        ready(small, space)
        ready(small, other)
        seen = site(None, small.state.root)
        names = {"a": f"{space}/a", "b": f"{space}/b", "c": f"{other}/c", "external": "external"}
        pairs = [("a", "b"), ("a", "c"), ("a", "external"), ("external", "a")]
        probes = {
            Probe(names[source], names[destination], family, "icmp"): (source, destination)
            for source, destination in pairs
            for family in (4, 6)
        }
        results = ask(seen, list(probes), quiet=True)
        assert [r for r in results if not r.agrees] == []
        for family in (4, 6):
            answered = {probes[r.probe] for r in results if r.probe.family == family and r.observed.answer == "yes"}
            assert answered == BASELINES[baseline]
        causes = {cause for r in results if r.observed.answer == "no" for cause in r.expected.causes}
        assert all(cause.startswith(f"Baseline {space}/{baseline} ") for cause in causes), causes
    finally:
        ini.write_text(before)
        small.restart("node", "node1")
        small.kubectl("delete", "namespace", other, "--timeout=30s")
