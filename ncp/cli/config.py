"""``ncp config``: check, show and document ``ncp.ini``."""

from __future__ import annotations

from pathlib import Path

import click

from ncp.cli.output import Column, emit, output_option

FILE = click.argument("file", type=click.Path(path_type=Path))
COLUMNS = (
    Column("section"),
    Column("option"),
    Column("value", fold=True),
    Column("from", style=lambda where: "bold" if where == "file" else "dim"),
    Column("status", style=lambda status: "yellow" if status == "accepted" else "", wide=True),
    Column("allowed", wide=True, fold=True),
    Column("meaning", wide=True, fold=True),
)


@click.group("config")
def command() -> None:
    """Check, show and document ncp.ini."""


@command.command()
@FILE
def check(file: Path) -> None:
    """Check FILE; exit code 2, and a line for each mistake, when it is wrong."""
    from ncp.settings import effective, load

    settings = load(file)
    idle = [item.option for item in effective(settings) if item.given and item.option.status == "accepted"]
    for option in idle:
        click.echo(f"note: [{option.section}] {option.name} is accepted and has no effect yet", err=True)
    click.echo(f"{file}: good; {len(settings.given)} options given")


@command.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--given", is_flag=True, help="Only what FILE sets.")
@output_option
def show(file: Path | None, given: bool, output: str) -> None:
    """Show the values that hold with FILE, or all defaults without one."""
    from ncp.settings import effective, load, parse

    settings = load(file) if file else parse("", "(defaults)")
    rows = [
        {
            "section": item.option.section,
            "option": item.option.name,
            "value": item.text if output in ("table", "wide") else _plain(item.value),
            "from": "file" if item.given else "default",
            "status": item.option.status,
            "allowed": item.option.kind.allowed,
            "meaning": item.option.meaning,
        }
        for item in effective(settings)
        if item.given or not given
    ]
    emit(rows, COLUMNS, output, empty=f"{settings.source} sets no option")


@command.command()
def docs() -> None:
    """Print the reference of all options as Markdown (docs/configuration.md)."""
    from ncp.settings_docs import render_markdown

    click.echo(render_markdown(), nl=False)


def _plain(value: object) -> object:
    """A value as JSON has it: numbers and booleans stay, addresses and ranges become text."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    if type(value) is tuple:
        return [_plain(each) for each in value]
    return str(value)
