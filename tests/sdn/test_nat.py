"""Who pods are outside, as flows at the node that lets them out, and who is not reached from there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from immutables import Map

from ipam.address import Address, parse_address, parse_prefix
from sdn.compile.delta import Delta
from sdn.model import Binding, Intent, LogicalPort, NatSettings, Origin
from sdn.outside import addresses_outside, changed_outside, outside
from sdn.pipeline import flow as f
from sdn.pipeline.registers import FROM_NODE, FROM_POD, OUTSIDE, SOURCE
from sdn.pipeline.tables import PIPELINE, T
from sdn.program import Program, build, update
from sdn.services import Endpoint, Slice
from tests.sdn.test_balancing import NUMBERS, server
from tests.sdn.worlds import node, switch, world

RED, BOUND, OF_SERVICE = (
    tuple(parse_address(text.format(n)) for text in ("172.31.0.{}", "fd31::{}")) for n in (1, 2, 3)
)
FAR, FAR6 = parse_address("203.0.113.1"), parse_address("2001:db8::1")


def translated(**changes: Any) -> Intent:
    """Red is translated, blue keeps its addresses, green has none yet."""
    intent = world()
    one, two = replace(switch("red"), translated=RED), replace(switch("blue"), snat=False)
    blocks = (parse_prefix("10.4.0.0/16"), parse_prefix("fd00:10:4::/48"))
    switches = intent.switches.set(one.vni, one).set(two.vni, two)
    return intent.replace(switches=switches, snat_families=frozenset({4, 6}), blocks=blocks, **changes)


def of(intent: Intent, name: str, family: int) -> Address:
    return next(each for each in intent.ports[name].addresses if each.family == family)


def met(program: Program, table: str, packet: dict[str, int]) -> f.Flow:
    """The flow of a table that a packet meets."""
    here = [each.flow for each in program.entries() if each.flow.table == T[table]]
    return max((each for each in here if _matches(each, packet)), key=lambda each: each.priority)


def _matches(flow: f.Flow, packet: dict[str, int]) -> bool:
    return all(packet.get(name, 0) & (~0 if mask is None else mask) == value for name, value, mask in flow.match)


def leaving(source: Address, destination: Address, *, state: int = 0x21, protocol: int = 6) -> dict[str, int]:
    name = f"ipv{source.family}"
    eth = 0x0800 if source.family == 4 else 0x86DD
    ends = {f"{name}_src": source.value, f"{name}_dst": destination.value}
    return {"eth_type": eth, **ends, "ct_state": state, "ip_proto": protocol}


def becomes(program: Program, source: Address, destination: Address) -> Address | str:
    """Who a new connection comes from outside; ``itself``, or ``dropped``."""
    actions = met(program, "snat", leaving(source, destination)).actions
    match actions:
        case ():
            return "dropped"
        case (*_, f.Ct(nat=f.Nat(source=True, address=value))):
            return Address(source.family, value)
    return "itself"


@pytest.mark.parametrize("family", [4, 6])
def test_a_namespace_has_an_address_outside_its_own_or_none(family):
    intent = translated()
    program, far = build(intent, "node1", 1, {}), {4: FAR, 6: FAR6}[family]
    outer = next(each for each in RED if each.family == family)
    assert becomes(program, of(intent, "red/a", family), far) == outer
    assert becomes(program, of(intent, "blue/a", family), far) == "itself"
    assert becomes(program, of(intent, "green/a", family), far) == "dropped"
    own = next(each for each in node("node1").addresses if each.family == family)
    assert becomes(program, of(intent, "green/a", family), own) == "itself", "the node itself is not outside"
    for entry in program.entries():
        PIPELINE.check(entry.flow)


def test_what_belongs_to_no_connection_does_not_leave_as_it_is():
    intent = translated()
    program = build(intent, "node1", 1, {})
    stray = met(program, "snat", leaving(of(intent, "red/a", 4), FAR, state=0x30))
    assert (stray.actions, stray.origin.detail) == ((), "ct-invalid")
    unported = met(program, "snat_done", leaving(of(intent, "red/a", 4), FAR))
    assert (unported.actions, unported.origin.name) == ((), "red")
    assert met(program, "snat_done", leaving(RED[0], FAR)).actions == (f.Goto(T["deliver"]),)


def test_only_nodes_that_let_out_translate():
    intent = translated()
    intent = intent.replace(nodes=intent.nodes.set("node2", replace(node("node2"), edge=True)))
    counts = [
        sum(entry.flow.table == T["snat"] for entry in build(intent, name, 1, {}).entries())
        for name in ("node1", "node2", "node3")
    ]
    assert counts[0] == counts[1] > 1 == counts[2]


def test_a_binding_comes_before_a_service_and_that_before_the_namespace():
    intent = translated()
    ends = tuple(Endpoint(of(intent, name, 4), "node1") for name in ("red/a", "red/b"))
    intent = intent.replace(
        services=Map({"red/s": server("red/s", translated=OF_SERVICE)}),
        slices=Map({"red/s": Map({"s": Slice(NUMBERS, ends)})}),
        bindings=Map({"red/x": binding("red/a")}),
    )
    program = build(intent, "node1", 1, {})
    wanted = {"red/a": BOUND[0], "red/b": OF_SERVICE[0], "red/c": RED[0]}
    assert {name: becomes(program, of(intent, name, 4), FAR) for name in wanted} == wanted
    assert {name: outside(intent, intent.ports[name], of(intent, name, 4)).address for name in wanted} == wanted
    assert addresses_outside(intent) == {*RED, *OF_SERVICE, BOUND[0]}


def binding(port: str) -> Binding:
    return Binding("red/x", Origin("AddressBinding", "red", "x"), port, BOUND[:1])


def asked(program: Program, source: int, address: Address, sender: Address, *, outer: bool = False) -> f.Flow:
    packet = leaving(sender, address) | {SOURCE.register: source | (OUTSIDE.match(1)[1] if outer else 0)}
    return met(program, "services", packet)


def test_from_outside_a_translated_pod_is_reached_by_its_binding_alone():
    intent = translated(bindings=Map({"red/x": binding("red/a")}))
    program = build(intent, "node3", 1, {})
    direct = asked(program, FROM_NODE, of(intent, "red/a", 4), FAR, outer=True)
    assert (direct.actions, direct.origin.detail) == ((), "not-from-outside")
    again = leaving(FAR, of(intent, "red/a", 4), state=0xA1) | {SOURCE.register: FROM_NODE | OUTSIDE.match(1)[1]}
    assert met(program, "services", again).actions == (f.Goto(T["egress_concern"]),), "sent again to a virtual server"
    assert asked(program, FROM_NODE, of(intent, "blue/a", 4), FAR, outer=True).actions == (f.Goto(T["egress_concern"]),)
    assert asked(program, FROM_NODE, of(intent, "red/a", 4), FAR).actions == (f.Goto(T["egress_concern"]),), "by a node"
    (translate,) = asked(program, FROM_NODE, BOUND[0], FAR, outer=True).actions
    assert isinstance(translate, f.Ct)
    assert translate.nat == f.Nat(source=False, address=of(intent, "red/a", 4).value)


@pytest.mark.parametrize(
    ("rule", "then"), [("internal", "egress_concern"), ("external", None), ("bypass", "egress_count")]
)
def test_which_address_rules_about_a_binding_see(rule: Any, then: str | None):
    intent = translated(bindings=Map({"red/x": binding("red/a")}), nat=NatSettings(firewall_match=rule))
    found = asked(build(intent, "node3", 1, {}), FROM_POD, BOUND[0], of(intent, "blue/a", 4))
    if then is None:
        assert found.actions == (f.Goto(T["egress_concern"]),), "rules are asked about the address outside"
    else:
        (translate,) = found.actions
        assert isinstance(translate, f.Ct)
        assert translate.table == T[then]


def test_whose_connections_end_when_an_address_outside_moves():
    before = translated()
    reds = {each for name, port in before.ports.items() if name.startswith("red/") for each in port.addresses}
    moved = replace(before.switches[5001], translated=BOUND)
    after = before.replace(switches=before.switches.set(5001, moved))
    assert changed_outside(before, after, Delta(switches=frozenset({5001}))) == reds
    assert changed_outside(before, before, Delta(switches=frozenset({5001}))) == set()
    bound = before.replace(bindings=Map({"red/x": binding("red/a")}))
    of_a: LogicalPort = before.ports["red/a"]
    for pair in ((before, bound), (bound, before)):
        assert changed_outside(*pair, Delta(bindings=frozenset({"red/x"}))) == set(of_a.addresses)


def test_another_way_out_changes_few_flows_of_other_nodes():
    intent = translated()
    intent = intent.replace(nodes=Map({name: replace(node(name), edge=name != "node3") for name in intent.nodes}))
    program = build(intent, "node3", 1, {})
    after = intent.replace(tier0=replace(intent.tier0, exit_node="node2"))
    _, changes = update(program, after, {}, Delta(exits=True))
    assert (len(changes.add), len(changes.delete)) == (2, 0), "the default routes"
