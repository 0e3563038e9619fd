"""Keeps the virtual addresses of Services in step while this replica leads: follows services, decides, writes.

Everything is written in one thread, one object after the other, so what is known of an object is never older than our last
write to it.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from ncp.kube.client import Kube
from ncp.kube.errors import ApiError
from ncp.kube.reflector import Reflector
from ncp.kube.resources import SERVICES
from ncp.manager.balancers import Balancers, Verdict
from ncp.manager.demand import LoadBalancing, demand
from ncp.manager.metrics import PoolUsage
from ncp.manager.outbox import Key
from ncp.manager.records import CLUSTER

log = logging.getLogger(__name__)

Json = dict[str, Any]
RETRY: Final = 2.0
"""Seconds until an object is tried again that could not be written, or that does not keep what is written."""


class Seen(NamedTuple):
    """A service as the API shows it; None: gone."""

    key: Key
    obj: Json | None


class VirtualAddresses:
    """Gives services of type LoadBalancer their addresses, in a thread of its own."""

    def __init__(self, kube: Kube, settings: LoadBalancing, leading: Callable[[], bool]) -> None:
        self._kube, self._leading = kube, leading
        self._books = Balancers(settings)
        self._lock = threading.Lock()  # statistics are read from another thread
        self._inbox: queue.SimpleQueue[Seen | float | None] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._versions: dict[Key, tuple[str, int]] = {}  # uid and resourceVersion of what the books know
        self._tried: dict[Key, tuple[Verdict, float]] = {}  # the last one, and when it may be written again
        self._later: dict[Key, float] = {}  # when to look at a service again
        self.reflector = Reflector(kube, SERVICES, lambda key, old, new: self._inbox.put(Seen(key, new)))
        self._thread = threading.Thread(target=self._run, name="virtual-addresses", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self.reflector.start()
        self._thread.start()

    def stop(self) -> None:
        """End; nothing is written after this returns."""
        self._stopping.set()
        self.reflector.stop()
        self._inbox.put(None)
        self._thread.join(timeout=5.0)

    def set_rest(self, seconds: float) -> None:
        """For how long others are given before an address that is released from now on."""
        self._inbox.put(seconds)

    def usage(self) -> tuple[PoolUsage, ...]:
        """Addresses of each pool and family."""
        with self._lock:
            return tuple(PoolUsage(name, family, *counts) for name, family, counts in self._books.usage())

    def waiting(self) -> int:
        """How many services wait for an address."""
        with self._lock:
            return len(self._books.failures)

    def _run(self) -> None:
        while not self.reflector.synced.wait(0.05):
            if self._stopping.is_set():
                return
        pause: float | None = 0.0
        while not self._stopping.is_set():
            self._take(pause)
            try:
                with self._lock:
                    verdicts = self._books.decisions(time.time())
            except Exception:  # an object in a shape nobody foresaw must not end the addresses of all others
                log.exception("virtual addresses could not be decided")
                verdicts = []
            for verdict in verdicts:
                self._carry_out(verdict)
            pause = 0.0 if verdicts else self._pause()

    def _pause(self) -> float | None:
        return max(min(self._later.values()) - time.monotonic(), 0.001) if self._later else None

    def _take(self, pause: float | None) -> None:
        """What came, or comes within ``pause`` seconds, goes into the books."""
        try:
            self._note(self._inbox.get(timeout=pause) if pause != 0.0 else self._inbox.get_nowait())
            while not self._inbox.empty():
                self._note(self._inbox.get())
        except queue.Empty:
            pass
        now = time.monotonic()
        for key in [key for key, due in self._later.items() if due <= now]:
            del self._later[key]
            self._books.look_again(key)

    def _note(self, message: Seen | float | None) -> None:
        if isinstance(message, Seen):
            self._see(message.key, message.obj)
        elif message is not None:
            self._books.set_rest(message)

    def _see(self, key: Key, obj: Json | None) -> None:
        if obj is None:
            for each in (self._versions, self._tried, self._later):
                each.pop(key, None)
        else:
            uid, version = obj["metadata"].get("uid", ""), str(obj["metadata"].get("resourceVersion", ""))
            number = int(version) if version.isdigit() else 0
            known = self._versions.get(key)
            if known is not None and known[0] == uid and number < known[1]:
                return  # we know our own write, which came after this
            self._versions[key] = (uid, number)
        try:
            found = demand(obj) if obj else None
        except Exception:
            log.exception("Service %s/%s cannot be read", *key)
            return
        with self._lock:
            self._books.see(key, found)

    def _carry_out(self, verdict: Verdict) -> None:
        """Write a decision; one that was written just now, and is not kept, waits: somebody else may write as well."""
        key, now = verdict.key, time.monotonic()
        tried, due = self._tried.get(key, (None, 0.0))
        if self._stopping.is_set():
            return
        if not self._leading() or (tried == verdict and now < due):
            self._later[key] = max(due, now + 0.1)
            return
        self._tried[key] = (verdict, now + RETRY)
        try:
            written = self._write(verdict)
        except ApiError as error:
            log.warning("Service %s/%s: its addresses could not be written: %s; trying again", *key, error)
            self._later[key] = now + RETRY
            return
        self._see(key, written)
        self._tell(written, verdict)

    def _write(self, verdict: Verdict) -> Json:
        """First the annotation that says whose the addresses are, then those; the other way round where they go."""
        steps = [self._annotate] if verdict.annotations else []
        if verdict.ingress is not None:
            steps.append(self._show)
        if verdict.annotations.get(CLUSTER, "") is None:
            steps.reverse()
        written: Json = {}
        for step in steps:
            written = step(verdict)
        return written

    def _annotate(self, verdict: Verdict) -> Json:
        (namespace, name), meta = verdict.key, {"uid": verdict.uid, "annotations": verdict.annotations}
        return self._kube.patch(SERVICES, name, namespace, body={"metadata": meta})

    def _show(self, verdict: Verdict) -> Json:
        (namespace, name), shown = verdict.key, [{"ip": str(each), "ipMode": "VIP"} for each in verdict.ingress or ()]
        body = {"metadata": {"uid": verdict.uid}, "status": {"loadBalancer": {"ingress": shown or None}}}
        return self._kube.patch(SERVICES, name, namespace, body=body, subresource="status")

    def _tell(self, about: Json, verdict: Verdict) -> None:
        """Events are for people: one that cannot be written is logged, and nothing else waits for it."""
        event = verdict.event
        if event is None:
            return
        kind = "Warning" if event.is_warning else "Normal"
        log.log(
            logging.WARNING if event.is_warning else logging.INFO, "Service %s/%s: %s: %s", *verdict.key, *event[1:]
        )
        try:
            self._kube.event(about, reason=event.reason, message=event.message, type=kind, component="ncp-manager")
        except ApiError as error:
            log.warning("Service %s/%s: event not recorded: %s", *verdict.key, error)
