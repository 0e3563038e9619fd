"""Compile and diff as properties: incremental equals full, order is nothing, a change touches what it is about."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipam.address import parse_address
from sdn.compile.delta import Delta
from sdn.model import Binding, Origin
from sdn.openflow.pack import installed_key_bytes
from sdn.pipeline.spec import PipelineError
from sdn.pipeline.tables import PIPELINE, T
from sdn.program import Changes, against, build, empty, rule_of, update
from tests.sdn.worlds import NODES, attachments, node, port, ports, switch, world

OWNER = 0x4E43
OUTER = (parse_address("172.31.0.1"), parse_address("fd31::1"))


def held(program):
    return {entry.key: entry.cookie for entry in program.entries()}


def applied(switch_holds, changes: Changes):
    after = {key: cookie for key, cookie in switch_holds.items() if rule_of(key) not in changes.delete}
    return after | {entry.key: entry.cookie for entry in changes.add}


def test_every_flow_keeps_to_the_pipelines_definition():
    for single_tier in (False, True):
        intent = world(single_tier)
        for at in NODES:
            program = build(intent, at, OWNER, attachments(intent, at))
            assert len(program) > 150
            for entry in program.entries():
                PIPELINE.check(entry.flow)


def test_the_definition_check_catches_a_planted_fault():
    intent = world()
    flow = next(e.flow for e in build(intent, "node1", OWNER, {}).entries() if e.flow.table == T["deliver"])
    wrong = flow._replace(match=(("ipv4_dst", 1, None),))
    with pytest.raises(PipelineError, match="may not match ipv4_dst"):
        PIPELINE.check(wrong)


edits = st.lists(
    st.one_of(
        st.tuples(st.just("port"), ports),
        st.tuples(st.just("no port"), ports),
        st.tuples(st.just("node"), st.sampled_from(NODES)),
        st.tuples(st.just("no node"), st.sampled_from(NODES)),
        st.tuples(st.just("switch"), st.sampled_from(("red", "blue", "green"))),
        st.tuples(st.just("no switch"), st.sampled_from(("red", "blue", "green"))),
        st.tuples(st.just("exit"), st.sampled_from((*NODES, ""))),
        st.tuples(st.just("attach"), ports),
        st.tuples(st.just("detach"), ports),
        st.tuples(st.just("exit"), st.sampled_from(("", *NODES))),
        st.tuples(st.just("edge"), st.sampled_from(NODES)),
        st.tuples(st.just("translated"), st.sampled_from(("red", "blue", "green"))),
        st.tuples(
            st.just("domain"), st.tuples(st.sampled_from(("red", "blue", "green")), st.sampled_from((0, 1, 4095)))
        ),
        st.tuples(st.just("binding"), ports),
        st.tuples(st.just("no binding"), ports),
    ),
    max_size=12,
)


def edited(intent, attached, edit):
    what, value = edit
    if what == "port":
        return intent.replace(ports=intent.ports.set(value.name, value)), attached, Delta(ports=frozenset({value.name}))
    if what == "no port":
        rest = intent.ports.delete(value.name) if value.name in intent.ports else intent.ports
        return intent.replace(ports=rest), attached, Delta(ports=frozenset({value.name}))
    if what in ("node", "no node"):
        nodes = intent.nodes.set(value, node(value)) if what == "node" else intent.nodes
        nodes = nodes.delete(value) if what == "no node" and value in nodes else nodes
        return intent.replace(nodes=nodes), attached, Delta(nodes=frozenset({value}))
    if what in ("switch", "no switch"):
        one = switch(value)
        switches = intent.switches.set(one.vni, one) if what == "switch" else intent.switches
        switches = switches.delete(one.vni) if what == "no switch" and one.vni in switches else switches
        return intent.replace(switches=switches), attached, Delta(switches=frozenset({one.vni}))
    if what == "exit":
        return intent.replace(tier0=replace(intent.tier0, exit_node=value)), attached, Delta(exits=True)
    if what == "edge":
        nodes = intent.nodes.set(value, replace(node(value), edge=True))
        return intent.replace(nodes=nodes), attached, Delta(nodes=frozenset({value}))
    if what == "translated":
        one = replace(switch(value), translated=OUTER)
        return (
            intent.replace(switches=intent.switches.set(one.vni, one)),
            attached,
            Delta(switches=frozenset({one.vni})),
        )
    if what == "domain":
        name, domain = value
        one = replace(switch(name), domain=domain, gateways=switch("red").gateways)
        return (
            intent.replace(switches=intent.switches.set(one.vni, one)),
            attached,
            Delta(switches=frozenset({one.vni})),
        )
    if what == "binding":
        bound = Binding(value.name, Origin("AddressBinding", *value.name.split("/")), value.name, OUTER[:1])
        return (
            intent.replace(bindings=intent.bindings.set(value.name, bound)),
            attached,
            Delta(bindings=frozenset({value.name})),
        )
    if what == "no binding":
        rest = intent.bindings.delete(value.name) if value.name in intent.bindings else intent.bindings
        return intent.replace(bindings=rest), attached, Delta(bindings=frozenset({value.name}))
    if what == "attach":
        return intent, {**attached, value.name: 40 + len(attached)}, Delta(ports=frozenset({value.name}))
    rest = {name: at for name, at in attached.items() if name != value.name}
    return intent, rest, Delta(ports=frozenset({value.name}))


@given(edits)
@settings(max_examples=60, deadline=None)
def test_any_sequence_of_updates_ends_in_the_full_recompute(sequence):
    intent = world().replace(snat_families=frozenset({4, 6}))
    attached = attachments(intent, "node1")
    program = build(intent, "node1", OWNER, attached)
    on_switch = held(program)
    for edit in sequence:
        intent, attached, delta = edited(intent, attached, edit)
        program, changes = update(program, intent, attached, delta)
        on_switch = applied(on_switch, changes)
    fresh = build(intent, "node1", OWNER, attached)
    assert program.claims == fresh.claims
    assert program.pieces == fresh.pieces
    assert set(program.all_problems()) == set(fresh.all_problems())
    assert dict(program.contested) == {key: claim for key, claim in program.claims.items() if len(claim) > 1}
    assert on_switch == held(fresh)


@given(st.permutations(sorted(world().ports)))
@settings(max_examples=20, deadline=None)
def test_the_order_in_which_ports_appear_is_nothing(order):
    final = world()
    intent = final.replace(ports=type(final.ports)())
    attached = attachments(final, "node2")
    program = build(intent, "node2", OWNER, attached)
    for name in order:
        intent = intent.replace(ports=intent.ports.set(name, final.ports[name]))
        program, _ = update(program, intent, attached, Delta(ports=frozenset({name})))
    assert program.claims == build(final, "node2", OWNER, attached).claims


def test_a_change_of_one_port_touches_only_flows_of_that_port():
    intent = world()
    attached = attachments(intent, "node1")
    program = build(intent, "node1", OWNER, attached)
    moved = port("red", "a", "node3")
    intent = intent.replace(ports=intent.ports.set("red/a", moved))
    _, changes = update(program, intent, attached, Delta(ports=frozenset({"red/a"})))
    assert changes
    for entry in changes.add:
        assert (entry.flow.origin.namespace, entry.flow.origin.name) == ("red", "a")
    for rule in changes.delete:
        origin = program.get(installed_key_bytes(*rule)).flow.origin
        assert (origin.namespace, origin.name) == ("red", "a")


def test_another_way_out_is_two_flows():
    intent = world()
    program = build(intent, "node3", OWNER, attachments(intent, "node3"))
    moved = intent.replace(tier0=replace(intent.tier0, exit_node="node2"))
    _, changes = update(program, moved, attachments(intent, "node3"), Delta(exits=True))
    assert [entry.flow.origin.detail for entry in changes.add] == ["default by the exit node"] * 2, "one a family"
    assert not changes.delete


def test_going_there_and_back_again_restores_the_program():
    intent = world()
    attached = attachments(intent, "node1")
    program = build(intent, "node1", OWNER, attached)
    without = intent.replace(ports=intent.ports.delete("red/a"))
    delta = Delta(ports=frozenset({"red/a"}))
    away, there = update(program, without, attached, delta)
    back, again = update(away, intent, attached, delta)
    assert back.claims == program.claims
    assert {rule_of(e.key) for e in again.add} == set(there.delete)


def test_two_ports_with_one_address_the_same_one_wins_whatever_came_first():
    intent = world()
    clash = port("red", "b", "node1", offset=2)  # the address of red/a
    intent = intent.replace(ports=intent.ports.set("red/b", clash).set("red/a", port("red", "a", "node2")))
    attached = {"red/b": 16}
    program = build(intent, "node1", OWNER, attached)
    problems = program.all_problems()
    assert [(p.origin.name, p.reason) for p in problems] == [("b", "ADDRESS_CONFLICT")]
    winner = {
        e.flow.origin.name for e in program.entries() if e.flow.table == T["neighbour"] and e.flow.origin.kind == "Pod"
    }
    assert "a" in winner
    gone = intent.replace(ports=intent.ports.delete("red/a"))
    after, _ = update(program, gone, attached, Delta(ports=frozenset({"red/a"})))
    assert after.all_problems() == []
    assert after.claims == build(gone, "node1", OWNER, attached).claims


def test_the_difference_to_a_switch_is_exactly_what_it_lacks_and_what_it_should_not_have():
    intent = world()
    program = build(intent, "node1", OWNER, attachments(intent, "node1"))
    installed = held(program)
    assert not against(program, installed)
    assert len(against(program, {}).add) == len(program)
    some = next(iter(installed))
    changed = {**installed, some: 1, b"\x00\x00\x01foreign": 7}
    changes = against(program, changed)
    assert [entry.key for entry in changes.add] == [some]
    assert changes.delete == ((0, 1, b"foreign"),)


def test_a_node_without_an_address_sends_nothing_and_says_so():
    intent = world().replace(nodes=world().nodes.delete("node1"))
    program = build(intent, "node1", OWNER, {})
    assert len(program) == 0
    assert [p.reason for p in program.all_problems()] == ["NODE_UNKNOWN"]


def test_an_empty_program_differs_from_itself_in_nothing():
    assert not against(empty("node1", OWNER), {})
