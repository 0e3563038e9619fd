"""Changes to a switch's database, as commands of one ovsdbapp transaction.

A command checks before it changes anything, and a refusal is its result (an exception as a value), not an
exception: other threads' commands may share the transaction. Commands may run more than once (the library repeats
a transaction that lost a race), so each run starts afresh.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from ovsdbapp.backend.ovs_idl.command import BaseCommand
from ovsdbapp.backend.ovs_idl.transaction import Transaction

from sdn.ovsdb.replica import Replica
from sdn.ovsdb.rows import (
    CLUSTER,
    FIRST_PEER_OFPORT,
    PEER,
    AddPort,
    Attachment,
    BridgeRow,
    Change,
    CreateBridge,
    InterfaceRow,
    NameTables,
    NodeRows,
    NoPortNumber,
    OwnershipError,
    PortRow,
    RemovePort,
    SetBridge,
    SetInterface,
    SetPort,
    lowest_free,
    node_changes,
    require_ours,
)


class NoBridge(Exception):
    """The integration bridge does not exist (yet)."""


class View:
    """The rows as one transaction sees them, and changes them: by name, and which OpenFlow numbers are spoken for."""

    def __init__(self, replica: Replica) -> None:
        self.replica = replica
        self.bridges = {row.name: row for row in replica.tables["Bridge"].rows.values()}
        self.interfaces = dict(replica.interface_rows)
        self.attachments = dict(replica.ports)
        self.taken = {number for numbers in replica.numbers.values() for number in numbers}
        self.created: dict[str, list[Any]] = {}  # bridges made in this very transaction, and their ports

    @cached_property
    def ports_of(self) -> dict[str, set[Any]]:
        """Identifiers of the ports of each bridge."""
        return {name: {port.uuid for port in row.ports} for name, row in self.bridges.items()}

    def home(self, name: str) -> tuple[Any, Any]:
        """The bridge and the port of an interface of ours (whose port has the same name)."""
        port = self.replica.port_rows[name]
        bridge = next(self.bridges[bridge] for bridge, uuids in self.ports_of.items() if port.uuid in uuids)
        return bridge, port


class Batch(Transaction):  # type: ignore[misc]  # the library is untyped
    """A transaction whose commands share one :class:`View`."""

    def pre_commit(self, txn: Any) -> None:
        """Called by the library before each attempt; commands find the view on ``txn``."""
        txn.view = View(self.api.idl)


class Shareable(BaseCommand):  # type: ignore[misc]
    """A command that says which others may share its transaction: of the same kind, with no key in common."""

    result: Any  # the library's property
    keys: frozenset[str] = frozenset()
    alone = False

    def may_share(self, others: Sequence[Shareable]) -> bool:
        """Whether this command may join the others in one transaction."""
        return not others or not (
            self.alone or any(type(other) is not type(self) or self.keys & other.keys for other in others)
        )


class EnsureNode(Shareable):
    """Make the rows of a node so. Result: the changes made, or the refusal."""

    alone = True

    def __init__(self, api: Any, wanted: NodeRows, cluster: str) -> None:
        super().__init__(api)
        self._wanted = wanted
        self._cluster = cluster

    def run_idl(self, txn: Any) -> None:
        """Compare and change."""
        names = {row.name for row in self._wanted.interfaces}
        names |= {port.interface for port in txn.view.attachments.values() if port.peer}
        try:
            changes = node_changes(self._wanted, txn.view.replica.actual(names), self._cluster)
        except OwnershipError as error:
            self.result = error
            return
        for change in changes:
            apply_change(txn, change)
        self.result = changes


class AttachPort(Shareable):
    """Add a pod's port. Result: its interface's name, or the refusal.

    Another port of the same pod (an older sandbox's) goes in the same transaction.
    """

    def __init__(self, api: Any, bridge: str, row: PortRow, cluster: str) -> None:
        super().__init__(api)
        self._bridge = bridge
        self._row = row
        self.keys = frozenset({row.interface, row.iface_id})
        self._cluster = cluster

    def run_idl(self, txn: Any) -> None:
        """Check, replace, add."""
        try:
            self._attach(txn, txn.view)
            self.result = self._row.interface
        except (OwnershipError, NoBridge, NoPortNumber) as error:
            self.result = error

    def _attach(self, txn: Any, view: View) -> None:
        bridge = view.bridges.get(self._bridge)
        if bridge is None:
            raise NoBridge(f"bridge {self._bridge} does not exist: cannot attach {self._row.iface_id}")
        require_ours("bridge", self._bridge, bridge.external_ids, self._cluster)
        name, ids = self._row.interface, self._row.external_ids(self._cluster)
        found = view.interfaces.get(name)
        number = None
        if found is not None:
            require_ours("interface", name, found.external_ids, self._cluster)
            if dict(found.external_ids) == ids and not found.error and view.home(name)[0] is bridge:
                return
            number = next(iter(found.ofport_request), None)
        for other in list(view.attachments.values()):
            if other.interface == name or other.iface_id == self._row.iface_id:
                _remove(view, other.interface)
        if number is None:
            number = lowest_free(view.taken)
        _add_port(txn, bridge, InterfaceRow(name, ofport_request=number, external_ids=ids))


class DetachPort(Shareable):
    """Remove a pod's ports, by interface name or ``iface-id``; result: the names removed.

    With ``sandbox``, only that sandbox's: a late goodbye to an old sandbox leaves the newer one alone.
    """

    def __init__(self, api: Any, which: str, sandbox: str) -> None:
        super().__init__(api)
        self._which = which
        self._sandbox = sandbox

    def run_idl(self, txn: Any) -> None:
        """Find and remove."""
        meant = [port.interface for port in txn.view.attachments.values() if self._is_meant(port)]
        for name in meant:
            _remove(txn.view, name)
        self.result = tuple(meant)

    def _is_meant(self, port: Attachment) -> bool:
        return (
            bool(port.iface_id)
            and self._which in (port.interface, port.iface_id)
            and self._sandbox in ("", port.sandbox)
        )


class Sync(Shareable):
    """Ask ovs-vswitchd to report when it has done everything up to here. Result: the number to wait for."""

    alone = True

    def run_idl(self, txn: Any) -> None:
        """Raise ``next_cfg``; ovs-vswitchd copies it to ``cur_cfg`` when it is done."""
        root = txn.view.replica.root
        root.verify("next_cfg")
        self.result = root.next_cfg + 1
        root.next_cfg = self.result


def apply_change(txn: Any, change: Change) -> None:
    """Do what a change says, within a transaction."""
    view: View = txn.view
    match change:
        case CreateBridge(row):
            _create_bridge(txn, row)
        case SetBridge(name, columns):
            _set(view.bridges[name], columns)
        case NameTables(name, tables):
            _name_tables(txn, view.bridges[name], tables)
        case AddPort(name, interface):
            _add_port(txn, view.bridges[name], interface)
        case SetInterface(name, columns):
            _set(view.interfaces[name], columns)
        case SetPort(name, columns):
            _set(view.replica.port_rows[name], columns)
        case RemovePort(name):
            _remove(view, name)


def _create_bridge(txn: Any, wanted: BridgeRow) -> None:
    view: View = txn.view
    bridge = txn.insert(view.replica.tables["Bridge"])
    bridge.name = wanted.name
    _set(
        bridge,
        {
            "datapath_type": wanted.datapath_type,
            "fail_mode": wanted.fail_mode,
            "protocols": wanted.protocols,
            "external_ids": wanted.external_ids,
        },
    )
    _name_tables(txn, bridge, wanted.tables)
    view.bridges[wanted.name] = bridge
    view.created[wanted.name] = []
    root = view.replica.root
    if root is None:  # a database nobody has used yet
        txn.insert(view.replica.tables["Open_vSwitch"]).bridges = [bridge]
    else:
        root.addvalue("bridges", bridge.uuid)
    # Every bridge has a local port of its own name, which Open vSwitch numbers 65534 by itself.
    _add_port(txn, bridge, InterfaceRow(wanted.name, type="internal", external_ids=wanted.external_ids))


def _add_port(txn: Any, bridge: Any, wanted: InterfaceRow) -> None:
    view: View = txn.view
    if PEER in wanted.external_ids and wanted.ofport_request is None:  # a number that no pod will ask for
        wanted = replace(wanted, ofport_request=lowest_free(view.taken, FIRST_PEER_OFPORT))
    interface = txn.insert(view.replica.tables["Interface"])
    interface.name = wanted.name
    columns = {
        "type": wanted.type,
        "ofport_request": wanted.ofport_request,
        "options": wanted.options,
        "mac": wanted.mac,
        "mtu_request": wanted.mtu_request,
        "external_ids": wanted.external_ids,
        "bfd": wanted.bfd,
    }
    _set(interface, {name: value for name, value in columns.items() if value is not None})
    port = txn.insert(view.replica.tables["Port"])
    port.name = wanted.name
    port.interfaces = [interface]
    port.external_ids = {CLUSTER: wanted.external_ids[CLUSTER]}
    if wanted.tag is not None:
        port.tag = wanted.tag
    if (ports := view.created.get(bridge.name)) is not None:  # a row that is not there yet cannot be mutated
        ports.append(port)
        bridge.ports = ports
    else:
        bridge.addvalue("ports", port.uuid)
    view.interfaces[wanted.name] = interface
    if wanted.ofport_request is not None:
        view.taken.add(wanted.ofport_request)


def _remove(view: View, name: str) -> None:
    bridge, port = view.home(name)
    view.attachments.pop(name, None)
    interface = view.interfaces.pop(name)
    bridge.delvalue("ports", port.uuid)
    port.delete()
    interface.delete()


def _name_tables(txn: Any, bridge: Any, tables: Any) -> None:
    rows = {}
    for number, name in tables.items():
        row = txn.insert(txn.view.replica.tables["Flow_Table"])
        row.name = name
        rows[number] = row
    bridge.flow_tables = rows


def _set(row: Any, columns: Any) -> None:
    for name, value in columns.items():
        if isinstance(value, frozenset):
            setattr(row, name, sorted(value))
        elif hasattr(value, "items"):
            setattr(row, name, dict(value))
        else:
            setattr(row, name, value)
