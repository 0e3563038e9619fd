"""What the kinds of ``ncp get`` have in common: names, options, how rows are chosen and shown."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ncp.cli.output import Column, emit, good_or_bad, output_option

if TYPE_CHECKING:
    pass

ALIASES = {
    "switches": "segments",
    "logical-switches": "segments",
    "segment": "segments",
    "pod": "pods",
    "router": "routers",
    "gateways": "gateway",
    "edges": "gateway",
    "port": "ports",
    "node": "nodes",
    "namespace": "namespaces",
    "ns": "namespaces",
    "block": "blocks",
    "pool": "pools",
    "flow": "flows",
    "policy": "policies",
    "networkpolicies": "policies",
    "netpol": "policies",
    "rule": "rules",
    "service": "services",
    "svc": "services",
    "virtual-servers": "services",
    "peers": "bgp",
    "route": "routes",
    "snat": "nat",
    "dnat": "nat",
    "translations": "nat",
}
STATE_STYLE = good_or_bad(
    "learned",
    "realised",
    "decided",
    "host network",
    "ended",
    "ok",
    "in step",
    "elsewhere",
    "working",
    "active",
    "standby",
)
YES = good_or_bad(True)
ALL_ERRORS = Column("errors", wide=True, fold=True)


class Kinds(click.Group):
    """Knows other names of the kinds."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """By name or alias."""
        return super().get_command(ctx, ALIASES.get(cmd_name, cmd_name))

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order they are written here."""
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, and say what was probably meant."""
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            close = difflib.get_close_matches(args[0], [*self.commands, *ALIASES], n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(self.commands)}"
            raise click.UsageError(f"no such kind {args[0]!r}; {hint}", ctx)
        return super().resolve_command(ctx, args)


@click.group("get", cls=Kinds)
def command() -> None:
    """Show what the network is, in the words of Kubernetes objects."""


STATE = click.option(
    "--state",
    type=click.Path(file_okay=False, path_type=Path),
    help="A lab's directory (default: NCP_LABSTATE_STYLE, else /var/lib/ncp-lab).",
)


def listing(namespaced: bool) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Options of what is read from the cluster; the command gets a World, a row filter and the output format."""

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @click.argument("names", nargs=-1, metavar="[NAME]...")
        @click.option("--kubeconfig", help="Default: KUBECONFIG, else the lab's, else this pod's service account.")
        @STATE
        @output_option
        @functools.wraps(function)
        def run(
            names: tuple[str, ...],
            kubeconfig: str | None,
            state: Path | None,
            output: str,
            namespace: str | None = None,
            all_namespaces: bool = False,
        ) -> None:
            from ncp.cli.world import look

            if namespace and all_namespaces:
                raise click.UsageError("-n and -A contradict each other; give one")

            def show(
                rows: list[dict[str, Any]],
                columns: tuple[Column, ...],
                for_people: Callable[[list[dict[str, Any]]], list[dict[str, Any]]] = list,
            ) -> None:
                kind = ALIASES.get(function.__name__, function.__name__)
                kept = [row for row in rows if not namespace or row["namespace"] == namespace]
                kept = _named(kept, names, kind)
                emit(for_people(kept) if output in ("table", "wide") else kept, columns, output, empty=f"no {kind}")

            function(look(kubeconfig, state), show)

        if namespaced:
            run = click.option("-n", "--namespace", help="Only this namespace (default: all).")(run)
            run = click.option("-A", "--all-namespaces", is_flag=True, help="All namespaces; the default.")(run)
        return run

    return decorate


def _named(rows: list[dict[str, Any]], names: tuple[str, ...], kind: str) -> list[dict[str, Any]]:
    """Rows of the given names (NAME or NAMESPACE/NAME), or all."""
    if not names:
        return rows
    kept = {name: [row for row in rows if name in _names_of(row)] for name in names}
    missing = [name for name, found in kept.items() if not found]
    if missing:
        raise click.ClickException(f"no {kind} named {', '.join(missing)}")
    return [row for row in rows if any(row in found for found in kept.values())]


def _names_of(row: dict[str, Any]) -> set[str]:
    name = str(row.get("name") or row.get("block"))
    return {name, name.rpartition("/")[2], f"{row['namespace']}/{name}"} if row.get("namespace") else {name}
