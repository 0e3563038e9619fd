"""Answers that flows cannot make: ICMP errors from logical routers, and fragments. Bytes in, bytes out.

Follows RFC 792, RFC 1812 section 4.3, RFC 4443 and RFC 8200: no error about an ICMP error, a fragment other than the
first, a multicast or broadcast packet, or one with no single sender; an IPv4 error quotes the header and what fits in
576 bytes, an IPv6 error what fits in 1280.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from ipam.address import Address
from sdn.compile.terms import TOO_BIG, TTL_EXCEEDED
from sdn.model import Intent
from sdn.pipeline.registers import GATEWAY_MAC
from sdn.pipeline.tables import PIPELINE, T

_ETH: Final = struct.Struct("!6s6sH")
_IPV4: Final = struct.Struct("!BBHHHBBH4s4s")
_IPV6: Final = struct.Struct("!IHBB16s16s")
_IPV4_ERRORS: Final = frozenset({3, 4, 5, 11, 12})
ANSWER_TTL: Final = 64


def answers(intent: Intent, userdata: bytes, table: int, fields: dict[str, int], frame: bytes, mtu: int) -> list[bytes]:
    """What to send back out of the port a frame came in by (errors), or on through the pipeline (fragments).

    Args:
        intent: names the router that answers.
        userdata: why the flow sent the frame here.
        table: number of the table that did.
        fields: the packet's registers by name (``reg2``…).
        frame: the whole Ethernet frame.
        mtu: largest IP packet a pod may send, in bytes.

    Returns:
        Ethernet frames; none where no answer is due.
    """
    if userdata[:1] == TTL_EXCEEDED:
        return _error(frame, _router_address(intent, table, fields, frame), kind4=(11, 0), kind6=(3, 0), word=0)
    if userdata[:1] == TOO_BIG and not is_fragmentable(frame):
        source = _router_address(intent, T["tier1_out"], fields, frame)
        return _error(frame, source, kind4=(3, 4), kind6=(2, 0), word=mtu)
    return []


def is_fragmentable(frame: bytes) -> bool:
    """An IPv4 packet that routers may fragment (RFC 791 section 3.2: the DF flag is clear)."""
    return len(frame) >= 34 and frame[12:14] == b"\x08\x00" and not frame[20] & 0x40


def fragments(frame: bytes, mtu: int) -> Iterator[bytes]:
    """The frames an IPv4 router makes of one that is too big (RFC 791 section 3.2): about equal ones, for Open vSwitch takes a small
    fragment that is not the last for an attack (RFC 1858 section 3)."""
    header_size = (frame[14] & 15) * 4
    total = struct.unpack_from("!H", frame, 16)[0]
    header, payload = frame[14 : 14 + header_size], frame[14 + header_size : 14 + total]
    flags_offset = struct.unpack_from("!H", header, 6)[0]
    first, more = flags_offset & 0x1FFF, flags_offset & 0x2000
    count = -(-len(payload) // ((mtu - header_size) // 8 * 8))
    step = -(-len(payload) // count // 8) * 8
    for start in range(0, len(payload), step):
        part = payload[start : start + step]
        last = start + step >= len(payload)
        flags = (0 if last and not more else 0x2000) | (first + start // 8)
        made = bytearray(header)
        struct.pack_into("!H", made, 2, header_size + len(part))
        struct.pack_into("!H", made, 6, flags)
        struct.pack_into("!H", made, 10, 0)
        struct.pack_into("!H", made, 10, checksum(bytes(made)))
        yield frame[:14] + bytes(made) + part


def checksum(content: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    if len(content) % 2:
        content += b"\0"
    total: int = sum(struct.unpack(f"!{len(content) // 2}H", content))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _router_address(intent: Intent, table: int, fields: dict[str, int], frame: bytes) -> Address | None:
    """The address of the router that found the fault: its interface towards the sender where it has one."""
    family = 4 if frame[12:14] == b"\x08\x00" else 6
    segment = PIPELINE.by_field["segment"]
    router, domain = PIPELINE.by_field["router"], PIPELINE.by_field["domain"]
    if PIPELINE.tables[table].name == "tier0":
        interfaces = intent.tier0.gateways
    elif PIPELINE.tables[table].name == "tier1_in":
        number = (fields.get(router.register, 0) & router.mask) >> router.low
        at = (number, (fields.get(domain.register, 0) & domain.mask) >> domain.low)
        interfaces = tuple(g for s in intent.switches.values() if (s.router, s.domain) == at for g in s.gateways)
    else:
        vni = (fields.get(segment.register, 0) & segment.mask) >> segment.low
        switch = intent.switches.get(vni)
        interfaces = switch.gateways if switch else intent.tier0.gateways
    return next((each.address for each in interfaces if each.family == family), None)


def _error(
    frame: bytes, source: Address | None, *, kind4: tuple[int, int], kind6: tuple[int, int], word: int
) -> list[bytes]:
    if source is None or len(frame) < 34:
        return []
    if source.family == 4:
        body = error_ipv4(frame[14:], source, kind4, word)
    else:
        body = error_ipv6(frame[14:], source, kind6, word)
    if body is None:
        return []
    return [_ETH.pack(frame[6:12], GATEWAY_MAC.to_bytes(6, "big"), 0x0800 if source.family == 4 else 0x86DD) + body]


def error_ipv4(packet: bytes, source: Address, kind: tuple[int, int], word: int) -> bytes | None:
    """The ICMP error of a type and code about an IPv4 packet, from ``source``; None where none may be sent."""
    header_size = (packet[0] & 15) * 4
    offset = struct.unpack_from("!H", packet, 6)[0] & 0x1FFF
    sender, receiver = packet[12:16], packet[16:20]
    is_error = packet[9] == 1 and len(packet) > header_size and packet[header_size] in _IPV4_ERRORS
    if offset or is_error or sender[0] >= 224 or sender == b"\0\0\0\0" or receiver[0] >= 224:
        return None
    quoted = packet[: 576 - 28]
    icmp = struct.pack("!BBHI", *kind, 0, word) + quoted
    icmp = icmp[:2] + struct.pack("!H", checksum(icmp)) + icmp[4:]
    length = 20 + len(icmp)
    made = _IPV4.pack(0x45, 0xC0, length, 0, 0, ANSWER_TTL, 1, 0, source.value.to_bytes(4, "big"), sender)
    return made[:10] + struct.pack("!H", checksum(made)) + made[12:] + icmp


def error_ipv6(packet: bytes, source: Address, kind: tuple[int, int], word: int) -> bytes | None:
    """The ICMPv6 error of a type and code about an IPv6 packet, from ``source``; None where none may be sent."""
    if len(packet) < 40:
        return None
    sender, receiver = packet[8:24], packet[24:40]
    is_error = packet[6] == 58 and len(packet) > 40 and packet[40] < 128
    too_big = kind[0] == 2  # the one error that may answer a multicast packet (RFC 4443 section 2.4 e.3)
    if is_error or sender[0] == 0xFF or sender == bytes(16) or (receiver[0] == 0xFF and not too_big):
        return None
    origin = source.value.to_bytes(16, "big")
    quoted = packet[: 1280 - 48]
    icmp = struct.pack("!BBHI", *kind, 0, word) + quoted
    pseudo = origin + sender + struct.pack("!II", len(icmp), 58)
    icmp = icmp[:2] + struct.pack("!H", checksum(pseudo + icmp)) + icmp[4:]
    return _IPV6.pack(6 << 28, len(icmp), 58, ANSWER_TTL, origin, sender) + icmp
