"""Where logical ports are attached to a node's switch, and which of them keep no flows although they are. Pure bookkeeping."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from sdn.compile.pieces import Attachments


class Seat(NamedTuple):
    """Where a logical port is attached, and whose sandbox is there: the next one may well be given the same number."""

    ofport: int
    sandbox: str


@dataclass(slots=True)
class Seats:
    """Follows what the database says is attached, less what was withdrawn; used by the loop's thread alone."""

    attached: Attachments | None = None  # None: the database has not been read yet
    _seen: Mapping[str, Seat] = field(default_factory=dict)  # withdrawn or not
    _withdrawn: dict[str, Seat] = field(default_factory=dict)

    def take(self, seen: Mapping[str, Seat] | None, withdraw: Mapping[str, str]) -> frozenset[str]:
        """Adopt what is attached now (None: nothing new is known), and withdraw sandboxes, given by port, for as long as they are
        attached; names whose attachment is now another."""
        if seen is None and not withdraw:
            return frozenset()
        self._seen = self._seen if seen is None else seen
        for name, sandbox in withdraw.items():
            if name in self._seen and self._seen[name].sandbox == sandbox:
                self._withdrawn[name] = self._seen[name]
        self._withdrawn = {name: seat for name, seat in self._withdrawn.items() if self._seen.get(name) == seat}
        if seen is None and self.attached is None:
            return frozenset()
        before = self.attached or {}
        now = self.attached = {name: seat.ofport for name, seat in self._seen.items() if name not in self._withdrawn}
        return frozenset(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
