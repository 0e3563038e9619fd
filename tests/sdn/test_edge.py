"""Which edge is active: cases, and a small world of edges in which links, servers and edges come and go as they like."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdn.edge import Held, Mode, Own, Peer, Times, decide

TIMES = Times()


def act(held: Held | None, *peers: Peer, mode: Mode = "NON_PREEMPTIVE", **own: object) -> tuple[str, bool]:
    found = decide(Own("b", **own), peers, held, mode, TIMES)  # type: ignore[arg-type]
    return found.act, found.active


@pytest.mark.parametrize(
    ("held", "peer", "expected"),
    [
        (None, Peer("a"), "wait"),
        (Held("a", 0.6), Peer("a", near=False), "wait"),
        (Held("a", 1.1), Peer("a", near=False), "take"),
        (Held("a", 1.1), Peer("a", near=False, since=0.1), "wait"),
        (Held("a", 60), Peer("a", near=True), "wait"),
        (Held("a", 1.9), Peer("a", near=None), "wait"),
        (Held("a", 2.1), Peer("a", near=None), "take"),
        (Held("c", 1.9), Peer("a"), "wait"),
        (Held("c", 2.1), Peer("a"), "take"),
        (Held("", 0), Peer("a", near=True), "wait"),
        (Held("", 0.5), Peer("a", near=True), "take"),
        (Held("", 0), Peer("a", near=False), "take"),
        (Held("", 0, left="a"), Peer("a", near=True), "take"),
        (Held("", 0), Peer("c", near=True), "take"),
    ],
)
def test_a_standby_takes_what_is_free_or_lost_and_nothing_else(held, peer, expected):
    assert act(held, peer) == (expected, False)


@pytest.mark.parametrize("state", ["starting", "ill"])
def test_who_is_not_well_takes_nothing(state):
    assert act(Held("", 60), Peer("a", near=False), state=state) == ("wait", False)


@pytest.mark.parametrize(
    ("own", "peer", "expected"),
    [
        ({"renewed": 0.4}, Peer("a", near=True), ("wait", True)),
        ({"renewed": 0.5}, Peer("a", near=True), ("renew", True)),
        ({"renewed": 60.0}, Peer("a", near=True), ("renew", True)),
        ({"renewed": 0.7}, Peer("a", near=False), ("renew", True)),
        ({"renewed": 0.9}, Peer("a", near=False), ("renew", False)),
        ({"renewed": 0.9}, Peer("a", near=False, ready=False), ("renew", True)),
        ({"renewed": 0.9}, Peer("a", near=None), ("renew", True)),
        ({"renewed": 0.9, "stopped": True}, Peer("a", near=True), ("renew", False)),
        ({"state": "starting", "renewed": 0.5}, Peer("a", near=True), ("renew", True)),
        ({"state": "ill"}, Peer("a", near=True), ("hand over", True)),
        ({"state": "ill"}, Peer("a", near=None), ("release", True)),
        ({"state": "ill"}, Peer("a", near=False), ("wait", True)),
        ({"state": "ill"}, Peer("a", near=True, ready=False), ("wait", True)),
        ({"is_edge": False}, Peer("a", near=True), ("hand over", True)),
        ({"is_edge": False}, Peer("a", near=False), ("release", True)),
    ],
)
def test_a_holder_renews_stops_where_it_is_cut_off_and_leaves_where_another_can_do_better(own, peer, expected):
    assert act(Held("b"), peer, **own) == expected


@pytest.mark.parametrize(
    ("own", "peer", "mode", "expected"),
    [
        ({}, Peer("a", near=True), "PREEMPTIVE", "hand over"),
        ({}, Peer("a", near=True, since=4.9), "PREEMPTIVE", "wait"),
        ({"renewed": 1.0}, Peer("a", near=True), "PREEMPTIVE", "renew"),
        ({}, Peer("a", near=False), "PREEMPTIVE", "wait"),
        ({}, Peer("a", near=True, ready=False), "PREEMPTIVE", "wait"),
        ({}, Peer("a", near=True), "NON_PREEMPTIVE", "wait"),
        ({"priority": 5}, Peer("a", near=True), "PREEMPTIVE", "wait"),
        ({"priority": 5}, Peer("a", 6, near=True), "PREEMPTIVE", "hand over"),
        ({}, Peer("c", near=True), "PREEMPTIVE", "wait"),
    ],
)
def test_the_preferred_edge_comes_back_only_if_it_is_told_to(own, peer, mode, expected):
    assert act(Held("b", 0.1), peer, mode=mode, **own)[0] == expected


# -- a world of edges ---------------------------------------------------------------------------------------------------

TICK = 0.1
NAMES = ("a", "b", "c")
DETECTION = 6  # ticks until BFD notices at the later of the two ends; the other may be up to SKEW earlier
SKEW = 2
CALM = 60  # ticks after which, nothing happening, somebody must be active


@dataclass
class Api:
    holder: str = ""
    left: str = ""
    version: int = 0


@dataclass
class Edge:
    """One edge as it is. What it saw of the lease may be old; what it writes may be refused."""

    name: str
    alive: bool = True  # agent and switch
    well: bool = True
    reaches: bool = True  # the API server
    seen: Api | None = None
    seen_at: int = 0
    renewed_at: int = 0
    well_at: int = 0
    active: bool = False
    stopped: bool = False
    down_at: dict[str, int] = field(default_factory=dict)  # when BFD found the other dead
    broken: dict[str, int] = field(default_factory=dict)  # ticks for which the way has really been broken


class World:
    def __init__(self, mode: Mode) -> None:
        self.mode = mode
        self.now = 0
        self.api = Api()
        self.edges = {name: Edge(name) for name in NAMES}
        self.cut: set[frozenset[str]] = set()
        self.moves: list[tuple[str, str, str]] = []

    def tick(self, lag: bool) -> None:
        """One tick; with ``lag`` nobody hears what was written in the last one."""
        self.now += 1
        for edge in self.edges.values():
            self._watch_ways(edge)
        for edge in self.edges.values():
            if edge.alive:
                self._turn(edge, lag)
            else:
                edge.active = False

    def _watch_ways(self, edge: Edge) -> None:
        for other in self.edges.values():
            if other is edge:
                continue
            broken = not other.alive or not edge.alive or frozenset({edge.name, other.name}) in self.cut
            edge.broken[other.name] = edge.broken.get(other.name, 0) + 1 if broken else 0
            late = DETECTION - (SKEW if edge.name < other.name else 0)
            if edge.broken[other.name] >= late:
                edge.down_at.setdefault(other.name, self.now)
            else:
                edge.down_at.pop(other.name, None)

    def _turn(self, edge: Edge, lag: bool) -> None:
        if edge.reaches and not (lag and edge.seen is not None) and edge.seen != self.api:
            if edge.seen is None or edge.seen.holder != edge.name:  # it is new to us, whosever it is
                edge.renewed_at, edge.stopped = self.now, False
            edge.seen, edge.seen_at = Api(self.api.holder, self.api.left, self.api.version), self.now
        found = decide(
            Own(
                edge.name,
                state="well" if edge.well else "ill",
                why="ill",
                renewed=(self.now - edge.renewed_at) * TICK,
                stopped=edge.stopped,
            ),
            [self._peer(edge, other) for other in self.edges.values() if other is not edge],
            edge.seen and Held(edge.seen.holder, (self.now - edge.seen_at) * TICK, edge.seen.left),
            self.mode,
            TIMES,
        )
        edge.active = found.active
        edge.stopped = bool(edge.seen) and edge.seen.holder == edge.name and not found.active
        if found.act != "wait" and edge.reaches and edge.seen and edge.seen.version == self.api.version:
            before = self.api.holder
            holder = {"release": "", "hand over": found.to}.get(found.act, edge.name)
            self.api = Api(holder, edge.name if found.act == "release" else "", self.api.version + 1)
            edge.seen_at = edge.renewed_at = self.now
            edge.seen = Api(self.api.holder, self.api.left, self.api.version)
            edge.active, edge.stopped = holder == edge.name, False
            if holder != before:
                self.moves.append((before, holder, found.why))

    def _peer(self, edge: Edge, other: Edge) -> Peer:
        down = edge.down_at.get(other.name)
        since = (self.now - (other.well_at if down is None else down)) * TICK
        # It says itself what it is, where it can say anything; who is dead said last that all was well.
        return Peer(other.name, ready=other.well, near=down is None, since=since)

    def informed(self, edge: Edge) -> bool:
        return edge.alive and edge.seen is not None and edge.seen.version == self.api.version


events = st.one_of(
    st.tuples(st.just("alive"), st.sampled_from(NAMES)),
    st.tuples(st.just("well"), st.sampled_from(NAMES)),
    st.tuples(st.just("reaches"), st.sampled_from(NAMES)),
    st.tuples(st.just("link"), st.sampled_from([("a", "b"), ("a", "c"), ("b", "c")])),
    st.tuples(st.just("lag"), st.just("")),
)


def happen(world: World, event: tuple[str, object]) -> None:
    kind, what = event
    if kind == "link":
        world.cut ^= {frozenset(what)}  # type: ignore[arg-type]
    elif kind != "lag":
        edge = world.edges[str(what)]
        setattr(edge, kind, not getattr(edge, kind))
        edge.well_at = world.now
        if kind == "alive":  # it starts knowing nothing
            edge.seen, edge.down_at, edge.broken = None, {}, {}


@settings(max_examples=300, deadline=None)
@given(
    story=st.lists(st.tuples(events, st.integers(0, 40)), max_size=14),
    mode=st.sampled_from(["PREEMPTIVE", "NON_PREEMPTIVE"]),
)
def test_there_is_never_more_than_one_active_edge_for_longer_than_a_write_takes_to_be_heard(story, mode):
    world = World(mode)
    for event, ticks in story:
        happen(world, event)
        for number in range(ticks):
            world.tick(lag=event[0] == "lag" and number == 0)
            believing = [edge for edge in world.edges.values() if edge.active]
            assert len([edge for edge in believing if world.informed(edge)]) <= 1
            # One that reaches the server has just not heard yet. One that does not had stopped before the other began.
            unheard = [edge.name for edge in believing if not edge.reaches]
            assert len(believing) <= 1 or not unheard, (world.moves, unheard)
            assert len(believing) <= 2


@settings(max_examples=200, deadline=None)
@given(
    story=st.lists(st.tuples(events, st.integers(0, 40)), max_size=14),
    mode=st.sampled_from(["PREEMPTIVE", "NON_PREEMPTIVE"]),
)
def test_once_things_are_calm_somebody_is_active_wherever_somebody_can_be(story, mode):
    world = World(mode)
    for event, ticks in story:
        happen(world, event)
        for _ in range(ticks):
            world.tick(lag=False)
    world.cut.clear()
    for edge in world.edges.values():
        edge.reaches = True
    for _ in range(CALM):
        world.tick(lag=False)
    able = [edge.name for edge in world.edges.values() if edge.alive and edge.well]
    active = [edge.name for edge in world.edges.values() if edge.active]
    if able:
        assert len(active) == 1, (able, world.api, world.moves)
        assert active[0] in able
    if able and mode == "PREEMPTIVE":
        assert active == [min(able)]


@settings(max_examples=200, deadline=None)
@given(story=st.lists(st.tuples(events, st.integers(0, 40)), max_size=14))
def test_without_preemption_nobody_moves_without_a_cause(story):
    """Those who took over did so from somebody who was dead, ill, or cut off."""
    world = World("NON_PREEMPTIVE")
    for event, ticks in story:
        happen(world, event)
        for _ in range(ticks):
            count = len(world.moves)
            world.tick(lag=False)
            for before, after, why in world.moves[count:]:
                if before and after:
                    edge = world.edges[before]
                    assert not (edge.alive and edge.reaches and edge.well), (before, after, why)
