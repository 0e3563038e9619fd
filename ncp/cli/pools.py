"""Rows of ``ncp get pools``: what the objects show of the pools that the settings name. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from ipam.address import Address
from ncp.cli.world import World
from sdn.model import Intent, Origin

Row = dict[str, Any]


def pools(world: World) -> list[Row]:
    """Every pool and family: how many addresses it has, and who has them.

    Addresses that rest count as free: only the manager knows which do (its metrics say how many).
    """
    nsx = world.settings.nsx_v3
    access = {each.pool: each.namespaces for each in world.settings.ncp.snat_pool_namespaces}
    intent = world.translation.intent
    held = {"translation": dict(_translated(intent)), "load balancing": dict(_virtual(intent))}
    found = []
    for use, option in (("translation", nsx.external_ip_pools), ("load balancing", nsx.external_ip_pools_lb)):
        for pool in option:
            for family in sorted({span.family for span in pool.ranges}):
                spans = [span for span in pool.ranges if span.family == family]
                here = {
                    str(address): who
                    for address, who in sorted(held[use].items())
                    if any(span.covers(address) for span in spans)
                }
                size = sum(span.size for span in spans)
                found.append(
                    {
                        "name": pool.name,
                        "use": use,
                        "family": family,
                        "ranges": [str(span) for span in spans],
                        "size": size,
                        "held": len(here),
                        "free": size - len(here),
                        "namespaces": list(access.get(pool.name, ())) if use == "translation" else [],
                        "held_by": here,
                    }
                )
    return found


def table(rows: Iterable[Row]) -> list[Row]:
    """The same for people."""
    return [
        row
        | {
            "namespaces": row["namespaces"] or "all",
            "held_by": [f"{address} {who}" for address, who in row["held_by"].items()],
        }
        for row in rows
    ]


def _translated(intent: Intent) -> Iterator[tuple[Address, str]]:
    for switch in intent.switches.values():
        yield from ((address, _named(switch.origin)) for address in switch.translated)
    for server in intent.services.values():
        yield from ((address, _named(server.origin)) for address in server.translated)
    for binding in intent.bindings.values():
        yield from ((address, _named(binding.origin)) for address in binding.external)


def _virtual(intent: Intent) -> Iterator[tuple[Address, str]]:
    for server in intent.services.values():
        yield from ((address, _named(server.origin)) for address in server.balancers)


def _named(origin: Origin) -> str:
    return str(origin.about(""))
