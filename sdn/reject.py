"""What a policy's reject answers a packet with: a TCP reset, an SCTP ABORT, or ICMP "administratively prohibited".

Follows RFC 9293 section 3.5.2 (a reset is never answered; its sequence number is what the sender will believe), RFC 9260 section
8.4, RFC 1812 section 5.2.7.1 (code 13) and RFC 4443 section 3.1 (code 1). The answer comes from the address that was asked. Bytes
in, bytes out.
"""

from __future__ import annotations

import struct
from typing import Final, Literal, TypeAlias

from ipam.address import Address
from sdn import sctp
from sdn.icmp import checksum, error_ipv4, error_ipv6

_FIN, _SYN, _RST, _ACK = 1, 2, 4, 16
Why: TypeAlias = Literal["prohibited", "unserved"]
_CODES: Final[dict[Why, dict[int, tuple[int, int]]]] = {
    "prohibited": {4: (3, 13), 6: (1, 1)},
    "unserved": {4: (3, 3), 6: (1, 4)},
}
"""ICMP type and code by family: administratively prohibited, and port unreachable."""
_TTL: Final = 64
_TCP: Final = 6


def rejection(frame: bytes, why: Why = "prohibited") -> bytes | None:
    """The Ethernet frame that turns a packet away, from its receiver to its sender; None where none is due.

    ``unserved`` says that nobody is there to serve it, with ICMP "port unreachable" where it is ICMP that tells.
    """
    if frame[12:14] == b"\x08\x00" and len(frame) >= 34:
        packet = _reject_ipv4(frame[14:], _CODES[why][4])
    elif frame[12:14] == b"\x86\xdd" and len(frame) >= 54:
        packet = _reject_ipv6(frame[14:], _CODES[why][6])
    else:
        return None
    return frame[6:12] + frame[:6] + frame[12:14] + packet if packet else None


def _reject_ipv4(packet: bytes, code: tuple[int, int]) -> bytes | None:
    size = (packet[0] & 15) * 4
    source, destination = packet[12:16], packet[16:20]
    offset = struct.unpack_from("!H", packet, 6)[0] & 0x1FFF
    if packet[9] == _TCP and not offset:
        total = struct.unpack_from("!H", packet, 2)[0]
        segment = _reset(packet[size:total], destination + source + struct.pack("!BBH", 0, _TCP, 20))
        if segment is None:
            return None
        return _ipv4(destination, source, _TCP, segment)
    if packet[9] == sctp.PROTOCOL and not offset:
        abort = _abort(packet[size : struct.unpack_from("!H", packet, 2)[0]])
        return _ipv4(destination, source, sctp.PROTOCOL, abort) if abort else None
    return error_ipv4(packet, Address(4, int.from_bytes(destination, "big")), code, 0)


def _reject_ipv6(packet: bytes, code: tuple[int, int]) -> bytes | None:
    source, destination = packet[8:24], packet[24:40]
    if packet[6] == _TCP:
        length = struct.unpack_from("!H", packet, 4)[0]
        segment = _reset(packet[40 : 40 + length], destination + source + struct.pack("!II", 20, _TCP))
        if segment is None:
            return None
        return _ipv6(destination, source, _TCP, segment)
    if packet[6] == sctp.PROTOCOL:
        abort = _abort(packet[40 : 40 + struct.unpack_from("!H", packet, 4)[0]])
        return _ipv6(destination, source, sctp.PROTOCOL, abort) if abort else None
    return error_ipv6(packet, Address(6, int.from_bytes(destination, "big")), code, 0)


def _ipv4(source: bytes, destination: bytes, protocol: int, content: bytes) -> bytes:
    length = 20 + len(content)
    header = struct.pack("!BBHHHBBH", 0x45, 0, length, 0, 0x4000, _TTL, protocol, 0) + source + destination
    return header[:10] + struct.pack("!H", checksum(header)) + header[12:] + content


def _ipv6(source: bytes, destination: bytes, protocol: int, content: bytes) -> bytes:
    return struct.pack("!IHBB", 6 << 28, len(content), protocol, _TTL) + source + destination + content


def _abort(raw: bytes) -> bytes | None:
    """An ABORT with the tag its receiver expects: its own from an INIT, else the packet's, reflected."""
    packet = sctp.parse(raw)
    if packet is None or not packet.chunks:
        return None
    first = packet.chunks[0]
    if first.type in (sctp.ABORT, sctp.SHUTDOWN_COMPLETE):
        return None
    tag, reflected = packet.tag, 1
    if first.type == sctp.INIT and len(first.body) >= 4:
        tag, reflected = struct.unpack_from("!I", first.body)[0], 0
    abort = sctp.Chunk(sctp.ABORT, reflected, b"")
    return sctp.build(sctp.Packet(packet.destination_port, packet.source_port, tag, (abort,)))


def _reset(segment: bytes, pseudo: bytes) -> bytes | None:
    if len(segment) < 20:
        return None
    to, from_, sequence, acknowledged, offset, flags = struct.unpack_from("!HHIIBB", segment)
    if flags & _RST:
        return None
    if flags & _ACK:
        answer = (acknowledged, 0, _RST)
    else:
        covered = len(segment) - (offset >> 4) * 4 + bool(flags & _SYN) + bool(flags & _FIN)
        answer = (0, (sequence + covered) & 0xFFFFFFFF, _RST | _ACK)
    made = struct.pack("!HHIIBBHHH", from_, to, answer[0], answer[1], 5 << 4, answer[2], 0, 0, 0)
    return made[:16] + struct.pack("!H", checksum(pseudo + made)) + made[18:]
