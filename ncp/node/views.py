"""What the agent's API shows, as plain JSON values."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ncp.node.audit import foreign_match, key_of
from ncp.node.bgp import view_of
from ncp.node.natstats import TABLES, translations
from ncp.node.rulestats import rule_statistics
from ncp.node.servicestats import range_statistics, service_statistics
from sdn.compile.nat import lets_out
from sdn.model import Origin
from sdn.openflow.pack import Encoded
from sdn.pipeline.render import actions_text, match_text
from sdn.pipeline.tables import PIPELINE, T, is_learned

if TYPE_CHECKING:
    from ncp.node.agent import NodeAgent


def paths(agent: NodeAgent) -> dict[str, Callable[[], Any]]:
    """The views by path."""
    return {
        "/v1/status": lambda: status(agent),
        "/v1/flows": lambda: flows(agent),
        "/v1/rules": lambda: rules(agent),
        "/v1/services": lambda: services(agent),
        "/v1/bgp": lambda: view_of(agent.edge.state, agent.place.node),
        "/v1/routes": lambda: routes(agent),
        "/v1/nat": lambda: nat(agent),
        "/v1/firewall-log": lambda: {"node": agent.place.node, "lines": agent.firewall_log.lines()},
    }


def status(agent: NodeAgent) -> dict[str, Any]:
    """Connections, ports, problems and drift."""
    loop = agent.loop
    ports = [
        {
            "name": each.iface_id,
            "ofport": each.ofport,
            "interface": each.interface,
            "netns": each.netns.rsplit("/", 1)[-1],
            "mac": each.mac,
            "state": "realised" if loop.realised(each.iface_id, each.ofport) else each.error or "waiting",
        }
        for each in agent.ovsdb.attachments().values()
    ]
    return {
        "node": agent.place.node,
        "cluster": agent.cluster,
        "connected": agent.switch.connected and agent.ovsdb.connected,
        "in_step": loop.is_in_step,
        "given": loop.given,
        "settled": loop.settled,
        "ready": loop.ready.is_set(),
        "checks": {name: check() for name, check in agent.checks().items()},
        "ovs_version": agent.ovsdb.ovs_version,
        "ovs_rundir": str(agent.place.rundir),
        "flows": len(loop.program),
        "last_audit": loop.last_audit,
        "ports": sorted(ports, key=lambda port: str(port["name"])),
        "problems": [{"origin": _origin(p.origin), "reason": p.reason, "message": p.message} for p in agent.problems()],
        "uplinks": uplinks(agent),
        "edge": agent.edge_status(),
        "drift": [each._asdict() for each in loop.drift],
    }


def uplinks(agent: NodeAgent) -> list[dict[str, Any]]:
    """The node's uplinks, and which of them lead outside."""
    up = agent.uplinks.up()
    return [
        {
            "name": each.name,
            "bridge": each.bridge,
            "vlan": each.vlan,
            "addresses": [str(address) for address in each.addresses],
            "up": each.name in up,
        }
        for each in agent.uplinks.wanted
    ]


def flows(agent: NodeAgent) -> dict[str, Any]:
    """Every flow that should be on the switch or is, with origin and counters."""
    program = agent.loop.program
    rows = []
    seen = set()
    for installed in agent.switch.flows():
        key = key_of(installed)
        seen.add(key)
        entry = program.get(key)
        if entry is None:
            rows.append(_unprogrammed(installed, "learned" if is_learned(installed.table) else "foreign"))
        else:
            state = "ok" if entry.cookie == installed.cookie else "altered"
            rows.append(_row(entry, state, installed.packets, installed.octets))
    rows += [_row(entry, "missing", 0, 0) for entry in program.entries() if entry.key not in seen]
    return {"node": agent.place.node, "flows": rows}


def rules(agent: NodeAgent) -> dict[str, Any]:
    """Every rule of the firewall that has flows here, with what it did."""
    return {"node": agent.place.node, "rules": rule_statistics(agent.loop.program, agent.switch.flows())}


def services(agent: NodeAgent) -> dict[str, Any]:
    """Every member of a virtual server that connections from here go to, and how many did; and what came from out of range."""
    members = service_statistics(agent.loop.program, agent.switch.flows(table=T["members"]))
    turned_away = range_statistics(agent.loop.program, agent.switch.flows(table=T["services"]))
    return {"node": agent.place.node, "members": members, "out_of_range": turned_away}


def routes(agent: NodeAgent) -> dict[str, Any]:
    """Every route of the node's main table: on an edge those of tier-0."""
    found = [
        {
            "family": each.prefix.family,
            "prefix": str(each.prefix),
            "origin": each.origin,
            "metric": each.metric,
            "next_hops": [hop._asdict() for hop in each.next_hops],
        }
        for each in agent.edge.routes()
    ]
    return {"node": agent.place.node, "edge": agent.edge.is_edge, "routes": found}


def nat(agent: NodeAgent) -> dict[str, Any]:
    """Every translation of addresses outside that this node may do, and what came of it; whether it is the one that lets out."""
    loop, node = agent.loop, agent.place.node
    intent = loop.translation.intent
    here = intent.nodes.get(node)
    installed = [flow for table in sorted(TABLES) for flow in agent.switch.flows(table=table)]
    return {
        "node": node,
        "active": node == intent.tier0.exit_node,
        "lets_out": here is not None and lets_out(intent, here),
        "translations": translations(loop.program, intent, installed),
    }


def _row(entry: Encoded, state: str, packets: int, size: int) -> dict[str, Any]:
    flow = entry.flow
    return {
        "table": flow.table,
        "table_name": PIPELINE.tables[flow.table].name,
        "priority": flow.priority,
        "match": match_text(PIPELINE, flow),
        "actions": actions_text(PIPELINE, flow),
        "cookie": f"{entry.cookie:#018x}",
        "origin": _origin(flow.origin),
        "packets": packets,
        "bytes": size,
        "state": state,
    }


def _unprogrammed(installed: Any, state: str) -> dict[str, Any]:
    table = installed.table
    name = PIPELINE.tables[table].name if table < len(PIPELINE.tables) else str(table)
    return {
        "table": table,
        "table_name": name,
        "priority": installed.priority,
        "match": foreign_match(installed.match),
        "actions": "",
        "cookie": f"{installed.cookie:#018x}",
        "origin": _origin(Origin("Fabric", "", name) if state == "learned" else Origin("", "", "unknown")),
        "packets": installed.packets,
        "bytes": installed.octets,
        "state": state,
    }


def _origin(origin: Origin) -> dict[str, str]:
    return origin._asdict()
