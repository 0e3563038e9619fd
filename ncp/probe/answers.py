"""What an incoming frame answers, read straight from its bytes."""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from ipam.address import Address, Family
from ncp.probe.model import Protocol, Verdict

_SYN, _RST, _ACK = 0x02, 0x04, 0x10
_INIT_ACK, _ABORT = 2, 6
_PROTOCOLS: Final[dict[int, Protocol]] = {6: "tcp", 17: "udp", 132: "sctp", 1: "icmp", 58: "icmp"}
_PROHIBITED: Final = {4: 13, 6: 1}
"""The code of an ICMP error by which somebody says that it is not allowed."""
_SHORTEST: Final = 8  # bytes of a transport header that are needed to tell what it is about


class Question(NamedTuple):
    """What a probe asked, as its answer tells: ``number`` is its source port or identifier; 0: it has none, as with ``port``."""

    protocol: Protocol
    family: Family
    number: int
    peer: Address
    port: int


Answered = tuple[Question, Verdict]


def identify(frame: bytes) -> Answered | None:
    """What a frame answers, and how; None: nothing of ours."""
    kind = frame[12:14]
    if kind == b"\x08\x00" and len(frame) >= 34:
        header = (frame[14] & 15) * 4
        if struct.unpack_from("!H", frame, 20)[0] & 0x1FFF:
            return None  # a later fragment
        total = struct.unpack_from("!H", frame, 16)[0]
        body = frame[14 + header : 14 + total]
        return _transport(4, frame[23], frame[26:30], body, f"TTL {frame[22]}")
    if kind == b"\x86\xdd" and len(frame) >= 54:
        length = struct.unpack_from("!H", frame, 18)[0]
        return _transport(6, frame[20], frame[22:38], frame[54 : 54 + length], f"hop limit {frame[21]}")
    if kind == b"\x08\x06" and frame[20:22] == b"\x00\x02" and len(frame) >= 42:
        return _neighbour(4, frame[28:32], frame[22:28])
    return None


def _transport(family: Family, number: int, peer: bytes, body: bytes, left: str) -> Answered | None:
    if len(body) < _SHORTEST:
        return None
    if number in (1, 58):
        return _icmp(family, peer, body, left)
    protocol = _PROTOCOLS.get(number)
    if protocol == "tcp":
        verdict = _tcp(body)
    elif protocol == "sctp":
        verdict = _sctp(body)
    elif protocol == "udp":
        verdict = Verdict("yes", f"{len(body) - 8} bytes")
    else:
        return None
    if protocol is None or verdict is None:
        return None
    port, number = struct.unpack_from("!HH", body)
    return Question(protocol, family, number, _address(family, peer), port), verdict


def _tcp(segment: bytes) -> Verdict | None:
    flags = segment[13] if len(segment) > 13 else 0
    if flags & _RST:
        return Verdict("refused", "reset")
    return Verdict("yes", "SYN-ACK") if flags & (_SYN | _ACK) == _SYN | _ACK else None


def _sctp(packet: bytes) -> Verdict | None:
    chunk = packet[12] if len(packet) > 12 else -1
    return {_INIT_ACK: Verdict("yes", "INIT-ACK"), _ABORT: Verdict("refused", "ABORT")}.get(chunk)


def _icmp(family: Family, peer: bytes, body: bytes, left: str) -> Answered | None:
    kind, code = body[0], body[1]
    if kind == (0 if family == 4 else 129):
        number = struct.unpack_from("!H", body, 4)[0]
        return Question("icmp", family, number, _address(family, peer), 0), Verdict("yes", f"echo reply, {left}")
    if kind == (3 if family == 4 else 1):
        return _unreachable(family, code, body[8:])
    if family == 6 and kind == 136 and len(body) >= 32:  # an advertisement with its target's link-layer address
        return _neighbour(6, body[8:24], body[26:32])
    return None


def _unreachable(family: Family, code: int, quoted: bytes) -> Answered | None:
    """An error: it quotes the packet it is about."""
    if len(quoted) < (20 if family == 4 else 40):
        return None
    header = (quoted[0] & 15) * 4 if family == 4 else 40
    protocol = _PROTOCOLS.get(quoted[9] if family == 4 else quoted[6])
    if protocol is None or len(quoted) < header + _SHORTEST:
        return None
    peer = _address(family, quoted[16:20] if family == 4 else quoted[24:40])
    number, port = struct.unpack_from("!HH", quoted, header + 4 if protocol == "icmp" else header)
    asked = Question(protocol, family, number, peer, 0 if protocol == "icmp" else port)
    if code == _PROHIBITED[family]:
        return asked, Verdict("rejected", "ICMP: administratively prohibited")
    return asked, Verdict("refused", "ICMP unreachable")


def _neighbour(family: Family, address: bytes, mac: bytes) -> Answered:
    return Question("neighbour", family, 0, _address(family, address), 0), Verdict("yes", f"is at {mac.hex(':')}")


def _address(family: Family, raw: bytes) -> Address:
    return Address(family, int.from_bytes(raw, "big"))
