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

    ``report`` is told the generation of each policy about a pod of this node, by its section's key, whenever that changes, or
    another object has taken its name; not of those that cannot be enforced as they are written, and cut off what they select;
    ``measured`` the seconds each new generation took.
    """

    report: Callable[[Mapping[str, int]], None]
    measured: Callable[[str, float], None]
    _held: dict[str, tuple[str, int]] = field(default_factory=dict)  # uid and generation
    _since: dict[str, float] = field(default_factory=dict)  # when a generation that is not enforced yet was seen
    _told: dict[str, tuple[str, int]] | None = None
    _concerned: object = None
    _crowded: frozenset[str] = frozenset()
    _changed: bool = False

    def seen(self, kind: str, key: tuple[str, str], obj: Object | None, at: float) -> None:
        """A policy is now this; ``at`` is when the event came (time.monotonic)."""
        if kind not in POLICY_KINDS:
            return
        name = f"{kind}/{key[0]}/{key[1]}"
        meta = {} if obj is None else obj["metadata"]
        found = None if obj is None else (str(meta.get("uid", "")), int(meta.get("generation") or 0))
        self._changed |= self._held.get(name) != found
        if found is None:
            self._held.pop(name, None)
            self._since.pop(name, None)
        elif self._held.get(name) != found:
            self._held[name] = found
            self._since.setdefault(name, at)

    def acknowledged(self, rules: Ruleset, now: float) -> None:
        """The switch holds everything seen so far, and no connection that it forbids."""
        for name, since in self._since.items():
            if name in rules.concerned:
                self.measured(name, now - since)
        self._since.clear()
        if rules.concerned is self._concerned and rules.crowded == self._crowded and not self._changed:
            return
        self._concerned, self._crowded, self._changed = rules.concerned, rules.crowded, False
        here = {name: self._held[name] for name in rules.concerned if name in self._held and not rules.cuts_off(name)}
        if here != self._told:
            self._told = here
            self.report({name: generation for name, (_, generation) in here.items()})
