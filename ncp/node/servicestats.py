"""How many connections each member of a virtual server got on a switch, from the counters of its flows. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from ipam.address import Address
from ncp.node.audit import key_of
from sdn.compile.services import OUT_OF_RANGE
from sdn.openflow.values import InstalledFlow
from sdn.pipeline.flow import Ct, Flow, SetField
from sdn.pipeline.registers import POOL
from sdn.pipeline.tables import T
from sdn.program import Program
from sdn.services import Member


def service_statistics(program: Program, installed: Iterable[InstalledFlow]) -> list[dict[str, Any]]:
    """A row for every member of every pool here: which port of which service, where it is, and the connections begun with it.

    A flow of table members sees the first packet of a connection; one that is sent again, as it was not answered, counts again.
    """
    counted: Counter[tuple[str, str, int, str, int]] = Counter()
    for each in installed:
        entry = program.get(key_of(each)) if each.table == T["members"] else None
        member = _member(entry.flow) if entry else None
        pool = program.balancing.numbers.name(_pool(entry.flow)) if entry and member else None
        if member is None or pool is None:
            continue
        service, _, about = pool.rpartition("#")
        protocol, port, *_ = about.split("/")
        # A member on the node itself has a second flow, for what it sends to itself.
        counted[service, protocol, int(port), str(member.address), member.port] += each.packets
    return [_row(*about, connections) for about, connections in sorted(counted.items())]


def range_statistics(program: Program, installed: Iterable[InstalledFlow]) -> list[dict[str, Any]]:
    """A row for every port whose load balancer serves certain sources alone: how many packets from others were dropped."""
    counted: Counter[tuple[str, str, str]] = Counter()
    for each in installed:
        entry = program.get(key_of(each)) if each.table == T["services"] else None
        if entry and entry.flow.origin.detail.endswith(OUT_OF_RANGE):
            origin = entry.flow.origin
            counted[origin.namespace, origin.name, origin.detail.partition(":")[0].removeprefix("port ")] += (
                each.packets
            )
    return [
        {"namespace": namespace, "name": name, "port": port, "packets": packets}
        for (namespace, name, port), packets in sorted(counted.items())
    ]


def _row(service: str, protocol: str, port: int, address: str, target: int, connections: int) -> dict[str, Any]:
    namespace, _, name = service.partition("/")
    of = {"namespace": namespace, "name": name, "protocol": protocol, "port": port}
    return of | {"address": address, "target": target, "connections": connections}


def _member(flow: Flow) -> Member | None:
    """Whom the flow sends packets to: by connection tracking, or (SCTP) by itself."""
    nat = next((action.nat for action in flow.actions if isinstance(action, Ct)), None)
    if nat:
        return Member(Address(4 if nat.version == 4 else 6, nat.address), nat.port)
    written = {action.field: action.value for action in flow.actions if isinstance(action, SetField)}
    if "ipv4_dst" in written:
        return Member(Address(4, written["ipv4_dst"]), written["sctp_dst"])
    return Member(Address(6, written["ipv6_dst"]), written["sctp_dst"]) if "ipv6_dst" in written else None


def _pool(flow: Flow) -> int:
    return next(value >> POOL.low for name, value, _ in flow.match if name == POOL.register)
