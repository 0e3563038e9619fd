"""SCTP packets (RFC 9260 section 3): reading and building them. Bytes in, bytes out."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

PROTOCOL = 132

DATA, INIT, INIT_ACK, SACK, HEARTBEAT, HEARTBEAT_ACK, ABORT = range(7)
SHUTDOWN, SHUTDOWN_ACK, ERROR, COOKIE_ECHO, COOKIE_ACK = 7, 8, 9, 10, 11
SHUTDOWN_COMPLETE = 14


class Chunk(NamedTuple):
    """One chunk of a packet, without its padding."""

    type: int
    flags: int
    body: bytes


class Packet(NamedTuple):
    """One SCTP packet."""

    source_port: int
    destination_port: int
    tag: int
    chunks: tuple[Chunk, ...]


def parse(raw: bytes) -> Packet | None:
    """The packet in ``raw`` (from the common header on), or None when its checksum or a length is wrong."""
    if len(raw) < 12:
        return None
    source, destination, tag = struct.unpack_from("!HHI", raw)
    if crc32c(raw[:8] + b"\0\0\0\0" + raw[12:]) != int.from_bytes(raw[8:12], "little"):
        return None
    try:
        return Packet(source, destination, tag, tuple(_chunks(raw)))
    except ValueError:
        return None


def build(packet: Packet) -> bytes:
    """The bytes of a packet, checksum included."""
    head = struct.pack("!HHI", packet.source_port, packet.destination_port, packet.tag)
    body = b""
    for chunk in packet.chunks:
        length = 4 + len(chunk.body)
        body += struct.pack("!BBH", chunk.type, chunk.flags, length) + chunk.body + b"\0" * (-length % 4)
    return head + crc32c(head + b"\0\0\0\0" + body).to_bytes(4, "little") + body


def _chunks(raw: bytes) -> Iterator[Chunk]:
    at = 12
    while at + 4 <= len(raw):
        kind, flags, length = struct.unpack_from("!BBH", raw, at)
        if length < 4 or at + length > len(raw):
            raise ValueError(f"chunk of type {kind} at {at} has length {length}, the packet {len(raw)}")
        yield Chunk(kind, flags, raw[at + 4 : at + length])
        at += length + (-length % 4)


def _crc_table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return tuple(table)


_TABLE = _crc_table()


def crc32c(content: bytes) -> int:
    """The Castagnoli CRC of RFC 9260 appendix A; a packet carries it least significant byte first."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF
