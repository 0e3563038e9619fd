"""Previews for people and for machines."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ncp.probe.model import Verdict
from ncp.probe.show import MARK
from ncp.verify.preview import Connection, FlowChange, Preview, Turn
from ncp.verify.report import SHOWN

Json = dict[str, Any]


def show(foreseen: Preview, output: str, asked: int, wrong: Sequence[str] | None = None) -> None:
    """Print a preview. ``asked`` is the number of probes looked at; ``wrong`` what did not happen so, once it was applied."""
    if output == "json":
        body = as_json(foreseen, asked) | ({} if wrong is None else {"departures": list(wrong)})
        sys.stdout.write(orjson.dumps(body, option=orjson.OPT_INDENT_2).decode() + "\n")
        return
    limit = None if output == "wide" else SHOWN
    console = Console(highlight=False)
    _turns(console, foreseen.turns, asked, limit)
    _flows(console, foreseen.flows, limit)
    _connections(console, foreseen, limit)


def as_json(foreseen: Preview, asked: int) -> Json:
    """All of a preview as one object."""
    return {
        "probes": asked,
        "verdicts": [
            {**turn.probe._asdict(), "before": turn.before._asdict(), "after": turn.after._asdict()}
            for turn in foreseen.turns
        ],
        "flows": [
            {
                "node": each.node,
                "table": each.table,
                "origin": each.origin._asdict(),
                "added": each.added,
                "removed": each.removed,
            }
            for each in foreseen.flows
        ],
        "live": foreseen.live,
        "connections": [
            {
                "node": each.node,
                "connection": str(each.forbidden.tracked),
                "port": each.forbidden.port,
                "why": each.forbidden.verdict.why,
                "fate": each.forbidden.fate,
                "ends": each.ends,
            }
            for each in foreseen.connections
        ],
    }


def show_departures(wrong: Sequence[str]) -> None:
    """Print what did not happen as foreseen."""
    console = Console(highlight=False)
    for each in wrong[:SHOWN]:
        console.print(Text.assemble(("otherwise ", "red"), each))
    if len(wrong) > SHOWN:
        console.print(Text(f"and {len(wrong) - SHOWN} more; --output json has all", style="dim"))
    if not wrong:
        console.print(Text("applied: exactly this happened", style="bold green"))


def _turns(console: Console, turns: Sequence[Turn], asked: int, limit: int | None) -> None:
    others = [turn for turn in turns if turn.is_another_answer]
    reasons = len(turns) - len(others)
    also = f", {reasons} keep theirs for another reason" if reasons else ""
    console.print(Text(f"verdicts: {len(others)} of {asked} probes change{also}", style="bold"))
    rows = [(str(turn.probe), _answer(turn.before), _answer(turn.after), _why(turn)) for turn in others]
    _table(console, ("PROBE", "NOW", "THEN", "BECAUSE OF"), rows, limit)


def _flows(console: Console, flows: Sequence[FlowChange], limit: int | None) -> None:
    added, removed = sum(each.added for each in flows), sum(each.removed for each in flows)
    console.print(Text(f"flows: {added} added or changed, {removed} removed", style="bold"))
    rows = [(each.node, each.table, str(each.origin), f"+{each.added}", f"-{each.removed}") for each in flows]
    _table(console, ("NODE", "TABLE", "ASKED FOR BY", "ADDED", "REMOVED"), rows, limit)


def _connections(console: Console, foreseen: Preview, limit: int | None) -> None:
    ends = sum(each.ends for each in foreseen.connections)
    kept = len(foreseen.connections) - ends
    also = f", {kept} that would be forbidden are kept" if kept else ""
    console.print(Text(f"connections: {ends} of {foreseen.live} end{also}", style="bold"))
    rows = [(each.node, str(each.forbidden.tracked), each.forbidden.port, _fate(each)) for each in foreseen.connections]
    _table(console, ("NODE", "CONNECTION", "AT", "FATE"), rows, limit)


def _fate(connection: Connection) -> str:
    return f"{connection.forbidden.fate}: {connection.forbidden.verdict.why}"


def _why(turn: Turn) -> str:
    return " and ".join(turn.after.causes) or turn.after.why


def _answer(verdict: Verdict) -> Text:
    mark, colour = MARK[verdict.answer]
    return Text(f"{mark} {verdict.answer}", style=colour)


def _table(console: Console, headings: Sequence[str], rows: Sequence[Sequence[str | Text]], limit: int | None) -> None:
    if not rows:
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 2), header_style="bold")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows[:limit]:
        table.add_row(*(Text(each) if isinstance(each, str) else each for each in row))  # a rule's name is no markup
    console.print(table)
    if limit is not None and len(rows) > limit:
        console.print(Text(f"  and {len(rows) - limit} more; --output wide shows all", style="dim"))
