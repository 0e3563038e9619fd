"""Results for people and for machines."""

from __future__ import annotations

import sys
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ncp.probe.model import Result

MARK = {
    "yes": ("●", "green"),
    "refused": ("◐", "yellow"),
    "rejected": ("◒", "magenta"),
    "no": ("○", "red"),
    "unknown": ("·", "dim"),
}


def as_json(results: list[Result]) -> None:
    """One object: how many probes, how many disagree, and all of them."""
    disagree = sum(not r.agrees for r in results)
    body = {"probes": len(results), "disagree": disagree, "results": [row_of(r) for r in results]}
    sys.stdout.write(orjson.dumps(body, option=orjson.OPT_INDENT_2).decode() + "\n")


def row_of(result: Result) -> dict[str, Any]:
    """A result as JSON."""
    return {
        **result.probe._asdict(),
        "expected": result.expected._asdict(),
        "traced": result.traced._asdict(),
        "observed": result.observed._asdict(),
        "agrees": result.agrees,
    }


def as_table(results: list[Result], names: list[str]) -> None:
    """A picture (sources down, destinations across; each mark is one probe), then every disagreement in words."""
    console = Console()
    if len(results) == 1:
        _one(console, results[0])
    else:
        picture(console, results, names)
    wrong = [r for r in results if not r.agrees]
    for result in wrong[:20]:
        console.print(f"[red]disagree[/] {result.probe}")
        for who in ("expected", "traced", "observed"):
            verdict = getattr(result, who)
            console.print(f"  {who:>9}: {verdict.answer} ({verdict.why})")
    asked = f"{len(results)} probes: intent, flows and wire agree on {len(results) - len(wrong)}"
    console.print(f"[bold {'red' if wrong else 'green'}]{asked}[/]")


def _one(console: Console, result: Result) -> None:
    table = Table(title=str(result.probe), title_justify="left")
    for heading in ("asked", "answer", "why"):
        table.add_column(heading)
    for who in ("expected", "traced", "observed"):
        verdict = getattr(result, who)
        mark, colour = MARK[verdict.answer]
        table.add_row(who, Text(f"{mark} {verdict.answer}", style=colour), verdict.why)
    console.print(table)


def picture(console: Console, results: list[Result], names: list[str]) -> None:
    """Sources down, destinations across; each mark is one probe."""
    cells: dict[tuple[str, str], Text] = {}
    for result in results:
        mark, colour = MARK[result.observed.answer] if result.agrees else ("✗", "bold white on red")
        cell = cells.setdefault((result.probe.source, result.probe.destination), Text())
        cell.append(mark, style=colour)
    marks = max((len(cell) for cell in cells.values()), default=1)
    labels = max(len(name) for name in names) + 4
    widest = max(1, (console.width - labels) // (marks + 3))  # destinations that fit beside each other
    for start in range(0, len(names), widest):
        part = names[start : start + widest]
        table = Table(show_lines=False, pad_edge=False)
        table.add_column("from \\ to", no_wrap=True)
        for name in part:
            table.add_column(str(names.index(name) + 1), justify="center", no_wrap=True)
        for index, source in enumerate(names):
            row = [cells.get((source, name), Text("—", style="dim") if source == name else Text(" ")) for name in part]
            table.add_row(Text(f"{index + 1:>2} {source}"), *row)
        console.print(table)
    legend = "  ".join(f"{mark} {answer}" for answer, (mark, _) in MARK.items())
    console.print(f"[dim]one mark per probe: {legend}  ✗ disagree[/]")
