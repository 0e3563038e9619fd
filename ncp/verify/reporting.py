"""Suites and replayed cases for people and for machines."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ncp.probe.show import row_of
from ncp.verify.cases import Case
from ncp.verify.junit import Outcome, document
from ncp.verify.replay import Replayed
from ncp.verify.report import in_words
from ncp.verify.suite import Asked

Json = dict[str, Any]


def _json(body: Any) -> None:
    sys.stdout.write(orjson.dumps(body, option=orjson.OPT_INDENT_2).decode() + "\n")


def _rows(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))  # an address in brackets is no markup
    Console(highlight=False).print(table)


# -- suites ---------------------------------------------------------------------------------------------------------


def show_cases(cases: Sequence[Case], output: str) -> None:
    """The cases, with what each covers and the steps it takes."""
    if output == "json":
        _json([{"name": c.name, "covers": c.covers, "steps": [step.name for step in c.steps]} for c in cases])
    elif output == "junit":
        sys.stdout.write(document("ncp verify suite --list", [Outcome("cases", case.name) for case in cases]))
    else:
        _rows(("CASE", "STEPS"), [(case.name, ", ".join(step.name for step in case.steps)) for case in cases])
        steps = sum(len(case.steps) for case in cases)
        Console(highlight=False).print(f"{len(cases)} cases, {steps} steps")


def show_suite(asked: Sequence[Asked], output: str, seconds: float) -> None:
    """What every case came to."""
    if output == "json":
        _json(_suite_body(asked, seconds))
    elif output == "junit":
        sys.stdout.write(
            document("ncp verify suite", [_outcome(name, steps) for name, steps in _by_case(asked).items()])
        )
    else:
        _suite_table(asked, output == "wide", seconds)


def _by_case(asked: Sequence[Asked]) -> dict[str, list[Asked]]:
    found: dict[str, list[Asked]] = {}
    for each in asked:
        found.setdefault(each.case, []).append(each)
    return found


def _suite_body(asked: Sequence[Asked], seconds: float) -> Json:
    by_case = _by_case(asked)
    return {
        "cases": len(by_case),
        "skipped": sum(any(each.skipped for each in steps) for steps in by_case.values()),
        "failed": sum(not all(each.is_good for each in steps) for steps in by_case.values()),
        "steps": sum(not each.skipped for each in asked),
        "probes": sum(each.probes for each in asked),
        "disagree": sum(len(each.wrong) for each in asked),
        "seconds": round(seconds, 3),
        "results": [
            {
                "case": each.case,
                "step": each.step,
                "probes": each.probes,
                "seconds": round(each.seconds, 3),
                "problem": each.problem,
                "skipped": each.skipped,
                "disagreements": [row_of(one) for one in each.wrong],
                "saved": [str(path) for path in each.saved],
            }
            for each in asked
        ],
    }


def _outcome(name: str, steps: Sequence[Asked]) -> Outcome:
    seconds = sum(each.seconds for each in steps)
    if steps[0].skipped:
        return Outcome("suite", name, seconds, skipped=steps[0].skipped)
    wrong = [each for each in steps if not each.is_good]
    if not wrong:
        return Outcome("suite", name, seconds)
    return Outcome("suite", name, seconds, f"{wrong[0].step}: {_why(wrong[0])}", "\n".join(_lines(wrong)))


def _result(step: Asked) -> str:
    if step.skipped:
        return f"skipped: {step.skipped}"
    return "agree" if step.is_good else _why(step)


def _why(step: Asked) -> str:
    return step.problem or f"{len(step.wrong)} of {step.probes} probes disagree"


def _lines(wrong: Sequence[Asked]) -> list[str]:
    lines = []
    for step in wrong:
        lines.append(f"{step.case}, {step.step}: {_why(step)}")
        lines += [f"  saved: {path}" for path in step.saved]
        lines += [f"  {line}" for each in step.wrong[:3] for line in in_words(each)]
    return lines


def _suite_table(asked: Sequence[Asked], wide: bool, seconds: float) -> None:
    console = Console(highlight=False)
    by_case = _by_case(asked)
    if wide:
        rows = [(e.case, e.step, str(e.probes), f"{e.seconds:.2f} s", _result(e)) for e in asked]
        _rows(("CASE", "STEP", "PROBES", "TIME", "RESULT"), rows)
    wrong = [each for each in asked if not each.is_good]
    for line in _lines(wrong):
        console.print(Text(line))
    skipped = Counter(each.skipped for each in asked if each.skipped)
    for reason, number in skipped.items():
        console.print(Text(f"{number} skipped: {reason}", style="yellow"))
    failed = len({each.case for each in wrong})
    agree, steps = len(by_case) - failed - skipped.total(), len(asked) - skipped.total()
    probes = sum(each.probes for each in asked)
    also = f", {skipped.total()} skipped" if skipped else ""
    text = f"{agree} of {len(by_case)} cases agree{also}: {steps} steps, {probes} probes, {seconds:.0f} s"
    console.print(Text(text, style=f"bold {'red' if failed else 'green'}"))


# -- replayed cases -------------------------------------------------------------------------------------------------


def show_replayed(asked: Sequence[Replayed], output: str) -> None:
    """What every replayed case came to."""
    if output == "json":
        _json([{"file": e.file, "wanted": e.wanted.answer, "good": e.is_good, **row_of(e.result)} for e in asked])
        return
    if output == "junit":
        outcomes = [
            Outcome("replay", e.file, 0.0, "" if e.is_good else _differs(e), "\n".join(in_words(e.result)))
            for e in asked
        ]
        sys.stdout.write(document("ncp verify replay", outcomes))
        return
    console = Console(highlight=False)
    for each in asked:
        colour = "green" if each.is_good else "red"
        console.print(Text.assemble(("agree " if each.is_good else "disagree ", colour), each.file))
        if output == "wide" or not each.is_good:
            console.print(Text(f"  the file expects: {each.wanted.answer} ({each.wanted.why})"))
            console.print(Text("\n".join(f"  {line}" for line in in_words(each.result))))


def _differs(each: Replayed) -> str:
    said = each.result
    return f"expected {each.wanted.answer}; flows say {said.traced.answer}, the wire says {said.observed.answer}"
