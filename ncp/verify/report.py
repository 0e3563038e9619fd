"""Truth tables for people and for machines."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Final

import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ncp.probe.model import Probe, Result, arrives
from ncp.probe.show import MARK, picture, row_of
from ncp.verify.casefile import WHO
from ncp.verify.junit import Outcome, document

FORMATS: Final = ("table", "wide", "json", "junit")
SHOWN: Final = 20
"""Disagreements, and groups of probes, that a table shows; files and JSON have all."""


def show(results: Sequence[Result], names: Sequence[str], output: str, seconds: float) -> None:
    """Print results in one of FORMATS."""
    if output == "json":
        as_json(results, seconds)
    elif output == "junit":
        sys.stdout.write(document("ncp verify", outcomes(results, seconds)))
    else:
        as_table(results, names, wide=output == "wide")


def as_json(results: Sequence[Result], seconds: float) -> None:
    """One object: how many probes, how many disagree, and all of them."""
    wrong = sum(not each.agrees for each in results)
    body = {"probes": len(results), "disagree": wrong, "seconds": round(seconds, 3), "results": [*map(row_of, results)]}
    sys.stdout.write(orjson.dumps(body, option=orjson.OPT_INDENT_2).decode() + "\n")


def outcomes(results: Sequence[Result], seconds: float) -> list[Outcome]:
    """A test for every pair of source and destination, in a suite for every source."""
    pairs: dict[tuple[str, str], list[Result]] = {}
    for each in results:
        pairs.setdefault((each.probe.source, each.probe.destination), []).append(each)
    share = seconds / max(1, len(pairs))
    return [outcome(source, destination, share, found) for (source, destination), found in pairs.items()]


def outcome(suite: str, name: str, seconds: float, results: Sequence[Result]) -> Outcome:
    """One test made of some results: it fails where any of them disagrees."""
    wrong = [each for each in results if not each.agrees]
    if not wrong:
        return Outcome(suite, name, seconds)
    said = f"{len(wrong)} of {len(results)} probes disagree; the first: {wrong[0].probe}"
    return Outcome(suite, name, seconds, said, "\n".join(line for each in wrong for line in in_words(each)))


def in_words(result: Result) -> list[str]:
    """A disagreement: the probe, and what each says of it."""
    lines = [str(result.probe)]
    for who in WHO:
        verdict = getattr(result, who)
        lines.append(f"  {who:>9}: {verdict.answer} ({verdict.why})")
        lines += [f"             {stage}" for stage in verdict.stages]
    return lines


def as_table(results: Sequence[Result], names: Sequence[str], *, wide: bool = False) -> None:
    """A picture, who turns what away, and every disagreement in words."""
    console = Console(highlight=False)
    picture(console, list(results), list(names))
    _explain_cells(console, results)
    _responsible(console, results, wide)
    wrong = [each for each in results if not each.agrees]
    disagreements(console, wrong)
    said = f"{len(results)} probes: intent, flows and wire agree on {len(results) - len(wrong)}"
    console.print(Text(said, style=f"bold {'red' if wrong else 'green'}"))


def disagreements(console: Console, wrong: Sequence[Result]) -> None:
    """The first of some disagreements in words."""
    for each in wrong[:SHOWN]:
        head, *lines = in_words(each)
        console.print(Text.assemble(("disagree ", "red"), head))
        for line in lines:
            console.print(Text(line))
    if len(wrong) > SHOWN:
        console.print(Text(f"and {len(wrong) - SHOWN} more", style="dim"))


def _explain_cells(console: Console, results: Sequence[Result]) -> None:
    """What the marks of a cell are, where every cell has the same."""
    cells: dict[tuple[str, str], list[str]] = {}
    for each in results:
        cells.setdefault((each.probe.source, each.probe.destination), []).append(what(each.probe))
    kinds = {tuple(each) for each in cells.values()}
    if len(kinds) == 1:
        console.print(Text(f"in each cell: {', '.join(kinds.pop())}", style="dim"))


def what(probe: Probe) -> str:
    """A probe's protocol, port and family."""
    return str(probe).removeprefix(f"{probe.source} -> {probe.destination} ")


def _responsible(console: Console, results: Sequence[Result], wide: bool) -> None:
    """Who turns probes away: in short by policy, or probe by probe with what each stage says."""
    away = [each for each in results if not arrives(each.expected.answer)]
    if not away:
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), title_justify="left", header_style="bold")
    if wide:
        for heading in ("TURNED AWAY", "ANSWER", "BY", "STAGES"):
            table.add_column(heading, overflow="fold")
        for each in away:
            stages = "\n".join((*each.expected.stages, *each.traced.stages))
            table.add_row(str(each.probe), _answer(each), " and ".join(_by(each)), stages)
        console.print(table)
        return
    groups: dict[tuple[Any, ...], list[Result]] = {}
    for each in away:
        groups.setdefault((each.expected.answer, _by(each)), []).append(each)
    for heading in ("TURNED AWAY BY", "ANSWER", "PROBES", "FOR EXAMPLE"):
        table.add_column(heading, overflow="fold", justify="right" if heading == "PROBES" else "left")
    ordered = sorted(groups.items(), key=lambda item: -len(item[1]))
    for (_, by), found in ordered[:SHOWN]:
        table.add_row(" and ".join(by), _answer(found[0]), str(len(found)), str(found[0].probe))
    console.print(table)
    if len(ordered) > SHOWN:
        console.print(Text(f"and {len(ordered) - SHOWN} more; --output wide shows each probe", style="dim"))


def _by(result: Result) -> tuple[str, ...]:
    return result.expected.causes or (result.expected.why,)


def _answer(result: Result) -> Text:
    mark, colour = MARK[result.expected.answer]
    return Text(f"{mark} {result.expected.answer}", style=colour)
