"""Ports of ours on bridges that are not: an edge node's devices in networks outside.

The bridge is the operator's, with a physical device among its ports; the ports on it carry our name like everything of ours, and
:data:`~sdn.ovsdb.rows.UPLINK`, by which those that nobody wants any more are found.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from sdn.ovsdb.commands import Shareable, apply_change
from sdn.ovsdb.rows import (
    CLUSTER,
    UPLINK,
    ActualRows,
    AddPort,
    Change,
    InterfaceRow,
    OwnershipError,
    RemovePort,
    SetInterface,
    SetPort,
    require_ours,
)


class UplinkPort(NamedTuple):
    """An internal port ``name`` of a bridge; ``vlan`` is the tag of its frames at the bridge's other ports, 0 for none."""

    name: str
    bridge: str
    vlan: int
    mac: str

    def row(self, cluster: str) -> InterfaceRow:
        """Its row."""
        ids = {CLUSTER: cluster, UPLINK: "true"}
        return InterfaceRow(self.name, type="internal", mac=self.mac, tag=self.vlan or None, external_ids=ids)


class UplinkChanges(NamedTuple):
    """What is to be done, and why some of what is wanted cannot be, by the name of the port."""

    changes: tuple[Change, ...]
    refused: Mapping[str, str]


def uplink_changes(wanted: Iterable[UplinkPort], actual: ActualRows, cluster: str) -> UplinkChanges:
    """What to do so that the database holds the wanted ports, and no other uplink of this cluster's.

    ``actual`` has the bridges, and the interfaces of the wanted names and those that are uplinks of any cluster's.
    """
    wanted = tuple(wanted)
    changes: list[Change] = []
    refused: dict[str, str] = {}
    for port in wanted:
        try:
            changes += _changes(port, actual, cluster)
        except (OwnershipError, NoSuchBridge) as error:
            refused[port.name] = str(error)
    stale = [
        name
        for name, row in actual.interfaces.items()
        if row.external_ids.get(CLUSTER) == cluster
        and UPLINK in row.external_ids
        and name not in {one.name for one in wanted}
    ]
    return UplinkChanges((*(RemovePort(name) for name in stale), *changes), refused)


class NoSuchBridge(Exception):
    """An uplink's bridge is not there, or is the overlay's."""


def _changes(port: UplinkPort, actual: ActualRows, cluster: str) -> Iterator[Change]:
    there = sorted(name for name, row in actual.bridges.items() if row.external_ids.get(CLUSTER) is None)
    if port.bridge not in there:
        raise NoSuchBridge(
            f"there is no bridge {port.bridge} for uplinks in Open vSwitch on this node; there are {', '.join(there) or 'none'}. "
            f"Make it, with the physical device: ovs-vsctl add-br {port.bridge}; ovs-vsctl add-port {port.bridge} DEVICE"
        )
    row = port.row(cluster)
    found = actual.interfaces.get(port.name)
    if found is None:
        yield AddPort(port.bridge, row)
        return
    require_ours("interface", port.name, found.external_ids, cluster)
    if UPLINK not in found.external_ids:
        raise OwnershipError(
            f"interface {port.name} is no uplink, but a pod's or the node's own: name the uplink otherwise"
        )
    if actual.bridge_of.get(port.name) != port.bridge:
        yield RemovePort(port.name)
        yield AddPort(port.bridge, row)
        return
    columns = {name: getattr(row, name) for name in ("type", "mac") if getattr(row, name) != getattr(found, name)}
    if columns:
        yield SetInterface(port.name, columns)
    if row.tag != found.tag:
        yield SetPort(port.name, {"tag": row.tag if row.tag is not None else []})


class EnsureUplinks(Shareable):
    """Make the uplinks of a node so. Result: :class:`UplinkChanges`."""

    alone = True

    def __init__(self, api: Any, wanted: Iterable[UplinkPort], cluster: str) -> None:
        super().__init__(api)
        self._wanted = tuple(wanted)
        self._cluster = cluster

    def run_idl(self, txn: Any) -> None:
        """Compare and change."""
        replica = txn.view.replica
        names = {each.name for each in self._wanted} | replica.uplinks
        self.result = uplink_changes(self._wanted, replica.actual(names), self._cluster)
        for change in self.result.changes:
            apply_change(txn, change)
