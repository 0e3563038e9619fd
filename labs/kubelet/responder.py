"""One event loop that answers on every container port of every pod.

Sockets are made inside a pod's network namespace, by a thread that enters it, and are served from there by the one
loop: a socket keeps the namespace it was born in. TCP uses one dual-stack socket a port; UDP one a family, because an
answer has to leave from the very address that was asked (behind a virtual server that need not be the pod's first
one); SCTP one raw socket a family for all ports of the pod.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import struct
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from labs.kubelet import netns, sctp
from labs.kubelet.answers import exchange, message, peer_text
from sdn.sctp import PROTOCOL as SCTP

_log = logging.getLogger(__name__)

_IP_PKTINFO = 8
_BACKLOG = 512
_DATAGRAM = 65535
_ANCILLARY = 256
_BURST = 64  # datagrams taken in one turn, so that one busy socket does not starve the others


class Port(NamedTuple):
    """A container port to answer on; ``protocol`` is ``TCP``, ``UDP`` or ``SCTP``."""

    container: str
    number: int
    protocol: str


class Journal:
    """The log files of one pod: one per container, one line a served request."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._files: dict[str, int] = {}

    def write(self, container: str, line: str) -> None:
        """Append ``line`` with the time in front."""
        descriptor = self._files.get(container)
        if descriptor is None:
            self.directory.mkdir(parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            descriptor = self._files[container] = os.open(self.directory / f"{container}.log", flags, 0o644)
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        os.write(descriptor, f"{stamp} {line}\n".encode())

    def close(self) -> None:
        """Close the files; a later line opens them again."""
        for descriptor in self._files.values():
            os.close(descriptor)
        self._files.clear()


@dataclass(slots=True)
class _Service:
    """What answers for one pod."""

    name: str
    journal: Journal
    sockets: list[tuple[socket.socket, tuple[Port, ...]]]
    servers: list[asyncio.Server] = field(default_factory=list)
    watched: list[socket.socket] = field(default_factory=list)
    connections: set[asyncio.Transport] = field(default_factory=set)


class Responders:
    """Responders of many pods on one loop, which runs in a thread of its own. All methods are safe from any thread."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="responders", daemon=True)
        self._services: dict[str, _Service] = {}
        self._thread.start()

    def serve(
        self, key: str, namespace: str, name: str, ports: Iterable[Port], directory: Path, *, shared: int = 0
    ) -> None:
        """Answer as ``name`` on ``ports`` inside network namespace ``namespace``, in place of what ``key`` served.

        A port of the number ``shared`` may be had by others of this process too, at an address of their own. Requests are logged below ``directory``. Raises :class:`OSError` when a port is taken (its text names the
        port) or when the namespace is gone.
        """
        self.stop(key)
        wanted = tuple(dict.fromkeys(ports))
        sockets = netns.run_in(namespace, lambda: _open_all(wanted, shared)) if wanted else []
        service = _Service(name, Journal(directory), sockets)
        asyncio.run_coroutine_threadsafe(self._attach(key, service), self.loop).result()

    def stop(self, key: str) -> None:
        """Stop what :meth:`serve` started for ``key``: connections are cut, ports freed; nothing there is fine."""
        if key in self._services:
            asyncio.run_coroutine_threadsafe(self._detach(key), self.loop).result()

    def close(self) -> None:
        """Stop everything and the loop."""
        for key in list(self._services):
            self.stop(key)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    async def _attach(self, key: str, service: _Service) -> None:
        for sock, ports in service.sockets:
            if sock.type == socket.SOCK_STREAM:
                port = ports[0]
                server = await self.loop.create_server(lambda port=port: _Stream(service, port), sock=sock)
                service.servers.append(server)
                continue
            receive = (
                _datagrams(service, sock, ports[0]) if sock.type == socket.SOCK_DGRAM else _raw(service, sock, ports)
            )
            self.loop.add_reader(sock, receive)
            service.watched.append(sock)
        self._services[key] = service

    async def _detach(self, key: str) -> None:
        service = self._services.pop(key, None)
        if service is None:
            return
        for server in service.servers:
            server.close()
        for connection in tuple(service.connections):
            connection.abort()
        for sock in service.watched:
            self.loop.remove_reader(sock)
            sock.close()
        service.journal.close()


class _Stream(asyncio.Protocol):
    """One TCP connection: HTTP requests or plain lines, mixed as they come."""

    def __init__(self, service: _Service, port: Port) -> None:
        self._service = service
        self._port = port
        self._buffer = b""
        self._peer = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._peer = peer_text(*transport.get_extra_info("peername", ("0.0.0.0", 0))[:2])
        self._service.connections.add(transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (done := exchange(self._buffer, self._service.name, self._peer)) is not None:
            self._buffer = self._buffer[done.size :]
            # First the log, then the answer: who has the answer finds its line.
            self._service.journal.write(self._port.container, _line(self._port, self._peer, done.asked))
            self._transport.write(done.answer)
            if done.close:
                self._transport.close()
                return
            if not self._buffer:
                return

    def connection_lost(self, exc: Exception | None) -> None:
        self._service.connections.discard(self._transport)


def _datagrams(service: _Service, sock: socket.socket, port: Port) -> Callable[[], None]:
    """What to call when the UDP socket ``sock`` can be read."""

    def receive() -> None:
        for payload, control, source in _burst(sock):
            peer = peer_text(source[0], source[1])
            asked = payload[:200].strip().decode("utf-8", "replace")
            service.journal.write(port.container, _line(port, peer, asked))
            _send(sock, message(payload, service.name, peer), control, source)

    return receive


def _raw(service: _Service, sock: socket.socket, ports: tuple[Port, ...]) -> Callable[[], None]:
    """What to call when the raw SCTP socket ``sock`` can be read."""
    by_number = {port.number: port for port in ports}

    def answer(number: int, payload: bytes, host: str, peer_port: int) -> bytes:
        peer = peer_text(host, peer_port)
        asked = payload[:200].strip().decode("utf-8", "replace")
        service.journal.write(by_number[number].container, _line(by_number[number], peer, asked))
        return message(payload, service.name, peer)

    endpoint = sctp.Endpoint(frozenset(by_number), answer)

    def receive() -> None:
        for packet, control, source in _burst(sock):
            payload, local = packet, _asked_address(sock, control)
            if sock.family == socket.AF_INET:  # a raw IPv4 socket hands out the IP header as well
                payload, local = packet[(packet[0] & 15) * 4 :], socket.inet_ntoa(packet[16:20])
            for reply in endpoint.receive(payload, local, source[0]):
                _send(sock, reply, control, (source[0], 0, *source[2:]))

    return receive


def _line(port: Port, peer: str, asked: str) -> str:
    return f"{peer} {port.protocol}/{port.number} {asked}"


_Ancillary = list[tuple[int, int, bytes]]


def _burst(sock: socket.socket) -> Iterable[tuple[bytes, _Ancillary, tuple]]:  # type: ignore[type-arg]
    for _ in range(_BURST):
        try:
            payload, control, _, source = sock.recvmsg(_DATAGRAM, _ANCILLARY)
        except BlockingIOError:
            return
        except OSError as error:  # an ICMP error about an earlier answer is reported on the next receive
            _log.debug("receive on %s: %s", sock, error)
            continue
        yield payload, control, source


def _send(sock: socket.socket, payload: bytes, control: _Ancillary, target: tuple) -> None:  # type: ignore[type-arg]
    """Send to ``target`` from the address that ``control`` says was asked."""
    try:
        sock.sendmsg([payload], _from_same_address(control), 0, target)
    except OSError as error:  # the peer is unreachable, or its buffers are full: datagrams may be lost
        _log.info("answer to %s not sent: %s", target, error)


def _from_same_address(control: _Ancillary) -> _Ancillary:
    out: _Ancillary = []
    for level, kind, content in control:
        if level == socket.IPPROTO_IP and kind == _IP_PKTINFO:
            # ipi_addr is where the packet was sent to; as ipi_spec_dst it becomes our source. The route picks the
            # interface.
            out.append((level, kind, struct.pack("@i4s4s", 0, content[8:12], b"\0" * 4)))
        elif level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO:
            index = struct.unpack("@I", content[16:20])[0] if content[:2] == b"\xfe\x80" else 0
            out.append((level, kind, content[:16] + struct.pack("@I", index)))
    return out


def _asked_address(sock: socket.socket, control: _Ancillary) -> str:
    for level, kind, content in control:
        if level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO:
            return socket.inet_ntop(socket.AF_INET6, content[:16])
    return sock.getsockname()[0]


def _open_all(ports: tuple[Port, ...], shared: int) -> list[tuple[socket.socket, tuple[Port, ...]]]:
    """The sockets for ``ports``, in the calling thread's namespace; on failure none stays open."""
    families = _families()
    by_protocol: dict[str, list[Port]] = defaultdict(list)
    seen: set[tuple[str, int]] = set()
    for port in ports:
        if (port.protocol, port.number) not in seen:  # two containers of a pod cannot both have a port
            seen.add((port.protocol, port.number))
            by_protocol[port.protocol].append(port)
    out: list[tuple[socket.socket, tuple[Port, ...]]] = []
    with ExitStack() as undo:

        def keep(sock: socket.socket, *served: Port) -> None:
            undo.callback(sock.close)
            out.append((sock, served))

        for port in by_protocol["TCP"]:
            keep(_named(port, lambda port=port: _tcp(families, port.number, port.number == shared)), port)
        for port in by_protocol["UDP"]:
            for family in families:
                share = port.number == shared
                keep(_named(port, lambda port=port, family=family, share=share: _udp(family, port.number, share)), port)
        if by_protocol["SCTP"]:
            for family in families:
                keep(_sctp(family), *by_protocol["SCTP"])
        undo.pop_all()
    return out


def _families() -> tuple[socket.AddressFamily, ...]:
    return (socket.AF_INET, socket.AF_INET6) if socket.has_dualstack_ipv6() else (socket.AF_INET,)


def _named(port: Port, make: Callable[[], socket.socket]) -> socket.socket:
    try:
        return make()
    except OSError as error:
        text = f"container {port.container}: port {port.number}/{port.protocol}: {error.strerror}"
        raise OSError(error.errno or errno.EIO, text) from error


def _tcp(families: tuple[socket.AddressFamily, ...], port: int, share: bool) -> socket.socket:
    dual = socket.AF_INET6 in families
    sock = socket.create_server(
        ("::" if dual else "0.0.0.0", port),
        family=socket.AF_INET6 if dual else socket.AF_INET,
        backlog=_BACKLOG,
        reuse_port=share,
        dualstack_ipv6=dual,
    )
    sock.setblocking(False)
    return sock


def _udp(family: socket.AddressFamily, port: int, share: bool) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        _ask_for_address(sock)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if share:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", port))
    except OSError:
        sock.close()
        raise
    return sock


def _sctp(family: socket.AddressFamily) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_RAW | socket.SOCK_NONBLOCK, SCTP)
    try:
        _ask_for_address(sock)
    except OSError:
        sock.close()
        raise
    return sock


def _ask_for_address(sock: socket.socket) -> None:
    """Have the kernel tell, with every datagram, which of our addresses it was sent to."""
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
