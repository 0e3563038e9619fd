"""Routing domains as flows: the same addresses in several of them, and nobody ever meets whom he does not mean."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from immutables import Map

from firewall import networkpolicy
from firewall.rules import Identity
from ipam.address import Address, parse_address, parse_prefix
from sdn.compile.delta import Delta
from sdn.compile.terms import TTL_EXCEEDED
from sdn.conntrack import Tracked, forbidden
from sdn.icmp import answers
from sdn.model import Intent, LogicalPort, LogicalSwitch, Origin
from sdn.outside import changed_outside, outside
from sdn.pipeline.registers import DOMAIN, GATEWAY_MAC, GENEVE_PORT, NODE_PORT, ROUTER
from sdn.pipeline.tables import PIPELINE, T
from sdn.program import build
from sdn.services import Endpoint, Slice
from tests.sdn import worlds
from tests.sdn.emulator import Emulator, Outcome, frame, table_of
from tests.sdn.test_balancing import NUMBERS, server

TENANTS = {"ann": 11, "bob": 12}
"""Namespaces in a routing domain each; red, whose addresses they have as well, is in the cluster's own."""
SERVED = server("red/s")
VIP = SERVED.internal[0]


def segment(tenant: str, index: int = 0, *, router: int = 0) -> LogicalSwitch:
    """The index-th segment of a tenant, with the addresses of red's (0) or blue's (1)."""
    domain = TENANTS[tenant]
    like = worlds.switch(("red", "blue")[index])
    vni = 6000 + 10 * domain + index
    own = 6000 + 10 * domain
    origin = Origin("Namespace", "", tenant)
    return LogicalSwitch(f"{tenant}/{index}", vni, router or own, like.gateways, origin, False, (), domain)


def pod(tenant: str, name: str, where: str, index: int = 0, *, router: int = 0) -> LogicalPort:
    """A pod with the addresses and the MAC address of red's (or blue's) pod of that name."""
    like = worlds.port(("red", "blue")[index], name, where)
    origin = Origin("Pod", tenant, f"{name}{index}", f"u-{tenant}-{name}{index}")
    identity = Identity(tenant, (("pod", name),))
    vni = segment(tenant, index, router=router).vni
    return replace(like, name=f"{tenant}/{name}{index}", vni=vni, origin=origin, identity=identity)


def world(*, router: int = 0, **changes: Any) -> Intent:
    """Two tenants, each with two segments that have the addresses of red's and blue's; pods a and b on different nodes."""
    intent = worlds.world()
    if router:
        held = {vni: replace(each, router=router) for vni, each in intent.switches.items()}
        intent = intent.replace(switches=Map(held))
    switches = [segment(tenant, index, router=router) for tenant in TENANTS for index in (0, 1)]
    ports = [
        pod(tenant, name, where, index, router=router)
        for tenant in TENANTS
        for index in (0, 1)
        for name, where in (("a", "node1"), ("b", "node2"), ("c", "node1"))
    ]
    blocks = (parse_prefix("10.4.0.0/16"), parse_prefix("fd00:10:4::/48"))
    return intent.replace(
        switches=intent.switches.update({each.vni: each for each in switches}),
        ports=intent.ports.update({each.name: each for each in ports}),
        blocks=blocks,
        domains=dict.fromkeys(TENANTS.values(), blocks),
        snat_families=frozenset({4, 6}),
        services=Map({"red/s": SERVED}),
        slices=Map({"red/s": Map({"s": Slice(NUMBERS, (Endpoint(of(intent, "red/b"), "node2"),))})}),
        **changes,
    )


def of(intent: Intent, name: str, family: int = 4) -> Address:
    return next(each for each in intent.ports[name].addresses if each.family == family)


class Nodes:
    """Every node's flows."""

    def __init__(self, intent: Intent) -> None:
        self.intent = intent
        self.programs = {name: build(intent, name, 1, worlds.attachments(intent, name)) for name in intent.nodes}
        self.switches = {name: Emulator(each.flow for each in made.entries()) for name, made in self.programs.items()}

    def send(self, source: str, destination: Address, protocol: Any = "tcp", port: int = 80, **more: Any) -> Outcome:
        """The end of a packet that a pod, or a node (by its name), sends by its router, or to a MAC address."""
        sender = self.intent.ports.get(source)
        if sender is None:
            node, own, mac, ofport = source, self.intent.nodes[source], self.intent.nodes[source].mac, NODE_PORT
            here = next(each for each in own.addresses if each.family == destination.family)
        else:
            node, mac, here = sender.node, sender.mac, of(self.intent, source, destination.family)
            ofport = worlds.attachments(self.intent, node)[source]
        packet = frame(here, destination, protocol, port, in_port=ofport, mac=mac, to=GATEWAY_MAC) | more
        found = self.switches[node].send(packet)
        if found.port == GENEVE_PORT:
            there = next(n for n in self.intent.nodes.values() if n.tep.value == found.fields["tun_ipv4_dst"])
            kept = {k: v for k, v in found.fields.items() if not k.startswith(("reg", "tun_", "ct_"))}
            found = self.switches[there.name].send({**kept, "in_port": GENEVE_PORT})
        return found

    def reached(self, source: str, destination: Address, *args: Any, **more: Any) -> str:
        """The name of the port a packet comes out of; where it is dropped, the reason."""
        found = self.send(source, destination, *args, **more)
        attached = {
            at: name for node in self.intent.nodes for name, at in worlds.attachments(self.intent, node).items()
        }
        if found.port in attached:
            return attached[found.port]
        return str(found.port) if found.port else f"{table_of(found)}: {found.last.origin.detail}"


@pytest.fixture(scope="module")
def nodes() -> Nodes:
    return Nodes(world())


def test_nothing_contradicts_and_every_flow_keeps_to_the_definition(nodes: Nodes):
    for program in nodes.programs.values():
        assert program.all_problems() == []
        for entry in program.entries():
            PIPELINE.check(entry.flow)


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("router", [0, 1, 77], ids=["own routers", "one tier", "a shared router"])
@pytest.mark.parametrize("tenant", ["ann", "bob", "red"])
def test_an_address_is_that_of_ones_own_domain(tenant: str, router: int, family: int):
    nodes = Nodes(world(router=router))
    name = (lambda pod, index: f"{tenant}/{pod}{index}") if tenant in TENANTS else lambda pod, index: (
        f"{('red', 'blue')[index]}/{pod}"
    )  # fmt: skip
    for pod_name in "ac":
        for target in ("b", "c"):
            for index in (0, 1):
                wanted = name(target, index)
                if wanted == name(pod_name, 0):
                    continue
                beside = {"eth_dst": nodes.intent.ports[wanted].mac} if index == 0 else {}
                assert nodes.reached(name(pod_name, 0), of(nodes.intent, wanted, family), **beside) == wanted


@pytest.mark.parametrize("tenant", TENANTS)
def test_neighbours_are_those_of_ones_own_segment(nodes: Nodes, tenant: str):
    """The answer is the same MAC address, for they have the same; but whether there is one differs."""
    intent = nodes.intent.replace(ports=nodes.intent.ports.delete("ann/b0"))
    fewer = Nodes(intent)
    asks = {
        "eth_type": 0x0806, "arp_op": 1, "eth_dst": (1 << 48) - 1, "arp_sha": intent.ports[f"{tenant}/a0"].mac,
        "arp_spa": of(intent, f"{tenant}/a0").value, "arp_tpa": of(nodes.intent, "ann/b0").value,
    }  # fmt: skip
    found = fewer.send(f"{tenant}/a0", of(nodes.intent, "ann/b0"), **asks)
    assert (found.port is not None) is (tenant == "bob"), table_of(found)


@pytest.mark.parametrize("tenant", TENANTS)
def test_a_domain_has_no_nodes_no_virtual_servers_and_no_way_out(nodes: Nodes, tenant: str):
    sender = f"{tenant}/a0"
    for far in (nodes.intent.nodes["node1"].addresses[0], VIP, parse_address("203.0.113.1"), worlds.TRANSIT[0].address):
        assert nodes.reached(sender, far) == "tier0: no-route", far
    assert nodes.reached("red/a", nodes.intent.nodes["node1"].addresses[0]) == str(NODE_PORT)
    assert nodes.send("red/a", VIP).fields["ipv4_dst"] == VIP.value
    assert any(flow.table == T["members"] for flow in nodes.send("red/a", VIP).met), "red is served"


def test_nobody_else_reaches_a_domain(nodes: Nodes):
    intent = nodes.intent.replace(
        tier0=replace(nodes.intent.tier0, exit_node=""),
        switches=Map({vni: each for vni, each in nodes.intent.switches.items() if each.origin.name != "red"}),
        ports=Map({name: each for name, each in nodes.intent.ports.items() if not name.startswith("red/")}),
    )
    alone = Nodes(intent)
    address = of(nodes.intent, "ann/a0")
    for other in ("blue/a", "blue/b", "node1", "node2"):
        assert alone.reached(other, address) == "tier0: no-route"
    assert alone.reached("bob/b0", address, eth_dst=nodes.intent.ports["bob/a0"].mac) == "bob/a0"


@pytest.mark.parametrize("family", [4, 6])
def test_each_gateway_answers_echoes_in_its_domain(nodes: Nodes, family: int):
    for tenant in TENANTS:
        gateway = next(g.address for g in segment(tenant).gateways if g.family == family)
        found = nodes.send(f"{tenant}/a0", gateway, None)
        assert (found.last.origin.name, found.last.origin.detail) == (tenant, "gateway echo")


def test_a_policy_knows_the_peers_of_its_domain():
    """The same address is a peer who may in one domain, and one who may not in the other."""
    spec = {
        "podSelector": {"matchLabels": {"pod": "b"}},
        "ingress": [{"from": [{"podSelector": {"matchLabels": {"pod": "a"}}}]}],
    }
    sections = [
        networkpolicy.section({"metadata": {"name": "only-a", "namespace": tenant}, "spec": spec}) for tenant in TENANTS
    ]
    intent = world(sections=Map({each.key: each for each in sections}))
    renamed = replace(intent.ports["bob/a0"], identity=Identity("bob", (("pod", "x"),)))
    nodes = Nodes(intent.replace(ports=intent.ports.set("bob/a0", renamed)))
    target = of(intent, "ann/b0")
    beside = {"eth_dst": intent.ports["ann/b0"].mac}
    assert nodes.reached("ann/a0", target, **beside) == "ann/b0"
    assert nodes.reached("ann/c0", target, **beside).startswith("ingress_application")
    assert nodes.reached("bob/a0", target, **beside).startswith("ingress_application")
    assert nodes.reached("red/a", of(intent, "red/b"), eth_dst=intent.ports["red/b"].mac) == "red/b"


def test_an_address_that_nobody_has_in_the_domain_is_a_strangers():
    """Pods under a policy take nothing from it, though somebody has it elsewhere."""
    spec = {"podSelector": {}, "ingress": [{}]}
    section = networkpolicy.section({"metadata": {"name": "all", "namespace": "ann"}, "spec": spec})
    intent = world(sections=Map({section.key: section}))
    nodes = Nodes(intent.replace(ports=intent.ports.delete("ann/a0")))
    packet = frame(
        of(intent, "red/a"), of(intent, "ann/b0"), "tcp", 80, in_port=GENEVE_PORT, mac=1, to=intent.ports["ann/b0"].mac
    )
    found = nodes.switches["node2"].send({**packet, "tunnel_id": segment("ann").vni})
    assert found.last.origin.detail == "unknown-sender"


def test_connections_are_judged_by_who_has_an_address_in_the_domain():
    spec = {
        "podSelector": {"matchLabels": {"pod": "b"}},
        "ingress": [{"from": [{"podSelector": {"matchLabels": {"pod": "a"}}}]}],
    }
    sections = [
        networkpolicy.section({"metadata": {"name": "only-a", "namespace": space}, "spec": spec})
        for space in (*TENANTS, "red")
    ]
    intent = world(sections=Map({each.key: each for each in sections}))
    renamed = replace(intent.ports["bob/a0"], identity=Identity("bob", (("pod", "x"),)))
    intent = intent.replace(ports=intent.ports.set("bob/a0", renamed))
    attached = worlds.attachments(intent, "node2")
    zones = {ofport: name for name, ofport in attached.items()}
    ends = (of(intent, "red/a"), of(intent, "red/b"))
    connections = [Tracked(zone, "tcp", *ends, 40000, 80, ends[1]) for zone in zones]
    rules = build(intent, "node2", 1, attached).rules
    found = {each.port for each in forbidden(connections, intent, rules, zones)}
    assert "bob/b0" in found
    assert not found & {"ann/b0", "red/b"}


def test_nobody_is_anybody_outside_and_what_changes_there_is_nothing_to_others():
    intent = world()
    assert outside(intent, intent.ports["ann/a0"], of(intent, "ann/a0")).address is None
    without = intent.replace(switches=intent.switches.delete(segment("ann").vni))
    assert changed_outside(intent, without, Delta(switches=frozenset({segment("ann").vni}))) == frozenset()


def test_a_router_that_domains_share_answers_in_each_with_its_address_there():
    """Found at the receiver's tier-1: its number alone would not do."""
    intent = world(router=77)
    moved = replace(segment("bob", router=77), gateways=(replace_host(segment("bob").gateways[0], 254),))
    intent = intent.replace(switches=intent.switches.set(moved.vni, moved).delete(segment("bob", 1).vni))
    packet = (
        bytes(6)
        + bytes(6)
        + b"\x08\x00"
        + bytes([0x45])
        + bytes(7)
        + bytes([1, 17])
        + bytes(2)
        + b"\x0a\x04\x00\x02\x0a\x04\x00\x03"
        + bytes(8)
    )
    fields = {ROUTER.register: 77 << ROUTER.low, DOMAIN.register: TENANTS["bob"] << DOMAIN.low}
    (answer,) = answers(intent, TTL_EXCEEDED, T["tier1_in"], fields, packet, 1400)
    assert answer[26:30] == (moved.gateways[0].value).to_bytes(4, "big")


def replace_host(interface: Any, host: int) -> Any:
    return interface._replace(value=interface.value & ~0xFF | host)
