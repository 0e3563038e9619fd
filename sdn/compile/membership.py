"""Who is in which group, on one node: the pods' identities and the groups that select them. Pure values.

Pods with the same identity are one here: a pod more of an identity that is known costs a count. A new identity is held against the
groups of its namespace and those of several namespaces, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from hashlib import blake2b
from typing import Any, NamedTuple

from immutables import Map

from firewall.rules import Identity, PodGroup
from sdn.compile.delta import Delta
from sdn.compile.numbers import Numbers
from sdn.model import Intent
from sdn.pipeline.registers import A_POD


class Group(NamedTuple):
    """Who is in a group, and the sections that speak of it."""

    members: frozenset[Identity]
    here: frozenset[Identity]  # of them, those with a pod on this node
    users: frozenset[str]


class Crowd(NamedTuple):
    """How many pods have an identity: anywhere, and on this node."""

    anywhere: int = 0
    here: int = 0


class Moves(NamedTuple):
    """What a step changed for those who use groups."""

    groups: frozenset[PodGroup]  # with other members, or with other members here
    renumbered: frozenset[Identity]  # still there, with another number
    here: frozenset[Identity]  # with a first pod here, or no longer with any


@dataclass(frozen=True, slots=True)
class Membership:
    """Identities and groups of one node's view."""

    node: str
    ports: Map[str, tuple[Identity, bool]] = field(default_factory=Map)  # by name; whether it is here
    crowds: Map[Identity, Crowd] = field(default_factory=Map)
    spaces: Map[str, frozenset[Identity]] = field(default_factory=Map)  # identities by namespace
    numbers: Numbers = field(default_factory=Numbers)
    groups: Map[PodGroup, Group] = field(default_factory=Map)
    scopes: Map[str, frozenset[PodGroup]] = field(default_factory=Map)  # groups by their namespace; "": of several

    def number(self, identity: Identity) -> int | None:
        """The number of an identity in the pipeline; None where there is none left for it."""
        number = self.numbers.number(_name(identity))
        return None if number is None else A_POD | number

    def members(self, group: PodGroup) -> frozenset[Identity]:
        """Who is in a group that is watched."""
        return self.groups[group].members

    def members_here(self, group: PodGroup) -> frozenset[Identity]:
        """Who is in a group that is watched, and has a pod on this node."""
        return self.groups[group].here

    def here(self, identity: Identity) -> bool:
        """Whether a pod of this node has the identity."""
        crowd = self.crowds.get(identity)
        return crowd is not None and crowd.here > 0


@lru_cache(1 << 16)
def _name(identity: Identity) -> str:
    """A short name for an identity, as good as the whole."""
    return blake2b(repr(tuple(identity)).encode(), digest_size=16).hexdigest()


def follow(state: Membership, intent: Intent, delta: Delta) -> tuple[Membership, Moves]:
    """The membership once ports and labels have changed."""
    before = state.crowds
    state, touched = _count(state, intent, delta.ports)
    came = {each for each in touched if each not in before and each in state.crowds}
    went = {each for each in touched if each in before and each not in state.crowds}
    here = {each for each in touched if (before.get(each, Crowd()).here > 0) != state.here(each)}
    state, renumbered = _number(state, came, went)
    relabelled = {each for space in delta.namespaces for each in state.spaces.get(space, ())}
    state, groups = _regroup(state, intent, came | went | here | relabelled)
    return state, Moves(frozenset(groups), renumbered, frozenset(here))


def _count(state: Membership, intent: Intent, names: Iterable[str]) -> tuple[Membership, set[Identity]]:
    ports, crowds = state.ports.mutate(), state.crowds.mutate()
    touched = set()
    for name in names:
        old, port = ports.get(name), intent.ports.get(name)
        new = None if port is None else (port.identity, port.node == state.node)
        if new == old:
            continue
        for held, step in ((old, -1), (new, 1)):
            if held is not None:
                identity, here = held
                crowd = crowds.get(identity, Crowd())
                crowd = Crowd(crowd.anywhere + step, crowd.here + step * here)
                store(crowds, identity, crowd if crowd.anywhere else None)
                touched.add(identity)
        store(ports, name, new)
    return replace(state, ports=ports.finish(), crowds=crowds.finish()), touched


def _number(state: Membership, came: set[Identity], went: set[Identity]) -> tuple[Membership, frozenset[Identity]]:
    if not came and not went:
        return state, frozenset()
    spaces = state.spaces.mutate()
    for each in came:
        spaces[each.namespace] = spaces.get(each.namespace, frozenset()) | {each}
    for each in went:
        store(spaces, each.namespace, spaces[each.namespace] - {each})
    numbers, moved = state.numbers.changed(map(_name, came), map(_name, went))
    state = replace(state, spaces=spaces.finish(), numbers=numbers)
    if not moved:
        return state, frozenset()
    return state, frozenset(each for each in state.crowds if _name(each) in moved)


def _regroup(state: Membership, intent: Intent, identities: set[Identity]) -> tuple[Membership, set[PodGroup]]:
    groups = state.groups.mutate()
    changed = set()
    for identity in identities:
        labels = dict(intent.namespaces.get(identity.namespace, ()))
        for group in (*state.scopes.get(identity.namespace, ()), *state.scopes.get("", ())):
            members, members_here, users = groups[group]
            wanted = identity in state.crowds and group.contains(identity, labels)
            wanted_here = wanted and state.here(identity)
            if wanted != (identity in members) or wanted_here != (identity in members_here):
                one = {identity}
                members = members | one if wanted else members - one
                members_here = members_here | one if wanted_here else members_here - one
                groups[group] = Group(members, members_here, users)
                changed.add(group)
    return replace(state, groups=groups.finish()), changed


def watch(
    state: Membership, intent: Intent, user: str, old: frozenset[PodGroup], new: frozenset[PodGroup]
) -> Membership:
    """Let a section speak of other groups than before."""
    groups, scopes = state.groups.mutate(), state.scopes.mutate()
    for group in old - new:
        held = groups[group]
        store(groups, group, held._replace(users=held.users - {user}) if held.users != {user} else None)
        if held.users == {user}:
            store(scopes, group.namespace, scopes[group.namespace] - {group})
    for group in new - old:
        if group not in groups:
            members = _select(state, intent, group)
            groups[group] = Group(members, frozenset(filter(state.here, members)), frozenset())
            scopes[group.namespace] = scopes.get(group.namespace, frozenset()) | {group}
        held = groups[group]
        groups[group] = held._replace(users=held.users | {user})
    return replace(state, groups=groups.finish(), scopes=scopes.finish())


def _select(state: Membership, intent: Intent, group: PodGroup) -> frozenset[Identity]:
    spaces = (group.namespace,) if group.namespace else tuple(state.spaces)
    found: list[Identity] = []
    for space in spaces:
        labels = dict(intent.namespaces.get(space, ()))
        if group.namespace or group.namespaces.selects(labels):
            found += [each for each in state.spaces.get(space, ()) if group.contains(each, labels)]
    return frozenset(found)


def store(target: Any, key: Any, value: Any) -> None:
    """Put a value into a map under mutation; nothing (None, or empty) takes the key away."""
    if value:
        target[key] = value
    else:
        target.pop(key, None)
