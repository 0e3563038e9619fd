"""A program is made of pieces, each a function of a few named inputs; a change recomputes only the pieces it touches.

| Piece | Reads |
|---|---|
| ``("fabric", "")`` | settings, tier-0, this node, the exit node |
| ``("node", name)`` | that node, tier-0 |
| ``("switch", vni)`` | that switch |
| ``("port", name)`` | that port, its switch, its node, its identity's number, and where it is attached if that is here |
| ``("clause", clause)`` | the rules that claim it |
| ``("own", subject)`` | the sections that are about those pods |
| ``("section", key)`` | that section's plans |
| ``("service", name)`` | that virtual server and its pools |
| ``("member", (pool, member))`` | that member of that pool |
| ``("segment nat", vni)`` | that switch, and whether traffic leaves by this node |
| ``("service nat", name)`` | that virtual server's address outside and its members |
| ``("binding", name)`` | that binding and its port |

What clauses, own and sections read is the node's :class:`~sdn.compile.ruleset.Ruleset`, which says itself what of them a change
touches; what services read is its :class:`~sdn.compile.balancing.Balancing`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from sdn.compile.delta import Delta, Piece
from sdn.compile.fabric import compile_fabric
from sdn.compile.firewall import compile_firewall
from sdn.compile.nat import compile_binding, compile_nat, compile_segment_nat, compile_service_nat
from sdn.compile.nodeport import compile_node_port
from sdn.compile.nodes import compile_node
from sdn.compile.ports import compile_local, compile_remote
from sdn.compile.rules import compile_clause, compile_own, compile_section
from sdn.compile.ruleset import Ruleset
from sdn.compile.segments import compile_switch
from sdn.compile.services import compile_balancing
from sdn.model import Intent, LogicalPort, Origin, Problem
from sdn.pipeline.flow import Flow

Attachments: TypeAlias = Mapping[str, int]
"""Logical port name → OpenFlow port number on this node's switch."""

FABRIC: Piece = ("fabric", "")


def all_pieces(intent: Intent) -> Iterator[Piece]:
    """Every piece of a node's program but those of its ruleset."""
    yield FABRIC
    yield from (("node", name) for name in intent.nodes)
    yield from (("switch", vni) for vni in intent.switches)
    yield from (("port", name) for name in intent.ports)
    yield from nat_pieces(intent)


def nat_pieces(intent: Intent) -> Iterator[Piece]:
    """Every piece that is about addresses outside."""
    yield from (("segment nat", vni) for vni in intent.switches)
    yield from (("service nat", name) for name, server in intent.services.items() if server.translated)
    yield from (("binding", name) for name in intent.bindings)


def touched(intent: Intent, node: str, delta: Delta) -> set[Piece]:
    """The pieces that read something in ``delta``, in the new intent (pieces of things gone are among them)."""
    found: set[Piece] = {("port", name) for name in delta.ports}
    found.update((kind, vni) for vni in delta.switches for kind in ("switch", "segment nat"))
    found.update(("service nat", name) for name in delta.services)
    found.update(("binding", name) for name in delta.bindings)
    if delta.ports:
        found.update(("binding", name) for name, each in intent.bindings.items() if each.port in delta.ports)
    found.update(("node", name) for name in delta.nodes)
    if delta.settings or node in delta.nodes:
        found.update(all_pieces(intent))
        return found
    if delta.exits or intent.tier0.exit_node in delta.nodes:
        found.add(FABRIC)
    if delta.exits and node in intent.nodes and not intent.nodes[node].edge:
        found.update(nat_pieces(intent))
    if delta.switches or delta.nodes:
        found.update(
            ("port", name)
            for name, port in intent.ports.items()
            if port.vni in delta.switches or port.node in delta.nodes
        )
    return found


def ruled_pieces(rules: Ruleset) -> Iterator[Piece]:
    """Every piece of a node's program that its ruleset has."""
    yield from (("clause", clause) for clause in rules.clauses)
    yield from (("own", subject) for subject in rules.concerns)
    yield from (("section", key) for key in rules.sections)


Compiled: TypeAlias = tuple[tuple[Flow, ...], tuple[Problem, ...]]
"""Flows, and what could not be compiled."""


def compile_piece(piece: Piece, intent: Intent, rules: Ruleset, node: str, attachments: Attachments) -> Compiled:
    """The flows of one piece on ``node``, and what could not be compiled. A thing that is gone has no flows."""
    kind, name = piece
    here = intent.nodes.get(node)
    if here is None:
        if piece == FABRIC:
            origin = Origin("Node", "", node)
            return (), (Problem(origin, "NODE_UNKNOWN", f"node {node} has no usable address yet, so nothing is sent"),)
        return (), ()
    what: Any = name
    match kind:
        case "fabric":
            return (
                *compile_fabric(intent, here),
                *compile_firewall(intent, here),
                *compile_node_port(intent, here),
                *compile_nat(intent, here),
                *compile_balancing(),
            ), ()
        case "node" if what in intent.nodes:
            return compile_node(intent.nodes[what], intent.tier0, local=what == node), ()
        case "switch" if what in intent.switches:
            return compile_switch(intent.switches[what]), ()
        case "port" if what in intent.ports:
            return _compile_port(intent.ports[what], intent, rules, node, attachments)
        case "segment nat" if what in intent.switches:
            return tuple(compile_segment_nat(intent, intent.switches[what], here)), ()
        case "service nat" if what in intent.services:
            return tuple(compile_service_nat(intent, intent.services[what], here)), ()
        case "binding" if what in intent.bindings:
            binding = intent.bindings[what]
            return tuple(compile_binding(intent, binding, intent.ports.get(binding.port), here)), ()
        case "clause":
            return compile_clause(rules, what, intent.firewall), ()
        case "own":
            return compile_own(rules, what, intent.firewall), ()
        case "section":
            return compile_section(rules, what)
    return (), ()


def _compile_port(port: LogicalPort, intent: Intent, rules: Ruleset, node: str, attachments: Attachments) -> Compiled:
    switch = intent.switches.get(port.vni)
    if switch is None:
        text = f"port {port.name} is on segment {port.vni}, which does not exist; allowed are the segments of its namespace"
        return (), (Problem(port.origin, "SEGMENT_UNKNOWN", text),)
    identity = rules.membership.number(port.identity)
    if identity is None:
        text = f"port {port.name} has labels for whose identity there is no number left; change one of its labels"
        return (), (Problem(port.origin, "NUMBERS_EXHAUSTED", text),)
    if not port.node:
        return (), ()  # not scheduled yet
    if port.node == node:
        ofport = attachments.get(port.name)
        if ofport is None:
            return (), ()  # not attached yet
        return compile_local(port, switch, ofport, identity), ()
    other = intent.nodes.get(port.node)
    if other is None:
        text = f"port {port.name} is on node {port.node}, which has no tunnel endpoint; waiting for the node's address"
        return (), (Problem(port.origin, "NODE_UNKNOWN", text),)
    return compile_remote(port, switch, other.tep, identity), ()
