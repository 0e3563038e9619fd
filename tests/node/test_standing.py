"""Connections that were there before a change: those it forbids go, one by one, and nothing else does. On a real switch."""

from __future__ import annotations

import json
import queue

import pytest

from ncp.node import loop
from sdn.compile.terms import REJECTED
from sdn.ovsdb.appctl import AppctlError
from tests.node.rig import Rig, association, datagram, only_from, pod, policy, tracked, until
from tests.translate.test_intent import namespace

pytestmark = pytest.mark.switch


def both(source: str, target: str, **more):
    """A connection between two pods of a node is tracked at both ports."""
    return {tracked(source, source, target, **more), tracked(target, source, target, **more)}


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("mode", ["keep", "recheck", "cut"])
@pytest.mark.parametrize("says", ["policy", "cluster"])
def test_a_connection_that_is_forbidden_later_fares_as_the_mode_says(rig: Rig, mode: str, family: int, says: str):
    rig.start(established=mode if says == "cluster" else "recheck")
    for source in "ac":
        rig.connect(source, "b", family=family)
        assert rig.hears(source, "b", family=family)
    allowed, forbidden = both("c", "b", family=family), both("a", "b", family=family)
    assert rig.connections() == allowed | forbidden
    rig.apply(policy("only-c", only_from("c"), established=mode if says == "policy" else ""))
    left = allowed | forbidden - (set() if mode == "keep" else {tracked("b", "a", "b", family=family)})
    assert rig.connections() == left
    assert rig.hears("a", "b", family=family) is (mode == "keep")
    assert rig.connections() == left
    assert rig.hears("c", "b", family=family)
    answered: set[str] = set()
    if mode == "cut":
        until(lambda: answered.update(turned_away(rig)) or answered)  # it is handed over beside what packets go through
    assert answered | turned_away(rig) == ({"a"} if mode == "cut" else set()), "only what is cut is answered"


def turned_away(rig: Rig) -> set[str]:
    """Senders of the packets that the switch handed over to be turned away."""
    found = set()
    try:
        while True:
            packet = rig.packets.get_nowait()
            if packet.userdata[:1] == REJECTED:
                found.add({2: "a", 3: "b", 4: "c", 5: "d"}[packet.data[11]])
    except queue.Empty:
        return found


def test_only_the_tuple_that_is_forbidden_is_forgotten(rig: Rig):
    """Same ends, same zone: the ports tell them apart."""
    rig.start()
    rig.connect("a", "b", 80, number=40000)
    rig.connect("a", "b", 80, number=40001)
    rig.connect("a", "b", 81, number=40000)
    assert rig.passes("a", "b", datagram(80))
    before = rig.connections()
    rig.apply(policy("on-80", only_from("a", ports=({"port": 80},))))
    assert before - rig.connections() == {tracked("b", "a", "b", 81), tracked("b", "a", "b", 80, protocol="udp")}
    assert rig.hears("a", "b", 80, number=40001)
    assert not rig.hears("a", "b", 81)


def test_what_a_pod_began_itself_is_not_asked_as_if_it_had_been_begun_at_it(rig: Rig):
    rig.start()
    rig.connect("b", "a")
    before = rig.connections()
    rig.apply(policy("nobody-in", only_from()))
    assert rig.connections() == before
    assert rig.hears("b", "a")


def test_a_peer_that_is_relabelled_loses_its_connection_and_others_do_not(rig: Rig):
    rig.start(policy("some", only_from("a", "c")))
    rig.connect("a", "b")
    rig.connect("c", "b")
    before = rig.connections()
    rig.change("Pod", "a", pod("a", app="z"))
    assert before - rig.connections() == {tracked("b", "a", "b")}


def test_what_a_change_allows_is_not_touched(rig: Rig):
    rig.start(policy("only-a", only_from("a")))
    rig.connect("a", "b")
    before = rig.connections()
    rig.apply(policy("only-a", only_from("a", "c"), generation=2))
    rig.change("NetworkPolicy", "only-a", None)
    rig.change("Pod", "c", pod("c", app="z"))
    assert rig.connections() == before


def test_nothing_is_read_where_nothing_can_be_forbidden(rig: Rig):
    rig.start(pods=("a", "b", "c"))
    dumps = rig.dumps
    rig.change("Pod", "d", pod("d"))
    rig.change("Pod", "d", pod("d", app="z"))
    assert rig.dumps == dumps + 1, "the relabelled one may have lost something, the new one not"


def test_connections_of_a_pod_that_is_gone_go_from_every_zone(rig: Rig):
    """Its address may be another's soon, who must not inherit them."""
    rig.start()
    rig.connect("a", "b")
    rig.connect("b", "c")
    rig.connect("a", "c")
    rig.change("Pod", "b", None)
    assert rig.connections() == both("a", "c")


def test_an_address_that_a_pod_gives_up_takes_its_connections_with_it(rig: Rig):
    rig.start()
    rig.connect("a", "b")
    rig.connect("a", "b", family=6)
    moved = pod("b")
    notes = moved["metadata"]["annotations"]
    decided = json.loads(notes["ncp/port"])
    decided["addresses"][0] = "10.4.0.77/24"
    notes["ncp/port"] = json.dumps(decided)
    rig.change("Pod", "b", moved)
    assert rig.connections() == both("a", "b", family=6)


def test_what_was_forbidden_while_nobody_looked_goes_when_an_agent_begins(rig: Rig):
    rig.start()
    rig.connect("a", "b")
    rig.connect("c", "b")
    rig.stop()
    rig.start(policy("only-c", only_from("c")))
    assert rig.connections() == {tracked("a", "a", "b")} | both("c", "b")


def test_a_restart_that_forbids_nothing_keeps_every_connection(rig: Rig):
    given = policy("only-c", only_from("c"))
    rig.start(given)
    rig.connect("c", "b")
    before = rig.connections()
    rig.stop()
    rig.start(given)
    assert rig.connections() == before
    assert rig.hears("c", "b")


def test_a_node_is_settled_only_when_connections_obey_too(rig: Rig):
    rig.start()
    rig.connect("a", "b")
    assert rig.loop.settled == rig.loop.given
    seen = []
    rig.before_dump = lambda: seen.append((rig.loop.is_in_step, rig.loop.settled < rig.loop.given))
    rig.change("NetworkPolicy", "only-c", policy("only-c", only_from("c")))
    assert seen == [(True, True)], "the switch has the flows, and still lets a connection pass that they forbid"
    assert rig.loop.settled == rig.loop.given


def test_connections_that_could_not_be_read_are_looked_at_again(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(loop, "RETRY", 0.05)
    rig.start()
    rig.connect("a", "b")
    failures = iter([AppctlError("not now"), AppctlError("not yet")])

    def fail() -> None:
        for each in failures:
            assert {} in rig.told or not rig.told, "nobody is told before connections obey"
            raise each

    rig.before_dump = fail
    rig.change("NetworkPolicy", "only-c", policy("only-c", only_from("c")), wait=False)
    until(lambda: rig.told and rig.told[-1] == {"only-c": 1})
    assert next(failures, None) is None
    assert rig.connections() == {tracked("a", "a", "b")}


@pytest.mark.parametrize("family", [4, 6])
def test_an_association_goes_with_both_its_flows_and_no_other_does(rig: Rig, family: int):
    rig.start()
    for source, port in (("a", 9091), ("a", 9092), ("c", 9091)):
        assert rig.passes(source, "b", association(port), family)
    assert rig.passes("b", "a", association(9093), family)
    before = rig.associations()
    assert len(before) == 16, "two flows at each of two ports for each"
    rig.apply(policy("some", only_from("a", ports=({"port": 9091, "protocol": "SCTP"},))))
    gone = before - rig.associations()
    assert gone == {
        (17, "a", 40000, "b", 9092), (17, "b", 9092, "a", 40000), (17, "c", 40000, "b", 9091), (17, "b", 9091, "c", 40000),
    }  # fmt: skip
    assert rig.associations() == before - gone


def test_a_pod_that_goes_in_another_routing_domain_takes_nobody_elses_connections(rig: Rig):
    """It has the address of c. What is tracked at ports here is about c of their own domain."""
    rig.start(policy("some", only_from("a", "c")))
    rig.connect("c", "b")
    before = rig.connections()
    other = pod("c", where="node2")
    other["metadata"] |= {"namespace": "blue", "uid": "u-blue-c"}
    decided = json.loads(other["metadata"]["annotations"]["ncp/port"]) | {"vni": 5002}
    other["metadata"]["annotations"]["ncp/port"] = json.dumps(decided)
    rig.loop.changed("Namespace", ("", "blue"), namespace("blue", vni=5002, domain=7))
    rig.loop.changed("Pod", ("blue", "c"), other)
    rig.idle()
    rig.loop.changed("Pod", ("blue", "c"), None)
    rig.idle()
    assert before == rig.connections()
    rig.change("Pod", "c", None)
    assert rig.connections() < before
