"""Rows of ``ncp get gateway``: tier-0's edges, which is active, how the others find each. Pure."""

from __future__ import annotations

from typing import Any

import orjson

from ncp.cli.world import World
from ncp.node.edges import READY, WHY, edge_of
from ncp.translate.objects import annotation, is_edge
from ncp.translate.uplinks import UPLINKS

Row = dict[str, Any]


def gateway(world: World) -> list[Row]:
    """Every edge, the active one first. Without edges, the node that the settings name."""
    exit_node = world.translation.intent.tier0.exit_node
    lease: Row = next(iter(world.objects["Lease"]), {})
    nodes = [node for node in world.nodes if is_edge(node)] or [
        node for node in world.nodes if node["metadata"]["name"] == exit_node
    ]
    return sorted((_row(world, node, lease) for node in nodes), key=lambda row: (row["role"] != "active", row["name"]))


def for_people(rows: list[Row]) -> list[Row]:
    """The same, with what is nested as text."""
    return [row | {"bfd": [f"{name} {state}" for name, state in row["bfd"].items()]} for row in rows]


def _row(world: World, node: Row, lease: Row) -> Row:
    name, edge = node["metadata"]["name"], edge_of(node)
    active = name == world.translation.intent.tier0.exit_node
    spec = (lease.get("spec") or {}) if active and is_edge(node) else {}
    said = annotation(node, READY) or ""
    return {
        "router": "tier-0",
        "name": name,
        "role": "active" if active else "standby" if edge and edge.ready else "not ready",
        "edge": is_edge(node),
        "priority": edge.priority if edge else 0,
        "bfd": {
            other: agent["edge"]["bfd"][name]
            for other, agent in sorted(world.agents.items())
            if name in agent.get("edge", {}).get("bfd", {})
        },
        "uplinks": _uplinks(node),
        "since": spec.get("acquireTime"),
        "failovers": spec.get("leaseTransitions"),
        "why": annotation(lease, WHY) if spec else said.removeprefix("no: ") if said.startswith("no: ") else None,
    }


def _uplinks(node: Row) -> list[str]:
    """In words: name, bridge, VLAN where there is one, addresses."""
    text = annotation(node, UPLINKS)
    try:
        return [
            f"{each['name']} on {each['bridge']}"
            + (f" VLAN {each['vlan']}" if each.get("vlan") else "")
            + f": {', '.join(each['addresses'])}"
            for each in orjson.loads(text or "[]")
        ]
    except (ValueError, KeyError, TypeError, AttributeError):
        return [f"malformed: {text}"]
