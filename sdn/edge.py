"""Which of tier-0's edges is active: what one edge does next, from what it knows now. Pure.

The active edge is the holder of a lease, which it renews. Who takes it has either found it free, or found it not renewed *and* the way to the
holder dead (BFD): a holder whose switch still forwards is left alone, however long its agent is away. A holder that cannot renew, and
sees the way dead to somebody who may take over, stops on its own before anybody else may start. Nobody takes a lease from a holder that
is alive: it hands it over itself, to who is preferred or because it is ill. Why: decision record 10.

All ages are in seconds on the clock of the edge that decides; times that others wrote are never compared with it.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, TypeAlias

Mode: TypeAlias = Literal["PREEMPTIVE", "NON_PREEMPTIVE"]
State: TypeAlias = Literal["starting", "ill", "well"]


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds. All but the last two follow from how long a lease is held without being renewed.

    A holder stops (``fence``) well before the first that may start (``fast``), each counting from the last renewal: the holder from when
    it began to write it, the others from when they saw it.
    """

    lease: float = 2.0
    settled: float = 0.3  # a way is dead once it has been down for so long; by then both ends know
    healthy: float = 5.0  # the preferred edge comes back after so long

    @property
    def renew(self) -> float:
        """Between renewals; also what each edge leaves those before it at a free lease."""
        return self.lease / 4

    @property
    def fence(self) -> float:
        """A holder cut off from the API server and from another edge stops after so long without a renewal."""
        return self.lease * 0.4

    @property
    def fast(self) -> float:
        """A holder without renewal for so long, the way to it dead, has lost the lease."""
        return self.lease / 2


STARTING_SECONDS: Final = 10.0
"""An agent that has not got so far as to know its switch's state after this time is ill."""


class Own(NamedTuple):
    """The edge that decides. ``renewed``: since it began to write the lease the last time it succeeded; ``stopped``: it held the lease since
    then and was not active. It stays so until it has renewed: meanwhile somebody else may have begun."""

    name: str
    priority: int = 0
    is_edge: bool = True
    state: State = "well"
    why: str = ""  # what is wrong where it is ill
    renewed: float = 0.0
    stopped: bool = False


class Peer(NamedTuple):
    """Another edge. ``ready`` is what it says of itself; ``near`` whether BFD finds it alive (None: not known); ``since``: so long that has been
    so, and where it is near, so long it has been ready, too."""

    name: str
    priority: int = 0
    ready: bool = True
    near: bool | None = None
    since: float = math.inf


class Held(NamedTuple):
    """The lease as seen here. ``age``: since it was seen to change; ``left``: who gave it back last, where nobody holds it."""

    holder: str = ""
    age: float = 0.0
    left: str = ""


class Verdict(NamedTuple):
    """What to do now, why, and whether this edge is the active one until then."""

    act: Literal["renew", "take", "release", "hand over", "wait"]
    active: bool = False
    why: str = ""
    to: str = ""  # whom it hands the lease over to


WAIT: Final = Verdict("wait")


def decide(own: Own, peers: Collection[Peer], held: Held | None, mode: Mode, times: Times) -> Verdict:
    """What the edge does next. ``held`` is None as long as the lease has not been asked for: then nothing is done."""
    if held is None:
        return WAIT
    if held.holder == own.name:
        return _holder(own, peers, mode, times)
    if not own.is_edge or own.state != "well":
        return WAIT
    if not held.holder:
        return _free(own, peers, held, times)
    why = _lost(next((peer for peer in peers if peer.name == held.holder), None), held, times)
    return Verdict("take", why=why) if why else WAIT


def _preference(edge: Own | Peer) -> tuple[int, str]:
    """Edges in the order of preference: the highest priority, then the first by name."""
    return -edge.priority, edge.name


def _holder(own: Own, peers: Collection[Peer], mode: Mode, times: Times) -> Verdict:
    dead = any(peer.ready and peer.near is False for peer in peers)
    active = not (own.stopped or (own.renewed >= times.fence and dead))
    able = sorted((peer for peer in peers if peer.ready and peer.near), key=_preference)
    why = "" if own.is_edge else f"{own.name} is no edge any more"
    if own.is_edge and own.state == "ill":
        why = f"{own.name}: {own.why}"
    if why and able:
        return Verdict("hand over", active, why, able[0].name)
    # What BFD does not know (None) may be alive: a switch that is gone knows nothing, and then anybody is better than nobody.
    if why and (not own.is_edge or any(peer.ready and peer.near is None for peer in peers)):
        return Verdict("release", active, why)
    preferred = [peer for peer in able if _preference(peer) < _preference(own) and peer.since >= times.healthy]
    # Only while the server answers: after a write whose fate is unknown this edge would have to stop.
    if mode == "PREEMPTIVE" and preferred and own.renewed < times.fence:
        to = preferred[0].name
        return Verdict("hand over", active, f"{to} is preferred to {own.name}, and well again", to)
    return Verdict("renew" if own.renewed >= times.renew else "wait", active)


def _free(own: Own, peers: Collection[Peer], held: Held, times: Times) -> Verdict:
    """Who is preferred goes first. Who has just given it back is not waited for."""
    able = [peer for peer in peers if peer.ready and peer.near and peer.name != held.left]
    ahead = [peer for peer in able if _preference(peer) < _preference(own)]
    if held.age < len(ahead) * times.renew:
        return WAIT
    return Verdict("take", why="nobody was active")


def _lost(holder: Peer | None, held: Held, times: Times) -> str:
    """Why the holder has lost the lease; empty: it has not."""
    if holder is None:
        return f"{held.holder} is no edge any more" if held.age > times.lease else ""
    silent = f"{holder.name} has not renewed its lease for {held.age:.1f} s"
    if holder.near is False and holder.since >= times.settled and held.age > times.fast:
        return f"{silent}, and BFD finds it dead"
    if holder.near is None and held.age > times.lease:
        return f"{silent}, and BFD knows nothing of it"
    return ""
