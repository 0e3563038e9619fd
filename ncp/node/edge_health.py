"""How an edge is, and how the ways to the others are: what its decision is made from, kept over time. No effects but the clock it is given."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from ncp.node.edges import Edge
from sdn.edge import STARTING_SECONDS, Peer, State

SETTLE_SECONDS: Final = 3.0
"""A BFD session that has not been up yet may take so long to get there (RFC 5880 6.8.3: slow until it is up)."""


class Signs(NamedTuple):
    """What is to be seen at one moment. ``ways``: what BFD says of each peer, where the switch is there to say it."""

    carries: bool  # the switch is there and programmed
    ways: Mapping[str, bool | None]
    carriers: Mapping[str, bool]  # links of the switch's own devices on other bridges
    underlay: tuple[str, ...] = ()  # devices that have the node's addresses
    uplinks: tuple[str, ...] = ()


@dataclass(slots=True)
class _Way:
    first: float
    since: float
    seen: tuple[bool | None, bool] | None = None  # near, and ready where it is near
    was_up: bool = False


class Watch:
    """Remembers since when things are as they are. ``now`` is monotonic, in seconds."""

    def __init__(self, now: float) -> None:
        self._began = now
        self._carried = False  # the switch has been well once
        self._ways: dict[str, _Way] = {}

    def peers(self, edges: Iterable[Edge], signs: Signs, now: float) -> tuple[Peer, ...]:
        """The other edges."""
        found = []
        for edge in edges:
            near = signs.ways.get(edge.name) if signs.carries else None
            way = self._ways.get(edge.name)
            if way is None or near is None:
                way = self._ways[edge.name] = _Way(now, now)
            seen = near, bool(near and edge.ready)
            if way.seen != seen:
                way.since, way.seen = now, seen
            way.was_up |= bool(near)
            found.append(Peer(edge.name, edge.priority, edge.ready, near, now - way.since))
        self._ways = {peer.name: self._ways[peer.name] for peer in found}
        return tuple(found)

    def state(self, signs: Signs, now: float) -> tuple[State, str]:
        """How the edge itself is, and what is wrong. Call it after :meth:`peers`."""
        if not signs.carries:
            if not self._carried and now - self._began < STARTING_SECONDS:
                return "starting", ""
            return "ill", "its switch is not there or not programmed"
        self._carried = True
        if any(signs.carriers.get(name) is False for name in signs.underlay):
            return "ill", f"no link at {', '.join(signs.underlay)}, where its addresses are"
        if signs.uplinks and not any(signs.carriers.get(name, True) for name in signs.uplinks):
            return "ill", f"no link at any uplink ({', '.join(signs.uplinks)})"
        young = (way for way in self._ways.values() if not way.was_up and now - way.first < SETTLE_SECONDS)
        return ("starting" if any(young) else "well"), ""
