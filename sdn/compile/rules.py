"""What follows from policies, as flows: the clauses rules share, isolation, and what counts their connections."""

from __future__ import annotations

from typing import Final

from firewall.rules import DIRECTIONS, Action, Direction, PodGroup, Rule, Section
from sdn.compile.expand import Clause, Subject, pods
from sdn.compile.fabric import fabric
from sdn.compile.levels import isolation
from sdn.compile.ruleset import Plan, Ruleset
from sdn.compile.terms import ETH_IPV4, ETH_IPV6, LOGGED, REJECTED, flow, goto
from sdn.model import FirewallSettings, Origin, Problem
from sdn.pipeline import flow as f
from sdn.pipeline.firewall import stage
from sdn.pipeline.registers import FIRST, OWN, RULE

_MID_CONNECTION: Final = tuple((eth, ("ip_proto", 6, None), ("tcp_flags", 0, 0x2)) for eth in (ETH_IPV4, ETH_IPV6))
"""TCP without SYN."""
_HEADERS: Final = 128
"""Bytes of a packet that the log needs."""
_VERDICTS: Final[dict[Action, int]] = {"allow": 0, "drop": 1, "reject": 2, "pass": 3}
_NEXT_TABLE: Final = {"admin": "application", "application": "baseline", "baseline": "count"}


def compile_clause(rules: Ruleset, clause: Clause, settings: FirewallSettings) -> tuple[f.Flow, ...]:
    """The one flow of a clause: a decision, or its part in every conjunction that claims it."""
    claims = sorted(rules.clauses.get(clause, ()))
    if not claims:
        return ()
    if claims[0].joins is None:
        plan = next(each for each in rules.plans[claims[0].section] if each.name == claims[0].name)
        number = rules.names.number(plan.name)
        if number is None:
            return ()
        actions, origin = _decision(clause.table, plan.rule, number, settings), rule_origin(rules, plan)
        decision = flow(clause.table, clause.priority, clause.match, actions, origin)
        cut = _cut(clause, plan.rule.direction, number, settings, origin) if plan.cuts else ()
        return (decision, *cut)
    joins = tuple(claim.joins for claim in claims if claim.joins is not None)
    sections = [rules.sections[key] for key in dict.fromkeys(claim.section for claim in claims)]
    return (flow(clause.table, clause.priority, clause.match, joins, _shared(sections)),)


def _cut(
    clause: Clause, direction: Direction, number: int, settings: FirewallSettings, origin: Origin
) -> tuple[f.Flow, ...]:
    """Resets for what a drop meets of TCP connections in their middle. Its match names the decision, so a priority more is safe."""
    actions = (_rejection(direction, number, settings),)
    return tuple(
        flow(clause.table, clause.priority + 1, (*clause.match, *each), actions, origin) for each in _MID_CONNECTION
    )


def _rejection(direction: Direction, number: int, settings: FirewallSettings) -> f.Controller:
    logged = "reject" in settings.logged
    return f.Controller(REJECTED + _mark("reject", direction, number) + bytes((logged,)))


def _mark(action: Action, direction: Direction, number: int) -> bytes:
    """What a packet sent to the controller says of the decision: which, where, and the rule's number (0: isolation)."""
    return bytes((_VERDICTS[action], DIRECTIONS.index(direction))) + number.to_bytes(4, "big")


def _decision(table: str, rule: Rule, number: int, settings: FirewallSettings) -> tuple[f.Action, ...]:
    _, _, tier = table.partition("_")
    log: tuple[f.Action, ...] = ()
    if rule.action in settings.logged:
        log = (f.Controller(LOGGED + _mark(rule.action, rule.direction, number), _HEADERS),)
    if rule.action == "allow":
        return (*log, RULE.set(number), goto(stage(rule.direction, "count")))
    if rule.action == "reject":
        return (_rejection(rule.direction, number, settings),)
    if rule.action == "pass":
        return (*log, goto(stage(rule.direction, _NEXT_TABLE[tier])))
    return log


def rule_origin(rules: Ruleset, plan: Plan, detail: str = "") -> Origin:
    """The origin of a rule's flows."""
    name = f" ({plan.rule.name})" if plan.rule.name else ""
    said = f"{plan.rule.direction} rule {plan.rule.index}{name}"
    return section_origin(rules.sections[plan.section], f"{said} {detail}".rstrip())


def section_origin(section: Section, detail: str = "") -> Origin:
    """The origin that the object of a section is."""
    source = section.source
    return Origin(source.kind, source.namespace, source.name, source.uid, detail)


def _shared(sections: list[Section]) -> Origin:
    """The origin of a flow that rules of several objects share."""
    if len(sections) == 1:
        return section_origin(sections[0], "clause")
    more = f" and {len(sections) - _NAMED} more" if len(sections) > _NAMED else ""
    return Origin("Policies", "", ", ".join(str(each.source) for each in sections[:_NAMED]) + more, "", "clause")


_NAMED: Final = 8


def compile_own(rules: Ruleset, whom: Subject, settings: FirewallSettings) -> tuple[f.Flow, ...]:
    """For some pods of this node: which directions the rules are asked about, and their isolation."""
    concerns = rules.concerns.get(whom, frozenset())
    match = pods(whom, OWN, rules.membership.number)
    if match is None or not concerns:
        return ()
    # A packet meets one flow of a table, so what is said of everybody stands below the same said of some.
    everybody = isinstance(whom, PodGroup)
    found = []
    for direction in DIRECTIONS:
        about = sorted(each for each in concerns if each.direction == direction)
        if about:
            asked = fabric("firewall", f"{direction} of {whom.namespace or 'all pods'}")
            ask = (goto(stage(direction, "ask")),)
            found.append(flow(stage(direction, "concern"), 40 if everybody else 50, match, ask, asked))
        if shutting := [rules.sections[each.section] for each in about if each.shuts]:
            origin = isolation_origin(shutting, direction)
            found.append(flow(stage(direction, "concern"), 55 if everybody else 60, match, (), origin))
        if isolating := [rules.sections[each.section] for each in about if each.isolates]:
            found += _isolated(match, isolating, direction, settings)
    return tuple(found)


def _isolated(own: f.Match, isolating: list[Section], direction: Direction, settings: FirewallSettings) -> list[f.Flow]:
    origin = isolation_origin(isolating, direction)
    at = isolation(direction, settings.priorities)
    log = (f.Controller(LOGGED + _mark("drop", direction, 0), _HEADERS),) if "drop" in settings.logged else ()
    found = [flow(at.table, at.priority, own, log, origin)]
    if any((each.established or settings.established) == "cut" for each in isolating):
        at = isolation(direction, settings.priorities, cut=True)
        reset = (_rejection(direction, 0, settings),)
        found += [flow(at.table, at.priority, (*own, *each), reset, origin) for each in _MID_CONNECTION]
    return found


def isolation_origin(sections: list[Section], direction: Direction) -> Origin:
    """The origin of an isolation: every policy that asks for it, their names separated by commas."""
    sources = [each.source for each in sections]
    names = ",".join(sorted(each.name for each in sources))
    uid = sources[0].uid if len(sources) == 1 else ""
    return Origin(sources[0].kind, sources[0].namespace, names, uid, f"isolates {direction}")


def compile_section(rules: Ruleset, key: str) -> tuple[tuple[f.Flow, ...], tuple[Problem, ...]]:
    """What counts the connections that a section's rules allow, and what is wrong with it here."""
    section = rules.sections.get(key)
    if section is None:
        return (), ()
    found: list[f.Flow] = []
    problems = []
    if key in rules.crowded:
        text = (
            f"{section.source} finds no room among the policies of priority {section.priority}, so what it selects is cut "
            "off; give it another priority, or fewer rules"
        )
        problems.append(Problem(section_origin(section), "PRIORITY_FULL", text))
    for plan in rules.plans.get(key, ()):
        number = rules.names.number(plan.name)
        if number is None:
            text = f"{rule_origin(rules, plan)} has no number left, so what the policy selects is cut off; give it another name"
            problems.append(Problem(section_origin(section), "NUMBERS_EXHAUSTED", text))
        elif plan.rule.action == "allow":
            table, rule = stage(plan.rule.direction, "count"), RULE.match(number)
            on = (goto(stage(plan.rule.direction, "commit")),)
            found.append(flow(table, 20, (rule, FIRST.match(1)), on, rule_origin(rules, plan, SESSIONS)))
            found.append(flow(table, 10, (rule,), on, rule_origin(rules, plan, PACKETS)))
    return tuple(found), tuple(problems)


SESSIONS: Final = "sessions"
PACKETS: Final = "packets"
"""What a counting flow counts, at the end of its origin's detail: first packets of connections, and all others."""
