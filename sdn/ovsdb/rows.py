"""The rows a node's switch database should hold, as values, and their difference to the rows it does hold.

Ownership: every bridge, port and interface of ours carries ``external_ids:ncp/cluster``. One that carries another
name, or none, is never changed or deleted (ovs-vswitchd.conf.db(5) describes the columns).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

CLUSTER: Final = "ncp/cluster"
IFACE_ID: Final = "iface-id"
POD_UID: Final = "ncp/pod_uid"
SANDBOX: Final = "ncp/sandbox"
NETNS: Final = "ncp/netns"
IFNAME: Final = "ncp/ifname"
MAC: Final = "attached-mac"
UPLINK: Final = "ncp/uplink"
"""On an interface that an edge reaches a network outside by."""
PEER: Final = "ncp/peer"
"""On a port that only watches the way to another node: its name."""

TUNNEL_PORT: Final = "gnv0"
NODE_PORT: Final = "ncp-node0"
TUNNEL_OFPORT: Final = 1
NODE_OFPORT: Final = 2
FIRST_POD_OFPORT: Final = 16
FIRST_PEER_OFPORT: Final = 0xFE00
LAST_OFPORT: Final = 0xFEFF  # OFPP_MAX of OpenFlow 1.0 port numbers, which Open vSwitch keeps to
PROTOCOLS: Final = frozenset({"OpenFlow10", "OpenFlow13", "OpenFlow14", "OpenFlow15"})


class OwnershipError(Exception):
    """A row we would have to change belongs to somebody else; the message says which and to whom."""


class NoPortNumber(Exception):
    """Every OpenFlow port number a pod could have is taken."""


@dataclass(frozen=True, slots=True)
class InterfaceRow:
    """One port with its one interface. ``None`` and empty mean that the column is not ours to set."""

    name: str
    type: str = ""  # "", "internal" or "geneve"
    ofport_request: int | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    mac: str | None = None
    mtu_request: int | None = None
    tag: int | None = None  # the port's VLAN
    external_ids: Mapping[str, str] = field(default_factory=dict)
    bfd: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BridgeRow:
    """The integration bridge. ``tables`` names OpenFlow tables for people who read dumps and traces."""

    name: str
    datapath_type: str = "netdev"
    fail_mode: str = "secure"
    protocols: frozenset[str] = PROTOCOLS
    external_ids: Mapping[str, str] = field(default_factory=dict)
    tables: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NodeRows:
    """Everything of a node but its pods."""

    bridge: BridgeRow
    interfaces: tuple[InterfaceRow, ...]


@dataclass(frozen=True, slots=True)
class ActualRows:
    """What the database holds: every bridge, every interface, and the bridge each interface is on."""

    bridges: Mapping[str, BridgeRow]
    interfaces: Mapping[str, InterfaceRow]
    bridge_of: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class PortRow:
    """A pod's port on the integration bridge. ``iface_id`` is ``namespace/pod``."""

    interface: str
    iface_id: str
    pod_uid: str
    sandbox: str
    netns: str
    mac: str
    ifname: str = "eth0"

    def external_ids(self, cluster: str) -> dict[str, str]:
        """The interface's external ids; a hand-deleted port can be told from them, and a restart reads them back."""
        return {
            CLUSTER: cluster,
            IFACE_ID: self.iface_id,
            POD_UID: self.pod_uid,
            SANDBOX: self.sandbox,
            NETNS: self.netns,
            IFNAME: self.ifname,
            MAC: self.mac,
        }


class Attachment(NamedTuple):
    """One of our ports as the database has it.

    ``ofport`` is 0 until the switch has opened the device, -1 if it could not. ``error`` says why, or that the device
    has gone since (the number stays). ``peer`` is the node a port watches, if it is there for that.
    """

    iface_id: str
    interface: str
    ofport: int
    pod_uid: str
    sandbox: str
    netns: str
    mac: str
    ifname: str = "eth0"
    error: str = ""
    peer: str = ""
    near: bool | None = None  # BFD finds the peer alive; None: nothing known

    @property
    def row(self) -> PortRow:
        """The row that would make this attachment again."""
        return PortRow(self.interface, self.iface_id, self.pod_uid, self.sandbox, self.netns, self.mac, self.ifname)


class CreateBridge(NamedTuple):
    """Make the bridge, with its local port."""

    row: BridgeRow


class SetBridge(NamedTuple):
    """Set some columns of a bridge."""

    name: str
    columns: Mapping[str, object]


class NameTables(NamedTuple):
    """Give a bridge exactly these table names."""

    bridge: str
    tables: Mapping[int, str]


class AddPort(NamedTuple):
    """Add a port with one interface to a bridge."""

    bridge: str
    row: InterfaceRow


class SetInterface(NamedTuple):
    """Set some columns of an interface."""

    name: str
    columns: Mapping[str, object]


class SetPort(NamedTuple):
    """Set some columns of a port."""

    name: str
    columns: Mapping[str, object]


class RemovePort(NamedTuple):
    """Remove a port of ours with its interface."""

    name: str


Change = CreateBridge | SetBridge | NameTables | AddPort | SetInterface | SetPort | RemovePort


def node_rows(
    cluster: str,
    *,
    node_mac: str,
    mtu: int,
    tables: Mapping[int, str],
    bridge: str = "br-int",
    peers: Mapping[str, str] | None = None,
    bfd_interval: int = 200,
) -> NodeRows:
    """The rows of a node.

    ``mtu`` is of the node's own port into the overlay. The tunnel port takes remote address and VNI from the flows,
    and leaves the outer UDP checksum at Open vSwitch's default (off over IPv4, on over IPv6: RFC 8200 8.1), because
    the inner packets carry complete checksums of their own.

    ``peers`` are tunnel endpoints of nodes whose ways are watched by BFD, a packet every ``bfd_interval`` ms, by name. Each has a tunnel port
    of its own for VNI 0, which no segment has: what carries another VNI still comes in by the one tunnel port (Open vSwitch takes
    the port that matches most closely), and the pipeline knows of no other.
    """
    own = {CLUSTER: cluster}
    tunnel = InterfaceRow(
        TUNNEL_PORT,
        type="geneve",
        ofport_request=TUNNEL_OFPORT,
        options={"remote_ip": "flow", "key": "flow"},
        external_ids=own,
    )
    node = InterfaceRow(
        NODE_PORT,
        type="internal",
        ofport_request=NODE_OFPORT,
        mac=node_mac.lower(),
        mtu_request=mtu,
        external_ids=own,
    )
    watched = (_peer_row(own, name, tep, bfd_interval) for name, tep in sorted((peers or {}).items()))
    return NodeRows(BridgeRow(bridge, external_ids=own, tables=dict(tables)), (tunnel, node, *watched))


def _peer_row(own: Mapping[str, str], name: str, tep: str, interval: int) -> InterfaceRow:
    return InterfaceRow(
        "bfd"
        + hashlib.blake2b(name.encode(), digest_size=6).hexdigest(),  # devices have names of 15 characters at most
        type="geneve",
        options={"remote_ip": tep, "key": "0"},
        external_ids={**own, PEER: name},
        bfd={"enable": "true", "min_rx": str(interval), "min_tx": str(interval)},
    )


def node_changes(wanted: NodeRows, actual: ActualRows, cluster: str) -> tuple[Change, ...]:
    """What to do so that the database holds the wanted rows.

    Raises:
        OwnershipError: a bridge or interface of a wanted name exists and is not this cluster's.
    """
    return (
        *_bridge_changes(wanted.bridge, actual.bridges.get(wanted.bridge.name), cluster),
        *(c for row in wanted.interfaces for c in _port_changes(wanted.bridge.name, row, actual, cluster)),
        *(RemovePort(row.name) for row in actual.interfaces.values() if _is_left_over(row, wanted, cluster)),
    )


def _is_left_over(row: InterfaceRow, wanted: NodeRows, cluster: str) -> bool:
    """Whether a port is ours and watches a way that is not to be watched any more."""
    ours = row.external_ids.get(CLUSTER) == cluster and PEER in row.external_ids
    return ours and row.name not in {each.name for each in wanted.interfaces}


def require_ours(kind: str, name: str, external_ids: Mapping[str, str], cluster: str) -> None:
    """Refuse to touch what is not ours.

    Raises:
        OwnershipError: the external ids name another cluster, or none.
    """
    owner = external_ids.get(CLUSTER)
    if owner == cluster:
        return
    whose = f"belongs to cluster {owner!r}" if owner else f"belongs to no cluster (it has no external_ids:{CLUSTER})"
    raise OwnershipError(
        f"{kind} {name} {whose}, this is cluster {cluster!r}: remove the {kind}, "
        f"or hand it over with external_ids:{CLUSTER}={cluster}, or configure another name"
    )


def _bridge_changes(wanted: BridgeRow, actual: BridgeRow | None, cluster: str) -> Iterable[Change]:
    if actual is None:
        yield CreateBridge(wanted)
        return
    require_ours("bridge", wanted.name, actual.external_ids, cluster)
    columns: dict[str, object] = {
        name: getattr(wanted, name)
        for name in ("datapath_type", "fail_mode", "protocols")
        if getattr(wanted, name) != getattr(actual, name)
    }
    if columns:
        yield SetBridge(wanted.name, columns)
    if dict(wanted.tables) != dict(actual.tables):
        yield NameTables(wanted.name, wanted.tables)


def _port_changes(bridge: str, wanted: InterfaceRow, actual: ActualRows, cluster: str) -> Iterable[Change]:
    found = actual.interfaces.get(wanted.name)
    if found is None:
        yield AddPort(bridge, wanted)
        return
    require_ours("interface", wanted.name, found.external_ids, cluster)
    where = actual.bridge_of.get(wanted.name)
    if where != bridge:
        raise OwnershipError(f"interface {wanted.name} is on bridge {where}, not on {bridge}: remove it there")
    columns: dict[str, object] = {
        name: getattr(wanted, name)
        for name in ("type", "ofport_request", "options", "mac", "mtu_request", "bfd")
        if getattr(wanted, name) not in (None, getattr(found, name))
    }
    if columns:
        yield SetInterface(wanted.name, columns)


def lowest_free(taken: Iterable[int], first: int = FIRST_POD_OFPORT, last: int = LAST_OFPORT) -> int:
    """The lowest OpenFlow port number from ``first`` that nobody has or asked for.

    It is stored as the interface's ``ofport_request``, so that a port keeps its number when ovs-vswitchd restarts.

    Raises:
        NoPortNumber: all are taken.
    """
    used = frozenset(taken)
    for number in range(first, last + 1):
        if number not in used:
            return number
    raise NoPortNumber(f"all OpenFlow port numbers from {first} to {last} are taken: remove ports of the bridge")


def port_of(
    name: str,
    external_ids: Mapping[str, str],
    ofport: int,
    error: str,
    cluster: str,
    bfd_state: str = "",
) -> Attachment | None:
    """What an interface row says; None when it is not this cluster's. A port of the node itself has no ``iface_id``."""
    if external_ids.get(CLUSTER) != cluster:
        return None
    return Attachment(
        iface_id=external_ids.get(IFACE_ID, ""),
        interface=name,
        ofport=ofport,
        pod_uid=external_ids.get(POD_UID, ""),
        sandbox=external_ids.get(SANDBOX, ""),
        netns=external_ids.get(NETNS, ""),
        mac=external_ids.get(MAC, ""),
        ifname=external_ids.get(IFNAME, "eth0"),
        error=error,
        peer=external_ids.get(PEER, ""),
        near=bfd_state == "up" if bfd_state else None,
    )
