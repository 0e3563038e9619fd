"""Taking connections out of a switch's connection tracking: Open vSwitch's NXT_CT_FLUSH (ovs-ofctl(8), ct-flush)."""

from __future__ import annotations

from struct import pack
from typing import NamedTuple

from ipam.address import Address

_NICIRA, _CT_FLUSH = 0x2320, 32
_EXPERIMENTER = 4
_ORIGINAL, _REPLY, _ZONE = 0, 1, 2
_SOURCE, _DESTINATION, _SOURCE_PORT, _DESTINATION_PORT = 0, 1, 2, 3
_MAPPED = 0xFFFF << 32
"""An IPv4 address stands in the last four bytes of an IPv6 one (RFC 4291 section 2.5.5.2)."""


class Flush(NamedTuple):
    """Connections to forget: all of a zone, or the TCP, UDP or SCTP connections whose original direction, and who answers them,
    is as given. What is None or 0 can be anything: with everything of the original direction given it is one connection.

    Others are not offered: Open vSwitch 3.1 finds no echoes by their tuple, and dies of removing an ICMPv6 entry by it.
    """

    zone: int | None  # None: any
    protocol: int = 0  # number of the IP protocol
    source: Address | None = None
    destination: Address | None = None
    source_port: int = 0
    destination_port: int = 0
    answers: Address | None = None
    answering_port: int = 0


def pack_flush(flush: Flush, xid: int) -> bytes:
    """The message that removes these connections."""
    body = pack("!B7x", flush.protocol)
    body += _tuple(_ORIGINAL, flush.source, flush.destination, flush.source_port, flush.destination_port)
    body += _tuple(_REPLY, flush.answers, None, flush.answering_port, 0)
    if flush.zone is not None:
        body += pack("!HHH2x", _ZONE, 8, flush.zone)
    return pack("!BBHIII", 6, _EXPERIMENTER, 16 + len(body), xid, _NICIRA, _CT_FLUSH) + body


def _tuple(kind: int, source: Address | None, destination: Address | None, *ports: int) -> bytes:
    ends = ((_SOURCE, source), (_DESTINATION, destination))
    parts = b"".join(_address(end, address) for end, address in ends if address is not None)
    numbers = zip((_SOURCE_PORT, _DESTINATION_PORT), ports, strict=True)
    parts += b"".join(pack("!HHH2x", end, 8, number) for end, number in numbers if number)
    return pack("!HH4x", kind, 8 + len(parts)) + parts if parts else b""


def _address(kind: int, address: Address) -> bytes:
    value = address.value | _MAPPED if address.family == 4 else address.value
    return pack("!HH", kind, 20) + value.to_bytes(16, "big") + bytes(4)
