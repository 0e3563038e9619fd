"""Reading many rows from the kernel cheaply: routes, rules, addresses and proxied neighbours (rtnetlink(7)).

A row costs a few microseconds here, where the general library takes a hundred: an agent that looks at thousands of routes every few
seconds would do little else. The kernel filters (NETLINK_GET_STRICT_CHK, since Linux 4.20). Writing is left to the library.
"""

from __future__ import annotations

import errno
import socket
import struct
import sys
from collections.abc import Iterator
from typing import Final, NamedTuple

from ipam.address import WIDTH, Address, Prefix, parse_interface, parse_prefix

FAMILY: Final = {4: socket.AF_INET, 6: socket.AF_INET6}
FAMILY_OF: Final = {kernel: family for family, kernel in FAMILY.items()}
NTF_PROXY: Final = 8

LINK_LOCAL: Final = tuple(map(parse_prefix, ("127.0.0.0/8", "169.254.0.0/16", "fe80::/10")))
_SOL_NETLINK: Final = 270
_STRICT: Final = 12
_ROOM: Final = 1 << 18
_HEADER: Final = struct.Struct("=IHHII")
_ATTRIBUTE: Final = struct.Struct("=HH")
_ERROR: Final = 2
_DONE: Final = 3
_DUMP: Final = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
_GET_LINK: Final = 18
_LINK: Final = struct.Struct("=BxHiII")
_RUNNING: Final = 0x40  # IFF_RUNNING
_GET_ADDRESS: Final = 22
_GET_ROUTE: Final = 26
_GET_NEIGHBOUR: Final = 30
_GET_RULE: Final = 34
_ROUTE: Final = struct.Struct("=BBBBBBBBI")
_ADDRESS: Final = struct.Struct("=BBBBI")
_RULE: Final = struct.Struct("=BBBBBBBBI")
_HOP: Final = struct.Struct("=HBBi")
_UNICAST: Final = 1
_PORTS: Final = struct.Struct("=HH")
_NEIGHBOUR: Final = struct.Struct("=BBHiHBB")
_CLONED: Final = 0x200  # a cached exception, as path MTU discovery makes them: not a row of the table
_NONE: Final = b"\xff" * 4
_INVERTED: Final = 2
_TO_TABLE: Final = 1

Attributes = dict[int, bytes]


class RouteRow(NamedTuple):
    """One route, addresses as text (empty: none); ``length`` is the prefix's."""

    family: int  # 4 or 6
    destination: str
    length: int
    gateway: str
    source: str
    mtu: int  # 0: the device's


class TableRow(NamedTuple):
    """One unicast route of a table, with every next hop: gateway (empty: on the device's own link) and number of the device."""

    destination: str
    length: int
    protocol: int  # who made it
    metric: int
    hops: tuple[tuple[str, int], ...]


class AddressRow(NamedTuple):
    """One address of a device."""

    family: int  # 4 or 6
    address: str
    length: int
    device: int  # its number


class ProxyRow(NamedTuple):
    """An address that the kernel answers for on a device, on behalf of others."""

    address: str
    device: int
    protocol: int  # who made the row


class RuleRow(NamedTuple):
    """One policy rule, by what it asks of a packet; empty and 0 mean anything."""

    family: int  # 4 or 6
    preference: int
    table: int
    device: str  # it came in by
    to: str  # an address, or PREFIX/LENGTH
    protocol: int  # of IP
    ports: tuple[int, int]  # first and last destination port
    more: bool  # there is more to it, which is not told here
    made_by: int  # FRA_PROTOCOL


def text_of(address: Address) -> str:
    """An address as these rows have it."""
    return _text(address.family, address.value.to_bytes(4 if address.family == 4 else 16, "big"))


def routes(family: int, *, table: int, protocol: int, device: int) -> list[RouteRow]:
    """Routes of a table out of one device, made by one protocol, in the thread's network namespace.

    Raises:
        OSError: the kernel refused.
    """
    request = _ROUTE.pack(FAMILY[family], 0, 0, 0, 0, protocol, 0, 0, 0) + _word(15, table) + _word(4, device)
    found = []
    for body in _dump(_GET_ROUTE, request):
        _, length, _, _, _, made_by, _, _, flags = _ROUTE.unpack_from(body)
        attributes = _attributes(body, _ROUTE.size)
        if made_by == protocol and not flags & _CLONED:
            found.append(
                RouteRow(
                    family,
                    _text(family, attributes.get(1)) or ("0.0.0.0" if family == 4 else "::"),
                    length,
                    _text(family, attributes.get(5)),
                    _text(family, attributes.get(7)),
                    _whole(_attributes(attributes.get(8, b""), 0).get(2)),
                )
            )
    return found


def table(family: int, number: int) -> list[TableRow]:
    """Unicast routes of one table, in the thread's network namespace.

    Raises:
        OSError: the kernel refused.
    """
    found = []
    for body in _dump(_GET_ROUTE, _ROUTE.pack(FAMILY[family], 0, 0, 0, 0, 0, 0, 0, 0) + _word(15, number)):
        _, length, _, _, _, made_by, _, kind, flags = _ROUTE.unpack_from(body)
        if kind != _UNICAST or flags & _CLONED:
            continue
        said = _attributes(body, _ROUTE.size)
        destination = _text(family, said.get(1)) or ("0.0.0.0" if family == 4 else "::")
        hops = _hops(family, said.get(9, b"")) or ((_gateway(family, said), _whole(said.get(4))),)
        found.append(TableRow(destination, length, made_by, _whole(said.get(6)), hops))
    return found


def _hops(family: int, content: bytes) -> tuple[tuple[str, int], ...]:
    """The next hops of RTA_MULTIPATH."""
    found, at = [], 0
    while at + _HOP.size <= len(content):
        length, _, _, device = _HOP.unpack_from(content, at)
        found.append((_gateway(family, _attributes(content[at : at + length], _HOP.size)), device))
        at += (length + 3) & ~3
    return tuple(found)


def _gateway(family: int, said: Attributes) -> str:
    """RTA_GATEWAY, or RTA_VIA where the router's address is of the other family."""
    if via := said.get(18):
        kernel = int.from_bytes(via[:2], sys.byteorder)
        return _text(FAMILY_OF[kernel], via[2:]) if kernel in FAMILY_OF else ""
    return _text(family, said.get(5))


def rules(family: int) -> list[RuleRow]:
    """Policy rules of the thread's network namespace, in their order.

    Raises:
        OSError: the kernel refused.
    """
    found = []
    for body in _dump(_GET_RULE, _RULE.pack(FAMILY[family], 0, 0, 0, 0, 0, 0, 0, 0)):
        _, length, _, tos, table, _, _, action, flags = _RULE.unpack_from(body)
        said = _attributes(body, _RULE.size)
        # FRA_DST, IIFNAME, PRIORITY, TABLE, PROTOCOL, IP_PROTO, DPORT_RANGE, and two that may say "all of it"
        more = said.keys() - {1, 3, 6, 14, 15, 21, 22, 24, 29}
        whole = said.get(14, _NONE) == _NONE and said.get(29, b"\xff\xff") == b"\xff\xff"
        to = _text(family, said.get(1))
        found.append(
            RuleRow(
                family,
                _whole(said.get(6)),
                _whole(said.get(15)) or table,
                said.get(3, b"").rstrip(b"\0").decode(),
                to if not to or length == WIDTH[family] else f"{to}/{length}",
                _whole(said.get(22)),
                _PORTS.unpack(said.get(24, bytes(4))),
                bool(more or tos or flags & _INVERTED or not whole or action != _TO_TABLE),
                _whole(said.get(21)),
            )
        )
    return found


def addresses() -> list[AddressRow]:
    """Every address of every device in the thread's network namespace.

    Raises:
        OSError: the kernel refused.
    """
    found = []
    for body in _dump(_GET_ADDRESS, _ADDRESS.pack(0, 0, 0, 0, 0)):
        kernel, length, _, _, device = _ADDRESS.unpack_from(body)
        attributes = _attributes(body, _ADDRESS.size)
        if (family := FAMILY_OF.get(kernel)) is not None:  # of a point-to-point device, IFA_LOCAL is the own one
            found.append(AddressRow(family, _text(family, attributes.get(2) or attributes.get(1)), length, device))
    return found


def links(*, without: str = "", running: bool = False) -> tuple[Prefix, ...]:
    """Networks on the links of the thread's network namespace, sorted: those of one address or link-local ones aside, and those
    of one device. ``running``: only where the other end of the cable is there.

    Raises:
        OSError: the kernel refused.
    """
    devices = dict[int, tuple[str, bool]]()
    for body in _dump(_GET_LINK, _LINK.pack(0, 0, 0, 0, 0)):
        _, _, index, flags, _ = _LINK.unpack_from(body)
        name = _attributes(body, _LINK.size).get(3, b"").rstrip(b"\0").decode()
        devices[index] = name, bool(flags & _RUNNING)
    found = set()
    for row in addresses():
        name, runs = devices.get(row.device, ("", False))
        if row.length < WIDTH[row.family] and name != without and (runs or not running):
            found.add(parse_interface(f"{row.address}/{row.length}").prefix)
    return tuple(sorted(each for each in found if not any(each in network for network in LINK_LOCAL)))


def name_of(device: int) -> str:
    """Of a device's number; empty where it has gone."""
    try:
        return socket.if_indextoname(device)
    except OSError:
        return ""


def proxies(family: int) -> list[ProxyRow]:
    """Neighbours the kernel answers for, in the thread's network namespace.

    Raises:
        OSError: the kernel refused.
    """
    found = []
    for body in _dump(_GET_NEIGHBOUR, _NEIGHBOUR.pack(FAMILY[family], 0, 0, 0, 0, NTF_PROXY, 0)):
        device = _NEIGHBOUR.unpack_from(body)[3]
        attributes = _attributes(body, _NEIGHBOUR.size)
        found.append(ProxyRow(_text(family, attributes.get(1)), device, attributes.get(12, b"\0")[0]))
    return found


def _dump(kind: int, request: bytes) -> Iterator[bytes]:
    """What the kernel answers to a request for all rows: the part of each message after its header."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as asked:
        asked.setsockopt(_SOL_NETLINK, _STRICT, 1)
        asked.send(_HEADER.pack(_HEADER.size + len(request), kind, _DUMP, 1, 0) + request)
        while True:
            answer, at = asked.recv(_ROOM), 0
            while at < len(answer):
                length, found, _, _, _ = _HEADER.unpack_from(answer, at)
                body = answer[at + _HEADER.size : at + length]
                at += (length + 3) & ~3
                if found in (_DONE, _ERROR):
                    code = -int.from_bytes(body[:4], sys.byteorder, signed=True)
                    if code not in (0, errno.ENOENT):  # a table that nobody has put anything into does not exist
                        raise OSError(code, f"the kernel refused to list rows (netlink message {kind})")
                    return
                yield body


def _attributes(content: bytes, at: int) -> Attributes:
    found = {}
    while at + 4 <= len(content):
        length, kind = _ATTRIBUTE.unpack_from(content, at)
        found[kind & 0x3FFF] = content[at + 4 : at + length]  # without the bit that says it is nested
        at += (length + 3) & ~3
    return found


def _word(kind: int, value: int) -> bytes:
    return struct.pack("=HHI", 8, kind, value)


def _whole(value: bytes | None) -> int:
    return int.from_bytes(value, sys.byteorder) if value else 0


def _text(family: int, value: bytes | None) -> str:
    return socket.inet_ntop(FAMILY[family], value) if value else ""
