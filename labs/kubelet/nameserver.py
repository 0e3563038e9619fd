"""A name server in every pod's network namespace, all of them served by one event loop."""

from __future__ import annotations

import asyncio
import errno
import logging
import re
import socket
import struct
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from labs.kubelet import netns
from labs.kubelet.names import DOMAIN, NAMESERVER, Objects, records, resolv_conf

_log = logging.getLogger(__name__)

PORT = 53
TTL = 5
_SMALLEST = 512  # bytes that every UDP client takes (RFC 1035)
_LARGEST = 65535
_LONGEST_CHAIN = 8
_ZONE = dns.name.from_text(".".join(DOMAIN))

Answer = Callable[[bytes, bool], bytes | None]


def answer(wire: bytes, objects: Objects | None, *, stream: bool = False) -> bytes | None:
    """The answer to a DNS message; None to one that deserves none. Without ``objects`` nothing is known yet.

    Over UDP (not ``stream``) an answer that is too long is cut, which makes the client ask again over TCP.
    """
    try:
        query = dns.message.from_wire(wire)
        response = dns.message.make_response(query, recursion_available=True)
    except dns.exception.DNSException:
        return None
    response.set_rcode(_fill(query, response, objects))
    payload = max(query.payload, _SMALLEST) if query.edns >= 0 else _SMALLEST
    return response.to_wire(max_size=_LARGEST if stream else payload, prefer_truncation=True)


def _fill(query: dns.message.Message, response: dns.message.Message, objects: Objects | None) -> dns.rcode.Rcode:
    if query.opcode() != dns.opcode.QUERY:
        return dns.rcode.NOTIMP
    if len(query.question) != 1:
        return dns.rcode.FORMERR
    if query.question[0].rdclass != dns.rdataclass.IN:
        return dns.rcode.REFUSED
    if objects is None:
        return dns.rcode.SERVFAIL
    name, wanted = query.question[0].name, dns.rdatatype.to_text(query.question[0].rdtype)
    if not name.is_subdomain(_ZONE):
        return dns.rcode.NXDOMAIN  # a lab has nobody to ask about the rest of the world
    response.flags |= dns.flags.AA
    for _ in range(_LONGEST_CHAIN):
        found = records([label.lower().decode("latin-1") for label in name.labels[:-1]], objects)
        if found is None:
            return dns.rcode.NXDOMAIN
        kind = wanted if wanted in found or "CNAME" not in found else "CNAME"
        if kind not in found:
            break
        response.answer.append(dns.rrset.from_text_list(name, TTL, "IN", kind, found[kind]))
        if kind == wanted:
            break
        name = dns.name.from_text(found[kind][0])
        if not name.is_subdomain(_ZONE):
            break
    return dns.rcode.NOERROR


def files(namespace: str) -> dict[str, str]:
    """The files of /etc by which a pod in ``namespace`` finds its name server, and asks nobody else."""
    out = {"resolv.conf": resolv_conf(namespace)}
    switch = Path("/etc/nsswitch.conf")
    if switch.exists():  # a host's own resolver daemon, where one is named here, knows nothing of the cluster
        out[switch.name] = re.sub(r"^hosts:.*$", "hosts: files dns", switch.read_text(), flags=re.MULTILINE)
    return out


@dataclass(slots=True)
class _Place:
    """What answers in one namespace."""

    transport: asyncio.DatagramTransport
    server: asyncio.Server
    connections: set[asyncio.Transport] = field(default_factory=set)


class NameServers:
    """Name servers on ``loop``, which runs in another thread. Methods are safe from any thread but the loop's."""

    def __init__(self, loop: asyncio.AbstractEventLoop, objects: Callable[[], Objects | None]) -> None:
        self._loop = loop
        self._objects = objects
        self._places: dict[str, _Place] = {}

    def serve(self, key: str, namespace: str) -> None:
        """Answer inside the network namespace ``namespace``, in place of what ``key`` served.

        Raises :class:`OSError` when somebody else is there already, or the namespace is gone.
        """
        self.stop(key)
        udp, tcp = netns.run_in(namespace, _sockets)
        asyncio.run_coroutine_threadsafe(self._attach(key, udp, tcp), self._loop).result()

    def stop(self, key: str) -> None:
        """Stop what :meth:`serve` started for ``key``; nothing there is fine."""
        if key in self._places:
            asyncio.run_coroutine_threadsafe(self._detach(key), self._loop).result()

    def close(self) -> None:
        """Stop everything."""
        for key in list(self._places):
            self.stop(key)

    async def _attach(self, key: str, udp: socket.socket, tcp: socket.socket) -> None:
        connections: set[asyncio.Transport] = set()
        transport, _ = await self._loop.create_datagram_endpoint(lambda: _Datagrams(self._answer), sock=udp)
        server = await self._loop.create_server(lambda: _Stream(self._answer, connections), sock=tcp)
        self._places[key] = _Place(transport, server, connections)

    async def _detach(self, key: str) -> None:
        place = self._places.pop(key, None)
        if place is None:
            return
        place.transport.abort()
        place.server.close()
        for connection in tuple(place.connections):
            connection.abort()
        await asyncio.sleep(0)  # transports close their sockets in the loop's next turn

    def _answer(self, wire: bytes, stream: bool) -> bytes | None:
        try:
            return answer(wire, self._objects(), stream=stream)
        except Exception:  # whatever an object or a client holds, other pods' names are still answered
            _log.exception("no answer to %r", wire)
            return None


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, reply: Answer) -> None:
        self._reply = reply

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        said = self._reply(data, False)
        if said is not None:
            self._transport.sendto(said, addr)


class _Stream(asyncio.Protocol):
    """Messages with their length in front (RFC 1035 4.2.2), as many as come."""

    def __init__(self, reply: Answer, connections: set[asyncio.Transport]) -> None:
        self._reply = reply
        self._connections = connections
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._connections.add(self._transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while len(self._buffer) >= 2 and len(self._buffer) >= (end := 2 + struct.unpack("!H", self._buffer[:2])[0]):
            said, self._buffer = self._reply(self._buffer[2:end], True), self._buffer[end:]
            if said is None:
                self._transport.close()
                return
            self._transport.write(struct.pack("!H", len(said)) + said)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self._transport)


def _sockets() -> tuple[socket.socket, socket.socket]:
    """UDP and TCP, in the calling thread's namespace; a container of the pod may have the same port elsewhere."""
    with ExitStack() as undo:
        out = []
        for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
            sock = socket.socket(socket.AF_INET, kind)
            undo.callback(sock.close)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if kind == socket.SOCK_STREAM:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of an earlier process linger
            try:
                sock.bind((NAMESERVER, PORT))
            except OSError as error:
                raise OSError(error.errno or errno.EIO, f"name server {NAMESERVER}:{PORT}: {error.strerror}") from error
            sock.setblocking(False)
            out.append(sock)
        undo.pop_all()
    return out[0], out[1]
