"""``ncp get bgp`` and ``ncp get routes``: how edge nodes route with the physical network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from ncp.cli.listing import STATE
from ncp.cli.output import Column, emit, good_or_bad, output_option

Row = dict[str, Any]


@click.command("bgp")
@click.option("--node", default="", help="Only this node's.")
@STATE
@output_option
def bgp(node: str, state: Path | None, output: str) -> None:
    """Routers that edge nodes peer with, and why if not.

    In JSON, a node at a time, with the networks that are announced and learned.
    """
    from ncp.cli import nodeapi

    found = [answer for answer in nodeapi.ask("/v1/bgp", state, node) if answer["as"] is not None or answer["error"]]
    columns = (
        Column("node"),
        Column("as", "AS", right=True),
        Column("peer"),
        Column("peer_as", "PEER AS", right=True),
        Column("state", style=good_or_bad("Established")),
        Column("bfd", "BFD", style=good_or_bad("up", "")),
        Column("since"),
        Column("received", right=True),
        Column("sent", right=True),
        Column("announced", wide=True, fold=True),
        Column("reason", fold=True),
    )
    shown = [row for answer in found for row in peers(answer)] if output in ("table", "wide") else found
    emit(shown, columns, output, empty="no BGP: [bgp] local_as is not set, or no edge node is on this host")


@click.command("routes")
@click.option("--node", default="", help="Only this node's, edge or not.")
@click.option("--origin", type=click.Choice(["connected", "overlay", "static", "bgp", "machine"]), help="Only these.")
@STATE
@output_option
def routes(node: str, origin: str | None, state: Path | None, output: str) -> None:
    """Routes of tier-0, on each edge node.

    Where they come from: connected, overlay (into the pods' network), static (StaticRoute), bgp, machine (the node's own).
    """
    from ncp.cli import nodeapi

    answers = [answer for answer in nodeapi.ask("/v1/routes", state, node) if answer["edge"] or node]
    found = [
        {"node": answer["node"], **each}
        for answer in answers
        for each in answer["routes"]
        if origin in (None, each["origin"])
    ]
    columns = (
        Column("node"),
        Column("family", right=True),
        Column("prefix"),
        Column("origin"),
        Column("metric", right=True),
        Column("next_hops", "NEXT HOPS", fold=True),
    )
    if output in ("table", "wide"):
        found = [row | {"next_hops": ", ".join(map(_hop, row["next_hops"]))} for row in found]
    none = "no such routes" if answers else "no edge node on this host: label one ncp/edge=true, or set [ncp] exit_node"
    emit(found, columns, output, empty=none)


def peers(answer: Row) -> Iterator[Row]:
    """A row for each peer of a node; one for the node where it has none."""
    node = {"node": answer["node"], "as": answer["as"], "announced": ", ".join(answer["announced"])}
    for each in answer["peers"] or [None]:
        if each is None:
            yield node | {"reason": answer["error"] or "no peer is on a link of the node"}
            continue
        yield node | {
            "peer": each["address"],
            "peer_as": each["as"],
            "state": each["state"],
            "bfd": each["bfd"],
            "since": _span(each["seconds"]) if each["state"] == "Established" else "",
            "received": each["received"],
            "sent": each["sent"],
            "reason": each["reason"],
        }


def _hop(hop: Row) -> str:
    return f"{hop['address']} dev {hop['device']}" if hop["address"] else f"dev {hop['device']}"


def _span(seconds: int) -> str:
    minutes, hours = seconds // 60, seconds // 3600
    return (
        f"{seconds}s"
        if minutes < 2
        else f"{minutes}m"
        if hours < 2
        else f"{hours}h"
        if hours < 48
        else f"{hours // 24}d"
    )
