"""A program is made of pieces, each a function of a few named inputs; a change recomputes only the pieces it touches.

| Piece | Reads |
|---|---|
| ``("fabric", "")`` | settings, tier-0, this node, the exit node |
| ``("node", name)`` | that node, tier-0 |
| ``("switch", vni)`` | that switch |
| ``("port", name)`` | that port, its switch, its node, and where it is attached if that is here |
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from sdn.compile.fabric import compile_fabric
from sdn.compile.nodes import compile_node
from sdn.compile.ports import compile_local, compile_remote
from sdn.compile.segments import compile_switch
from sdn.model import Intent, LogicalPort, Origin, Problem
from sdn.pipeline.flow import Flow

Piece: TypeAlias = tuple[str, str | int]
Attachments: TypeAlias = Mapping[str, int]
"""Logical port name → OpenFlow port number on this node's switch."""

FABRIC: Piece = ("fabric", "")


@dataclass(frozen=True, slots=True)
class Delta:
    """What changed between two intents, by name; ``settings`` is everything that is not a map of the intent."""

    ports: frozenset[str] = field(default_factory=frozenset)
    switches: frozenset[int] = field(default_factory=frozenset)
    nodes: frozenset[str] = field(default_factory=frozenset)
    settings: bool = False

    def __or__(self, other: Delta) -> Delta:
        return Delta(
            self.ports | other.ports,
            self.switches | other.switches,
            self.nodes | other.nodes,
            self.settings or other.settings,
        )

    def __bool__(self) -> bool:
        return bool(self.ports or self.switches or self.nodes or self.settings)


def all_pieces(intent: Intent) -> Iterator[Piece]:
    """Every piece of a node's program."""
    yield FABRIC
    yield from (("node", name) for name in intent.nodes)
    yield from (("switch", vni) for vni in intent.switches)
    yield from (("port", name) for name in intent.ports)


def touched(intent: Intent, node: str, delta: Delta) -> set[Piece]:
    """The pieces that read something in ``delta``, in the new intent (pieces of things gone are among them)."""
    found: set[Piece] = {("port", name) for name in delta.ports}
    found.update(("switch", vni) for vni in delta.switches)
    found.update(("node", name) for name in delta.nodes)
    if delta.settings or node in delta.nodes:
        found.update(all_pieces(intent))
        return found
    if intent.tier0.exit_node in delta.nodes:
        found.add(FABRIC)
    if delta.switches or delta.nodes:
        found.update(
            ("port", name)
            for name, port in intent.ports.items()
            if port.vni in delta.switches or port.node in delta.nodes
        )
    return found


def compile_piece(
    piece: Piece, intent: Intent, node: str, attachments: Attachments
) -> tuple[tuple[Flow, ...], tuple[Problem, ...]]:
    """The flows of one piece on ``node``, and what could not be compiled. A thing that is gone has no flows."""
    kind, name = piece
    here = intent.nodes.get(node)
    if here is None:
        if piece == FABRIC:
            origin = Origin("Node", "", node)
            return (), (Problem(origin, "NODE_UNKNOWN", f"node {node} has no usable address yet, so nothing is sent"),)
        return (), ()
    if piece == FABRIC:
        return compile_fabric(intent, here), ()
    if kind == "node" and (other := intent.nodes.get(str(name))):
        return compile_node(other, intent.tier0, local=other.name == node), ()
    if kind == "switch" and (switch := intent.switches.get(int(name))):
        return compile_switch(switch), ()
    if kind == "port" and (port := intent.ports.get(str(name))):
        return _compile_port(port, intent, node, attachments)
    return (), ()


def _compile_port(
    port: LogicalPort, intent: Intent, node: str, attachments: Attachments
) -> tuple[tuple[Flow, ...], tuple[Problem, ...]]:
    switch = intent.switches.get(port.vni)
    if switch is None:
        text = f"port {port.name} is on segment {port.vni}, which does not exist; allowed are the segments of its namespace"
        return (), (Problem(port.origin, "SEGMENT_UNKNOWN", text),)
    if not port.node:
        return (), ()  # not scheduled yet
    if port.node == node:
        ofport = attachments.get(port.name)
        if ofport is None:
            return (), ()  # not attached yet
        return compile_local(port, switch, ofport), ()
    other = intent.nodes.get(port.node)
    if other is None:
        text = f"port {port.name} is on node {port.node}, which has no tunnel endpoint; waiting for the node's address"
        return (), (Problem(port.origin, "NODE_UNKNOWN", text),)
    return compile_remote(port, other.tep), ()
