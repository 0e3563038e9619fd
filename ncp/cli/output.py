"""Tables for people and the same rows for machines: ``--output table|wide|json|yaml`` on everything that lists."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import click

Row = Mapping[str, Any]
FORMATS: Final = ("table", "wide", "json", "yaml")

GAP: Final = 2  # blanks between columns
NARROWEST: Final = 24  # characters a column keeps when it folds

output_option: Final = click.option(
    "-o", "--output", type=click.Choice(FORMATS), default="table", show_default=True, help="How to print."
)
"""The option every command that prints a table has."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column: ``key`` into the row, and how it looks. ``wide`` ones appear with ``--output wide`` only.

    ``style`` gives the colour of a value (a rich style), or nothing.
    """

    key: str
    title: str = ""
    right: bool = False
    wide: bool = False
    fold: bool = False
    style: Callable[[Any], str] | None = None


def emit(rows: Iterable[Row], columns: Sequence[Column], output: str, *, empty: str = "nothing found") -> None:
    """Print rows. JSON and YAML are a list with every key of every row; a table has the columns' keys.

    An empty table prints ``empty`` on standard error, so that pipes stay clean.
    """
    listed = list(rows)
    if output == "json":
        import json  # not orjson: an IPv6 block has more subnets than fit 64 bits

        sys.stdout.write(json.dumps(listed, indent=2, default=str, ensure_ascii=False) + "\n")
    elif output == "yaml":
        import yaml

        yaml.safe_dump([dict(row) for row in listed], sys.stdout, sort_keys=False, allow_unicode=True)
    elif not listed:
        click.echo(empty, err=True)
    else:
        _table(listed, [column for column in columns if output == "wide" or not column.wide])


def good_or_bad(*good: Any) -> Callable[[Any], str]:
    """A style: green for the values named, red for all others."""
    return lambda value: "green" if value in good else "red"


def text_of(value: Any) -> str:
    """A value as a person reads it: lists with commas, booleans as yes and no, nothing as ``-``."""
    if value is None or value in ("", [], (), {}):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(text_of(each) for each in value)
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {text_of(each)}" for key, each in value.items())
    if isinstance(value, float):
        return f"{value:.3g}"
    return str(value)


def _table(rows: list[Row], columns: list[Column]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, GAP, 0, 0))
    needed = 0
    for column in columns:
        title = column.title or column.key.replace("_", " ").upper()
        width = max(len(title), *(len(text_of(row.get(column.key))) for row in rows))
        # A value is never cut: columns that may fold do, and a line that is still too long is the terminal's to wrap.
        least = min(width, NARROWEST) if column.fold else width
        needed += least + GAP
        justify: Literal["left", "right"] = "right" if column.right else "left"
        table.add_column(title, justify=justify, overflow="fold", no_wrap=not column.fold, min_width=least)
    for row in rows:
        cells = []
        for column in columns:
            value = row.get(column.key)
            cells.append(Text(text_of(value), style=column.style(value) if column.style else ""))
        table.add_row(*cells)
    console = Console(highlight=False)
    # Whoever reads from a pipe wants one line per row.
    console.width = max(console.width, needed) if console.is_terminal else 100_000
    console.print(table)
