"""Answering for addresses of services on the node's underlay, as if they were the node's own.

The kernel answers: each address is a proxied neighbour (NTF_PROXY) of the device whose network it is in, for which it also listens
to the solicited-node multicast group. An address that has just become this node's is told to everybody on the network: an ARP
announcement (RFC 5227 section 3) or an unsolicited neighbour advertisement (RFC 4861 section 7.2.6), a few times, as either may get lost.
Rows of ours carry protocol number 78 (NDA_PROTOCOL).
"""

from __future__ import annotations

import errno
import logging
import socket
import struct
import threading
from collections.abc import Collection, Iterable
from typing import Final, NamedTuple

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from ipam.address import Address, Interface, Prefix, parse_interface
from ncp.plumbing import netlink
from ncp.plumbing.namespace import Namespace, NetworkError, sysctl
from ncp.plumbing.netlink import FAMILY, NTF_PROXY
from sdn.icmp import checksum

log = logging.getLogger(__name__)

PROTOCOL: Final = 78
TIMES: Final = 3
INTERVAL: Final = 1.0
"""How often an address that became ours is told, and seconds between."""
_EVERYBODY: Final = b"\xff" * 6
_ALL_NODES_MAC: Final = bytes.fromhex("333300000001")
_ALL_NODES: Final = bytes.fromhex("ff02") + bytes(13) + b"\1"


class Underlay(NamedTuple):
    """A device that has addresses of the node, with the networks that are on its link."""

    name: str
    index: int
    mac: bytes
    networks: tuple[Prefix, ...]


def underlays(ipr: IPRoute, own: Collection[Address]) -> tuple[Underlay, ...]:
    """Devices that hold addresses of the node's own. Link-local networks, and those of a single address, are nobody's to announce in."""
    rows: dict[int, list[Interface]] = {}
    for row in netlink.addresses():
        rows.setdefault(row.device, []).append(parse_interface(f"{row.address}/{row.length}"))
    found = []
    for index, interfaces in rows.items():
        if any(each.address in own for each in interfaces):
            link = ipr.link("get", index=index)[0]
            mac = bytes.fromhex((link.get("address") or "").replace(":", ""))
            if len(mac) == 6 and any(mac):  # neither loopback nor a device without Ethernet
                found.append(Underlay(link.get("ifname"), index, mac, _networks(interfaces)))
    return tuple(sorted(found))


def _networks(interfaces: Iterable[Interface]) -> tuple[Prefix, ...]:
    link_local = Prefix(6, 0xFE80 << 112, 10)
    prefixes = {each.prefix for each in interfaces if each.length < (32 if each.family == 4 else 128)}
    return tuple(sorted(each for each in prefixes if each not in link_local))


class Announcer:
    """Keeps the rows, and tells the network. ``node``: whose thread does both."""

    def __init__(self, node: Namespace, *, interval: float = INTERVAL) -> None:
        self._node = node
        self._interval = interval
        self._lock = threading.Lock()
        self._timers: set[threading.Timer] = set()
        self._ours: frozenset[tuple[Address, str]] = frozenset()
        self._closed = False

    def close(self) -> None:
        """Tell nobody any more; rows stay."""
        with self._lock:
            self._closed = True
            for timer in self._timers:
                timer.cancel()

    def ensure(self, ipr: IPRoute, announced: Iterable[Address], devices: tuple[Underlay, ...]) -> None:
        """Answer for exactly these addresses, each on the device in whose network it is. On the namespace's thread.

        One that no device's network has is left aside: nobody there would ask for it.

        Raises:
            NetworkError: the kernel refused a row; the message names it.
        """
        by_index = {each.index: each for each in devices}
        want = {
            (netlink.text_of(address), device.index): (address, device)
            for address in announced
            if (device := _device_of(address, devices)) is not None
        }
        have = {(row.address, row.device) for family in FAMILY for row in netlink.proxies(family) if _is_ours(row)}
        for device in {each.index: each for _, each in want.values()}.values():
            _prepare(device)
        for text, index in sorted(have - want.keys()):
            self._change(ipr, "del", text, index, by_index[index].name if index in by_index else f"number {index}")
        for text, index in sorted(want.keys() - have):
            self._change(ipr, "add", text, index, by_index[index].name)
        self._ours = frozenset((address, device.name) for address, device in want.values())
        if new := tuple(each for key, each in want.items() if key not in have):
            self._tell(new, TIMES)

    def _change(self, ipr: IPRoute, command: str, text: str, index: int, device: str) -> None:
        family = socket.AF_INET6 if ":" in text else socket.AF_INET
        try:
            ipr.neigh(command, family=family, dst=text, ifindex=index, flags=NTF_PROXY, protocol=PROTOCOL)
        except NetlinkError as error:
            if error.code not in (errno.EEXIST, errno.ENOENT, errno.ENODEV):
                raise NetworkError(f"cannot {command} proxied neighbour {text} dev {device}: {error}") from error

    def _tell(self, found: tuple[tuple[Address, Underlay], ...], times: int) -> None:
        """Tell those that are still ours, now and again later. On the namespace's thread."""
        frames: dict[str, list[bytes]] = {}
        for address, device in found:
            if (address, device.name) in self._ours:
                frames.setdefault(device.name, []).append(announcement(address, device.mac))
        for name, those in frames.items():
            _send(name, those)
        if times > 1:
            self._later(found, times - 1)

    def _later(self, found: tuple[tuple[Address, Underlay], ...], times: int) -> None:
        def due() -> None:
            with self._lock:
                self._timers.discard(timer)
                if not self._closed:
                    self._node.submit(lambda ipr: self._tell(found, times))

        timer = threading.Timer(self._interval, due)
        timer.daemon = True
        with self._lock:
            if not self._closed:
                self._timers.add(timer)
                timer.start()


def announcement(address: Address, mac: bytes) -> bytes:
    """The Ethernet frame that tells a network who has an address.

    IPv4: an ARP request for oneself (RFC 5227 section 3). IPv6: an unsolicited neighbour advertisement to all nodes that overrides what
    they know (RFC 4861 section 4.4); its source is the address itself.
    """
    value = address.value.to_bytes(4 if address.family == 4 else 16, "big")
    if address.family == 4:
        arp = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + mac + value + bytes(6) + value
        return _EVERYBODY + mac + b"\x08\x06" + arp
    advertised = struct.pack("!BBHI", 136, 0, 0, 1 << 29) + value + b"\2\1" + mac
    pseudo = value + _ALL_NODES + struct.pack("!II", len(advertised), 58)
    advertised = advertised[:2] + struct.pack("!H", checksum(pseudo + advertised)) + advertised[4:]
    header = struct.pack("!IHBB", 6 << 28, len(advertised), 58, 255) + value + _ALL_NODES
    return _ALL_NODES_MAC + mac + b"\x86\xdd" + header + advertised


def _send(device: str, frames: Iterable[bytes]) -> None:
    """Closing such a socket takes the kernel 10 ms, so one sends them all."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as out:
        try:
            out.bind((device, 0))
            for frame in frames:
                out.send(frame)
        except OSError as error:  # the rows are there all the same: who asks is answered
            log.warning("could not announce addresses on %s: %s", device, error)


def _device_of(address: Address, devices: Iterable[Underlay]) -> Underlay | None:
    return next((each for each in devices if any(address in network for network in each.networks)), None)


def _is_ours(row: netlink.ProxyRow) -> bool:
    return row.protocol == PROTOCOL


def _prepare(device: Underlay) -> None:
    """Let the kernel answer at once: what it is asked for others' addresses it would otherwise think about for most of a second."""
    for family in ("ipv4", "ipv6"):
        sysctl(f"net/{family}/neigh/{device.name}/proxy_delay", "0")
    sysctl(f"net/ipv6/conf/{device.name}/proxy_ndp", "1")
