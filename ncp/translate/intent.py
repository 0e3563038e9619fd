"""Keeps an intent in step with Kubernetes objects, one changed object at a time.

:func:`apply` is a function of the state and one object; the state after any sequence of changes depends only on the
objects that exist at its end (a property test holds this).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from immutables import Map

from ipam.address import Interface
from ncp.translate import objects
from ncp.translate.objects import Object
from sdn.compile.pieces import Delta
from sdn.model import Intent, LogicalSwitch, Problem, Tier0

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Fabric:
    """The settings an intent starts from."""

    cluster: str
    transit_vni: int
    transit: tuple[Interface, ...]
    mtu: int
    single_tier: bool
    exit_node: str = ""


@dataclass(frozen=True, slots=True)
class Translation:
    """An intent, what each object contributed to it, and what could not be translated."""

    cluster: str
    intent: Intent
    by_namespace: Map[str, tuple[LogicalSwitch, ...]]
    claims: Map[int, tuple[LogicalSwitch, ...]]  # by VNI, sorted by origin: the first has it
    problems: Map[tuple[str, Key], tuple[Problem, ...]]

    def all_problems(self) -> list[Problem]:
        """Every problem, in the order of kind and key."""
        found = [p for _, problems in sorted(self.problems.items()) for p in problems]
        for _, claim in sorted(self.claims.items()):
            found += [_vni_taken(loser, claim[0]) for loser in claim[1:]]
        return found


def start(fabric: Fabric) -> Translation:
    """The translation of a cluster with no objects."""
    intent = Intent(
        tier0=Tier0(fabric.transit_vni, fabric.transit, fabric.exit_node),
        single_tier=fabric.single_tier,
        mtu=fabric.mtu,
        switches=Map(),
        nodes=Map(),
        ports=Map(),
    )
    return Translation(fabric.cluster, intent, Map(), Map(), Map())


def apply(state: Translation, kind: str, key: Key, obj: Object | None) -> tuple[Translation, Delta]:
    """The state once the object under ``(kind, key)`` is ``obj`` (None: gone), and what that changed.

    Kinds are ``Namespace``, ``Pod`` and ``Node``; keys are (namespace, name).
    """
    if obj is not None and not objects.owned(obj, state.cluster):
        obj = None
    return _APPLY[kind](state, key, obj)


def apply_all(state: Translation, changes: Iterable[tuple[str, Key, Object | None]]) -> tuple[Translation, Delta]:
    """Several objects after one another; the delta is of all together."""
    delta = Delta()
    for kind, key, obj in changes:
        state, more = apply(state, kind, key, obj)
        delta |= more
    return state, delta


def _apply_pod(state: Translation, key: Key, obj: Object | None) -> tuple[Translation, Delta]:
    port, problems = objects.port(obj) if obj is not None else (None, ())
    state = _noted(state, "Pod", key, problems)
    name = f"{key[0]}/{key[1]}"
    if state.intent.ports.get(name) == port:
        return state, Delta()
    ports = _with(state.intent.ports, name, port)
    return replace(state, intent=state.intent.replace(ports=ports)), Delta(ports=frozenset({name}))


def _apply_node(state: Translation, key: Key, obj: Object | None) -> tuple[Translation, Delta]:
    node, problems = objects.transport_node(obj) if obj is not None else (None, ())
    state = _noted(state, "Node", key, problems)
    name = key[1]
    if state.intent.nodes.get(name) == node:
        return state, Delta()
    nodes = _with(state.intent.nodes, name, node)
    return replace(state, intent=state.intent.replace(nodes=nodes)), Delta(nodes=frozenset({name}))


def _apply_namespace(state: Translation, key: Key, obj: Object | None) -> tuple[Translation, Delta]:
    new, problems = objects.segments(obj) if obj is not None else ((), ())
    state = _noted(state, "Namespace", key, problems)
    name = key[1]
    old = state.by_namespace.get(name, ())
    if new == old:
        return state, Delta()
    claims, switches = state.claims, state.intent.switches
    changed = set()
    for vni in {switch.vni for switch in (*old, *new)}:
        others = tuple(switch for switch in claims.get(vni, ()) if switch.origin.name != name)
        mine = tuple(switch for switch in new if switch.vni == vni)[:1]
        claim = tuple(sorted((*others, *mine), key=lambda switch: switch.origin))
        claims = _with(claims, vni, claim or None)
        if switches.get(vni) != (claim[0] if claim else None):
            switches = _with(switches, vni, claim[0] if claim else None)
            changed.add(vni)
    state = replace(
        state,
        intent=state.intent.replace(switches=switches),
        by_namespace=_with(state.by_namespace, name, new or None),
        claims=claims,
    )
    return state, Delta(switches=frozenset(changed))


def _noted(state: Translation, kind: str, key: Key, problems: tuple[Problem, ...]) -> Translation:
    if state.problems.get((kind, key), ()) == problems:
        return state
    return replace(state, problems=_with(state.problems, (kind, key), problems or None))


def _with(mapping: Any, key: Any, value: Any) -> Any:
    """The map with ``value`` under ``key``, or without ``key`` where the value is None."""
    if value is not None:
        return mapping.set(key, value)
    return mapping.delete(key) if key in mapping else mapping


def _vni_taken(loser: LogicalSwitch, winner: LogicalSwitch) -> Problem:
    text = f"{loser.origin} and {winner.origin} both say VNI {loser.vni}; the latter keeps it"
    return Problem(loser.origin, "VNI_CONFLICT", text)


_APPLY: dict[str, Callable[[Translation, Key, Object | None], tuple[Translation, Delta]]] = {
    "Pod": _apply_pod,
    "Node": _apply_node,
    "Namespace": _apply_namespace,
}
