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

from labs.cluster.view import View
from labs.kubelet import netns
from labs.kubelet.messages import answer
from labs.kubelet.names import NAMESERVER, Objects, resolv_conf
from ncp.kube.client import Kube
from ncp.kube.errors import ApiError
from ncp.kube.resources import ENDPOINT_SLICES, SERVICES

_log = logging.getLogger(__name__)

PORT = 53

Answer = Callable[[bytes, bool], bytes | None]


def files(namespace: str) -> dict[str, str]:
    """The files of /etc by which a pod in ``namespace`` finds its name server, and asks nobody else."""
    out = {"resolv.conf": resolv_conf(namespace)}
    switch = Path("/etc/nsswitch.conf")
    if switch.exists():  # a host's own resolver daemon, where one is named here, knows nothing of the cluster
        out[switch.name] = re.sub(r"^hosts:.*$", "hosts: files dns", switch.read_text(), flags=re.MULTILINE)
    return out


def watched(kube: Kube) -> View:
    """What names are about."""
    try:
        sliced = "v1" in kube.versions(ENDPOINT_SLICES.group)
    except ApiError:  # the server is away
        sliced = True
    return View(kube, (SERVICES, ENDPOINT_SLICES) if sliced else (SERVICES,), lambda *_: None)


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
