"""Two tenants with the same addresses, and a third who has them as well; and namespaces on a router that somebody made."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator

import pytest
from scapy.layers.inet import ICMP, IP
from scapy.layers.inet6 import ICMPv6EchoReply, IPv6

from labs.wish import Wish
from ncp.probe.model import Probe
from ncp.probe.run import ask
from ncp.probe.site import matrix
from ncp.probe.wire import Station, build
from tests.support.lab import Lab
from tests.wire.conftest import Wire, namespace, pod, receive
from tests.wire.serving import EXTERNAL, TCP, UDP, own_address, says
from tests.wire.talk import Talk

pytestmark = pytest.mark.lab
INI = """
[k8s]
enable_namespace_subnets = True
[nsx_v3]
container_ip_blocks = 10.4.0.0/16, fd00:10:4::/48
external_ip_pools = 172.20.0.160-172.20.0.191
[nsx_node_agent]
enable_ipv6 = True
[ncp]
routing_domains = ann=10.4.0.0/16 fd00:10:4::/48, bob=10.4.0.0/16 fd00:10:4::/48
exit_node = node1
"""
TENANTS = ("ann", "bob")
SUBNETS = "10.4.100.0/24,fd00:10:4:100::/64"
PODS = {"one": "node1", "two": "node1", "three": "node2"}
SECOND = "far"
"""A pod in another namespace of the tenant."""
ROUTER = {
    "apiVersion": "crd.nsx.vmware.com/v1alpha1",
    "kind": "Router",
    "metadata": {"name": "shared"},
    "spec": {"tier": 1},
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    directory = tmp_path_factory.mktemp("domains")
    (directory / "ncp.ini").write_text(INI)
    with Lab(directory / "state", Wish(nodes=2, config=directory / "ncp.ini")) as lab:
        yield lab


@pytest.fixture(scope="module")
def wire(lab: Lab) -> Wire:
    """Namespaces and pods of all three, made in one order, so that they get the same addresses."""
    for tenant in (*TENANTS, "red"):
        said = {"routing_domain": tenant} if tenant in TENANTS else {}
        lab.apply(namespace(tenant, subnets=SUBNETS, **said))
        lab.wait(lambda space=tenant: "ncp/segments" in annotations(lab, space), f"{tenant} has a segment")
        lab.apply(namespace(f"{tenant}-b", **said))
        for name, node in PODS.items() if tenant in TENANTS else [("one", "node1")]:
            lab.apply(pod(f"{tenant}/{tenant}-{name}", node))
            lab.wait(lambda at=(tenant, f"{tenant}-{name}"): has_port(lab, *at), f"{tenant}-{name} has a port")
    lab.apply(pod(f"ann-b/ann-{SECOND}", "node2"), pod(f"bob-b/bob-{SECOND}", "node2"), pod("ann/ann-four", "node2"))
    for space in (*TENANTS, "ann-b", "bob-b", "red"):
        lab.kubectl("wait", "pods", "-n", space, "--all", "--for=condition=Ready", "--timeout=60s")
    return Wire(lab)


def annotations(lab: Lab, space: str) -> dict[str, str]:
    return lab.get("namespace", space)["metadata"].get("annotations") or {}


def has_port(lab: Lab, space: str, name: str) -> bool:
    return "ncp/port" in (lab.get("pod", name, "-n", space)["metadata"].get("annotations") or {})


def unanswered(wire: Wire, client: str, address: str) -> bool:
    """Whether nobody says anything: no router leads there, or no neighbour has it, as the client's kernel finds after a while."""
    try:
        return says(wire, client, address, 8080) == "silence"
    except OSError as error:
        return error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH)


def everybody(tenant: str) -> list[str]:
    return [*(f"{tenant}/{tenant}-{name}" for name in PODS), f"{tenant}-b/{tenant}-{SECOND}"]


@pytest.mark.parametrize("family", [4, 6])
def test_an_address_is_answered_by_whom_of_ones_own_has_it(wire: Wire, family: int):
    theirs, others = ([own_address(wire, name, family) for name in everybody(tenant)] for tenant in TENANTS)
    assert theirs == others
    assert own_address(wire, "red/red-one", family) == theirs[0]
    for tenant in TENANTS:
        for client in everybody(tenant):
            for server in everybody(tenant):
                if client != server:
                    for protocol, port in ((TCP, 8080), (UDP, 5353)):
                        answer = says(wire, client, own_address(wire, server, family), port, protocol)
                        assert answer == server.partition("/")[2], (client, server)


def test_what_is_meant_what_flows_say_and_what_the_wire_says_agree_in_each_domain(wire: Wire):
    """ARP and ND among it, TTLs and pings."""
    for tenant in TENANTS:
        probes = matrix(wire.site, everybody(tenant), (4, 6), ("neighbour", "icmp", "tcp", "sctp"))
        results = ask(wire.site, probes, quiet=True)
        assert len(results) > 50
        assert [each for each in results if not each.agrees] == []
        assert all(each.observed.answer == "yes" for each in results)


@pytest.mark.parametrize("family", [4, 6])
def test_nobody_answers_for_an_address_that_others_have(wire: Wire, family: int):
    """Four is Ann's alone: neither a neighbour nor a router leads Bob, red, a node or the host outside to it."""
    four = own_address(wire, "ann/ann-four", family)
    assert says(wire, "ann/ann-one", four, 8080) == "ann-four"
    for client in ("bob/bob-one", "bob/bob-three", f"bob-b/bob-{SECOND}", "red/red-one", "node1", "node2", EXTERNAL):
        assert unanswered(wire, client, four), client


@pytest.mark.parametrize("tenant", TENANTS)
def test_a_domain_ends_at_its_own_pods(wire: Wire, tenant: str):
    cluster = wire.lab.get("service", "kubernetes", "-n", "default")["spec"]["clusterIP"]
    before = wire.dropped("node1")["no-route"]
    for far in (own_address(wire, "node1", 4), own_address(wire, EXTERNAL, 4), cluster, "100.64.0.1"):
        assert says(wire, f"{tenant}/{tenant}-one", far, 443) == "silence"
    assert wire.lab.exec(f"{tenant}/{tenant}-one", "ping", "-c1", "-W1", own_address(wire, "node1", 4)).returncode == 1
    wire.lab.wait(lambda: wire.dropped("node1")["no-route"] >= before + 5, "the drops are counted")


def test_a_policy_is_about_the_pods_of_its_domain(wire: Wire):
    """Its peers have the addresses of Bob's, who are not meant."""
    lab = wire.lab
    lab.kubectl("label", "pod", "-n", "ann", "ann-one", "role=friend")
    policy = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "friends", "namespace": "ann"},
        "spec": {"podSelector": {}, "ingress": [{"from": [{"podSelector": {"matchLabels": {"role": "friend"}}}]}]},
    }
    lab.apply(policy)
    try:
        said = lambda: lab.get("networkpolicy", "friends", "-n", "ann")["metadata"].get("annotations") or {}  # noqa: E731
        lab.wait(lambda: said().get("ncp/realisation", "").startswith("Realized"), "the policy is realised")
        three = own_address(wire, "ann/ann-three", 4)
        assert says(wire, "ann/ann-one", three, 8080) == "ann-three"
        assert says(wire, "ann/ann-two", three, 8080) == "silence"
        assert says(wire, f"ann-b/ann-{SECOND}", three, 8080) == "silence"
        assert {says(wire, f"bob/bob-{name}", three, 8080) for name in ("one", "two")} == {"bob-three"}
    finally:
        lab.kubectl("delete", "networkpolicy", "friends", "-n", "ann")


def test_what_a_tenant_gives_up_is_nothing_to_the_other(wire: Wire):
    """Ann's pod goes, and its address with it; Bob's connection with the one who has the same stays."""
    three = own_address(wire, "bob/bob-three", 4)
    with Talk(wire, "bob/bob-one", three, 8080) as talk:
        assert talk.says() == "bob-three"
        wire.lab.kubectl("delete", "pod", "-n", "ann", "ann-three", "--grace-period=0", "--force")
        wire.lab.wait(lambda: not _forwards(wire, "node1", "ann-three"), "node1 knows nothing of it")
        assert talk.says() == "bob-three"
    wire.lab.apply(pod("ann/ann-three", "node2"))
    wire.lab.kubectl("wait", "pod", "-n", "ann", "ann-three", "--for=condition=Ready", "--timeout=60s")


def _forwards(wire: Wire, node: str, pod_name: str) -> bool:
    return any(flow["origin"]["name"] == pod_name for flow in wire.flows(node))


def test_namespaces_on_a_shared_router_are_one_hop_apart_and_it_stays_what_it_is(wire: Wire):
    lab = wire.lab
    lab.apply(ROUTER)
    made = lab.get("routers.crd.nsx.vmware.com", "shared")["metadata"]
    try:
        lab.apply(
            namespace("left", router="shared"), namespace("right", router="shared"), namespace("lost", router="no")
        )
        lab.apply(pod("left/a", "node1"), pod("right/b", "node2"))
        for space in ("left", "right"):
            lab.kubectl("wait", "pods", "-n", space, "--all", "--for=condition=Ready", "--timeout=60s")
        numbers = {json.loads(annotations(lab, space)["ncp/segments"])[0]["router"] for space in ("left", "right")}
        assert len(numbers) == 1
        now = Wire(lab)
        for family in (4, 6):
            assert _ttl(now, "left/a", "right/b", family) == 63
            assert _ttl(now, "left/a", "red/red-one", family) == 61, "by tier-1, tier-0 and tier-1"
        said = lab.wait(
            lambda: annotations(lab, "lost").get("ncp/error.router"), "it says that there is no such router"
        )
        assert said.startswith("ROUTER_NOT_FOUND")
    finally:
        lab.kubectl("delete", "namespace", "left", "right", "lost", "--timeout=60s")
    kept = lab.get("routers.crd.nsx.vmware.com", "shared")["metadata"]
    assert (kept["resourceVersion"], kept["uid"]) == (made["resourceVersion"], made["uid"])


def _ttl(wire: Wire, client: str, server: str, family: int) -> int:
    source, destination = wire.end(client), wire.end(server)
    with Station(source) as station:
        station.send(build(source, destination, Probe(client, server, family, "icmp"), 9))
        answer = receive(station.receiving, lambda p: ICMP in p or ICMPv6EchoReply in p, 3)[-1]
    return answer[IP].ttl if family == 4 else answer[IPv6].hlim
