"""Which nodes must enforce which policy, and how far that has come. Pure: objects in, sentences out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from immutables import Map

from firewall.rules import Identity, PodGroup, Section
from ncp.translate.intent import Fabric, Key, Translation, apply_all, start
from ncp.translate.objects import REALISED, Object
from sdn.compile.delta import Delta
from sdn.compile.membership import Group, Membership, follow, store, watch


@dataclass(frozen=True, slots=True)
class Coverage:
    """Policies, the groups they apply to, and on which nodes those have pods."""

    translation: Translation
    membership: Membership
    places: Map[Identity, Map[str, int]]  # pods of an identity, by node

    def nodes(self, section: Section) -> frozenset[str]:
        """Nodes with a pod that a section applies to."""
        identities = {each for group in section.targets() for each in self.membership.members(group)}
        return frozenset(node for each in identities for node in self.places.get(each, ()))


def coverage(fabric: Fabric) -> Coverage:
    """That of a cluster without objects."""
    return Coverage(start(fabric), Membership(""), Map())


def advance(state: Coverage, changes: Iterable[tuple[str, Key, Object | None]]) -> tuple[Coverage, set[str]]:
    """The coverage after changes of objects, and the keys of sections to look at again."""
    before = state.translation.intent
    translation, delta = apply_all(state.translation, changes)
    after = translation.intent
    membership, moves = follow(state.membership, after, delta)
    places, moved = _replace(state.places, before, after, delta)
    stale = {user for group in moves.groups for user in membership.groups[group].users}
    for key in delta.sections:
        old, new = before.sections.get(key), after.sections.get(key)
        membership = watch(membership, after, key, _targets(old), _targets(new))
    stale |= {user for group in _groups_of(membership, moved) for user in group.users if group.members & moved}
    return Coverage(translation, membership, places), stale | delta.sections


def _groups_of(membership: Membership, identities: set[Identity]) -> Iterable[Group]:
    scopes = {"", *(each.namespace for each in identities)} if identities else ()
    for scope in scopes:
        for group in membership.scopes.get(scope, ()):
            yield membership.groups[group]


def _replace(
    places: Map[Identity, Map[str, int]], before: Any, after: Any, delta: Delta
) -> tuple[Map[Identity, Map[str, int]], set[Identity]]:
    """Pods by identity and node, and the identities that came to a node or left one."""
    found, moved = places.mutate(), set()
    for name in delta.ports:
        for port, step in ((before.ports.get(name), -1), (after.ports.get(name), 1)):
            if port is None or not port.node:
                continue
            nodes = found.get(port.identity, Map())
            count = nodes.get(port.node, 0) + step
            if not count or count == step == 1:
                moved.add(port.identity)
            nodes = nodes.set(port.node, count) if count else nodes.delete(port.node)
            store(found, port.identity, nodes)
    return found.finish(), moved


def _targets(section: Section | None) -> frozenset[PodGroup]:
    return frozenset() if section is None else section.targets()


class Realisation(NamedTuple):
    """How far a policy is enforced: by ``done`` of the nodes that must."""

    done: int
    nodes: tuple[str, ...]
    waiting: tuple[str, ...]  # nodes that have not acknowledged this generation
    stale: tuple[str, ...]  # nodes that say something and need not
    fault: str

    @property
    def is_complete(self) -> bool:
        """Whether every node that must enforces it."""
        return not self.waiting and not self.fault

    @property
    def reason(self) -> str:
        """One word for machines."""
        if self.fault:
            return "Invalid"
        return "Realized" if self.is_complete else "Realizing"

    def __str__(self) -> str:
        return f"{self.reason} {self.done}/{len(self.nodes)}"


def realisation(policy: Object, section: Section, nodes: frozenset[str]) -> Realisation:
    """What the annotations of a policy say of the nodes that must enforce it."""
    generation = str(policy["metadata"].get("generation") or 0)
    said = {
        name.removeprefix(REALISED): value
        for name, value in (policy["metadata"].get("annotations") or {}).items()
        if name.startswith(REALISED)
    }
    waiting = tuple(sorted(node for node in nodes if said.get(node) != generation))
    stale = tuple(sorted(said.keys() - nodes))
    return Realisation(len(nodes) - len(waiting), tuple(sorted(nodes)), waiting, stale, section.fault)
