"""What translations did on a switch, and whom it had no port for, from the counters of their flows. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from ipam.address import WIDTH, Address, Family, Prefix
from ncp.node.audit import key_of
from sdn.compile.fabric import drop
from sdn.compile.nat import EXHAUSTED, NO_ADDRESS, TO_OUTSIDE, TO_POD
from sdn.model import Intent, Origin, Problem
from sdn.openflow.values import InstalledFlow
from sdn.pipeline.flow import Ct, Flow
from sdn.pipeline.tables import T
from sdn.program import Program

TABLES: Final = frozenset(T[name] for name in ("services", "snat", "snat_done"))
PORTS_EXHAUSTED: Final = "SNAT_PORTS_EXHAUSTED"
"""The reason of problems of those who lost packets because no port was left at their address outside."""


class Translation(NamedTuple):
    """One rule: ``SNAT`` gives those inside another address outside, ``DNAT`` sends to the inside what is for that address.

    ``outside`` is empty where those inside have none, and are dropped.
    """

    kind: str
    origin: Origin
    inside: str
    outside: str


def translations(program: Program, intent: Intent, installed: Iterable[InstalledFlow]) -> list[dict[str, Any]]:
    """A row for every translation here, with what its flows counted.

    ``hits`` are new connections, each counted once; ``sctp`` are packets of SCTP that were given the address outside, each of them, as
    those are not tracked. ``no_port`` and ``no_address`` are packets dropped.
    """
    rows: dict[Translation, Counter[str]] = {}
    no_port: Counter[tuple[Origin, str]] = Counter()
    owners = {
        str(each.prefix): switch.origin
        for switch in intent.switches.values()
        if not switch.domain
        for each in switch.gateways
    }
    for flow, packets in _counted(program, installed):
        verb, _, address = flow.origin.detail.rpartition(" ")
        inside = _end(flow, "src")
        if flow.table == T["snat"] and verb == TO_OUTSIDE:
            row = rows.setdefault(Translation("SNAT", flow.origin.about(""), inside, address), Counter())
            row["hits" if any(isinstance(each, Ct) for each in flow.actions) else "sctp"] += packets
        elif flow.table == T["services"] and verb == TO_POD:
            outside = _end(flow, "dst")
            rows.setdefault(Translation("DNAT", flow.origin.about(""), address, outside), Counter())["hits"] += packets
        elif flow.table == T["snat_done"] and flow.origin.detail == EXHAUSTED:
            no_port[flow.origin.about(""), inside] += packets
        elif flow.table == T["snat"] and flow.origin == drop(NO_ADDRESS):
            owner = owners.get(inside, drop(NO_ADDRESS))
            rows.setdefault(Translation("SNAT", owner, inside, ""), Counter())["no_address"] += packets
    return [
        {
            "kind": each.kind,
            "origin": each.origin._asdict(),
            "inside": each.inside,
            "outside": each.outside or None,
            "hits": counted["hits"],
            "sctp": counted["sctp"],
            "no_port": no_port[each.origin, each.inside] if each.kind == "SNAT" else 0,
            "no_address": counted["no_address"],
        }
        for each, counted in sorted(rows.items())
    ]


def without_port(program: Program, installed: Iterable[InstalledFlow]) -> dict[Origin, int]:
    """Packets dropped so far because no port was left, by who they would have left as."""
    found: Counter[Origin] = Counter()
    for flow, packets in _counted(program, installed):
        if flow.table == T["snat_done"] and flow.origin.detail == EXHAUSTED:
            found[flow.origin.about("")] += packets
    return dict(found)


def grown(before: Mapping[Origin, int], now: Mapping[Origin, int]) -> dict[Origin, int]:
    """By how many packets counters have grown. One that fell was begun anew: it has grown by what it shows."""
    more = ((origin, packets - _kept(before.get(origin, 0), packets)) for origin, packets in now.items())
    return {origin: packets for origin, packets in more if packets}


def exhaustion(dropped: Mapping[Origin, int]) -> list[Problem]:
    """What to say to those who lost packets since the last look."""
    return [
        Problem(
            origin,
            PORTS_EXHAUSTED,
            f"{origin}: {packets} packets to the outside were dropped since the audit before, for no port was left at its address for "
            "their destination; give some of its pods other addresses (ncp/snat_pool on a service of theirs, an AddressBinding), widen "
            "[ncp] snat_ports, or let it have fewer connections to one destination at a time",
        )
        for origin, packets in sorted(dropped.items())
    ]


def _kept(before: int, now: int) -> int:
    return before if before <= now else 0


def _counted(program: Program, installed: Iterable[InstalledFlow]) -> Iterator[tuple[Flow, int]]:
    for each in installed:
        entry = program.get(key_of(each)) if each.table in TABLES else None
        if entry is not None:
            yield entry.flow, each.packets


def _end(flow: Flow, which: str) -> str:
    """A packet's source or destination as a flow matches it: an address, or a prefix."""
    for name, value, mask in flow.match:
        if name in (f"ipv4_{which}", f"ipv6_{which}"):
            family: Family = 4 if name.startswith("ipv4") else 6
            length = WIDTH[family] if mask is None else mask.bit_count()
            return str(Address(family, value) if length == WIDTH[family] else Prefix(family, value, length))
    return ""
