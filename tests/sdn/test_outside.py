"""Virtual servers for clients outside: which pool a packet to which address and port goes to, by who sent it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from immutables import Map

from ipam.address import parse_address, parse_prefix
from sdn.compile.terms import UNSERVED
from sdn.model import Intent, NatSettings
from sdn.pipeline import flow as f
from sdn.pipeline.registers import HOST_PORT, OUTSIDE, POOL
from sdn.pipeline.tables import T
from sdn.program import Program, build
from sdn.services import Endpoint, ServicePort, Slice
from tests.sdn.test_balancing import NUMBERS, OUTER, VIRTUAL, WEB, server
from tests.sdn.worlds import world

NODE1, NODE2 = (parse_address(f"192.168.50.1{n}") for n in (1, 2))
CLUSTER = server("red/s").internal[0]
HERE, THERE = (parse_address(f"10.4.0.{n}") for n in (1, 2))
HOST_PORTS = (WEB, ServicePort("dns", "udp", 53), ServicePort("sig", "sctp", 5))
NUMBERED = WEB._replace(node_port=30080)


def program(*servers: Any, ends: tuple[Endpoint, ...] = (Endpoint(HERE, "node1"), Endpoint(THERE, "node2"))) -> Program:
    slices = Map({each.name: Map({"s": Slice(NUMBERS, ends)}) for each in servers})
    intent: Intent = world().replace(services=Map({each.name: each for each in servers}), slices=slices)
    return build(intent, "node1", 1, {})


def goes(program: Program, address: Any, port: int, *, outside: bool = False, source: str = "10.4.0.9") -> str:
    """Where a TCP packet goes: a pool's members by their last parts, ``refused``, ``dropped`` or ``on`` (nobody serves it)."""
    packet = {
        "eth_type": 0x0800, "ipv4_dst": address.value, "ipv4_src": parse_address(source).value, "ip_proto": 6, "tcp_dst": port,
        OUTSIDE.register: OUTSIDE.match(1)[1] if outside else 0,
    }  # fmt: skip
    table, flows = "services", [entry.flow for entry in program.entries()]
    while True:
        here = [flow for flow in flows if flow.table == T[table] and _matches(flow, packet)]
        found = max(here, key=lambda flow: flow.priority)
        match found.actions:
            case ():
                return "dropped"
            case (f.Controller(userdata),) if userdata == UNSERVED:
                return "refused"
            case (f.SetField(field, value), *_) if field == POOL.register:
                name = program.balancing.numbers.name(value >> POOL.low)
                (pool,) = (each for pools in program.balancing.pools.values() for each in pools if each.name == name)
                return "".join(str(member.address)[-1] for member in pool.members)
            case (f.Goto(then),) if then == T["node_ports"]:
                table = "node_ports"
            case _:
                return "on"


def _matches(flow: f.Flow, packet: dict[str, int]) -> bool:
    return all(packet.get(name, 0) & (~0 if mask is None else mask) == value for name, value, mask in flow.match)


@pytest.mark.parametrize(
    ("local", "inside", "outside"),
    [
        (frozenset(), ("12", "12", "12"), ("12", "12", "12")),
        (frozenset({"internal"}), ("1", "12", "12"), ("1", "12", "12")),
        (frozenset({"external"}), ("12", "12", "12"), ("12", "1", "1")),
        (frozenset({"internal", "external"}), ("1", "12", "12"), ("1", "1", "1")),
    ],
    ids=["anywhere", "internal traffic is local", "external traffic is local", "both are"],
)
def test_who_is_local_to_whom(local: Any, inside: tuple[str, ...], outside: tuple[str, ...]):
    some = program(server("red/s", NUMBERED, external=(OUTER,), balancers=(VIRTUAL,), local=local))
    ways = ((CLUSTER, 80), (VIRTUAL, 80), (NODE2, 30080))
    assert tuple(goes(some, *way) for way in ways) == inside
    assert tuple(goes(some, *way, outside=True) for way in ways) == outside
    assert goes(some, OUTER, 80, outside=True) == outside[1]


@pytest.mark.parametrize("scope", ["internal", "external"])
def test_a_node_without_members_drops_where_only_its_own_count_and_refuses_where_there_are_none_at_all(scope: str):
    some = server("red/s", NUMBERED, balancers=(VIRTUAL,), local=frozenset({scope}))
    address = CLUSTER if scope == "internal" else VIRTUAL
    assert goes(program(some, ends=(Endpoint(THERE, "node2"),)), address, 80, outside=True) == "dropped"
    assert goes(program(some, ends=()), address, 80, outside=True) == "refused"


def test_ranges_are_for_balancers_alone():
    ranges = (parse_prefix("10.0.0.0/8"), parse_prefix("192.0.2.128/25"), parse_prefix("fd00::/8"))
    some = program(server("red/s", NUMBERED, external=(OUTER,), balancers=(VIRTUAL,), sources=ranges))
    assert [goes(some, VIRTUAL, 80, source=each) for each in ("10.4.0.9", "192.0.2.200", "192.0.2.100")] == [
        "12",
        "12",
        "dropped",
    ]
    for way in ((OUTER, 80), (CLUSTER, 80), (NODE1, 30080)):
        assert goes(some, *way, outside=True, source="192.0.2.100") == "12"


def test_an_address_that_is_both_is_guarded():
    some = program(server("red/s", external=(VIRTUAL,), balancers=(VIRTUAL,), sources=(parse_prefix("10.0.0.0/8"),)))
    assert goes(some, VIRTUAL, 80, source="192.0.2.100") == "dropped"


def test_nobody_else_is_at_an_address_of_services_but_at_a_nodes():
    some = program(server("red/s", NUMBERED, external=(NODE2, OUTER), balancers=(VIRTUAL,)))
    assert [goes(some, each, 81) for each in (CLUSTER, OUTER, VIRTUAL, NODE2, NODE1)] == [*["refused"] * 3, "on", "on"]
    assert [goes(some, each, 80) for each in (CLUSTER, OUTER, VIRTUAL, NODE2, NODE1)] == [*["12"] * 4, "on"]
    assert goes(some, NODE1, 30081) == "on"


def test_services_may_share_an_address_but_not_a_port_of_it():
    mine = server("red/s", external=(OUTER,))
    other = server("red/t", WEB._replace(port=81), external=(OUTER,))
    both = program(mine, other)
    assert both.all_problems() == []
    assert (goes(both, OUTER, 80), goes(both, OUTER, 81), goes(both, OUTER, 82)) == ("12", "12", "refused")
    (problem,) = program(mine, server("red/t", external=(OUTER,))).all_problems()
    assert (problem.origin.name, problem.reason) == ("t", "ADDRESS_CONFLICT")
    (problem,) = program(server("red/s", NUMBERED), server("red/t", NUMBERED)).all_problems()
    assert (problem.origin.name, problem.reason) == ("t", "ADDRESS_CONFLICT")


def test_host_ports_are_at_the_addresses_of_their_node_alone():
    hosted = server("red/p@host", WEB._replace(port=8080), host="node2", families=())
    one = server("red/q@host", WEB._replace(port=8081, only=NODE1), host="node1", families=())
    some = program(hosted, one)
    assert [goes(some, each, 8080) for each in (NODE1, NODE2)] == ["on", "12"]
    assert [goes(some, each, 8081) for each in (NODE1, NODE2)] == ["12", "on"]


@pytest.mark.parametrize(("asked", "node"), [(True, "node1"), (True, "node2"), (False, "node1")])
def test_who_comes_to_a_host_port_becomes_the_node_at_its_own_pods_where_that_is_asked_for(asked: bool, node: str):
    host = replace(server("red/p@host", *HOST_PORTS), internal=(), host="node1")
    slices = Map({host.name: Map({"s": Slice(NUMBERS, (Endpoint(HERE, "node1"),))})})
    intent = world().replace(services=Map({host.name: host}), slices=slices, nat=NatSettings(host_ports=asked))
    flows = [entry.flow for entry in build(intent, node, 1, {}).entries()]
    marked = {
        name for flow in flows if HOST_PORT.set(1) in flow.actions for name, *_ in flow.match if name.endswith("_dst")
    }
    commits = [flow for flow in flows if flow.table == T["ingress_commit"] and HOST_PORT.match(1) in flow.match]
    translated = {
        action.nat.address for flow in commits for action in flow.actions if isinstance(action, f.Ct) and action.nat
    }
    own = {each.value for each in world().nodes[node].addresses}
    assert marked == ({"ipv4_dst", "ipv6_dst", "tcp_dst", "udp_dst"} if asked and node == "node1" else set()), (
        "SCTP is left as it is"
    )
    assert translated == (own if asked else set())
