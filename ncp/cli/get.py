"""``ncp get``: what the network is, in the words of Kubernetes objects."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ncp.cli.output import Column, emit, good_or_bad, output_option

if TYPE_CHECKING:
    from ncp.cli.world import World

ALIASES = {
    "switches": "segments",
    "logical-switches": "segments",
    "segment": "segments",
    "pod": "pods",
    "router": "routers",
    "port": "ports",
    "node": "nodes",
    "namespace": "namespaces",
    "ns": "namespaces",
    "block": "blocks",
    "flow": "flows",
    "policy": "policies",
    "networkpolicies": "policies",
    "netpol": "policies",
    "rule": "rules",
    "service": "services",
    "svc": "services",
    "virtual-servers": "services",
}
_STATE = good_or_bad("learned", "realised", "decided", "host network", "ended", "ok", "in step", "elsewhere", "working")
_YES = good_or_bad(True)
_FULL = Column("errors", wide=True, fold=True)


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
    help="A lab's directory (default: NCP_LAB_STATE, else /var/lib/ncp-lab).",
)


def _listing(namespaced: bool) -> Callable[[Callable[..., None]], Callable[..., None]]:
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


@command.command("pods")
@_listing(namespaced=True)
def pods(world: World, show: Callable[..., None]) -> None:
    """Pods: where they are attached, how far that is."""
    from ncp.cli import rows

    columns = (
        Column("namespace"),
        Column("name"),
        Column("segment"),
        Column("addresses"),
        Column("node"),
        Column("phase", wide=True),
        Column("vni", right=True, wide=True),
        Column("mac"),
        Column("state", style=_STATE),
        _FULL,
    )
    show(rows.pods(world), columns)


@command.command("segments")
@_listing(namespaced=True)
def segments(world: World, show: Callable[..., None]) -> None:
    """Logical switches (or: switches)."""
    from ncp.cli import rows

    columns = (
        Column("name"),
        Column("vni", right=True),
        Column("router"),
        Column("gateways"),
        Column("snat"),
        Column("ports", right=True),
    )
    show(rows.segments(world), columns)


@command.command("routers")
@_listing(namespaced=False)
def routers(world: World, show: Callable[..., None]) -> None:
    """Tier-0 and tier-1 routers with their segments."""
    from ncp.cli import rows

    columns = (
        Column("name"),
        Column("tier", right=True),
        Column("number", right=True),
        Column("uplink"),
        Column("segments", fold=True),
        Column("interfaces", fold=True),
    )
    show(rows.routers(world), columns)


@command.command("ports")
@_listing(namespaced=True)
def ports(world: World, show: Callable[..., None]) -> None:
    """Logical ports and their interfaces on nodes."""
    from ncp.cli import rows

    columns = (
        Column("name"),
        Column("segment"),
        Column("vni", right=True, wide=True),
        Column("addresses"),
        Column("mac"),
        Column("node"),
        Column("ofport", right=True),
        Column("interface", wide=True),
        Column("state", style=_STATE),
    )
    show(rows.ports(world), columns)


@command.command("nodes")
@_listing(namespaced=False)
def nodes(world: World, show: Callable[..., None]) -> None:
    """Transport nodes: tunnel endpoints, agents."""
    from ncp.cli import rows

    columns = (
        Column("name"),
        Column("ready", style=_YES),
        Column("tep", "TEP"),
        Column("addresses"),
        Column("mac", wide=True),
        Column("ports", right=True),
        Column("flows", right=True),
        Column("agent", style=_STATE),
        Column("ovs", wide=True),
        _FULL,
    )
    show(rows.nodes(world), columns)


@command.command("namespaces")
@_listing(namespaced=False)
def namespaces(world: World, show: Callable[..., None]) -> None:
    """Namespaces: their segments and subnets."""
    from ncp.cli import rows

    columns = (
        Column("name"),
        Column("segments", fold=True),
        Column("subnets", fold=True),
        Column("router", wide=True),
        Column("snat"),
        Column("ports", right=True),
        Column("resting", right=True),
        Column("errors", fold=True),
    )
    show(rows.namespaces(world), columns)


@command.command("blocks")
@_listing(namespaced=False)
def blocks(world: World, show: Callable[..., None]) -> None:
    """IP blocks, and how far they are used up."""
    from ncp.cli import rows

    columns = (
        Column("block"),
        Column("use"),
        Column("subnet_length", right=True),
        Column("subnets", right=True),
        Column("used", right=True),
        Column("free", right=True),
    )
    show(rows.blocks(world), columns)


@command.command("problems")
@_listing(namespaced=True)
def problems(world: World, show: Callable[..., None]) -> None:
    """What could not be done, and why."""
    from ncp.cli import rows

    columns = (
        Column("kind"),
        Column("namespace"),
        Column("name"),
        Column("reason", style=lambda _: "red"),
        Column("message", fold=True),
        Column("by"),
    )
    show(rows.problems(world), columns)


@command.command("flows")
@click.option("--node", default="", help="Only this node's.")
@click.option("--origin", metavar="KIND[/NAMESPACE]/NAME", help="Only flows this object asked for.")
@click.option("--pod", metavar="NAMESPACE/NAME", help="The same as --origin Pod/NAMESPACE/NAME.")
@click.option("--table", metavar="NAME|NUMBER", help="Only this table's.")
@click.option("--ill", is_flag=True, help="Only flows that are missing, altered or foreign.")
@STATE
@output_option
def flows(
    node: str, origin: str | None, pod: str | None, table: str | None, ill: bool, state: Path | None, output: str
) -> None:
    """Flows of switches, who asked for each, counters."""
    from ncp.cli import flows as view

    if origin and pod:
        raise click.UsageError("--origin and --pod contradict each other; give one")
    if pod is not None and pod.count("/") != 1:
        raise click.BadParameter(f"{pod!r} is not NAMESPACE/NAME", param_hint="--pod")
    wanted = view.Wanted(view.parse_origin(f"Pod/{pod}" if pod else origin or ""), table or "", ill)
    found = view.collect(state, node, wanted)
    columns = (
        Column("node"),
        Column("table_name", "TABLE"),
        Column("priority", right=True),
        Column("match", fold=True),
        Column("actions", fold=True),
        Column("who", "ORIGIN", fold=True),
        Column("packets", right=True),
        Column("bytes", right=True, wide=True),
        Column("cookie", wide=True),
        Column("state", style=_STATE),
    )
    if output in ("table", "wide"):
        found = [row | {"who": view.origin_text(row["origin"])} for row in found]
    emit(found, columns, output, empty="no such flows")


@command.command("drift")
@click.option("--node", default="", help="Only this node's.")
@STATE
@output_option
def drift(node: str, state: Path | None, output: str) -> None:
    """Where switches were not as programmed.

    Flows that were missing, altered or foreign when the switches were last compared with their programs.
    """
    from ncp.cli import nodeapi

    found = [
        {"node": answer["node"], **each}
        for answer in nodeapi.ask("/v1/status", state, node)
        for each in answer["drift"]
    ]
    if output in ("table", "wide"):
        found = [row | {"at": _clock(row.get("at"))} for row in found]
    columns = (
        Column("at", "WHEN"),
        Column("node"),
        Column("kind", style=lambda _: "red"),
        Column("table"),
        Column("flow", fold=True),
        Column("origin", fold=True),
    )
    emit(found, columns, output, empty="no drift: every switch held what it should")


@command.command("services")
@_listing(namespaced=True)
def services(world: World, show: Callable[..., None]) -> None:
    """Virtual servers: members, health, connections."""
    from ncp.cli import services as view

    columns = (
        Column("namespace"),
        Column("name"),
        Column("type"),
        Column("addresses", fold=True),
        Column("ports", fold=True),
        Column("members", right=True, style=_some_ready),
        Column("connections", right=True),
        Column("affinity", right=True, wide=True),
        Column("local", wide=True),
        Column("each", "MEMBER", wide=True, fold=True),
        _FULL,
    )
    show(view.services(world), columns, view.table)


def _some_ready(value: object) -> str:
    return "red" if str(value).startswith("0/") else "green"


@command.command("policies")
@_listing(namespaced=True)
def policies(world: World, show: Callable[..., None]) -> None:
    """Policies of every tier, in the order they are asked."""
    from ncp.cli import policies as view

    columns = (
        Column("kind"),
        Column("namespace"),
        Column("name"),
        Column("tier"),
        Column("priority", right=True),
        Column("pods", right=True),
        Column("isolates"),
        Column("rules"),
        Column("established", wide=True),
        Column("realised", style=_realised),
        Column("errors", fold=True),
    )
    show(view.policies(world), columns)


def _realised(value: object) -> str:
    return "green" if str(value).startswith(("Realized", "-")) else "red"


@command.command("rules")
@click.option("--policy", default="", metavar="[NAMESPACE/]NAME", help="Only this policy's.")
@click.option("--node", default="", help="Only this node's counters (default: the sum over nodes).")
@STATE
@output_option
def rules(policy: str, node: str, state: Path | None, output: str) -> None:
    """Rules of the firewall: hits, connections, packets."""
    from ncp.cli import policies as view

    columns = (
        Column("kind"),
        Column("namespace"),
        Column("name"),
        Column("rule", fold=True),
        Column("action", style=good_or_bad("allow", "pass")),
        Column("hits", right=True),
        Column("sessions", right=True),
        Column("packets", right=True),
        Column("bytes", right=True),
        Column("nodes", wide=True, fold=True),
    )
    emit(view.rules(state, node, policy), columns, output, empty="no rules: no policy is about a pod here")


@command.command("firewall-log")
@click.option("--node", default="", help="Only this node's.")
@STATE
@output_option
def firewall_log(node: str, state: Path | None, output: str) -> None:
    """What the firewall logged last.

    Rules are logged where [nsx_v3] log_dropped_traffic or log_firewall_traffic asks for it.
    """
    from ncp.cli import policies as view

    found = view.firewall_log(state, node)
    if output in ("table", "wide"):
        found = [row | {"at": _clock(row.get("at"))} for row in found]
    columns = (
        Column("at", "WHEN"),
        Column("node"),
        Column("action", style=good_or_bad("allow")),
        Column("direction"),
        Column("port"),
        Column("packet"),
        Column("policy", fold=True),
        Column("rule", fold=True),
    )
    emit(found, columns, output, empty="nothing was logged")


def _clock(seconds: object) -> str:
    if not isinstance(seconds, int | float):
        return ""
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S")
