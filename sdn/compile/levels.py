"""Where a rule stands: its table and OpenFlow priority. Pure arithmetic on what the rule says, so that adding a policy moves
no other's flows, those of the very same priority aside.

Every priority of a tier has ``SLOTS`` places for rules of one direction: policies in the order of their names, each with its rules in
order. The last place is for policies that find no room: they drop what they select, and say so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from firewall.order import Priorities, rank
from firewall.rules import Direction, Section
from sdn.pipeline.firewall import stage

_TOP: Final = 65000
_ADMIN, _ABOVE, _NETWORK_POLICIES, _BETWEEN, _BASELINE, _DEFAULT, _BELOW = range(7)
_TABLES: Final = ("admin", "application", "application", "application", "baseline", "baseline", "baseline")
SLOTS: Final = (64, 60, 0, 60, 32, 0, 32)
"""By stage: how many places each priority has. Stages without priorities have fixed places."""
_MAX_PRIORITY: Final = 1000

DIRECT, JOINT, CUT, ISOLATION, _LEVELS = 1, 2, 3, 4, 5
"""Among NetworkPolicies: rules of one flow, rules of several, resets of connections that are cut, isolation. Place 0 is the way to
the pod's own node."""

STRANGERS: Final = 65535
"""Priority of the drop of senders that cannot be, in table admin."""


class Level(NamedTuple):
    """A table, by its name, and a priority in it."""

    table: str
    priority: int


def own_node(priorities: Priorities) -> int:
    """Priority, in table application, of what a pod sends to its own node."""
    return _network_policies(priorities)


def isolation(direction: Direction, priorities: Priorities, *, cut: bool = False) -> Level:
    """Where pods that NetworkPolicies isolate end; before that, where their connections are cut by a reset."""
    return Level(stage(direction, "application"), _network_policies(priorities) - (CUT if cut else ISOLATION))


def network_policy(direction: Direction, priorities: Priorities, *, joint: bool) -> Level:
    """Where all rules of NetworkPolicies stand."""
    place = JOINT if joint else DIRECT
    return Level(stage(direction, "application"), _network_policies(priorities) - place)


def level(section: Section, direction: Direction, slot: int, priorities: Priorities) -> Level:
    """Where a rule stands that has a place of its own."""
    number = rank(section, priorities)
    table = stage(direction, _TABLES[number])
    place = section.priority * SLOTS[number] + slot
    if number == _BETWEEN:
        place += _LEVELS
    elif number == _DEFAULT:
        place = (_MAX_PRIORITY + 1) * SLOTS[_BASELINE] + slot
    elif number == _BELOW:
        place += (_MAX_PRIORITY + 1) * SLOTS[_BASELINE] + _DEFAULT_RULES
    return Level(table, _TOP - place)


_DEFAULT_RULES: Final = 8


def slots(sections: Sequence[Section], direction: Direction, limit: int) -> Mapping[str, int | None]:
    """The first place of each section's rules of a direction, among sections of one stage and priority.

    Args:
        sections: in any order.
        direction: whose rules are placed.
        limit: places there are; the last is left free.

    Returns:
        Places by section key; None for those that find no room.
    """
    found: dict[str, int | None] = {}
    free = 0
    for section in sorted(sections, key=lambda each: each.key):
        wanted = sum(rule.direction == direction for rule in section.rules)
        found[section.key] = free if free + wanted < limit else None
        if found[section.key] is not None:
            free += wanted
    return found


def _network_policies(priorities: Priorities) -> int:
    return _TOP - min(priorities.top_section_priority, _MAX_PRIORITY + 1) * SLOTS[_ABOVE]
