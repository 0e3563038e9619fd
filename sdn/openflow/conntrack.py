"""Taking connections out of a switch's connection tracking: Open vSwitch's NXT_CT_FLUSH (ovs-ofctl(8), ct-flush)."""

from __future__ import annotations

from struct import pack
from typing import NamedTuple

from ipam.address import Address

_NICIRA, _CT_FLUSH = 0x2320, 32
_EXPERIMENTER = 4
_ORIGINAL, _ZONE = 0, 2
_SOURCE, _DESTINATION, _SOURCE_PORT, _DESTINATION_PORT = 0, 1, 2, 3
_MAPPED = 0xFFFF << 32
"""An IPv4 address stands in the last four bytes of an IPv6 one (RFC 4291 section 2.5.5.2)."""


class Flush(NamedTuple):
    """Connections to forget: all of a zone, or the one TCP, UDP or SCTP connection of it whose original direction is given.

    Others are not offered: Open vSwitch 3.1 dies of removing an ICMPv6 entry by its tuple.
    """

    zone: int
    protocol: int = 0  # number of the IP protocol
    source: Address | None = None
    destination: Address | None = None
    source_port: int = 0
    destination_port: int = 0


def pack_flush(flush: Flush, xid: int) -> bytes:
    """The message that removes these connections."""
    body = pack("!B7x", flush.protocol)
    if flush.source is not None and flush.destination is not None:
        parts = b"".join(
            (
                _address(_SOURCE, flush.source),
                _address(_DESTINATION, flush.destination),
                pack("!HHH2x", _SOURCE_PORT, 8, flush.source_port),
                pack("!HHH2x", _DESTINATION_PORT, 8, flush.destination_port),
            )
        )
        body += pack("!HH4x", _ORIGINAL, 8 + len(parts)) + parts
    body += pack("!HHH2x", _ZONE, 8, flush.zone)
    return pack("!BBHIII", 6, _EXPERIMENTER, 16 + len(body), xid, _NICIRA, _CT_FLUSH) + body


def _address(kind: int, address: Address) -> bytes:
    value = address.value | _MAPPED if address.family == 4 else address.value
    return pack("!HH", kind, 20) + value.to_bytes(16, "big") + bytes(4)
