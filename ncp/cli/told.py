"""``ncp get flows``, ``drift``, ``rules``, ``nat`` and ``firewall-log``: what switches and agents tell."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import click

from ncp.cli.listing import STATE, STATE_STYLE
from ncp.cli.output import Column, emit, good_or_bad, output_option


@click.command("flows")
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
        Column("state", style=STATE_STYLE),
    )
    if output in ("table", "wide"):
        found = [row | {"who": view.origin_text(row["origin"])} for row in found]
    emit(found, columns, output, empty="no such flows")


@click.command("drift")
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


@click.command("rules")
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


@click.command("nat")
@click.option("--node", default="", help="Only this node's.")
@click.option("-n", "--namespace", default="", help="Only this namespace's.")
@STATE
@output_option
def nat(node: str, namespace: str, state: Path | None, output: str) -> None:
    """Translations of addresses outside: hits, drops."""
    from ncp.cli import nat as view
    from ncp.cli.flows import origin_text

    found = view.nat(state, node, namespace)
    if output in ("table", "wide"):
        found = [row | {"whom": origin_text(row["origin"])} for row in found]
    columns = (
        Column("node"),
        Column("active", style=good_or_bad(True)),
        Column("kind"),
        Column("whom", fold=True),
        Column("inside"),
        Column("outside", style=lambda value: "" if value else "red"),
        Column("hits", right=True),
        Column("sctp", "SCTP PACKETS", right=True, wide=True),
        Column("no_port", right=True, style=_some),
        Column("no_address", right=True, style=_some),
    )
    emit(found, columns, output, empty="no translations: nobody here is somebody else outside")


def _some(packets: object) -> str:
    return "red" if packets else ""


@click.command("firewall-log")
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
