"""A small SCTP server in user space (RFC 9260), for kernels that have no SCTP sockets.

:class:`Endpoint` turns received packets into the packets to send back; it opens no socket. It covers what a probe, a
load balancer or a firewall needs to see: the four-way handshake, data both ways, heartbeats, both shutdowns, and an
ABORT where nothing listens. It does not retransmit: a peer that lost an answer asks again, and gets it again.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from sdn.sctp import (
    ABORT,
    COOKIE_ACK,
    COOKIE_ECHO,
    DATA,
    HEARTBEAT,
    HEARTBEAT_ACK,
    INIT,
    INIT_ACK,
    SACK,
    SHUTDOWN,
    SHUTDOWN_ACK,
    SHUTDOWN_COMPLETE,
    Chunk,
    Packet,
    build,
    parse,
)

_STATE_COOKIE = 7
_WINDOW = 65535
_STREAMS = 10
_WHOLE_MESSAGE = 0x03  # beginning and end fragment at once
_END = 0x01
_MAC_SIZE = 16
_COOKIE = struct.Struct("!HHIIII")
_ASSOCIATIONS = 4096


@dataclass(slots=True)
class _Association:
    own_tag: int
    peer_tag: int
    own_tsn: int  # of the next DATA chunk we send
    peer_tsn: int  # the last one received in order
    sequence: dict[int, int] = field(default_factory=dict)  # of the next message per stream


Answer = Callable[[int, bytes, str, int], bytes]
"""(served port, payload, peer's address, peer's port) → the payload to send back."""

_Key = tuple[str, int, str, int]


class Endpoint:
    """All associations of one network namespace. ``answer`` says what to reply to a message on one of ``ports``."""

    def __init__(self, ports: frozenset[int], answer: Answer) -> None:
        self.ports = ports
        self._answer = answer
        self._secret = os.urandom(32)
        self._associations: dict[_Key, _Association] = {}

    def receive(self, raw: bytes, local: str, peer: str) -> list[bytes]:
        """The packets to send from ``local`` to ``peer`` after ``raw`` came the other way; bad packets get none."""
        packet = parse(raw)
        if packet is None or not packet.chunks:
            return []
        first = packet.chunks[0]
        if first.type == INIT:
            return self._on_init(packet, first, local, peer)
        if packet.destination_port not in self.ports:
            return []
        key = (local, packet.destination_port, peer, packet.source_port)
        if first.type == COOKIE_ECHO:
            return self._on_cookie(packet, first, key)
        association = self._associations.get(key)
        if association is None or packet.tag != association.own_tag:
            return []
        return self._reply(packet, association.peer_tag, self._in_association(packet.chunks, association, key))

    def _on_init(self, packet: Packet, chunk: Chunk, local: str, peer: str) -> list[bytes]:
        if len(chunk.body) < 16 or packet.tag != 0:
            return []
        peer_tag, _, _, _, peer_tsn = struct.unpack_from("!IIHHI", chunk.body)
        if packet.destination_port not in self.ports:
            return self._reply(packet, peer_tag, [(ABORT, 0, b"")])
        own_tag, own_tsn = (int.from_bytes(os.urandom(4)) or 1 for _ in range(2))
        ports = (packet.destination_port, packet.source_port)
        content = _COOKIE.pack(*ports, own_tag, peer_tag, own_tsn, (peer_tsn - 1) & 0xFFFFFFFF)
        cookie = content + self._sign(content, local, peer)
        body = struct.pack("!IIHHI", own_tag, _WINDOW, _STREAMS, _STREAMS, own_tsn)
        body += struct.pack("!HH", _STATE_COOKIE, 4 + len(cookie)) + cookie
        return self._reply(packet, peer_tag, [(INIT_ACK, 0, body)])

    def _on_cookie(self, packet: Packet, chunk: Chunk, key: _Key) -> list[bytes]:
        content, mac = chunk.body[: _COOKIE.size], chunk.body[_COOKIE.size :]
        if len(mac) != _MAC_SIZE or not hmac.compare_digest(mac, self._sign(content, key[0], key[2])):
            return []
        port, peer_port, own_tag, peer_tag, own_tsn, peer_tsn = _COOKIE.unpack(content)
        if (port, peer_port) != (key[1], key[3]) or packet.tag != own_tag:
            return []
        association = self._associations.get(key)
        if association is None or association.own_tag != own_tag:
            association = _Association(own_tag, peer_tag, own_tsn, peer_tsn)
            self._associations[key] = association
            if len(self._associations) > _ASSOCIATIONS:
                del self._associations[next(iter(self._associations))]
        rest = self._in_association(packet.chunks[1:], association, key)
        return self._reply(packet, peer_tag, [(COOKIE_ACK, 0, b""), *rest])

    def _in_association(
        self, chunks: tuple[Chunk, ...], association: _Association, key: _Key
    ) -> list[tuple[int, int, bytes]]:
        out: list[tuple[int, int, bytes]] = []
        for chunk in chunks:
            if chunk.type == DATA and len(chunk.body) >= 12:
                out += self._on_data(chunk, association, key)
            elif chunk.type == HEARTBEAT:
                out.append((HEARTBEAT_ACK, 0, chunk.body))
            elif chunk.type == SHUTDOWN:
                out.append((SHUTDOWN_ACK, 0, b""))
            elif chunk.type == SHUTDOWN_ACK:
                out.append((SHUTDOWN_COMPLETE, 0, b""))
                self._associations.pop(key, None)
            elif chunk.type in (ABORT, SHUTDOWN_COMPLETE):
                self._associations.pop(key, None)
        return out

    def _on_data(self, chunk: Chunk, association: _Association, key: _Key) -> list[tuple[int, int, bytes]]:
        tsn, stream, _, protocol = struct.unpack_from("!IHHI", chunk.body)
        in_order = tsn == (association.peer_tsn + 1) & 0xFFFFFFFF
        if in_order:
            association.peer_tsn = tsn
        out = [(SACK, 0, struct.pack("!IIHH", association.peer_tsn, _WINDOW, 0, 0))]
        if in_order and chunk.flags & _END:
            payload = self._answer(key[1], chunk.body[12:], key[2], key[3])
            sequence = association.sequence.get(stream, 0)
            head = struct.pack("!IHHI", association.own_tsn, stream, sequence, protocol)
            out.append((DATA, _WHOLE_MESSAGE, head + payload))
            association.own_tsn = (association.own_tsn + 1) & 0xFFFFFFFF
            association.sequence[stream] = (sequence + 1) & 0xFFFF
        return out

    def _sign(self, content: bytes, local: str, peer: str) -> bytes:
        said = content + f"{local} {peer}".encode()
        return hmac.new(self._secret, said, hashlib.sha256).digest()[:_MAC_SIZE]

    @staticmethod
    def _reply(packet: Packet, tag: int, chunks: list[tuple[int, int, bytes]]) -> list[bytes]:
        if not chunks:
            return []
        back = (Chunk(*chunk) for chunk in chunks)
        return [build(Packet(packet.destination_port, packet.source_port, tag, tuple(back)))]
