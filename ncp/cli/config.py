"""``ncp config``: check, show and document ``ncp.ini``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ncp.cli.output import Column, emit, output_option

FILE = click.argument("file", type=click.Path(path_type=Path))
COLUMNS = (
    Column("section"),
    Column("option"),
    Column("value", fold=True),
    Column("from", style=lambda where: "dim" if where == "default" else "bold"),
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
@click.option("--given", is_flag=True, help="Only what is set: by FILE, and by the NCPSetting with --live.")
@click.option("--live", is_flag=True, help="With what the cluster's NCPSetting overrides; FILE: default the lab's.")
@click.option("--kubeconfig", help="With --live. Default: KUBECONFIG, else the lab's, else this pod's service account.")
@click.option(
    "--state",
    type=click.Path(file_okay=False, path_type=Path),
    help="With --live. A lab's directory (default: NCP_LAB_STATE, else /var/lib/ncp-lab).",
)
@output_option
def show(file: Path | None, given: bool, live: bool, kubeconfig: str | None, state: Path | None, output: str) -> None:
    """Show the values that hold with FILE, or all defaults without one."""
    from ncp.settings import effective, load, parse

    if live:
        from ncp.cli.world import configuration

        settings = load(file) if file else configuration(state)
        overrides = _overrides(settings, kubeconfig, state)
    elif kubeconfig or state:
        raise click.UsageError("--kubeconfig and --state say where the cluster is; give them with --live")
    else:
        settings, overrides = load(file) if file else parse("", "(defaults)"), {}
    rows = [
        {
            "section": option.section,
            "option": option.name,
            "value": option.kind.show(value) if output in ("table", "wide") else _plain(value),
            "from": "NCPSetting" if option.runtime and option.name in overrides else "file" if is_given else "default",
            "status": option.status,
            "allowed": option.kind.allowed,
            "meaning": option.meaning,
        }
        for option, held, is_given in effective(settings)
        for value in (overrides.get(option.name, held) if option.runtime else held,)
        if is_given or not given or (option.runtime and option.name in overrides)
    ]
    emit(rows, COLUMNS, output, empty=f"{settings.source} sets no option")


def _overrides(settings: Any, kubeconfig: str | None, state: Path | None) -> dict[str, Any]:
    """What the leading manager says to hold instead of the file's values, where the file lets it."""
    from ncp.cli import nodeapi
    from ncp.kube.client import Kube, NotFound
    from ncp.manager.runtime import NAME, NCP_SETTINGS, applied

    if not settings.k8s.enable_ncp_setting_crd:
        return {}
    try:
        return applied(Kube.connect(nodeapi.kubeconfig(kubeconfig, state)).get(NCP_SETTINGS, NAME))
    except NotFound:
        return {}


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
