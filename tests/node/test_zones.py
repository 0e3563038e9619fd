"""Each port has a conntrack zone of its own, the number of the port, and whoever has the number later inherits nothing."""

from __future__ import annotations

import pytest

from ncp.node.zones import zones_of_new_ports, zones_of_old_ports
from sdn.compile.delta import Delta
from sdn.openflow.conntrack import Flush
from sdn.openflow.pack import owner_of
from sdn.pipeline.registers import GENEVE_PORT, NODE_PORT
from sdn.program import Changes, Program, against, build, update
from tests.node.rig import PODS, Rig, datagram, tracked
from tests.sdn.worlds import attachments, world

WORLD = world()
HERE = attachments(WORLD, "node1")


def program(ports: dict[str, int] = HERE) -> Program:
    return build(WORLD, "node1", owner_of("lab"), ports)


def zones(*numbers: int) -> list[Flush]:
    return [Flush(zone=number) for number in sorted(numbers)]


def changed(before: dict[str, int], after: dict[str, int]) -> Changes:
    names = frozenset(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    return update(program(before), WORLD, after, Delta(ports=names))[1]


def test_on_an_empty_switch_every_port_is_new_and_nothing_else_has_a_zone():
    everything = against(program(), {})
    assert any(("in_port", GENEVE_PORT, None) in each.flow.match for each in everything.add)
    assert any(("in_port", NODE_PORT, None) in each.flow.match for each in everything.add)
    assert zones_of_new_ports(everything, {}) == zones(*HERE.values())
    assert zones_of_old_ports(everything) == []


def test_an_agent_that_comes_back_finds_no_port_new():
    there = program()
    held = {each.key: 0 for each in there.entries()}  # as another version of us wrote them: all are written again
    again = against(there, held)
    assert len(again.add) == len(held)
    assert zones_of_new_ports(again, held) == []


def test_only_what_comes_and_what_goes():
    name, number = next(iter(HERE.items()))
    without = {key: value for key, value in HERE.items() if key != name}
    came, left = changed(without, HERE), changed(HERE, without)
    assert (zones_of_new_ports(came, {}), zones_of_old_ports(came)) == (zones(number), [])
    assert (zones_of_new_ports(left, {}), zones_of_old_ports(left)) == ([], zones(number))


def test_a_pod_that_is_attached_elsewhere_leaves_one_zone_for_another():
    name, number = next(iter(HERE.items()))
    moved = changed(HERE, HERE | {name: 99})
    assert (zones_of_new_ports(moved, {}), zones_of_old_ports(moved)) == (zones(99), zones(number))


def test_two_pods_that_change_places_leave_both_zones():
    (first, one), (second, two), *_ = HERE.items()
    swapped = changed(HERE, HERE | {first: two, second: one})
    assert zones_of_new_ports(swapped, program().claims) == zones(one, two)


@pytest.mark.switch
def test_no_two_ports_share_a_zone(rig: Rig):
    rig.start()
    pairs = [(source, target) for source in PODS for target in PODS if source != target]
    for source, target in pairs:
        assert rig.passes(source, target, datagram(80))
    for name in PODS:
        its = {tracked(name, *pair, protocol="udp") for pair in pairs if name in pair}
        assert rig.connections(name) == its, "its own and no others"


@pytest.mark.switch
def test_a_port_that_goes_leaves_nothing_behind_and_takes_nothing_else_with_it(rig: Rig):
    rig.start()
    for source, target in ("ab", "cb"):
        assert rig.passes(source, target, datagram(80))
    others = rig.connections() - rig.connections("a")
    rig.attach({name: port for name, port in PODS.items() if name != "a"})
    assert rig.connections() == others
    rig.attach(PODS)
    assert rig.connections() == others


@pytest.mark.switch
def test_whoever_gets_the_number_of_a_port_inherits_no_connection(rig: Rig):
    """In one step, so that the switch only sees the port's flow changed."""
    rig.start()
    rig.connect("a", "b")
    others = rig.connections() - rig.connections("a")
    rig.attach({"d": PODS["a"], "b": PODS["b"], "c": PODS["c"]})
    assert rig.connections() == others
