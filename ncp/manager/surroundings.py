"""What is around objects that ask for addresses outside: namespaces, pods, and others that ask for the same pods. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from firewall.labels import Labels
from ncp.manager.outbox import Key, Ref
from ncp.manager.wishes import Pod, Space, Wish


class Rival(NamedTuple):
    """An older object that has a pod already, and the pod."""

    ref: Ref
    pod: str


class Surroundings:
    """Kept in step by the ``see_`` methods, each of which returns whom what changed may matter to.

    A pod leaves with the addresses of one service, and has one binding: of those that mean the same pod, the oldest counts.
    """

    def __init__(self) -> None:
        self.spaces: dict[str, Space] = {}
        self.pods: dict[str, dict[str, Pod]] = {}  # by namespace
        self.rivals: dict[Ref, Rival] = {}  # of those that an older one stands in the way of
        self._members: dict[str, set[Ref]] = {}  # all that ask, by namespace
        self._services: dict[str, dict[Ref, Wish]] = {}  # those with a selector, by namespace
        self._bindings: dict[Key, dict[Ref, Wish]] = {}  # by pod

    def members(self, namespace: str) -> frozenset[Ref]:
        """All objects of a namespace that ask for something, itself included."""
        return frozenset(self._members.get(namespace, ()))

    def see_space(self, name: str, new: Space | None) -> set[Ref]:
        """A namespace is as it is; None: it is gone."""
        if self.spaces.get(name) == new:
            return set()
        self.spaces.pop(name, None)
        if new is not None:
            self.spaces[name] = new
        return set(self._members.get(name, ()))

    def see_pod(self, key: Key, new: Pod | None) -> set[Ref]:
        """A pod is as it is; None: it is gone, or has no port any more."""
        namespace, name = key
        pods = self.pods.setdefault(namespace, {})
        old = pods.get(name)
        if old == new:
            return set()
        pods.pop(name, None)
        if new is not None:
            pods[name] = new
        touched = set(self._bindings.get(key, ()))
        services = self._services.get(namespace, {}).values()
        for each in (old, new):
            if each is not None and sum(_selects(wish.selector, each.labels) for wish in services) > 1:
                return touched | self._compare_services(namespace)
        return touched

    def see_wish(self, old: Wish | None, new: Wish | None) -> set[Ref]:
        """An object asks for this now, and asked for that before."""
        touched: set[Ref] = set()
        for wish in filter(None, (old, new)):
            self._members.setdefault(wish.namespace, set()).discard(wish.ref)
            self._services.get(wish.namespace, {}).pop(wish.ref, None)
            self._bindings.get((wish.namespace, wish.pod), {}).pop(wish.ref, None)
            self.rivals.pop(wish.ref, None)
        if new is not None:
            self._members[new.namespace].add(new.ref)
            if new.selector and new.asked:
                self._services.setdefault(new.namespace, {})[new.ref] = new
            if new.pod:
                self._bindings.setdefault((new.namespace, new.pod), {})[new.ref] = new
        for wish in filter(None, (old, new)):
            if wish.selector:
                touched |= self._compare_services(wish.namespace)
            elif wish.pod:
                touched |= self._compare_bindings((wish.namespace, wish.pod))
        return touched

    def _compare_services(self, namespace: str) -> set[Ref]:
        wishes = sorted(self._services.get(namespace, {}).values(), key=_age)
        found: dict[Ref, Rival] = {}
        winners: list[Wish] = []
        for wish in wishes:
            rival = next((rival for other in winners if (rival := self._rival(wish, other))), None)
            if rival is None:
                winners.append(wish)
            else:
                found[wish.ref] = rival
        return self._note((wish.ref for wish in wishes), found)

    def _rival(self, wish: Wish, other: Wish) -> Rival | None:
        """The other one, where a pod is selected by both."""
        both = {*wish.selector, *other.selector}
        pods = self.pods.get(wish.namespace, {})
        shared = [name for name, pod in pods.items() if both.issubset(pod.labels)]
        return Rival(other.ref, min(shared)) if shared else None

    def _compare_bindings(self, key: Key) -> set[Ref]:
        wishes = sorted(self._bindings.get(key, {}).values(), key=_age)
        return self._note(
            (wish.ref for wish in wishes), {wish.ref: Rival(wishes[0].ref, key[1]) for wish in wishes[1:]}
        )

    def _note(self, refs: Iterable[Ref], found: dict[Ref, Rival]) -> set[Ref]:
        touched = {ref for ref in refs if self.rivals.get(ref) != found.get(ref)}
        for ref in touched:
            self.rivals.pop(ref, None)
            if ref in found:
                self.rivals[ref] = found[ref]
        return touched


def _selects(selector: Labels, labels: Labels) -> bool:
    return set(selector).issubset(labels)


def _age(wish: Wish) -> tuple[str, str, Ref]:
    return wish.age
