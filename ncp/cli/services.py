"""Rows of ``ncp get services``. Pure, but for asking the agents."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from ncp.cli.rows import errors_of
from ncp.cli.world import World
from sdn.services import Endpoint, Member, ServicePort, Slice, VirtualServer, endpoints

Row = dict[str, Any]


def services(world: World) -> list[Row]:
    """Every virtual server: its addresses and ports, everybody behind it, and how many connections each got."""
    intent = world.translation.intent
    objects = {f"{each['metadata']['namespace']}/{each['metadata']['name']}": each for each in world.objects["Service"]}
    answers = world.ask("/v1/services")
    counted, turned_away = _counted(answers), _out_of_range(answers)
    found = []
    for name, server in sorted(intent.services.items()):
        if server.host:  # ports of a pod, no service
            continue
        slices = [each for _, each in sorted(intent.slices.get(name, {}).items())]
        members = list(_members(server, slices, counted))
        found.append(
            {
                "namespace": server.origin.namespace,
                "name": server.origin.name,
                "type": (objects[name].get("spec") or {}).get("type") or "ClusterIP",
                "addresses": [str(each) for each in server.addresses],
                "ports": [_asked(each) for each in server.ports],
                "ready": len({each["address"] for each in members if each["ready"]}),
                "total": len({each["address"] for each in members}),
                "members": members,
                "affinity": server.affinity or None,
                "local": sorted(server.local),
                "connections": None if counted is None else sum(each["connections"] for each in members),
                "sources": [str(each) for each in server.sources],
                "out_of_range": turned_away.get(name, 0) if server.sources and answers else None,
                "errors": errors_of(objects[name]),
            }
        )
    return found


def table(rows: Iterable[Row]) -> list[Row]:
    """The same for people."""
    return [
        row | {"members": f"{row['ready']}/{row['total']}", "each": [_said(m) for m in row["members"]]} for row in rows
    ]


def _said(member: Row) -> str:
    where = f"[{member['address']}]" if ":" in member["address"] else member["address"]
    state = "terminating" if member["terminating"] else "ready" if member["ready"] else "not ready"
    if member["terminating"] and member["serving"]:
        state = "terminating, serving"
    got = "" if member["connections"] is None else f", {member['connections']} connections"
    return f"{member['port']} -> {where}:{member['target']} ({member['node'] or 'no node'}, {state}{got})"


def _asked(port: ServicePort) -> str:
    return f"{port.port}:{port.node_port}/{port.protocol}" if port.node_port else _port(port)


def _port(port: ServicePort) -> str:
    return f"{port.port}/{port.protocol}"


def _counted(answers: dict[str, Row]) -> Counter[tuple[str, str, str, int]] | None:
    """Connections by service, port, address and target, added up over nodes; None where no node can be asked."""
    if not answers:
        return None
    found: Counter[tuple[str, str, str, int]] = Counter()
    for answer in answers.values():
        for each in answer["members"]:
            port = f"{each['port']}/{each['protocol']}"
            found[f"{each['namespace']}/{each['name']}", port, each["address"], each["target"]] += each["connections"]
    return found


def _out_of_range(answers: dict[str, Row]) -> Counter[str]:
    """Packets dropped at load balancers' addresses for where they came from, by service."""
    found: Counter[str] = Counter()
    for answer in answers.values():
        for each in answer.get("out_of_range", ()):
            found[f"{each['namespace']}/{each['name']}"] += each["packets"]
    return found


def _members(
    server: VirtualServer, slices: list[Slice], counted: Counter[tuple[str, str, str, int]] | None
) -> Iterable[Row]:
    for port in server.ports:
        for family in server.families:
            for member, endpoint in sorted(endpoints(slices, port, family).items(), key=_by_member):
                key = (server.name, _port(port), str(member.address), member.port)
                yield {
                    "port": _port(port),
                    "address": str(member.address),
                    "target": member.port,
                    "node": endpoint.node or None,
                    "ready": endpoint.ready or server.takes_unready,
                    "serving": endpoint.serving,
                    "terminating": endpoint.terminating,
                    "connections": None if counted is None else counted[key],
                }


def _by_member(item: tuple[Member, Endpoint]) -> Member:
    return item[0]
