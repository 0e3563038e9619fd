"""What each rule of the firewall did on a switch, from the counters of its flows. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ncp.node.audit import key_of
from sdn.compile.rules import PACKETS, SESSIONS
from sdn.compile.terms import REJECTED
from sdn.model import Origin
from sdn.openflow.values import InstalledFlow
from sdn.pipeline.flow import Conjunction, Controller, Flow, Goto
from sdn.pipeline.tables import PIPELINE, is_firewall
from sdn.program import Program


def rule_statistics(program: Program, installed: Iterable[InstalledFlow]) -> list[dict[str, Any]]:
    """A row for every rule, and for every set of policies that isolate: who, action, hits, sessions, packets, bytes.

    ``hits`` are packets that a decision was made about; ``sessions`` are connections that an allowing rule let begin;
    ``packets`` and ``bytes`` are theirs in the rule's direction, or what was turned away.
    """
    rows: dict[Origin, dict[str, Any]] = {}
    for each in installed:
        entry = program.get(key_of(each))
        if entry is None or entry.flow.origin.kind in ("Fabric", "Policies"):
            continue
        flow, origin = entry.flow, entry.flow.origin
        name, _, counts = origin.detail.rpartition(" ")
        if counts in (SESSIONS, PACKETS):
            row = _row(rows, origin.about(name), "allow")
            row["packets"] += each.packets
            row["bytes"] += each.octets
            row["sessions"] += each.packets if counts == SESSIONS else 0
        elif is_firewall(flow.table) and not any(isinstance(action, Conjunction) for action in flow.actions):
            action = decision(flow)
            row = _row(rows, origin, action)
            if action == "drop":
                row["action"] = action  # it may have resets beside it, for the connections it cuts
            row["hits"] += each.packets
            if row["action"] != "allow":
                row["packets"] += each.packets
                row["bytes"] += each.octets
    return [rows[origin] for origin in sorted(rows)]


def decision(flow: Flow) -> str:
    """What a deciding flow of the firewall does: allow, drop, reject or pass."""
    if any(isinstance(each, Controller) and each.userdata[:1] == REJECTED for each in flow.actions):
        return "reject"
    last = flow.actions[-1] if flow.actions else None
    if not isinstance(last, Goto):
        return "drop"
    return "allow" if PIPELINE.tables[last.table].name.endswith("_count") else "pass"


def _row(rows: dict[Origin, dict[str, Any]], origin: Origin, action: str) -> dict[str, Any]:
    if origin not in rows:
        counted = dict.fromkeys(("hits", "sessions", "packets", "bytes"), 0)
        rows[origin] = {"origin": origin._asdict(), "rule": origin.detail, "action": action, **counted}
    return rows[origin]
