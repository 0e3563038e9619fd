"""Readiness, liveness and startup probes, sent from the node's network namespace as a kubelet sends them."""

from __future__ import annotations

import asyncio
import logging
import socket
import subprocess
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, NamedTuple

from labs.kubelet import netns
from labs.kubelet.status import Health

_log = logging.getLogger(__name__)

Json = dict[str, Any]
_NOT_FOUND = 127  # a shell's exit code for a program that is not there
_KINDS = ("startupProbe", "readinessProbe", "livenessProbe")


class Target(NamedTuple):
    """Where a pod is probed: from its node's namespace, at its first address, commands in the pod's namespace."""

    uid: str
    pod: Json
    address: str
    netns: str
    node_netns: str


class Prober:
    """Runs all probes on one event loop.

    ``changed(uid)`` is called when a container's health changed, ``failed(uid, container, why)`` when a liveness or
    startup probe gave its container up; both from the loop's thread.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        changed: Callable[[str], None],
        failed: Callable[[str, str, str], None],
    ) -> None:
        self._loop = loop
        self._changed = changed
        self._failed = failed
        self._lock = threading.Lock()
        self._health: dict[str, dict[str, Health]] = {}
        self._tasks: dict[str, list[asyncio.Task[None]]] = {}

    def start(self, target: Target) -> None:
        """Begin probing a pod from scratch, in place of what was probed under its uid. Safe from any thread."""
        self.stop(target.uid)
        probed = [each for each in target.pod["spec"].get("containers") or () if any(each.get(k) for k in _KINDS)]
        health = {
            each["name"]: Health(not each.get("startupProbe"), not (each.get("startupProbe") or each.get(_KINDS[1])))
            for each in probed
        }
        with self._lock:
            self._health[target.uid] = health
        if probed:
            self._loop.call_soon_threadsafe(self._begin, target, probed)

    def stop(self, uid: str) -> None:
        """Stop probing a pod; one that is not probed is fine. Safe from any thread."""
        with self._lock:
            known = self._health.pop(uid, None)
        if known:
            self._loop.call_soon_threadsafe(self._end, uid)

    def health(self, uid: str) -> dict[str, Health]:
        """Health of the probed containers of a pod by name; a container without probes is not in it."""
        with self._lock:
            return dict(self._health.get(uid, {}))

    def _begin(self, target: Target, containers: list[Json]) -> None:
        self._end(target.uid)
        tasks = [self._loop.create_task(self._follow(target, container)) for container in containers]
        for task in tasks:
            task.add_done_callback(_tell_crash)
        self._tasks[target.uid] = tasks

    def _end(self, uid: str) -> None:
        for task in self._tasks.pop(uid, ()):
            task.cancel()

    async def _follow(self, target: Target, container: Json) -> None:
        """Probe one container until it is stopped or given up."""
        name = container["name"]
        startup, readiness, liveness = (container.get(kind) for kind in _KINDS)
        if startup:
            if not await self._alive(target, container, startup, until_success=True):
                self._failed(target.uid, name, "Startup probe failed")
                return
            self._set(target.uid, name, Health(True, not readiness))
        jobs: list[Coroutine[Any, Any, None]] = []
        if readiness:
            jobs.append(self._ready(target, container, readiness))
        if liveness:
            jobs.append(self._live(target, container, liveness))
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*jobs)

    async def _live(self, target: Target, container: Json, probe: Json) -> None:
        await self._alive(target, container, probe, until_success=False)
        self._failed(target.uid, container["name"], "Liveness probe failed")

    async def _alive(self, target: Target, container: Json, probe: Json, *, until_success: bool) -> bool:
        """Probe until failed for good (False), or with ``until_success`` until it succeeded (True)."""
        await asyncio.sleep(probe.get("initialDelaySeconds") or 0)
        failures = 0
        while True:
            why = await attempt(target, container, probe)
            failures = failures + 1 if why else 0
            if until_success and not why:
                return True
            if failures >= (probe.get("failureThreshold") or 3):
                return False
            await asyncio.sleep(probe.get("periodSeconds") or 10)

    async def _ready(self, target: Target, container: Json, probe: Json) -> None:
        await asyncio.sleep(probe.get("initialDelaySeconds") or 0)
        ready, streak = False, 0
        while True:
            good = not await attempt(target, container, probe)
            streak = streak + 1 if good != ready else 0
            threshold = (probe.get("successThreshold") or 1) if good else (probe.get("failureThreshold") or 3)
            if streak >= threshold:
                ready, streak = good, 0
                self._set(target.uid, container["name"], Health(True, ready))
            await asyncio.sleep(probe.get("periodSeconds") or 10)

    def _set(self, uid: str, container: str, health: Health) -> None:
        with self._lock:
            held = self._health.get(uid)
            if held is None or held.get(container) == health:
                return
            held[container] = health
        self._changed(uid)


def _tell_crash(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("a probe stopped for good", exc_info=error)


async def attempt(target: Target, container: Json, probe: Json) -> str:
    """Probe once; the empty string is success, else the text says what went wrong.

    ``grpc`` and ``httpGet`` over HTTPS only connect: nothing here speaks those. A program that ``exec`` names, or that
    its shell does not find, counts as success: there is no image it could come from.
    """
    timeout = probe.get("timeoutSeconds") or 1
    try:
        return await asyncio.wait_for(_one(target, container, probe, timeout), timeout)
    except TimeoutError:
        return f"no answer within {timeout} s"
    except (OSError, ValueError) as error:
        return str(error)


async def _one(target: Target, container: Json, probe: Json, timeout: float) -> str:
    if action := probe.get("exec"):
        return await asyncio.to_thread(_execute, target, action.get("command") or [], timeout)
    action = probe.get("httpGet") or probe.get("tcpSocket") or probe.get("grpc")
    if action is None:
        raise ValueError(f"the probe has none of exec, httpGet, tcpSocket, grpc: {sorted(probe)}")
    host, port = action.get("host") or target.address, _number(container, action["port"])
    sock = await asyncio.to_thread(netns.run_in, target.node_netns, lambda: _socket(host))
    with sock:
        await asyncio.get_running_loop().sock_connect(sock, (host, port))
        if "httpGet" not in probe or action.get("scheme", "HTTP") == "HTTPS":
            return ""
        return await _get(sock, host, port, action)


async def _get(sock: socket.socket, host: str, port: int, action: Json) -> str:
    reader, writer = await asyncio.open_connection(sock=sock)
    try:
        given = {each["name"].lower(): each["value"] for each in action.get("httpHeaders") or ()}
        named = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        headers = {"host": named, "user-agent": "kube-probe/1.32", "accept": "*/*", **given, "connection": "close"}
        path = action.get("path") or "/"
        lines = [f"GET {path if path.startswith('/') else '/' + path} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        status = (await reader.readline()).split()
    finally:
        writer.close()
    if len(status) < 2 or not status[1].isdigit():
        return "the answer is not HTTP"
    code = int(status[1])
    return "" if 200 <= code < 400 else f"HTTP probe failed with statuscode: {code}"


def _socket(host: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)


def _number(container: Json, port: int | str) -> int:
    if isinstance(port, int):
        return port
    for each in container.get("ports") or ():
        if each.get("name") == port:
            return int(each["containerPort"])
    if port.isdigit():
        return int(port)
    raise ValueError(f"container {container['name']} has no port named {port!r}")


def _execute(target: Target, command: list[str], timeout: float) -> str:
    try:
        done = netns.run_in(
            target.netns, lambda: subprocess.run(command, capture_output=True, timeout=timeout, check=False)
        )
    except FileNotFoundError as error:
        if error.filename == str(netns.path(target.netns)):
            raise
        _log.debug("probe of %s: %s is not on this host; taken as passed", target.pod["metadata"]["name"], command)
        return ""
    except subprocess.TimeoutExpired:
        return f"{command[0]} did not end within {timeout} s"
    if done.returncode in (0, _NOT_FOUND):
        return ""
    return f"{command[0]} ended with {done.returncode}: {done.stdout[:200].decode('utf-8', 'replace').strip()}"
