"""A thread that keeps objects in step with books of addresses: takes in what is seen, decides, writes.

Everything is written in one thread, one object after the other, so what is known of an object is never older than our last
write to it.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, Protocol, TypeVar

from ncp.kube.client import Kube
from ncp.kube.errors import ApiError
from ncp.manager.outbox import Occurrence, Ref, named

log = logging.getLogger(__name__)

Json = dict[str, Any]
RETRY: Final = 2.0
"""Seconds until an object is tried again that could not be written, or that does not keep what is written."""


class Decided(Protocol):
    """What is to be written on one very object."""

    @property
    def ref(self) -> Ref:
        """The object's kind and key."""

    @property
    def event(self) -> Occurrence | None:
        """What is to be told of it."""


V = TypeVar("V", bound=Decided)


class Deciding(Protocol[V]):
    """Books: objects in, decisions out."""

    def see(self, ref: Ref, obj: Json | None) -> None:
        """An object is as it is; None: it is gone."""

    def look_again(self, ref: Ref) -> None:
        """What was decided on an object could not be written: decide on it once more."""

    def set_rest(self, seconds: float) -> None:
        """For how long others are given before an address that is released from now on."""

    def decisions(self, now: float) -> list[V]:
        """What has to be written. ``now`` is in epoch seconds."""


class Keeper(Generic[V]):
    """The thread. ``lock`` is held while the books are read or changed.

    ``known``: set once all objects that there are have been given to :meth:`see`; nothing is decided before.
    ``write`` writes a decision and returns the object as it is then; it may raise :class:`~ncp.kube.errors.ApiError`.
    """

    def __init__(
        self,
        name: str,
        kube: Kube,
        books: Deciding[V],
        write: Callable[[V], Json],
        leading: Callable[[], bool],
        known: Sequence[threading.Event],
    ) -> None:
        self._kube, self._books, self._write, self._leading, self._known = kube, books, write, leading, known
        self.lock = threading.Lock()  # statistics are read from another thread
        self._inbox: queue.SimpleQueue[tuple[Ref, Json | None] | float | None] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._versions: dict[Ref, tuple[str, int]] = {}  # uid and resourceVersion of what the books know
        self._tried: dict[Ref, tuple[V, float]] = {}  # the last one, and when it may be written again
        self._later: dict[Ref, float] = {}  # when to look at an object again
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin to decide, as soon as all is known."""
        self._thread.start()

    def stop(self) -> None:
        """End; nothing is written after this returns."""
        self._stopping.set()
        self._inbox.put(None)
        self._thread.join(timeout=5.0)

    def see(self, ref: Ref, obj: Json | None) -> None:
        """An object is now this; None: it is gone."""
        self._inbox.put((ref, obj))

    def set_rest(self, seconds: float) -> None:
        """For how long others are given before an address that is released from now on."""
        self._inbox.put(seconds)

    def _run(self) -> None:
        for each in self._known:
            while not each.wait(0.05):
                if self._stopping.is_set():
                    return
        pause: float | None = 0.0
        while not self._stopping.is_set():
            self._take(pause)
            try:
                with self.lock:
                    verdicts = self._books.decisions(time.time())
            except Exception:  # an object in a shape nobody foresaw must not end the addresses of all others
                log.exception("%s could not be decided", self._thread.name)
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
        for ref in [ref for ref, due in self._later.items() if due <= now]:
            del self._later[ref]
            with self.lock:
                self._books.look_again(ref)

    def _note(self, message: tuple[Ref, Json | None] | float | None) -> None:
        if isinstance(message, tuple):
            self._see(*message)
        elif message is not None:
            with self.lock:
                self._books.set_rest(message)

    def _see(self, ref: Ref, obj: Json | None) -> None:
        if obj is None:
            for each in (self._versions, self._tried, self._later):
                each.pop(ref, None)
        else:
            uid, version = obj["metadata"].get("uid", ""), str(obj["metadata"].get("resourceVersion", ""))
            number = int(version) if version.isdigit() else 0
            known = self._versions.get(ref)
            if known is not None and known[0] == uid and number < known[1]:
                return  # we know our own write, which came after this
            self._versions[ref] = (uid, number)
        try:
            with self.lock:
                self._books.see(ref, obj)
        except Exception:
            log.exception("%s %s cannot be read", *named(ref))

    def _carry_out(self, verdict: V) -> None:
        """Write a decision; one that was written just now, and is not kept, waits: somebody else may write as well."""
        ref, now = verdict.ref, time.monotonic()
        tried, due = self._tried.get(ref, (None, 0.0))
        if self._stopping.is_set():
            return
        if not self._leading() or (tried == verdict and now < due):
            self._later[ref] = max(due, now + 0.1)
            return
        self._tried[ref] = (verdict, now + RETRY)
        try:
            written = self._write(verdict)
        except ApiError as error:
            log.warning("%s %s: its addresses could not be written: %s; trying again", *named(ref), error)
            self._later[ref] = now + RETRY
            return
        self._see(ref, written)
        self._tell(written, verdict)

    def _tell(self, about: Json, verdict: V) -> None:
        """Events are for people: one that cannot be written is logged, and nothing else waits for it."""
        event = verdict.event
        if event is None:
            return
        level, kind = (logging.WARNING, "Warning") if event.is_warning else (logging.INFO, "Normal")
        log.log(level, "%s %s: %s: %s", *named(verdict.ref), *event[1:])
        try:
            self._kube.event(about, reason=event.reason, message=event.message, type=kind, component="ncp-manager")
        except ApiError as error:
            log.warning("%s %s: event not recorded: %s", *named(verdict.ref), error)
