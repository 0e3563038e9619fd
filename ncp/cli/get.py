"""``ncp get``: what the network is, in the words of Kubernetes objects."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ncp.cli.listing import ALL_ERRORS, STATE_STYLE, YES, command, listing
from ncp.cli.output import Column
from ncp.cli.routing import bgp, routes
from ncp.cli.told import drift, firewall_log, flows, nat, rules

if TYPE_CHECKING:
    from ncp.cli.world import World


@command.command("pods")
@listing(namespaced=True)
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
        Column("state", style=STATE_STYLE),
        ALL_ERRORS,
    )
    show(rows.pods(world), columns)


@command.command("segments")
@listing(namespaced=True)
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
@listing(namespaced=False)
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
@listing(namespaced=True)
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
        Column("state", style=STATE_STYLE),
    )
    show(rows.ports(world), columns)


@command.command("nodes")
@listing(namespaced=False)
def nodes(world: World, show: Callable[..., None]) -> None:
    """Transport nodes: tunnel endpoints, agents."""
    from ncp.cli import rows

    columns = (
        Column("name"),
        Column("ready", style=YES),
        Column("tep", "TEP"),
        Column("addresses"),
        Column("mac", wide=True),
        Column("ports", right=True),
        Column("flows", right=True),
        Column("agent", style=STATE_STYLE),
        Column("ovs", wide=True),
        ALL_ERRORS,
    )
    show(rows.nodes(world), columns)


@command.command("namespaces")
@listing(namespaced=False)
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
@listing(namespaced=False)
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


@command.command("pools")
@listing(namespaced=False)
def pools(world: World, show: Callable[..., None]) -> None:
    """Pools of addresses outside and of load balancers: who has which."""
    from ncp.cli import pools as view

    columns = (
        Column("name"),
        Column("use"),
        Column("family", right=True),
        Column("ranges", fold=True),
        Column("size", right=True),
        Column("held", right=True),
        Column("free", right=True),
        Column("namespaces", wide=True, fold=True),
        Column("held_by", wide=True, fold=True),
    )
    show(view.pools(world), columns, view.table)


@command.command("problems")
@listing(namespaced=True)
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


@command.command("services")
@listing(namespaced=True)
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
        Column("sources", wide=True, fold=True),
        Column("out_of_range", "DROPPED", right=True, wide=True),
        Column("each", "MEMBER", wide=True, fold=True),
        ALL_ERRORS,
    )
    show(view.services(world), columns, view.table)


def _some_ready(value: object) -> str:
    return "red" if str(value).startswith("0/") else "green"


@command.command("gateway")
@listing(namespaced=False)
def gateway(world: World, show: Callable[..., None]) -> None:
    """Tier-0's edges: which is active, since when and why."""
    from ncp.cli import gateway as view

    columns = (
        Column("router"),
        Column("name", "EDGE"),
        Column("role", style=STATE_STYLE),
        Column("priority", right=True),
        Column("bfd", "BFD", fold=True),
        Column("uplinks", fold=True),
        Column("since"),
        Column("failovers", right=True, wide=True),
        Column("why", fold=True),
    )
    show(view.gateway(world), columns, view.for_people)


@command.command("policies")
@listing(namespaced=True)
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


for each in (flows, drift, rules, nat, firewall_log, bgp, routes):
    command.add_command(each)
