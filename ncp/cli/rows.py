"""Rows of `ncp get`, from one look at a cluster. Pure: dictionaries of plain values, ready for JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import orjson

from ipam.address import WIDTH, Prefix
from ncp.cli.world import World
from ncp.manager.routers import numbered, router_record
from ncp.translate.objects import TERMINAL, annotation, format_mac
from sdn.model import LogicalSwitch

Row = dict[str, Any]
ERROR = "ncp/error."


def pods(world: World) -> list[Row]:
    """Every pod: where it is attached, and how far that has come."""
    found = []
    for pod in world.pods:
        meta, spec, status = pod["metadata"], pod.get("spec") or {}, pod.get("status") or {}
        name = f"{meta['namespace']}/{meta['name']}"
        port = world.translation.intent.ports.get(name)
        found.append(
            {
                "namespace": meta["namespace"],
                "name": meta["name"],
                "segment": _segment_name(world, port.vni) if port else None,
                "vni": port.vni if port else None,
                "addresses": [str(each) for each in port.addresses] if port else [],
                "mac": format_mac(port.mac) if port else None,
                "node": spec.get("nodeName"),
                "phase": status.get("phase"),
                "state": _pod_state(world, pod, name),
                "errors": errors_of(pod),
            }
        )
    return _sorted(found)


def segments(world: World) -> list[Row]:
    """Every logical switch, the transit segment first."""
    intent = world.translation.intent
    used = Counter(port.vni for port in intent.ports.values())
    transit = {
        "name": "transit",
        "namespace": None,
        "vni": intent.tier0.transit_vni,
        "router": "tier-0",
        "gateways": [str(each) for each in intent.tier0.gateways],
        "snat": None,
        "domain": None,
        "ports": len(intent.nodes),
    }
    return [transit] + [
        {
            "name": switch.name,
            "namespace": switch.origin.name,
            "vni": switch.vni,
            "router": _router_name(world, switch),
            "gateways": [str(each) for each in switch.gateways],
            "snat": switch.snat,
            "domain": _domain_name(world, switch),
            "ports": used[switch.vni],
        }
        for _, switch in sorted(intent.switches.items())
    ]


def routers(world: World) -> list[Row]:
    """Tier-0, then every tier-1 router with what hangs off it."""
    intent = world.translation.intent
    tier0 = {
        "name": "tier-0",
        "tier": 0,
        "number": None,
        "segments": ["transit"],
        "interfaces": [str(each) for each in intent.tier0.gateways],
        "uplink": intent.tier0.exit_node or None,
        "namespaces": [],
        "made_by": "us",
    }
    theirs = _made_by_people(world)
    below: dict[int, list[LogicalSwitch]] = {number: [] for number in theirs}
    for _, switch in sorted(intent.switches.items()):
        below.setdefault(switch.router, []).append(switch)
    return [tier0] + [
        {
            "name": theirs.get(number) or _router_name(world, attached[0]),
            "tier": 1,
            "number": number,
            "segments": [switch.name for switch in attached],
            "interfaces": [str(gateway) for switch in attached for gateway in switch.gateways],
            "uplink": "tier-0",
            "namespaces": list(dict.fromkeys(switch.origin.name for switch in attached)),
            "made_by": "people" if number in theirs else "us",
        }
        for number, attached in sorted(below.items())
    ]


def ports(world: World) -> list[Row]:
    """Every logical port, with where a node attached it."""
    attached = {port["name"]: (node, port) for node, agent in world.agents.items() for port in agent["ports"]}
    found = []
    for name, port in world.translation.intent.ports.items():
        node, where = attached.get(name, (port.node, {}))
        found.append(
            {
                "namespace": name.partition("/")[0],
                "name": name,
                "segment": _segment_name(world, port.vni),
                "vni": port.vni,
                "mac": format_mac(port.mac),
                "addresses": [str(each) for each in port.addresses],
                "node": node or None,
                "ofport": where.get("ofport"),
                "interface": where.get("interface"),
                "state": _attachment(world, name, port.node),
            }
        )
    return sorted(found, key=lambda row: str(row["name"]))


def nodes(world: World) -> list[Row]:
    """Every node: tunnel endpoint, addresses, and what its agent says."""
    held = Counter(port.node for port in world.translation.intent.ports.values())
    found = []
    for node in world.nodes:
        name = node["metadata"]["name"]
        fabric = world.translation.intent.nodes.get(name)
        agent = world.agents.get(name)
        conditions = (node.get("status") or {}).get("conditions") or ()
        found.append(
            {
                "name": name,
                "ready": any(each.get("type") == "Ready" and each.get("status") == "True" for each in conditions),
                "tep": str(fabric.tep) if fabric else None,
                "addresses": [str(each) for each in fabric.addresses] if fabric else [],
                "mac": format_mac(fabric.mac) if fabric else None,
                "ports": held[name],
                "flows": agent.get("flows") if agent else None,
                "agent": _agent_state(world, name),
                "ovs": agent.get("ovs_version") if agent else None,
                "errors": errors_of(node),
            }
        )
    return sorted(found, key=lambda row: str(row["name"]))


def namespaces(world: World) -> list[Row]:
    """Every namespace: its segments, subnets and addresses."""
    used = Counter(name.partition("/")[0] for name in world.translation.intent.ports)
    found = []
    for namespace in world.namespaces:
        name = namespace["metadata"]["name"]
        own = world.translation.by_namespace.get(name, ())
        found.append(
            {
                "name": name,
                "segments": [switch.name for switch in own],
                "subnets": [str(gateway.prefix) for switch in own for gateway in switch.gateways],
                "router": _router_name(world, own[0]) if own else None,
                "snat": own[0].snat if own else None,
                "domain": _domain_name(world, own[0]) if own else None,
                "ports": used[name],
                "resting": _resting(namespace),
                "errors": errors_of(namespace),
            }
        )
    return sorted(found, key=lambda row: str(row["name"]))


def blocks(world: World) -> list[Row]:
    """Every configured block with the subnets cut from it. Subnets a namespace chose itself are in none."""
    nsx = world.settings.nsx_v3
    lengths = {4: nsx.subnet_prefix, 6: nsx.v6_subnet_prefix}
    subnets = {
        (switch.domain, gateway.prefix)
        for switch in world.translation.intent.switches.values()
        for gateway in switch.gateways
    }
    found = []
    uses = [("container", 0, nsx.container_ip_blocks), ("no-snat", 0, nsx.no_snat_ip_blocks)]
    uses += [(f"domain {each.name}", each.number, each.blocks) for each in world.settings.ncp.routing_domains]
    for use, number, option in uses:
        for block in option:
            total = 1 << (lengths[block.family] - block.length)
            used = sum(1 for domain, subnet in subnets if domain == number and subnet in block)
            found.append(_block_row(block, use, lengths[block.family], total, used))
    return found


def problems(world: World) -> list[Row]:
    """What could not be done, and who says so: agents, the manager (on its objects), or this program itself."""
    said: dict[tuple[str, str, str, str, str], list[str]] = {}

    def note(by: str, kind: str, namespace: str, name: str, reason: str, message: str) -> None:
        said.setdefault((kind, namespace, name, reason, message), []).append(by)

    for node, agent in sorted(world.agents.items()):
        for problem in agent["problems"]:
            origin = problem["origin"]
            note(node, origin["kind"], origin["namespace"], origin["name"], problem["reason"], problem["message"])
    if not world.agents:
        for found in world.translation.all_problems():
            note("ncp", found.origin.kind, found.origin.namespace, found.origin.name, found.reason, found.message)
    for kind, objects in world.objects.items():
        for obj in objects:
            meta = obj["metadata"]
            for subject, text in errors_of(obj).items():
                if subject in world.agents:
                    continue  # it spoke for itself above
                reason, _, message = text.partition(": ")
                by = subject if subject in world.translation.intent.nodes else "manager"
                note(by, kind, meta.get("namespace", ""), meta["name"], reason, message or text)
    for node, why in world.silent.items():
        note("ncp", "Node", "", node, "AGENT_SILENT", why)
    return [
        {"by": by, "kind": kind, "namespace": namespace or None, "name": name, "reason": reason, "message": message}
        for (kind, namespace, name, reason, message), by in sorted(said.items())
    ]


def errors_of(obj: Row) -> dict[str, str]:
    """What the manager and agents say is wrong with an object: annotations ``ncp/error.*`` by what follows the dot, the state of a
    namespace's address outside (``snat_ip``), and of a binding (``ready``)."""
    annotations, status = obj["metadata"].get("annotations") or {}, obj.get("status") or {}
    found = {name.removeprefix(ERROR): text for name, text in sorted(annotations.items()) if name.startswith(ERROR)}
    said = annotations.get("ncp/snat_ip_status", "")
    if ": " in said:  # a code alone is none
        found["snat_ip"] = said
    for each in status.get("conditions") or () if "ipAddresses" in status else ():
        if each.get("type") == "Ready" and each.get("status") == "False":
            found["ready"] = f"{each.get('reason')}: {each.get('message')}"
    return found


def _block_row(block: Prefix, use: str, length: int, total: int, used: int) -> Row:
    return {
        "block": str(block),
        "use": use,
        "family": block.family,
        "subnet_length": length,
        "subnets": total,
        "used": used,
        "free": max(total - used, 0),
        "addresses_per_subnet": 1 << (WIDTH[block.family] - length),
    }


def _pod_state(world: World, pod: Row, name: str) -> str:
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    if spec.get("hostNetwork"):
        return "host network"
    if status.get("phase") in TERMINAL:
        return "ended"
    if errors_of(pod):
        return "error"
    if name not in world.translation.intent.ports:
        return "undecided"
    return _attachment(world, name, spec.get("nodeName") or "") if spec.get("nodeName") else "unscheduled"


def _attachment(world: World, name: str, node: str) -> str:
    """What the node's agent says of a port; ``decided`` where it cannot be asked."""
    agent = world.agents.get(node)
    if agent is None:
        return "agent silent" if node in world.silent else "decided"
    states = [str(port["state"]) for port in agent["ports"] if port["name"] == name]
    return states[0] if states else "detached"


def _agent_state(world: World, node: str) -> str:
    if node in world.silent:
        return "silent"
    agent = world.agents.get(node)
    if agent is None:
        return "elsewhere"
    if not agent.get("connected"):
        return "disconnected"
    return "in step" if agent.get("in_step", True) else "working"


def _segment_name(world: World, vni: int) -> str:
    switch = world.translation.intent.switches.get(vni)
    return switch.name if switch else f"vni {vni}"


def _domain_name(world: World, switch: LogicalSwitch) -> str | None:
    """The routing domain a segment is in; None: the cluster's own."""
    names = {each.number: each.name for each in world.settings.ncp.routing_domains}
    return names.get(switch.domain, str(switch.domain)) if switch.domain else None


def _made_by_people(world: World) -> dict[int, str]:
    """Routers that namespaces can hang off and people made, by number."""
    span = world.settings.ncp.vni_range
    found = numbered(map(router_record, world.objects.get("Router", ())), (span.first, span.last))
    return {number: name for name, number in found.items() if isinstance(number, int)}


def _router_name(world: World, switch: LogicalSwitch) -> str:
    if made := _made_by_people(world).get(switch.router):
        return made
    return "cluster" if world.translation.intent.single_tier else switch.origin.name


def _resting(namespace: Row) -> int:
    text = annotation(namespace, "ncp/resting")
    try:
        return len(orjson.loads(text)) if text else 0
    except (orjson.JSONDecodeError, TypeError):
        return 0  # the manager reports a malformed annotation; a listing goes on


def _sorted(rows: Iterable[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: (str(row["namespace"]), str(row["name"])))
