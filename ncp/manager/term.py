"""One term as the leader: from the first list to the last decision.

The objects are listed after the lease was won, so the books start from everything the leader before could write.
All events come through one queue into one thread, which owns the books; writing is left to other threads.
"""

from __future__ import annotations

import heapq
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from ncp.kube.client import Kube
from ncp.kube.custom import CustomReflector
from ncp.kube.reflector import Reflector
from ncp.kube.resources import NAMESPACES, PODS, ROUTERS
from ncp.manager.decide import Books
from ncp.manager.demand import LoadBalancing
from ncp.manager.layout import Layout, overridden
from ncp.manager.metrics import Meters, Stats
from ncp.manager.outbox import NAMESPACE, POD, Ref
from ncp.manager.policies import PolicyStatus
from ncp.manager.rebuild import rebuild
from ncp.manager.records import namespace_record, pod_record
from ncp.manager.routers import RouterRecord, numbered, router_record
from ncp.manager.runtime import Overrides, RunTimeSettings
from ncp.manager.stats import stats_of
from ncp.manager.translations import Translations
from ncp.manager.vips import VirtualAddresses
from ncp.manager.wishes import Outward
from ncp.manager.write import Outcome, Writer, is_stale
from ncp.translate.intent import Fabric

log = logging.getLogger(__name__)

TICK: Final = 0.5
"""Seconds between looks at the lease while nothing happens."""
DRAIN: Final = 3.0
"""Seconds an orderly end waits for the last writes."""
SETTLE: Final = 5.0
"""Seconds the start waits for settings made at run time, before it goes on with the file's."""
FIRST_DELAY: Final = 0.1
LAST_DELAY: Final = 5.0


ROUTER: Final = "Router"


class Seen(NamedTuple):
    """An object as the API shows it; None: gone."""

    ref: Ref
    obj: dict[str, Any] | None
    at: float  # time.monotonic()


class Term:
    """Decides and writes until it is stopped or leads no more."""

    def __init__(
        self,
        layout: Layout,
        kube: Kube,
        leading: Callable[[], bool],
        meters: Meters | None = None,
        *,
        run_time: bool = False,
        fabric: Fabric | None = None,
        balancing: LoadBalancing | None = None,
        outward: Outward | None = None,
    ):
        self._layout, self._leading, self._meters = layout, leading, meters
        self._inbox: queue.SimpleQueue[Seen | Outcome | Overrides] = queue.SimpleQueue()
        self._settings = RunTimeSettings(kube, leading=leading, report=self._inbox.put) if run_time else None
        self._policies = PolicyStatus(kube, fabric, leading) if fabric else None
        self._kube = kube
        self._lock = threading.Lock()  # statistics are read from another thread
        self._books: Books | None = None
        self._versions: dict[Ref, tuple[str, int]] = {}  # uid and resourceVersion of what the books know
        self._refused: dict[Ref, int] = {}  # refusals in a row
        self._later: list[tuple[float, Ref]] = []  # heap: when an object that was refused is looked at again
        self._since: dict[Ref, float] = {}
        self.beat = time.monotonic()  # last sign of life
        self.reflectors = [
            Reflector(kube, NAMESPACES, self._watcher(NAMESPACE)),
            Reflector(kube, PODS, self._watcher(POD)),
        ]
        self._routers: dict[str, RouterRecord] = {}
        self._watched_routers = CustomReflector(kube, ROUTERS, self._watched_router)
        self._vips: VirtualAddresses | None = None
        self._translations: Translations | None = None
        if balancing and outward:
            known = [each.synced for each in self.reflectors]
            self._vips = VirtualAddresses(kube, balancing, leading, known, self._watched_service)
            self._translations = Translations(kube, outward, leading, [*known, self._vips.reflector.synced])

    def _watcher(self, kind: str) -> Callable[[tuple[str, str], Any, Any], None]:
        def on_change(key: tuple[str, str], old: Any, new: dict[str, Any] | None) -> None:
            self._inbox.put(Seen((kind, key), new, time.monotonic()))
            if self._policies:
                self._policies.see(kind, key, new)
            if self._vips and kind == NAMESPACE:
                self._vips.see((kind, key), new)
            if self._translations:
                self._translations.see((kind, key), new)

        return on_change

    def _watched_router(self, key: tuple[str, str], old: Any, new: dict[str, Any] | None) -> None:
        self._inbox.put(Seen((ROUTER, key), new, time.monotonic()))

    def _watched_service(self, ref: Ref, new: dict[str, Any] | None) -> None:
        if self._translations:
            self._translations.see(ref, new)

    def run(self, stop: threading.Event) -> None:
        """Returns when ``stop`` is set, or when the lease is lost."""
        writer = Writer(
            self._kube,
            leading=self._leading,
            report=self._inbox.put,
            refused=self._count_refusal,
        )
        try:
            for reflector in self.reflectors:
                reflector.start()
            for service in self._services():
                service.start()
            if self._listed(stop):
                self._open_books()
                while not stop.is_set() and self._leading():
                    self._step(writer)
        finally:
            for service in self._services():
                service.stop()
            for reflector in self.reflectors:
                reflector.stop()
            writer.stop(DRAIN if self._leading() else 0.0)

    def _services(self) -> Iterator[CustomReflector | RunTimeSettings | PolicyStatus | VirtualAddresses | Translations]:
        """What else works while this replica leads."""
        yield self._watched_routers
        yield from filter(None, (self._settings, self._policies, self._translations, self._vips))

    def _count_refusal(self, reason: str) -> None:
        if self._meters:
            self._meters.refused.labels(reason).inc()

    def stats(self) -> Stats:
        """What the books hold now."""
        with self._lock:
            found = stats_of(self._books) if self._books else Stats()
        if self._vips is None or self._translations is None:
            return found
        vips, outside = self._vips, self._translations
        found = found._replace(pools=vips.usage(), waiting_services=vips.waiting())
        return found._replace(external=outside.usage(), waiting_outside=outside.waiting())

    def _listed(self, stop: threading.Event) -> bool:
        for reflector in self.reflectors:
            while not reflector.synced.wait(0.05):
                self.beat = time.monotonic()
                if stop.is_set() or not self._leading():
                    return False
        if self._policies:
            self._policies.synced()
        self._settle(stop)
        return True

    def _settle(self, stop: threading.Event) -> None:
        """Wait until it is known what holds at run time (rests found on objects are measured by it), and which Routers there are."""
        end = time.monotonic() + SETTLE
        awaited = {"Routers cannot be read; namespaces that name one wait": self._watched_routers.synced}
        if self._settings:
            awaited["NCPSetting cannot be read; the settings of the file hold until it can"] = self._settings.settled
        for otherwise, known in awaited.items():
            while not known.wait(0.05) and not stop.is_set() and self._leading():
                self.beat = time.monotonic()
                if self.beat > end:
                    log.warning(otherwise)
                    break

    def _open_books(self) -> None:
        objects: dict[Ref, dict[str, Any]] = {}
        layout = self._layout
        while not self._inbox.empty():
            seen = self._inbox.get()
            if isinstance(seen, Seen):
                objects.pop(seen.ref, None)
                if seen.obj is not None:
                    objects[seen.ref] = seen.obj
            elif isinstance(seen, Overrides):
                layout = overridden(self._layout, seen.values)
                self._rest_pools(layout.rest)
        self._versions = {ref: _version(obj) for ref, obj in objects.items() if ref[0] != ROUTER}
        namespaces = [namespace_record(obj) for (kind, _), obj in objects.items() if kind == NAMESPACE]
        pods = [pod_record(obj) for (kind, _), obj in objects.items() if kind == POD]
        self._routers = {key[1]: router_record(obj) for (kind, key), obj in objects.items() if kind == ROUTER}
        books = rebuild(layout, namespaces, pods, time.time(), numbered(self._routers.values(), layout.vnis))
        with self._lock:
            self._books = books
        log.info("%d namespaces and %d pods found, %d with a port", len(namespaces), len(pods), len(books.ports))

    def _step(self, writer: Writer) -> None:
        """Take what came, decide, hand over what is to be written, and wait for more."""
        assert self._books is not None
        with self._lock:
            self._look_again()
            decisions = self._books.decisions(time.time())
        for decision in decisions:
            writer.submit(decision)
        self.beat = time.monotonic()
        try:
            first = self._inbox.get(timeout=self._pause())
        except queue.Empty:
            return
        with self._lock:
            self._take(first)
            for _ in range(self._inbox.qsize()):
                self._take(self._inbox.get())

    def _pause(self) -> float:
        assert self._books is not None
        due = self._books.next_due()
        pause = TICK if due is None else min(TICK, due - time.time())
        if self._later:
            pause = min(pause, self._later[0][0] - time.monotonic())
        return max(pause, 0.001)

    def _take(self, message: Seen | Outcome | Overrides) -> None:
        if isinstance(message, Seen):
            self._see(message)
        elif isinstance(message, Overrides):
            assert self._books is not None
            rest = overridden(self._layout, message.values).rest
            self._books.set_rest(rest)
            self._rest_pools(rest)
        else:
            self._end(message)

    def _rest_pools(self, seconds: float) -> None:
        for each in (self._vips, self._translations):
            if each:
                each.set_rest(seconds)

    def _see(self, seen: Seen) -> None:
        assert self._books is not None
        kind, key = seen.ref
        if kind == ROUTER:
            self._see_router(key[1], seen.obj)
            return
        if seen.obj is None:
            self._versions.pop(seen.ref, None)
            self._since.pop(seen.ref, None)
        else:
            version = _version(seen.obj)
            known = self._versions.get(seen.ref)
            if known is not None and known[0] == version[0] and version[1] < known[1]:
                return  # we know our own write, which came after this
            self._versions[seen.ref] = version
            self._since.setdefault(seen.ref, seen.at)
        if kind == NAMESPACE:
            self._books.see_namespace(key[1], namespace_record(seen.obj) if seen.obj else None)
        else:
            self._books.see_pod(key, pod_record(seen.obj) if seen.obj else None)

    def _see_router(self, name: str, obj: dict[str, Any] | None) -> None:
        assert self._books is not None
        self._routers.pop(name, None)
        if obj is not None:
            self._routers[name] = router_record(obj)
        self._books.see_routers(numbered(self._routers.values(), self._layout.vnis))

    def _end(self, outcome: Outcome) -> None:
        """An object is written, or was refused: then it is looked at again, after a while if that may repeat itself."""
        assert self._books is not None
        ref, obj = outcome.ref, outcome.written
        if outcome.error is None:
            self._refused.pop(ref, None)
            if obj is not None and self._versions.get(ref, ("", 0))[0] == outcome.uid:
                if self._meters:
                    self._meters.decisions.labels(ref[0]).inc()
                    self._meters.latency.observe(time.monotonic() - self._since.pop(ref, time.monotonic()))
                self._see(Seen(ref, obj, time.monotonic()))
                self._since.pop(ref, None)
            self._books.written(*ref)
            return
        times = self._refused[ref] = self._refused.get(ref, 0) + 1
        log.log(
            logging.INFO if is_stale(outcome.error) and times < 4 else logging.WARNING,
            "%s %s/%s was not written: %s",
            ref[0],
            *ref[1],
            outcome.error,
        )
        delay = min(FIRST_DELAY * 2 ** (times - 1), LAST_DELAY)
        heapq.heappush(self._later, (time.monotonic() + delay, ref))

    def _look_again(self) -> None:
        assert self._books is not None
        while self._later and self._later[0][0] <= time.monotonic():
            _, ref = heapq.heappop(self._later)
            if ref in self._versions:
                self._books.written(*ref)
            else:
                self._refused.pop(ref, None)


def _version(obj: dict[str, Any]) -> tuple[str, int]:
    meta = obj["metadata"]
    version = str(meta.get("resourceVersion", ""))
    return str(meta.get("uid", "")), int(version) if version.isdigit() else 0
