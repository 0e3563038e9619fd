"""What an edge makes of what it sees: its own health over time, the lease, and the intent of every node that follows it."""

from __future__ import annotations

import pytest

from ncp.node.edge_health import SETTLE_SECONDS, Signs, Watch
from ncp.node.edges import Edge, edge_of, lease_of, released, renewed, taken
from ncp.translate.intent import Fabric, apply_all, start, translated
from sdn.compile.delta import Delta
from sdn.edge import STARTING_SECONDS
from tests.translate.test_intent import node

WELL = Signs(True, {"b": True}, {"br-ul": True, "up0": True}, ("br-ul",), ("up0",))
B = Edge("b", "192.0.2.2", 0, True)
KEY = ("kube-system", "ncp-tier0")


def edge(name: str, address: str = "192.0.2.1", **annotations: str) -> dict:
    found = node(name, address)
    found["metadata"] |= {"labels": {"ncp/edge": "true"}, "annotations": annotations}
    return found


def lease(holder: str) -> dict:
    return {"metadata": {"name": KEY[1], "namespace": KEY[0]}, "spec": {"holderIdentity": holder}}


def looked(watch: Watch, signs: Signs, now: float, *edges: Edge):
    return watch.peers(edges or (B,), signs, now), *watch.state(signs, now)


@pytest.mark.parametrize(
    ("signs", "state"),
    [
        (WELL, "well"),
        (WELL._replace(carries=False), "ill"),
        (WELL._replace(carriers={"br-ul": False, "up0": True}), "ill"),
        (WELL._replace(carriers={"br-ul": True, "up0": False}), "ill"),
        (WELL._replace(carriers={"br-ul": True, "up0": False, "up1": True}, uplinks=("up0", "up1")), "well"),
        (WELL._replace(carriers={}), "well"),
        (WELL._replace(ways={"b": False}), "well"),
    ],
)
def test_an_edge_needs_its_switch_its_link_and_one_of_its_uplinks(signs, state):
    watch = Watch(0.0)
    looked(watch, WELL, 1.0)
    assert looked(watch, signs, 100.0)[1] == state


def test_an_agent_that_starts_is_not_ill_at_once_but_after_a_while():
    watch, gone = Watch(0.0), WELL._replace(carries=False)
    assert looked(watch, gone, 1.0)[1] == "starting"
    assert looked(watch, gone, STARTING_SECONDS)[1] == "ill"


def test_a_session_that_was_never_up_is_given_time_and_one_that_was_is_not():
    watch, down = Watch(0.0), WELL._replace(ways={"b": False})
    assert looked(watch, down, 1.0)[1] == "starting"
    assert looked(watch, down, 1.0 + SETTLE_SECONDS)[1] == "well"
    watch = Watch(0.0)
    looked(watch, WELL, 1.0)
    assert looked(watch, down, 1.1)[1] == "well"


def test_a_switch_that_is_gone_knows_nothing_of_ways_whatever_its_database_says():
    (peer,), state, _ = looked(Watch(0.0), WELL._replace(carries=False), 60.0)
    assert (peer.near, state) == (None, "ill")


def test_a_peer_is_as_it_is_since_its_way_or_its_readiness_changed():
    watch = Watch(0.0)
    looked(watch, WELL, 1.0, B._replace(ready=False))
    looked(watch, WELL, 2.0)
    assert looked(watch, WELL, 5.0)[0][0].since == 3.0
    down = WELL._replace(ways={"b": False})
    looked(watch, down, 6.0)
    assert looked(watch, down, 7.0, B._replace(ready=False))[0][0].since == 1.0


def test_a_node_is_an_edge_by_its_label_and_ready_by_its_word_unless_it_is_lost():
    found = edge("a", **{"ncp/edge_ready": "yes", "ncp/edge-priority": "7"})
    assert edge_of(found) == Edge("a", "192.0.2.1", 7, True)
    found["status"]["conditions"] = [{"type": "Ready", "status": "Unknown"}]
    assert edge_of(found) == Edge("a", "192.0.2.1", 7, False)
    assert edge_of(edge("a", **{"ncp/edge_ready": "no: x", "ncp/edge-priority": "high"})) == Edge(
        "a", "192.0.2.1", 0, False
    )
    assert edge_of(node("a", "192.0.2.1")) is None


def test_what_is_written_of_the_lease_can_be_read_again():
    first = taken(None, "a", "t1", "nobody was active", 2.0)
    first["metadata"]["resourceVersion"] = "5"
    assert lease_of(first)[:2] == ("a", "")
    assert first["spec"]["leaseTransitions"] == 0
    again = renewed(first, "t2")
    assert (lease_of(again).renewed, again["spec"]["acquireTime"]) == ("t2", "t1")
    left = released(again, "a", "t3", "ill")
    assert lease_of(left)[:2] == ("", "a")
    assert left["metadata"]["resourceVersion"] == "5", "so that a write in between refuses it"
    other = taken(left, "b", "t4", "nobody was active", 2.0)
    assert lease_of(other)[:2] == ("b", "")
    assert other["spec"]["leaseTransitions"] == 1


def fabric(exit_node: str = "n3") -> Fabric:
    return Fabric("lab", 5000, (), 1500, False, exit_node)


@pytest.mark.parametrize(
    ("objects", "exit_node"),
    [
        ({"Node": [node("n3", "192.0.2.3")]}, "n3"),
        ({"Node": [node("n3", "192.0.2.3")], "Lease": [lease("n1")]}, "n3"),
        ({"Node": [edge("n1"), node("n3", "192.0.2.3")]}, ""),
        ({"Node": [edge("n1"), node("n3", "192.0.2.3")], "Lease": [lease("n1")]}, "n1"),
        ({"Node": [edge("n1")], "Lease": [lease("")]}, ""),
    ],
)
def test_the_way_out_is_the_active_edge_and_without_edges_the_node_of_the_settings(objects, exit_node):
    for order in (list(objects), list(reversed(objects))):
        found = translated(fabric(), {kind: objects[kind] for kind in order})
        assert found.intent.tier0.exit_node == exit_node


def test_another_active_edge_is_a_small_change_and_a_renewal_is_none():
    state, _ = apply_all(start(fabric()), [("Node", ("", "n1"), edge("n1")), ("Lease", KEY, lease("n1"))])
    state, delta = apply_all(state, [("Lease", KEY, lease("n2"))])
    assert delta == Delta(exits=True)
    assert apply_all(state, [("Lease", KEY, lease("n2"))])[1] == Delta()
    assert apply_all(state, [("Lease", ("kube-system", "other"), lease("n9"))])[1] == Delta()
