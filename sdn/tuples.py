"""Who speaks to whom in a packet: addresses, protocol and ports, read from an Ethernet frame."""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from ipam.address import Address

_WITH_PORTS: Final = {6: "tcp", 17: "udp", 132: "sctp"}
_OTHERS: Final = {1: "icmp", 58: "icmpv6"}


class FiveTuple(NamedTuple):
    """Ports are 0 where the protocol has none, or a fragment does not show them."""

    protocol: str
    source: Address
    source_port: int
    destination: Address
    destination_port: int

    def __str__(self) -> str:
        return (
            f"{self.protocol} {_end(self.source, self.source_port)} -> {_end(self.destination, self.destination_port)}"
        )


def five_tuple(frame: bytes) -> FiveTuple | None:
    """The tuple of an IPv4 or IPv6 packet in a frame; None for anything else, or where too little of it is there."""
    if frame[12:14] == b"\x08\x00" and len(frame) >= 34:
        protocol, start = frame[23], 14 + (frame[14] & 15) * 4
        ends = Address(4, int.from_bytes(frame[26:30], "big")), Address(4, int.from_bytes(frame[30:34], "big"))
        if struct.unpack_from("!H", frame, 20)[0] & 0x1FFF:
            start = len(frame)  # a later fragment
    elif frame[12:14] == b"\x86\xdd" and len(frame) >= 54:
        protocol, start = frame[20], 54
        ends = Address(6, int.from_bytes(frame[22:38], "big")), Address(6, int.from_bytes(frame[38:54], "big"))
    else:
        return None
    ports = (0, 0)
    if protocol in _WITH_PORTS and len(frame) >= start + 4:
        ports = struct.unpack_from("!HH", frame, start)
    name = _WITH_PORTS.get(protocol) or _OTHERS.get(protocol) or f"protocol {protocol}"
    return FiveTuple(name, ends[0], ports[0], ends[1], ports[1])


def _end(address: Address, port: int) -> str:
    if not port:
        return str(address)
    return f"[{address}]:{port}" if address.family == 6 else f"{address}:{port}"
