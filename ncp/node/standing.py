"""Connections that were there before a change: those it forbids are forgotten by the switch, so that their next packet is judged anew.

Everything new obeys a change from the moment the switch has acknowledged its flows; what was established goes past the rules. So
after each change that may forbid something, the connections it may concern are read from the switch, judged by the same oracle
the flows are held against, and removed one by one where they are forbidden, unless their policy says ``keep``. Connections with an
address that nobody has any more are removed without a question.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ipam.address import Address
from sdn.compile.delta import Delta
from sdn.conntrack import NUMBERS, Forbidden, Tracked, forbidden, parse
from sdn.model import Intent
from sdn.openflow.conntrack import Flush
from sdn.program import Program

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Standing:
    """What is still to be looked at, gathered from change to change until it is done.

    ``dump`` is what the switch tracks, as text; ``flush`` removes connections and returns when that is done.
    """

    dump: Callable[[], str]
    flush: Callable[[list[Flush]], None]
    _all: bool = False
    _addresses: set[Address] = field(default_factory=set)
    _gone: set[Address] = field(default_factory=set)

    def concern(self, before: Intent, after: Intent, delta: Delta) -> None:
        """Note what a change may forbid."""
        self._all |= bool(delta.sections or delta.namespaces or delta.settings)
        for name in delta.ports:
            old, new = before.ports.get(name), after.ports.get(name)
            if old is None:
                continue
            self._gone.update(each for each in old.addresses if new is None or each not in new.addresses)
            if new is not None and new.identity != old.identity:
                self._addresses.update(new.addresses)

    def everything(self) -> None:
        """Look at all connections: nobody knows what changed."""
        self._all = True

    def settle(self, program: Program, intent: Intent, attached: Mapping[str, int]) -> list[Forbidden]:
        """Remove what is to be removed; what was forbidden and went. Anything that fails stays to be done.

        Raises:
            AppctlError, SwitchGone, SwitchTimeout: the switch did not answer.
        """
        flushes: list[Flush] = []
        found: list[Forbidden] = []
        if (self._all and intent.sections) or self._addresses or self._gone:
            connections = list(parse(self.dump()))
            flushes += [of_connection(each) for each in connections if not self._gone.isdisjoint(each.ends())]
            zones = {ofport: name for name, ofport in attached.items()}
            asked = (each for each in connections if self._all or not self._addresses.isdisjoint(each.ends()))
            found = [each for each in forbidden(asked, intent, program.rules, zones) if each.fate != "keep"]
            flushes += [of_connection(each.tracked) for each in found]
        self.flush(flushes)
        self._all = False
        self._addresses.clear()
        self._gone.clear()
        for each in found:
            log.info("%s: cut off from %s: %s", each.tracked, each.port, each.verdict.why)
        return found


def of_connection(tracked: Tracked) -> Flush:
    """One connection, in its zone."""
    ports = (tracked.source_port, tracked.destination_port)
    return Flush(tracked.zone, NUMBERS[tracked.protocol], tracked.source, tracked.destination, *ports)
