"""How many connections each member of a virtual server got on a switch, from the counters of its flows. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from ipam.address import Address
from ncp.node.audit import key_of
from sdn.openflow.values import InstalledFlow
from sdn.pipeline.flow import Ct, Flow, Nat
from sdn.pipeline.registers import POOL
from sdn.pipeline.tables import T
from sdn.program import Program


def service_statistics(program: Program, installed: Iterable[InstalledFlow]) -> list[dict[str, Any]]:
    """A row for every member of every pool here: which port of which service, where it is, and the connections begun with it.

    A flow of table members sees the first packet of a connection; one that is sent again, as it was not answered, counts again.
    """
    counted: Counter[tuple[str, str, int, str, int]] = Counter()
    for each in installed:
        entry = program.get(key_of(each)) if each.table == T["members"] else None
        nat = _translation(entry.flow) if entry else None
        pool = program.balancing.numbers.name(_pool(entry.flow)) if entry and nat else None
        if nat is None or pool is None:
            continue
        service, _, about = pool.rpartition("#")
        protocol, port, _ = about.split("/")
        address = Address(4 if nat.version == 4 else 6, nat.address)
        # A member on the node itself has a second flow, for what it sends to itself.
        counted[service, protocol, int(port), str(address), nat.port] += each.packets
    return [_row(*about, connections) for about, connections in sorted(counted.items())]


def _row(service: str, protocol: str, port: int, address: str, target: int, connections: int) -> dict[str, Any]:
    namespace, _, name = service.partition("/")
    of = {"namespace": namespace, "name": name, "protocol": protocol, "port": port}
    return of | {"address": address, "target": target, "connections": connections}


def _translation(flow: Flow) -> Nat | None:
    return next((action.nat for action in flow.actions if isinstance(action, Ct)), None)


def _pool(flow: Flow) -> int:
    return next(value >> POOL.low for name, value, _ in flow.match if name == POOL.register)
