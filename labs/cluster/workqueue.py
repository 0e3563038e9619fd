"""A queue of keys to look at again: each key waits at most once, and is never worked on by two threads at a time."""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

_log = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)

FIRST_RETRY = 0.2  # seconds after a first failure
LAST_RETRY = 10.0


class WorkQueue(Generic[K]):
    """Worker threads that call ``work(key)`` for every added key.

    A key added while it is worked on is worked on once more afterwards. When ``work`` raises, the key comes back after
    a delay that doubles with every failure in a row, up to ``last_retry`` seconds.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[K], None],
        workers: int,
        *,
        expected: tuple[type[Exception], ...] = (),
        last_retry: float = LAST_RETRY,
    ) -> None:
        self._work = work
        self._expected = expected  # failures that are told in one line, without a traceback
        self._last_retry = last_retry
        self._ready: deque[K] = deque()
        self._queued: set[K] = set()
        self._active: set[K] = set()
        self._again: set[K] = set()
        self._later: list[tuple[float, int, K]] = []
        self._due: dict[K, float] = {}
        self._failures: dict[K, int] = {}
        self._order = itertools.count()
        self._changed = threading.Condition()
        self._stopped = False
        self._threads = [
            threading.Thread(target=self._run, name=f"{name}-{number}", daemon=True) for number in range(workers)
        ]

    def start(self) -> None:
        """Start the workers; keys may be added before."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Finish what is being worked on, drop the rest, end the threads."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        for thread in self._threads:
            if thread.is_alive() and thread is not threading.current_thread():
                thread.join()

    def add(self, key: K, delay: float = 0.0) -> None:
        """Have ``key`` worked on, after ``delay`` seconds at the latest; an earlier appointment stands."""
        with self._changed:
            if delay <= 0:
                self._make_ready(key)
            else:
                due = time.monotonic() + delay
                if key not in self._queued and due < self._due.get(key, float("inf")):
                    self._due[key] = due
                    heapq.heappush(self._later, (due, next(self._order), key))
                    self._changed.notify()

    def _make_ready(self, key: K) -> None:
        self._due.pop(key, None)
        if key in self._active:
            self._again.add(key)
        elif key not in self._queued:
            self._queued.add(key)
            self._ready.append(key)
            self._changed.notify()

    def _run(self) -> None:
        while (key := self._take()) is not None:
            retry = None
            try:
                self._work(key[0])
            except self._expected as error:
                retry = self._failed(key[0])
                _log.info("%s: %s; again in %.1f s", key[0], error, retry)
            except Exception:
                retry = self._failed(key[0])
                _log.exception("%s: unexpected failure; again in %.1f s", key[0], retry)
            else:
                self._failures.pop(key[0], None)
            self._done(key[0], retry)

    def _failed(self, key: K) -> float:
        count = self._failures.get(key, 0)
        self._failures[key] = count + 1
        return min(FIRST_RETRY * 2.0 ** min(count, 16), self._last_retry)

    def _take(self) -> tuple[K] | None:
        with self._changed:
            while not self._stopped:
                now = time.monotonic()
                while self._later and self._later[0][0] <= now:
                    due, _, key = heapq.heappop(self._later)
                    if self._due.get(key) == due:
                        self._make_ready(key)
                if self._ready:
                    key = self._ready.popleft()
                    self._queued.discard(key)
                    self._active.add(key)
                    if self._ready or self._later:
                        self._changed.notify()  # somebody has to keep an eye on what is left
                    return (key,)
                self._changed.wait(self._later[0][0] - now if self._later else None)
            return None

    def _done(self, key: K, retry: float | None) -> None:
        with self._changed:
            self._active.discard(key)
            if key in self._again:
                self._again.discard(key)
                self._make_ready(key)
        if retry is not None:
            self.add(key, retry)
