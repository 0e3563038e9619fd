"""Which policies this node enforces by now, and how long each took from being seen to being enforced. Pure bookkeeping."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from firewall import clusterpolicy, networkpolicy, securitypolicy
from ncp.translate.objects import Object
from sdn.compile.ruleset import Ruleset

POLICY_KINDS = frozenset({networkpolicy.KIND, clusterpolicy.KIND, securitypolicy.KIND})


@dataclass(slots=True)
class Enforced:
    """Follows policy objects into the switch; used by the loop's thread alone.

    ``report`` is told the generation of each policy about a pod of this node, by its section's key, whenever that changes;
    ``measured`` the seconds each new generation took.
    """

    report: Callable[[Mapping[str, int]], None]
    measured: Callable[[str, float], None]
    _generations: dict[str, int] = field(default_factory=dict)
    _since: dict[str, float] = field(default_factory=dict)  # when a generation that is not enforced yet was seen
    _told: dict[str, int] | None = None
    _concerned: object = None
    _changed: bool = False

    def seen(self, kind: str, key: tuple[str, str], obj: Object | None, at: float) -> None:
        """A policy is now this; ``at`` is when the event came (time.monotonic)."""
        if kind not in POLICY_KINDS:
            return
        name = f"{kind}/{key[0]}/{key[1]}"
        generation = None if obj is None else int(obj["metadata"].get("generation") or 0)
        self._changed |= self._generations.get(name) != generation
        if generation is None:
            self._generations.pop(name, None)
            self._since.pop(name, None)
        elif self._generations.get(name) != generation:
            self._generations[name] = generation
            self._since.setdefault(name, at)

    def acknowledged(self, rules: Ruleset, now: float) -> None:
        """The switch holds everything seen so far, and no connection that it forbids."""
        for name, since in self._since.items():
            if name in rules.concerned:
                self.measured(name, now - since)
        self._since.clear()
        if rules.concerned is self._concerned and not self._changed:
            return
        self._concerned, self._changed = rules.concerned, False
        here = {name: self._generations[name] for name in rules.concerned if name in self._generations}
        if here != self._told:
            self._told = here
            self.report(here)
