"""healthCheckNodePort: load balancers outside ask a node by HTTP whether a service has endpoints on it, as they ask kube-proxy."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import orjson

from ncp.plumbing.namespace import Namespace

log = logging.getLogger(__name__)

SECONDS: Final = 5.0
"""A request must be there, and its answer taken, within so long."""
BACKLOG: Final = 64


class HealthCheck(NamedTuple):
    """What is answered at a port: the service, and its ready endpoints on this node."""

    namespace: str
    name: str
    endpoints: int


class HealthPorts:
    """Serves ports in the node's namespace (by name or path; empty: the process's own), all on one thread.

    ``on_failing`` is told how many ports cannot be had, after each :meth:`serve`.
    """

    def __init__(self, netns: str = "", on_failing: Callable[[int], None] = lambda ports: None) -> None:
        self._node = Namespace(netns, threads=1)
        self._on_failing = on_failing
        self._checks: Mapping[int, HealthCheck] = {}
        self._servers: dict[int, asyncio.Server] = {}
        self._failing: dict[int, str] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    def serve(self, checks: Mapping[int, HealthCheck]) -> None:
        """Answer at exactly these ports from now on. One that cannot be had is logged, and tried again at the next call."""
        self._checks = dict(checks)
        if checks.keys() == self._servers.keys() and not self._failing:
            return
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._loop.run_forever, name="health-ports", daemon=True)
            self._thread.start()
        for port in self._servers.keys() - checks.keys():
            self._loop.call_soon_threadsafe(self._servers.pop(port).close)
        failing = {port: why for port in sorted(checks.keys() - self._servers.keys()) if (why := self._open(port))}
        for port, why in failing.items():
            if self._failing.get(port) != why:
                check = checks[port]
                log.warning(
                    "Service %s/%s: spec.healthCheckNodePort: %d cannot be served on this node: %s; trying again",
                    *(check.namespace, check.name, port, why),
                )
        self._failing = failing
        self._on_failing(len(failing))

    def close(self) -> None:
        """Free every port."""
        self.serve({})
        if self._loop is not None:
            asyncio.run_coroutine_threadsafe(_end_answers(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
            self._loop = None
        self._node.close()

    def _open(self, port: int) -> str:
        """Begin to answer at a port; empty, or why that is not possible."""
        assert self._loop is not None
        try:
            listening = self._node.call(lambda ipr: _listening(port))
        except OSError as error:
            return os.strerror(error.errno) if error.errno else str(error)

        async def begin() -> asyncio.Server:
            return await asyncio.start_server(lambda *streams: self._answer(port, *streams), sock=listening)

        self._servers[port] = asyncio.run_coroutine_threadsafe(begin(), self._loop).result()
        return ""

    async def _answer(self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(SECONDS):
                await reader.readuntil(b"\r\n\r\n")
                if (check := self._checks.get(port)) is not None:
                    writer.write(answer(check))
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            log.debug("health check port %d: %s", port, error)
        finally:
            writer.close()


async def _end_answers() -> None:
    under_way = asyncio.all_tasks() - {asyncio.current_task()}
    for each in under_way:
        each.cancel()
    await asyncio.gather(*under_way, return_exceptions=True)


def answer(check: HealthCheck) -> bytes:
    """The HTTP response, with the fields that kube-proxy's has."""
    service = {"namespace": check.namespace, "name": check.name}
    body = orjson.dumps({"service": service, "localEndpoints": check.endpoints})
    head = (
        f"HTTP/1.1 {'200 OK' if check.endpoints else '503 Service Unavailable'}",
        "Content-Type: application/json",
        "X-Content-Type-Options: nosniff",
        f"X-Load-Balancing-Endpoint-Weight: {check.endpoints}",
        f"Content-Length: {len(body)}",
        "Connection: close",
    )
    return "\r\n".join((*head, "", "")).encode() + body


def _listening(port: int) -> socket.socket:
    """A socket on every address of both families, or of IPv4 where the kernel has no other."""
    dual = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if dual else socket.AF_INET
    return socket.create_server(("", port), family=family, backlog=BACKLOG, dualstack_ipv6=dual)
