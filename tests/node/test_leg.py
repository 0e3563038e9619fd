from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipam.address import Address, Prefix, parse_address, parse_prefix
from ncp.node.leg import host_ports_of, local_endpoints, nodes_with_members, service_leg
from ncp.node.networks import NETWORKS, standing
from ncp.plumbing.leg import GROUP, WIDTH, ServiceLeg, spanning
from sdn.announce import Standing, Wish, announcers
from sdn.model import Intent, Origin, Tier0, TransportNode
from sdn.services import Endpoint, ServicePort, Slice, VirtualServer

NET = parse_prefix("192.0.2.0/24")
VIP = parse_address("192.0.2.50")
STANDINGS = {name: Standing(True, (NET,)) for name in ("n1", "n2")}


def node(name: str, *addresses: str) -> TransportNode:
    found = tuple(map(parse_address, addresses))
    return TransportNode(name, found[0], found, 2, Origin("Node", "", name))


def server(name: str, *, internal: str = "", external: str = "", balancers: str = "", **more: Any) -> VirtualServer:
    ports = (ServicePort("", "tcp", 80, 30080),)
    found = VirtualServer(name, Origin("Service", *name.split("/", 1)), ports, **more)
    return replace(
        found,
        internal=tuple(map(parse_address, internal.split())),
        external=tuple(map(parse_address, external.split())),
        balancers=tuple(map(parse_address, balancers.split())),
    )


def intent(*servers: VirtualServer, **slices: Slice) -> Intent:
    nodes = {each.name: each for each in (node("n1", "192.0.2.1", "2001:db8::1"), node("n2", "192.0.2.2"))}
    services = {each.name: each for each in servers}
    found = {name.replace("_", "/"): {"s": each} for name, each in slices.items()}
    return Intent(Tier0(5000, ()), nodes=nodes, services=services, slices=found)


def endpoints(*found: Endpoint) -> Slice:
    return Slice((("", "tcp", 8080),), found)


addresses = st.lists(
    st.builds(Address, st.just(4), st.integers(0, 2**18)) | st.builds(Address, st.just(6), st.integers(0, 2**18)),
    max_size=20,
)


@given(addresses, addresses)
def test_routes_to_cluster_addresses_cover_them_stay_apart_and_only_grow(
    first: list[Address], then: list[Address]
) -> None:
    held = spanning(first)
    found = spanning(then, held)
    assert all(any(prefix.covers(each) for prefix in found) for each in first + then)
    assert all(any(prefix.covers(each) for prefix in found) for each in held)
    assert all(prefix.length >= GROUP[prefix.family] for prefix in found)
    assert not any(a.overlaps(b) for a in found for b in found if a != b)
    assert spanning((), found) == found
    for prefix in held:  # no wider than it must be: both halves are used
        if prefix.length < WIDTH[prefix.family]:
            half = 1 << (WIDTH[prefix.family] - prefix.length - 1)
            inside = [each.value for each in first if prefix.covers(each)]
            assert min(inside) < prefix.value + half <= max(inside)


def test_a_few_routes_serve_all_cluster_addresses() -> None:
    said = "10.96.0.1 10.96.0.10 10.96.200.7 10.97.3.3 fd00:96::1 fd00:96::a"
    assert [str(each) for each in spanning(map(parse_address, said.split()))] == [
        *("10.96.0.0/16", "10.97.3.3/32", "fd00:96::/124"),
    ]


def test_the_leg_routes_addresses_for_outside_but_for_those_of_nodes() -> None:
    found = service_leg(
        intent(server("a/b", internal="10.96.0.7", external="192.0.2.50 192.0.2.2 203.0.113.9")), STANDINGS, "n1"
    )
    assert [str(each) for each in found.hosts] == ["192.0.2.50", "203.0.113.9"]
    assert [str(each) for each in found.prefixes] == ["10.96.0.7/32", "192.0.2.50/32", "203.0.113.9/32"]
    assert found.host_ports == ()  # 192.0.2.2 is the other node's


def test_ports_at_the_nodes_own_address_are_host_ports() -> None:
    found = service_leg(
        intent(server("pod:a/b", external="192.0.2.1")), STANDINGS, "n1", host_ports=[("udp", 53), ("tcp", 80)]
    )
    assert (found.host_ports, found.hosts, found.announced) == ((("tcp", 80), ("udp", 53)), (), ())


def test_one_node_announces_an_address_that_is_on_its_link() -> None:
    known = intent(server("a/b", balancers="192.0.2.50 203.0.113.9"))
    chosen = announcers([Wish(VIP)], STANDINGS)[VIP]
    legs = {name: service_leg(known, STANDINGS, name) for name in STANDINGS}
    assert {name: leg.announced for name, leg in legs.items()} == {
        name: (VIP,) if name == chosen else () for name in STANDINGS
    }


@pytest.mark.parametrize("member", ["n1", "n2"])
def test_where_only_local_members_count_a_node_with_one_announces(member: str) -> None:
    known = intent(
        server("a/b", balancers="192.0.2.50", local=frozenset({"external"})),
        a_b=endpoints(Endpoint(parse_address("10.4.0.2"), member)),
    )
    assert [name for name in STANDINGS if service_leg(known, STANDINGS, name).announced] == [member]
    assert not service_leg(known.replace(slices={}), STANDINGS, member).announced


def test_held_prefixes_stay() -> None:
    held = service_leg(intent(server("a/b", internal="10.96.0.1 10.96.0.200")), STANDINGS, "n1").cluster
    assert service_leg(intent(server("a/b", internal="10.96.0.1")), STANDINGS, "n1", held=held).cluster == held


def test_an_unknown_node_has_a_leg_of_its_own() -> None:
    assert service_leg(intent(), {}, "nobody", node_ports=(1, 2)) == ServiceLeg(node_ports=(1, 2))


def test_a_node_with_ready_members_is_taken_before_one_where_they_terminate() -> None:
    ready = Endpoint(parse_address("10.4.0.2"), "n1")
    leaving = Endpoint(parse_address("10.4.0.3"), "n2", ready=False, serving=True, terminating=True)
    gone = Endpoint(parse_address("10.4.0.4"), "n3", ready=False, serving=False, terminating=True)
    assert nodes_with_members([endpoints(ready, leaving, gone)]) == {"n1"}
    assert nodes_with_members([endpoints(leaving, gone)]) == {"n2"}


def test_ready_endpoints_of_a_node_count_once_for_both_families() -> None:
    def at(text: str, **more: Any) -> Endpoint:
        return Endpoint(parse_address(text), more.pop("node", "n1"), **more)

    both = (at("10.4.0.2"), at("10.4.0.3"), at("fd00::2"), at("fd00::3"))
    others = (at("10.4.0.4", node="n2"), at("10.4.0.5", ready=False), at("10.4.0.6", terminating=True))
    assert local_endpoints([endpoints(*both, *others), endpoints(both[0])], "n1") == 2
    assert local_endpoints([], "n1") == 0


POD = {
    "spec": {
        "nodeName": "n1",
        "containers": [{"ports": [{"containerPort": 80, "hostPort": 8080}, {"containerPort": 81}]}, {}],
        "initContainers": [
            {"restartPolicy": "Always", "ports": [{"hostPort": 53, "protocol": "UDP"}]},
            {"ports": [{"hostPort": 9}]},
        ],
    }
}


def test_host_ports_are_those_of_lasting_containers_on_this_node() -> None:
    assert host_ports_of(POD, "n1") == {("tcp", 8080), ("udp", 53)}
    assert host_ports_of(POD, "n2") == set()
    assert host_ports_of({**POD, "status": {"phase": "Succeeded"}}, "n1") == set()
    assert host_ports_of({"spec": {**POD["spec"], "hostNetwork": True}}, "n1") == set()


@pytest.mark.parametrize(
    ("text", "networks"),
    [
        ("192.0.2.0/24,2001:db8::/64", (NET, parse_prefix("2001:db8::/64"))),
        ("", ()),
        ("192.0.2.1/24", ()),
        ("everywhere", ()),
    ],
)
def test_what_a_node_says_of_itself(text: str, networks: tuple[Prefix, ...]) -> None:
    meta = {"name": "n1", "annotations": {NETWORKS: text}}
    ready = {"conditions": [{"type": "NetworkUnavailable", "status": "True"}, {"type": "Ready", "status": "True"}]}
    assert standing({"metadata": meta, "status": ready}) == Standing(True, networks)
    assert not standing({"metadata": meta, "status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}}).ready
