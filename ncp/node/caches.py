"""What the switch has cached obeys a change of the firewall as soon as we say it does.

Open vSwitch answers a barrier when its tables are changed. Its cache, which packets meet first, follows some milliseconds later,
and on the userspace datapath of some versions it may amend the wrong one of two overlapping entries. So the flows of a change
come with a new *epoch* (see the pipeline's table of that name), by which every entry that a rule was asked for is given up rather
than amended, and :meth:`Caches.obey` returns when that is done.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from itertools import chain, repeat
from typing import Final

from sdn.model import Origin
from sdn.openflow.match import unpack_match
from sdn.openflow.pack import Encoded, encode
from sdn.openflow.session import Switch
from sdn.ovsdb.appctl import Appctl, AppctlError
from sdn.pipeline.flow import Flow
from sdn.pipeline.tables import T, is_firewall
from sdn.program import Changes, Rule, rule_of

COOKIE: Final = 0xE90C
"""Cookie of the flows in the table of epochs."""
_TABLE: Final = T["epoch"]
_DECIDING: Final = frozenset(table for table in T.values() if is_firewall(table) or table == T["neighbour"])
_TRANSLATING: Final = frozenset(T[name] for name in ("services", "select", "members", "snat", "snat_done"))
SMALLEST_FRAGMENT: Final = "400"
"""Bytes of the smallest IPv4 fragment, other than a last one, that the switch does not take for an attack: as few as it can be told.
Half of a fragment that came from an Ethernet, and is too big for the tunnel, is larger."""
_BITS: Final = 32


class Caches:
    """Those of one switch; used by the loop's thread alone."""

    def __init__(self, appctl: Appctl, switch: Switch) -> None:
        self._appctl = appctl
        self._switch = switch
        self._bit = 0
        self._held: set[Rule] = set()  # epochs that may be on the switch

    def look(self) -> None:
        """Read which epoch the switch is in, and tell it which fragments to take; to be done when it has connected.

        Raises:
            SwitchGone, SwitchTimeout: it does not answer.
        """
        with suppress(AppctlError):  # the kernel's datapath leaves fragments to the kernel
            self._appctl.call("dpctl/ipf-set-min-frag", "v4", SMALLEST_FRAGMENT)
        flows = self._switch.flows(table=_TABLE)
        self._held = {(flow.table, flow.priority, flow.match) for flow in flows}
        seen = {term for _, _, match in self._held for term in unpack_match(match)}
        self._bit = max((mask.bit_length() - 1 for _, _, mask in seen if mask), default=self._bit)

    def renewing(self, changes: Changes, *, policed: bool) -> Changes:
        """The changes, with a new epoch where members of virtual servers or addresses outside change, or (``policed``: where there are any) rules of the
        firewall and who has which address."""
        touched = {entry.flow.table for entry in changes.add} | {table for table, _, _ in changes.delete}
        if not changes.groups and _TRANSLATING.isdisjoint(touched) and (not policed or _DECIDING.isdisjoint(touched)):
            return changes
        self._bit = (self._bit + 1) % _BITS
        entry, rule = _epoch(self._bit, 0)
        old = sorted(self._held - {rule})
        self._held.add(rule)
        return changes._replace(add=(*changes.add, entry), delete=(*changes.delete, *old))

    def obey(self) -> None:
        """Wait until packets meet no entry from before the last changes, which the switch has acknowledged.

        Raises:
            AppctlError, SwitchGone, SwitchTimeout: the switch does not answer.
        """
        self._held = {_epoch(self._bit, 0)[1]}
        nudge, rule = _epoch(self._bit, 1 << self._bit)
        with self._appctl.connect() as session:
            session.call("version")  # answered after the switch has noticed what the barrier was about
            # A revalidation that ends now may have begun before the change. The next one has not; each is brought about by
            # a change of flows that is of no other consequence. (Its end alone does not always wake whoever answers us.)
            for changes in (Changes(add=(nudge,)), Changes(delete=(rule,))):
                steps = chain([partial(self._switch.apply, changes)], repeat(self._switch.barrier))
                try:
                    session.call("revalidator/wait", meanwhile=lambda steps=steps: next(steps)())
                except AppctlError as error:
                    if "multiple" not in str(error):
                        raise
                    # There are datapaths of two kinds, which this command knows nothing of: begin with an empty cache.
                    session.call("revalidator/purge")


def _epoch(bit: int, value: int) -> tuple[Encoded, Rule]:
    """A flow that looks at one bit of the mark, which no packet has set."""
    origin = Origin("Fabric", "", "epoch")
    entry = encode(Flow(_TABLE, 1, (("pkt_mark", value, 1 << bit),), (), origin), 0, cookie=COOKIE)
    return entry, rule_of(entry.key)
