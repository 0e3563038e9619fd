"""The in-memory replica of a switch's database, and what of it concerns us as immutable values.

The replica belongs to the connection's thread. Every other thread reads :attr:`Replica.ports`, a mapping that is
replaced, never changed, and is told of changes through the listener.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final, Protocol

from ovs.db import idl
from ovsdbapp.backend.ovs_idl.connection import OvsdbIdl

from sdn.ovsdb.rows import IFACE_ID, UPLINK, ActualRows, Attachment, BridgeRow, InterfaceRow, port_of

COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {
    "Open_vSwitch": ("bridges", "ovs_version", "next_cfg", "cur_cfg"),
    "Bridge": ("name", "ports", "datapath_type", "fail_mode", "protocols", "external_ids", "flow_tables"),
    "Port": ("name", "interfaces", "external_ids", "tag"),
    "Interface": (
        *(
            "name",
            "type",
            "ofport",
            "ofport_request",
            "options",
            "mac",
            "mtu_request",
            "external_ids",
            "error",
            "ifindex",
            "bfd",
            "bfd_status",
            "link_state",
        ),
    ),
    "Flow_Table": ("name",),
}
"""What is replicated. Counters are not: they change every few seconds and nobody here reads them."""

NO_WIRES: Final = frozenset({"internal", "patch"})
"""Types of interfaces that lead nowhere outside."""

RECONNECT_MSEC: Final = 1000  # the least and the most; the library's default climbs to 8 s


class Listener(Protocol):
    """Who is told what the replica saw. Called on the connection's thread: must not block or commit."""

    def connection_changed(self, connected: bool) -> None:
        """The replica became complete, or the server went away."""

    def port_changed(self, name: str, old: Attachment | None, new: Attachment | None) -> None:
        """One of our interfaces appeared, changed or went."""

    def carriers_changed(self) -> None:
        """A link of another bridge came or went."""

    def bridge_changed(self, name: str) -> None:
        """One of our bridges appeared, changed in a column we set, or went."""

    def updated(self) -> None:
        """Something was received; called after the calls above."""


class Replica(OvsdbIdl):  # type: ignore[misc]  # the library is untyped
    """The replica of one ``db.sock``, and its view as values."""

    def __init__(
        self, remote: str, schema: Mapping[str, Any], cluster: str, listener: Listener, bridge: str = "br-int"
    ) -> None:
        helper = idl.SchemaHelper(None, schema)
        for table, columns in COLUMNS.items():
            helper.register_columns(table, list(columns))
        super().__init__(remote, helper, leader_only=False)
        self._session.reconnect.set_backoff(RECONNECT_MSEC, RECONNECT_MSEC)
        self._cluster = cluster
        self._listener = listener
        self._bridge = bridge
        self._connected = False
        self._dirty: dict[str, bool] = {}  # interface name → still there
        # Reading a column of a row converts it each time; with hundreds of ports that would dominate a transaction.
        self.interface_rows: dict[str, Any] = {}
        self.port_rows: dict[str, Any] = {}
        self.numbers: dict[str, tuple[int, ...]] = {}  # interface name → the OpenFlow numbers it has and asked for
        self._bridges: dict[str, BridgeRow] = {}
        self._bridges_dirty = False
        self.ports: Mapping[str, Attachment] = MappingProxyType({})
        self.uplinks: set[str] = set()  # names of interfaces that are uplinks, anybody's
        self.carriers: Mapping[str, bool] = MappingProxyType({})

    def notify(self, event: str, row: Any, updates: Any = None) -> None:
        """Called by the library for every row that changed, while it applies an update."""
        if row._table.name == "Interface":
            if _keep(self.interface_rows, event, row):
                self._dirty[row.name] = event != idl.ROW_DELETE
        elif row._table.name == "Port":
            _keep(self.port_rows, event, row)
        elif row._table.name in ("Bridge", "Flow_Table"):
            self._bridges_dirty = True

    def run(self) -> bool:
        """Take in what the server sent, then tell the listener what changed."""
        changed = bool(super().run())
        connected = bool(self._session.is_connected()) and self.state == self.IDL_S_MONITORING
        if connected and not self._connected:
            self._rescan()
        if connected and (self._dirty or self._bridges_dirty):
            self._publish()
        if connected != self._connected:
            self._connected = connected
            self._listener.connection_changed(connected)
        if changed:
            self._listener.updated()
        return changed

    def actual(self, names: Iterable[str]) -> ActualRows:
        """Bridges, and the interfaces of the given names, as values. Only inside a command."""
        bridges = {row.name: row for row in self.tables["Bridge"].rows.values()}
        found = {name: self.interface_rows[name] for name in names if name in self.interface_rows}
        ports = {name: {port.uuid for port in row.ports} for name, row in bridges.items()}
        bridge_of = {
            name: bridge
            for name in found
            for bridge, uuids in ports.items()
            if name in self.port_rows and self.port_rows[name].uuid in uuids
        }
        return ActualRows(
            {name: bridge_row(row) for name, row in bridges.items()},
            {name: interface_row(row, self.port_rows.get(name)) for name, row in found.items()},
            bridge_of,
        )

    @property
    def root(self) -> Any:
        """The one row of Open_vSwitch, None while the database is empty."""
        return next(iter(self.tables["Open_vSwitch"].rows.values()), None)

    def _rescan(self) -> None:
        # After a reconnect rows may have gone without a notification.
        self.interface_rows = {row.name: row for row in self.tables["Interface"].rows.values()}
        self.uplinks = set()
        self.port_rows = {row.name: row for row in self.tables["Port"].rows.values()}
        self._dirty = {name: name in self.interface_rows for name in {*self.interface_rows, *self.numbers}}
        self._bridges_dirty = True

    def _publish(self) -> None:
        dirty, self._dirty = self._dirty, {}
        ports, told = dict(self.ports), []
        for name, there in dirty.items():
            old, new = ports.get(name), self._read(name) if there else None
            if not there:
                self.numbers.pop(name, None)
                self.uplinks.discard(name)
            if old == new:
                continue
            if new is None:
                del ports[name]
            else:
                ports[name] = new
            told.append((name, old, new))
        self.ports = MappingProxyType(ports)
        for name, old, new in told:
            self._listener.port_changed(name, old, new)
        carriers = self._carriers()
        if carriers != self.carriers:
            self.carriers = MappingProxyType(carriers)
            self._listener.carriers_changed()
        if self._bridges_dirty:
            self._publish_bridges()

    def _carriers(self) -> dict[str, bool]:
        """Of the switch's own devices on other bridges than ours: whether a device beside them has a carrier, or there is none beside them. An uplink without one leads nowhere."""
        found: dict[str, bool] = {}
        for bridge in self.tables["Bridge"].rows.values():
            if bridge.name == self._bridge:
                continue
            rows = [interface for port in bridge.ports for interface in port.interfaces]
            links = [row.link_state == ["up"] for row in rows if row.type not in NO_WIRES]
            for row in rows:
                if row.type == "internal":
                    found[row.name] = any(links) or (not links and UPLINK not in row.external_ids)
        return found

    def _publish_bridges(self) -> None:
        self._bridges_dirty = False
        rows = (bridge_row(row) for row in self.tables["Bridge"].rows.values())
        before, self._bridges = self._bridges, {row.name: row for row in rows}
        for name in before.keys() | self._bridges.keys():
            if before.get(name) != self._bridges.get(name):
                self._listener.bridge_changed(name)

    def _read(self, name: str) -> Attachment | None:
        row = self.interface_rows[name]
        ofport = row.ofport[0] if row.ofport else 0
        self.numbers[name] = (ofport, *row.ofport_request)
        ids, error = row.external_ids, row.error[0] if row.error else ""
        (self.uplinks.add if UPLINK in ids else self.uplinks.discard)(name)
        if IFACE_ID in ids and not error and row.ifindex and row.ifindex[0] == 0:
            error = "its device is gone"  # the switch keeps the number of a device that vanishes, and reports no error
        return port_of(name, ids, ofport, error, self._cluster, row.bfd_status.get("state", ""))


def bridge_row(row: Any) -> BridgeRow:
    """A Bridge row as a value."""
    return BridgeRow(
        name=row.name,
        datapath_type=row.datapath_type,
        fail_mode=row.fail_mode[0] if row.fail_mode else "",
        protocols=frozenset(row.protocols),
        external_ids=dict(row.external_ids),
        tables={number: table.name[0] if table.name else "" for number, table in row.flow_tables.items()},
    )


def interface_row(row: Any, port: Any = None) -> InterfaceRow:
    """An Interface row as a value, with what its port's row says."""
    return InterfaceRow(
        name=row.name,
        type=row.type,
        ofport_request=row.ofport_request[0] if row.ofport_request else None,
        options=dict(row.options),
        mac=row.mac[0].lower() if row.mac else None,
        mtu_request=row.mtu_request[0] if row.mtu_request else None,
        tag=port.tag[0] if port is not None and port.tag else None,
        external_ids=dict(row.external_ids),
        bfd=dict(row.bfd),
    )


def _keep(rows: dict[str, Any], event: str, row: Any) -> bool:
    """Keep an index by name; False when the row is not the one indexed.

    One update may delete a row and create another of the same name, in any order: the living one counts.
    """
    name = row.name
    if event != idl.ROW_DELETE:
        rows[name] = row
        return True
    if rows.get(name) is not row:
        return False
    del rows[name]
    return True
