"""Conformance cases: every feature of policies alone and in pairs, with changes in the course of a case. Pure.

A case is a few steps; after each of them the whole truth table is asked. Alone, a feature meets every event; of pairs every other
meets one, by turns. The same cases come out every time.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, Final, TypeAlias

from ncp.kube.resources import NAMESPACES, PODS, Resource
from ncp.verify.drafts import Draft, Port, policy
from ncp.verify.features import FEATURES, Feature, drafts
from ncp.verify.ground import LABEL, Ground, namespace_object, pod_labels
from ncp.verify.policies import key_of

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Apply:
    """These policies are as given from now on."""

    policies: tuple[Json, ...]


@dataclass(frozen=True, slots=True)
class Delete:
    """These policies, as ``KIND/NAMESPACE/NAME``, are gone from now on."""

    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Relabel:
    """A pod or namespace has exactly these labels of its own from now on."""

    resource: Resource
    namespace: str
    name: str
    labels: dict[str, str]


@dataclass(frozen=True, slots=True)
class Recreate:
    """A pod of the ground (``x/a``) is deleted and made anew."""

    pod: str


_HOSTS: Final = frozenset({"peer-host", "peer-anyone"})

Change: TypeAlias = Apply | Delete | Relabel | Recreate


@dataclass(frozen=True, slots=True)
class Step:
    """A change, and what it is called."""

    name: str
    change: Change


@dataclass(frozen=True, slots=True)
class Case:
    """One case. ``covers`` are the combinations of features that come to the same policies."""

    name: str
    covers: tuple[tuple[str, ...], ...]
    steps: tuple[Step, ...]

    @property
    def tags(self) -> tuple[str, ...]:
        """Its features and events."""
        names = [name for combination in self.covers for name in combination] + [step.name for step in self.steps]
        return tuple(dict.fromkeys(names))

    @property
    def asks_hosts(self) -> bool:
        """Whether its policies say more of hosts than those of other cases: then hosts are asked, too."""
        return any(len(names) < 2 or not _HOSTS.isdisjoint(names) for names in self.covers)

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds of its policies."""
        applied = (step.change.policies for step in self.steps if isinstance(step.change, Apply))
        return frozenset(policy["kind"] for policies in applied for policy in policies)


def cases(ground: Ground) -> tuple[Case, ...]:
    """Every case, in the order they are run."""
    found: dict[str, Case] = {}
    for number, combination in enumerate(combinations()):
        wanted = drafts(ground, *combination)
        names = tuple(feature.name for feature in combination)
        policies = tuple(policy(ground, draft, f"p{index}") for index, draft in enumerate(wanted))
        same = json.dumps([each["spec"] | {"kind": each["kind"]} for each in policies], sort_keys=True)
        if same in found:
            found[same] = replace(found[same], covers=(*found[same].covers, names))
            continue
        events = EVENTS if len(combination) < 2 else _of_pair(number)
        steps = (Step("apply", Apply(policies)), *_events(ground, wanted, policies, events))
        found[same] = Case("+".join(names) or "plain", (names,), steps)
    return tuple(found.values())


def combinations() -> Iterator[tuple[Feature, ...]]:
    """No feature, each alone, and every pair."""
    for size in (0, 1, 2):
        yield from itertools.combinations(FEATURES, size)


def chosen(all_cases: tuple[Case, ...], pattern: str) -> tuple[Case, ...]:
    """The cases whose name or one of whose tags is like a pattern (``*`` stands for anything); all, where it is empty."""
    if not pattern:
        return all_cases
    return tuple(
        case for case in all_cases if fnmatchcase(case.name, pattern) or any(fnmatchcase(tag, pattern) for tag in case.tags)
    )  # fmt: skip


# -- what happens in the course of a case ---------------------------------------------------------------------------

Event: TypeAlias = Callable[[Ground, tuple[Draft, ...], tuple[Json, ...]], Change]


def _updated(ground: Ground, wanted: tuple[Draft, ...], policies: tuple[Json, ...]) -> Change:
    """The first policy turns to another port and peer."""
    peer: Json = {"namespaceSelector": {"matchLabels": {LABEL: "z"}}}
    changed = replace(wanted[0], peers=(*wanted[0].peers, peer), ports=(*wanted[0].ports, Port("TCP", 81)))
    return Apply((policy(ground, changed, "p0"),))


def _pod_relabelled(ground: Ground, wanted: tuple[Draft, ...], policies: tuple[Json, ...]) -> Change:
    """c of x becomes one of those that most policies are about."""
    return Relabel(PODS, ground.namespace("x"), "c", {**pod_labels("c"), "pod": "a"})


def _peer_relabelled(ground: Ground, wanted: tuple[Draft, ...], policies: tuple[Json, ...]) -> Change:
    """b of x and a of y are no longer whom policies speak of, one after the other: here b of x loses its name."""
    return Relabel(PODS, ground.namespace("x"), "b", {"tier": "back"})


def _namespace_relabelled(ground: Ground, wanted: tuple[Draft, ...], policies: tuple[Json, ...]) -> Change:
    """z takes the place of y beside it."""
    labels = {**namespace_object(ground, "z")["metadata"]["labels"], LABEL: "y", "team": "blue"}
    return Relabel(NAMESPACES, "", ground.namespace("z"), labels)


def _recreated(ground: Ground, wanted: tuple[Draft, ...], policies: tuple[Json, ...]) -> Change:
    """A pod that policies are about comes back with another address."""
    return Recreate("x/a")


def _deleted(ground: Ground, wanted: tuple[Draft, ...], policies: tuple[Json, ...]) -> Change:
    """The first policy goes."""
    return Delete((key_of(policies[0]),))


EVENTS: Final[tuple[tuple[str, Event], ...]] = (
    ("update", _updated),
    ("relabel-pod", _pod_relabelled),
    ("relabel-peer", _peer_relabelled),
    ("relabel-namespace", _namespace_relabelled),
    ("recreate-pod", _recreated),
    ("delete", _deleted),
)


def _of_pair(number: int) -> tuple[tuple[str, Event], ...]:
    """Every other pair has an event; pods, which take their time to come back, are seldom made anew."""
    if number % 2:
        return ()
    often = [event for event in EVENTS if event[0] != "recreate-pod"]
    return (EVENTS[4],) if number % 60 == 0 else (often[number // 2 % len(often)],)


def _events(
    ground: Ground, wanted: tuple[Draft, ...], policies: tuple[Json, ...], events: tuple[tuple[str, Event], ...]
) -> Iterator[Step]:
    for name, event in events:
        yield Step(name, event(ground, wanted, policies))
