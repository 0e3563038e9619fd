"""Which section is asked before which: the tiers as numbered stages."""

from __future__ import annotations

from typing import Final, NamedTuple

from firewall.rules import Section, Tier

NETWORK_POLICIES: Final = 2
_ABOVE, _BETWEEN, _BELOW = 1, 3, 6
_STAGES: Final[dict[Tier, int]] = {"Admin": 0, "NetworkPolicy": NETWORK_POLICIES, "Baseline": 4, "Default": 5}
STAGES: Final = 7


class Priorities(NamedTuple):
    """Where NetworkPolicies and the baseline stand among SecurityPolicies (``[nsx_v3]`` options of these names)."""

    top_section_priority: int = 10
    baseline_section_priority: int = 99


PRIORITIES: Final = Priorities()


def rank(section: Section, priorities: Priorities) -> int:
    """A section's stage, 0 to ``STAGES`` - 1: lower is asked first. Within a stage: by priority, then by key."""
    if section.tier != "Application":
        return _STAGES[section.tier]
    if section.priority < priorities.top_section_priority:
        return _ABOVE
    return _BETWEEN if section.priority < priorities.baseline_section_priority else _BELOW
