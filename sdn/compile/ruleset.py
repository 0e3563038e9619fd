"""The firewall of one node, kept in step with the intent: which rules claim which flows there.

A value: :func:`advance` gives the next one and the pieces of the program that changed with it. What it holds after any sequence of
changes is what it would hold if it were made anew (a property test holds this).
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypeAlias

from immutables import Map

from firewall.order import rank
from firewall.rules import DIRECTIONS, FAIL_CLOSED, Direction, Identity, PodGroup, Rule, Section
from sdn.compile.delta import Delta, Piece
from sdn.compile.expand import ANY_POD, Clause, Subject, Variant, asks_any_pod, direct, joint, subjects, variants
from sdn.compile.levels import SLOTS, Level, level, network_policy, slots
from sdn.compile.membership import Membership, follow, store, watch
from sdn.compile.numbers import Numbers
from sdn.model import FirewallSettings, Intent
from sdn.pipeline.flow import Conjunction

Place: TypeAlias = tuple[int, int]
"""Stage and priority: sections of one place share its slots."""


class Plan(NamedTuple):
    """A rule on this node: what it is about, and where it stands."""

    name: str  # it has a number: the rule's in the pipeline
    section: str
    rule: Rule
    at: Level
    variants: tuple[Variant, ...]
    is_joint: bool
    cuts: bool  # it drops, and connections in their middle are reset

    def names(self) -> tuple[str, ...]:
        """What needs numbers: the rule itself, and each conjunction; the first shares the rule's."""
        return tuple(self.name if not each else f"{self.name}#{each}" for each in range(len(self.variants)))


class Claim(NamedTuple):
    """A rule's part in a clause: a dimension of a conjunction, or (``joins`` None) the decision."""

    name: str
    section: str
    joins: Conjunction | None = None


class Concern(NamedTuple):
    """A section is about some pods, in a direction; ``isolates`` them where it is a NetworkPolicy.

    Where a rule of the section has no number left, the section ``shuts`` them off: half of it would be worse.
    """

    direction: Direction
    section: str
    isolates: bool
    shuts: bool


About: TypeAlias = tuple[tuple[Concern, frozenset[Subject]], ...]
"""Whom on this node a section is about."""


@dataclass(frozen=True, slots=True)
class Ruleset:
    """Everything the firewall's flows on one node follow from."""

    membership: Membership
    sections: Map[str, Section] = field(default_factory=Map)
    placed: Map[str, Place] = field(default_factory=Map)
    places: Map[Place, frozenset[str]] = field(default_factory=Map)
    names: Numbers = field(default_factory=Numbers)
    plans: Map[str, tuple[Plan, ...]] = field(default_factory=Map)  # by section, as is the next
    concerned: Map[str, About] = field(default_factory=Map)
    clauses: Map[Clause, frozenset[Claim]] = field(default_factory=Map)
    concerns: Map[Subject, frozenset[Concern]] = field(default_factory=Map)  # of pods here
    crowded: frozenset[str] = frozenset()  # sections that found no room among those of their priority

    def about(self, identity: Identity) -> frozenset[Concern]:
        """The sections that are about a pod of this node, said of it or of everybody."""
        return self.concerns.get(identity, frozenset()) | self.concerns.get(ANY_POD, frozenset())

    def cuts_off(self, key: str) -> bool:
        """Whether a section cannot be enforced as it is written, so that what it selects is cut off."""
        return key in self.crowded or any(concern.shuts for concern, _ in self.concerned.get(key, ()))

    def numbered(self, number: int) -> Plan | None:
        """The rule that a number of the pipeline stands for; None where it stands for none."""
        name = self.names.name(number)
        if name is None:
            return None
        key = "/".join(name.split("/")[:3])  # kind, namespace and name have no slashes
        return next((plan for plan in self.plans.get(key, ()) if name in plan.names()), None)


def advance(rules: Ruleset, intent: Intent, delta: Delta) -> tuple[Ruleset, set[Piece]]:
    """The ruleset once the intent has changed by ``delta``, and the pieces to compile anew."""
    before = rules
    membership, moves = follow(rules.membership, intent, delta)
    rules = replace(rules, membership=membership)
    stale = {user for group in moves.groups for user in membership.groups[group].users}
    pieces: set[Piece] = set()
    if moves.renumbered:
        stale.update(rules.sections)
        pieces.update(("own", each) for each in moves.renumbered)
        pieces.update(("port", name) for name, (each, _) in membership.ports.items() if each in moves.renumbered)
    rules, more = _take_sections(rules, intent, delta)
    stale |= more
    if not stale:
        return rules, pieces
    rules, renamed = _plan(rules, intent, stale)
    rewritten = {*delta.sections, *(rules.sections if delta.settings else ())}
    rules, changed = _claim(before, rules, stale | renamed, rewritten, moves.renumbered)
    return rules, pieces | changed | {("section", key) for key in stale | renamed}


def _take_sections(rules: Ruleset, intent: Intent, delta: Delta) -> tuple[Ruleset, set[str]]:
    """Adopt sections that changed; those to plan anew are they, and the others of a place where they came or left."""
    keys = {*delta.sections, *(rules.sections if delta.settings else ())}
    sections, placed, places = rules.sections.mutate(), rules.placed.mutate(), rules.places.mutate()
    membership = rules.membership
    touched: set[Place] = set()
    for key in keys:
        old, new = sections.get(key), intent.sections.get(key)
        if (place := placed.pop(key, None)) is not None:
            store(places, place, places[place] - {key})
            touched.add(place)
        if new is not None:
            place = placed[key] = (rank(new, intent.firewall.priorities), new.priority)
            places[place] = places.get(place, frozenset()) | {key}
            touched.add(place)
        membership = watch(membership, intent, key, _groups(old), _groups(new))
        store(sections, key, new)
    beside = {each for place in touched if SLOTS[place[0]] for each in places.get(place, ())}
    rules = replace(rules, sections=sections.finish(), placed=placed.finish(), places=places.finish())
    return replace(rules, membership=membership), keys | beside


def _groups(section: Section | None) -> frozenset[PodGroup]:
    """Every group whose members a section's rules follow from."""
    if section is None:
        return frozenset()
    found = {*section.applied_to}
    for rule in section.rules:
        found.update(rule.applied_to or ())
        found.update(each for each in rule.peers or () if isinstance(each, PodGroup) and each != ANY_POD)
        if asks_any_pod(rule):
            found.add(ANY_POD)
    return frozenset(found)


def _plan(rules: Ruleset, intent: Intent, stale: Iterable[str]) -> tuple[Ruleset, set[str]]:
    """Plan sections anew; others whose numbers moved because names met."""
    plans, crowded = rules.plans.mutate(), rules.crowded
    add: set[str] = set()
    remove: set[str] = set()
    for key in stale:
        section = rules.sections.get(key)
        remove.update(name for plan in plans.get(key, ()) for name in plan.names())
        new, has_room = _plans(rules, section, intent.firewall) if section else ((), True)
        crowded = crowded - {key} if has_room else crowded | {key}
        store(plans, key, new)
        add.update(name for plan in new for name in plan.names())
    names, moved = rules.names.changed(add - remove, remove - add)
    rules = replace(rules, plans=plans.finish(), names=names, crowded=crowded)
    if not moved:
        return rules, set()
    return rules, {key for key, held in rules.plans.items() if any(name in moved for p in held for name in p.names())}


def _plans(rules: Ruleset, section: Section, settings: FirewallSettings) -> tuple[tuple[Plan, ...], bool]:
    """A section's rules as they stand on this node, and whether there was room for them."""
    place = rules.placed[section.key]
    limit = SLOTS[place[0]]
    found = []
    has_room = True
    for direction in DIRECTIONS:
        wanted = [rule for rule in section.rules if rule.direction == direction]
        first: int | None = 0
        if limit:
            first = slots([rules.sections[key] for key in rules.places[place]], direction, limit)[section.key]
        if first is None:
            has_room = False
            wanted, first = [rule for rule in FAIL_CLOSED if rule.direction == direction], limit - 1
        found += [_rule_plan(rules, section, rule, first + number, settings) for number, rule in enumerate(wanted)]
    return tuple(plan for plan in found if plan.variants), has_room


def _rule_plan(rules: Ruleset, section: Section, rule: Rule, slot: int, settings: FirewallSettings) -> Plan:
    membership = rules.membership
    found = variants(section, rule, membership.members, membership.members_here)
    name = f"{section.key}/{rule.direction}/{rule.index}"
    # A reset beside the drop needs a flow that knows the whole decision.
    cuts = (section.established or settings.established) == "cut" and rule.action == "drop"
    is_joint = cuts or not all(each.is_direct for each in found)
    if section.tier == "NetworkPolicy":
        at = network_policy(rule.direction, settings.priorities, joint=is_joint)
    else:
        at = level(section, rule.direction, slot, settings.priorities)
    return Plan(name, section.key, rule, at, found, is_joint, cuts)


def _claim(
    before: Ruleset, rules: Ruleset, keys: Iterable[str], rewritten: Set[str], renumbered: Set[Identity]
) -> tuple[Ruleset, set[Piece]]:
    """Let sections claim what their plans say, and give up what they no longer do.

    What a section says is in its flows, so all flows of one that is ``rewritten`` are made anew.
    """
    concerned, clauses, concerns = rules.concerned.mutate(), rules.clauses.mutate(), rules.concerns.mutate()
    pieces: set[Piece] = set()
    for key in keys:
        section = rules.sections.get(key)
        changed = _exchange(clauses, *_claims_moved(before, rules, key, renumbered))
        pieces.update(("clause", each) for each in changed)
        about = _concerns(rules, section) if section else ()
        pieces.update(("own", each) for each in _exchange(concerns, *_concerns_moved(concerned.get(key, ()), about)))
        store(concerned, key, about)
        if key in rewritten:
            pieces.update(("clause", each) for plan in rules.plans.get(key, ()) for each, _ in _claims(rules, plan))
            pieces.update(("own", each) for _, some in about for each in some)
    rules = replace(rules, concerned=concerned.finish())
    return replace(rules, clauses=clauses.finish(), concerns=concerns.finish()), pieces


def _exchange(index: Any, old: set[tuple[Any, Any]], new: set[tuple[Any, Any]]) -> set[Any]:
    """Take pairs out of an index (key → values) and put others in; the keys touched."""
    for key, value in old - new:
        store(index, key, index[key] - {value})
    for key, value in new - old:
        index[key] = index.get(key, frozenset()) | {value}
    return {key for key, _ in old ^ new}


def _claims_moved(
    before: Ruleset, rules: Ruleset, key: str, renumbered: Set[Identity]
) -> tuple[set[tuple[Clause, Claim]], set[tuple[Clause, Claim]]]:
    """What a section claimed and now claims, without most of what it keeps."""
    old = {plan.name: plan for plan in before.plans.get(key, ())}
    new = {plan.name: plan for plan in rules.plans.get(key, ())}
    for name in old.keys() & new.keys():
        if not renumbered and _numbers(before, old[name]) == _numbers(rules, new[name]):
            old[name], new[name] = _differing(old[name], new[name])
    return (
        {claim for plan in old.values() for claim in _claims(before, plan)},
        {claim for plan in new.values() for claim in _claims(rules, plan)},
    )


def _numbers(rules: Ruleset, plan: Plan) -> list[int | None]:
    return [rules.names.number(name) for name in plan.names()]


def _differing(old: Plan, new: Plan) -> tuple[Plan, Plan]:
    """Two plans of a rule without the members they share, where each member is a claim of its own."""
    alike = old._replace(variants=()) == new._replace(variants=()) and len(old.variants) == len(new.variants)
    if not (alike and old.is_joint and all(map(Variant.is_like, old.variants, new.variants))):
        return old, new
    return (
        old._replace(variants=tuple(map(Variant.without, old.variants, new.variants))),
        new._replace(variants=tuple(map(Variant.without, new.variants, old.variants))),
    )


def _claims(rules: Ruleset, plan: Plan) -> Iterable[tuple[Clause, Claim]]:
    number, direction = rules.membership.number, plan.rule.direction
    decision = Claim(plan.name, plan.section)
    for variant, name in zip(plan.variants, plan.names(), strict=True):
        if not plan.is_joint:
            yield from ((clause, decision) for clause in direct(variant, plan.at, direction, number))
        elif (conjunction := rules.names.number(name)) is not None:
            for clause, dimension, of in joint(variant, plan.at, direction, number):
                yield clause, Claim(plan.name, plan.section, Conjunction(conjunction, dimension, of))
            yield Clause(*plan.at, (("conj_id", conjunction, None),)), decision


def _concerns(rules: Ruleset, section: Section) -> About:
    """Whom on this node a section is about."""
    names = (name for plan in rules.plans.get(section.key, ()) for name in plan.names())
    shuts = any(rules.names.number(name) is None for name in names)
    groups: dict[Direction, set[PodGroup]] = {direction: {*section.applied_to} for direction in section.isolates}
    for rule in section.rules:
        if rule.direction not in section.isolates:
            applied_to = section.applied_to if rule.applied_to is None else rule.applied_to
            groups.setdefault(rule.direction, set()).update(applied_to)
    found = []
    for direction, some in groups.items():
        isolates = section.tier == "NetworkPolicy" and direction in section.isolates
        if here := subjects(some, rules.membership.members_here):
            found.append((Concern(direction, section.key, isolates, shuts), here))
    return tuple(found)


def _concerns_moved(old: About, new: About) -> tuple[set[tuple[Subject, Concern]], set[tuple[Subject, Concern]]]:
    before, after = dict(old), dict(new)
    nobody: frozenset[Subject] = frozenset()
    return (
        {(each, concern) for concern, here in old for each in here - after.get(concern, nobody)},
        {(each, concern) for concern, here in new for each in here - before.get(concern, nobody)},
    )
