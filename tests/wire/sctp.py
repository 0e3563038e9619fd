"""An SCTP client over a raw socket: the kernel of a test machine need not know the protocol."""

from __future__ import annotations

import random
import socket
import struct

from sdn.sctp import COOKIE_ACK, COOKIE_ECHO, DATA, INIT, INIT_ACK, PROTOCOL, Chunk, Packet, build, parse


class Association:
    """An association, opened where it is made (RFC 9260 section 5.1). Raises TimeoutError, or ConnectionError where it is aborted."""

    def __init__(self, address: str, port: int, timeout: float = 2.0) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._sock = socket.socket(family, socket.SOCK_RAW, PROTOCOL)
        self._sock.settimeout(timeout)
        self._sock.connect((address, 0))
        self._ports = random.randrange(32768, 61000), port
        self._tag, self._tsn = random.randrange(1, 1 << 32), random.randrange(1 << 32)
        self._streams = 0
        try:
            answer = self._ask(0, Chunk(INIT, 0, struct.pack("!IIHHI", self._tag, 65536, 1, 1, self._tsn)), INIT_ACK)
            self._peer_tag = int.from_bytes(answer.body[:4], "big")
            length = int.from_bytes(answer.body[18:20], "big")
            self._ask(self._peer_tag, Chunk(COOKIE_ECHO, 0, answer.body[20 : 16 + length]), COOKIE_ACK)
        except BaseException:
            self._sock.close()
            raise

    def says(self, line: bytes = b"who\n") -> str:
        """What is answered to a line."""
        head = struct.pack("!IHHI", self._tsn, 0, self._streams, 0)
        answer = self._ask(self._peer_tag, Chunk(DATA, 3, head + line), DATA)
        self._tsn, self._streams = (self._tsn + 1) & 0xFFFFFFFF, self._streams + 1
        return answer.body[12:].decode().strip()

    def _ask(self, tag: int, chunk: Chunk, expected: int) -> Chunk:
        self._sock.send(build(Packet(*self._ports, tag, (chunk,))))
        while True:
            raw = self._sock.recv(65535)
            packet = parse(raw[(raw[0] & 15) * 4 :] if self._sock.family == socket.AF_INET else raw)
            if packet is None or (packet.destination_port, packet.source_port) != self._ports:
                continue
            if packet.tag != self._tag:
                raise ConnectionError(f"tag {packet.tag:#x} is not ours")
            for each in packet.chunks:
                if each.type == expected:
                    return each
            if packet.chunks[0].type == 6:
                raise ConnectionRefusedError("aborted")

    def close(self) -> None:
        """Forget it, without a word to the other side."""
        self._sock.close()


def ask(address: str, port: int, line: bytes = b"who") -> str:
    """Who answers two lines of one association; ``refused`` or ``silence`` where nobody does."""
    try:
        found = Association(address, port)
    except TimeoutError:
        return "silence"
    except ConnectionRefusedError:
        return "refused"
    try:
        first, second = found.says(line + b"\n"), found.says(line + b"\n")
        return first if first == second else f"{first}, then {second}"
    except TimeoutError:
        return "silence"
    finally:
        found.close()
