"""The firewall's log: one line for the first packet of a connection that a logged rule decides on, or that is translated on its way
out, at a bounded rate."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any, Final

from firewall.rules import DIRECTIONS
from sdn.compile.rules import isolation_origin, rule_origin
from sdn.compile.ruleset import Ruleset
from sdn.model import Intent, Origin
from sdn.openflow.values import PacketIn
from sdn.outside import outside
from sdn.pipeline.registers import OUTPUT
from sdn.tuples import FiveTuple, five_tuple

log = logging.getLogger("ncp.firewall")

ACTIONS: Final = ("allow", "drop", "reject", "pass")
"""As flows number them in the userdata of a packet."""
LINES_PER_SECOND: Final = 100.0
SAME_AGAIN: Final = 60.0
"""Seconds in which a packet of the same tuple with the same verdict is the same connection trying again."""
REMEMBERED: Final = 4096
KEPT: Final = 1000
_Key = tuple[str, str, str, str, FiveTuple]  # verdict, policy, rule, port, packet


@dataclass(frozen=True, slots=True)
class Line:
    """What was decided about a packet, by whom, at which port."""

    at: float  # seconds since the epoch
    action: str
    direction: str
    policy: str
    rule: str
    port: str  # of the pod
    packet: str

    def __str__(self) -> str:
        return f"{self.action.upper()} {self.direction} {self.port} {self.packet} by {self.policy} ({self.rule})"


class FirewallLog:
    """Writes lines to the logger ``ncp.firewall`` and keeps the latest. Safe from any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: OrderedDict[_Key, float] = OrderedDict()  # when it was written
        self._lines: deque[Line] = deque(maxlen=KEPT)
        self._allowance = LINES_PER_SECOND
        self._since = clock()
        self.suppressed = 0  # lines not written because there were too many

    def lines(self) -> list[dict[str, Any]]:
        """The latest lines, oldest first."""
        with self._lock:
            return [asdict(each) for each in self._lines]

    def note(self, packet: PacketIn, rules: Ruleset, ports: Iterable[tuple[str, int]], epoch: float) -> None:
        """Log a packet that a flow sent for that.

        Args:
            packet: with the flow's mark in its userdata.
            rules: of the program the flow is from.
            ports: logical ports here with their OpenFlow ports.
            epoch: the time now, in seconds since the epoch.
        """
        spoken = five_tuple(packet.data)
        if spoken is None or len(packet.userdata) < 7:
            return
        action, direction = ACTIONS[packet.userdata[1]], DIRECTIONS[packet.userdata[2]]
        where = packet.metadata.get("in_port", 0)
        if direction == "ingress":
            where = packet.metadata.get(OUTPUT.register, 0) & OUTPUT.mask
        port = next((name for name, ofport in ports if ofport == where), f"OpenFlow port {where}")
        origin = _origin(rules, int.from_bytes(packet.userdata[3:7], "big"), port, direction)
        policy = origin.about("")
        line = Line(epoch, action, direction, str(policy), origin.detail, port, str(spoken))
        self._write(line, (action, line.policy, line.rule, port, spoken))

    def note_translation(self, packet: PacketIn, intent: Intent, epoch: float) -> None:
        """Log a new connection to the outside: who is whom there; its whole tuple where ``snat_rule_logging`` is extended."""
        spoken = five_tuple(packet.data)
        if spoken is None:
            return
        port = next(
            (each for each in intent.ports.values() if spoken.source in each.addresses and not intent.domain_of(each)),
            None,
        )
        if port is None:
            return
        found = outside(intent, port, spoken.source)
        packet_text = str(spoken) if intent.nat.logging == "extended" else ""
        line = Line(epoch, "snat", "egress", str(found.origin), f"SNAT to {found.address}", port.name, packet_text)
        self._write(line, ("snat", line.policy, line.rule, port.name, spoken))

    def _write(self, line: Line, key: _Key) -> None:
        with self._lock:
            if self._is_repeated(key) or not self._may_write():
                return
            self._remember(key)
            self._lines.append(line)
        log.info("%s", line)

    def _is_repeated(self, key: _Key) -> bool:
        written = self._seen.get(key)
        if written is None or self._clock() - written > SAME_AGAIN:
            return False
        self._seen.move_to_end(key)
        return True

    def _remember(self, key: _Key) -> None:
        """Only what was written: what was not, for the rate, is to be said when it comes again."""
        self._seen[key] = self._clock()
        self._seen.move_to_end(key)
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)

    def _may_write(self) -> bool:
        now = self._clock()
        self._allowance = min(LINES_PER_SECOND, self._allowance + (now - self._since) * LINES_PER_SECOND)
        self._since = now
        if self._allowance < 1:
            self.suppressed += 1
            return False
        self._allowance -= 1
        if self.suppressed:
            log.warning("%d lines were not written: more than %.0f a second", self.suppressed, LINES_PER_SECOND)
            self.suppressed = 0
        return True


def _origin(rules: Ruleset, number: int, port: str, direction: Any) -> Origin:
    """Whose mark a packet carries: a rule's number, or 0 for the isolation of the pod at the port."""
    plan = rules.numbered(number)
    if plan is not None:
        return rule_origin(rules, plan)
    held = rules.membership.ports.get(port)
    concerns = rules.about(held[0]) if held else frozenset()
    sections = [rules.sections[each.section] for each in concerns if each.isolates and each.direction == direction]
    return (
        isolation_origin(sections, direction)
        if sections
        else Origin("Fabric", "", "unknown", "", "no rule has this number")
    )
