"""Watches: what changed since a resourceVersion, and then every change as it happens."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from typing import NamedTuple

import orjson

from labs.api.errors import ApiError, gone
from labs.api.resources import Resource
from labs.api.selectors import Match
from labs.api.store import Change, Entry, Store, stamped

BOOKMARK_SECONDS = 15.0
DEFAULT_SECONDS = 2400
MOST_WAITING = 50_000
"""Events a slow client may have waiting before its watch is ended; it comes back and catches up."""
INITIAL_END = "k8s.io/initial-events-end"
Render = Callable[[Entry], bytes]


class Scope(NamedTuple):
    """Which objects are meant: of one namespace (or all), matching the selectors."""

    resource: Resource
    namespace: str
    labels: Match | None
    fields: Match | None

    def holds(self, entry: Entry) -> bool:
        """Whether an object is among them."""
        if self.namespace and entry.key.namespace != self.namespace:
            return False
        if self.labels is not None and not self.labels(entry.labels):
            return False
        return self.fields is None or self.fields(entry.fields)


class Start(NamedTuple):
    """Where a watch begins: with the objects there are (``initial``), or after a resourceVersion."""

    rv: str
    initial: bool
    bookmarks: bool
    marked_end: bool
    seconds: float


class Watch:
    """One client's watch. :meth:`lines` yields what to send, many events at once when they come at once."""

    def __init__(self, store: Store, scope: Scope, start: Start, render: Render, kind: tuple[str, str]) -> None:
        self._store, self._scope, self._start, self._render = store, scope, start, render
        self._kind = kind
        self._waiting: deque[Change] = deque()
        self._wake = asyncio.Event()
        self._ended = False

    def end(self) -> None:
        """Lets the stream end soon."""
        self._ended = True
        self._wake.set()

    def _heard(self, change: Change) -> None:
        self._waiting.append(change)
        if len(self._waiting) > MOST_WAITING:
            self._ended = True
        self._wake.set()

    async def lines(self) -> AsyncIterator[bytes]:
        """The stream; a watch that cannot begin where it was asked to yields one ERROR event."""
        stop = self._store.listen(self._heard, self._scope.resource.store)
        try:
            try:
                first = self._first()
            except ApiError as error:
                yield _line(b"ERROR", orjson.dumps(error.body()))
                return
            if first:
                yield first
            async for chunk in self._following():
                yield chunk
        finally:
            stop()

    def _first(self) -> bytes:
        """The events that bring the client up to now."""
        store, start = self._store, self._start
        if start.initial:
            entries = store.entries(self._scope.resource.store, self._scope.namespace)
            chunks = [_line(b"ADDED", self._render(entry)) for entry in entries if self._scope.holds(entry)]
            if start.marked_end:
                chunks.append(self._bookmark(end=True))
            return b"".join(chunks)
        return b"".join(filter(None, (self._line_of(change) for change in self._missed(int(start.rv)))))

    def _missed(self, rv: int) -> Iterator[Change]:
        shelf = self._store.shelf(self._scope.resource.store)
        if rv < shelf.floor:
            raise gone(f"too old resource version: {rv} ({shelf.floor})")
        if rv > self._store.rv:
            raise gone(f"resource version {rv} is newer than the newest of this server ({self._store.rv})")
        return (change for change in shelf.changes if change.rv > rv)

    async def _following(self) -> AsyncIterator[bytes]:
        clock = asyncio.get_running_loop().time
        end = clock() + self._start.seconds
        marked_rv, next_mark = self._store.rv, clock() + BOOKMARK_SECONDS
        while not self._ended and clock() < end:
            if self._waiting:
                changes, self._waiting = self._waiting, deque()
                self._wake.clear()
                chunk = b"".join(filter(None, map(self._line_of, changes)))
                if chunk:
                    yield chunk
                continue
            await self._rest(min(end, next_mark) - clock())
            if clock() >= next_mark or (clock() >= end and not self._waiting):
                next_mark = clock() + BOOKMARK_SECONDS
                if self._start.bookmarks and self._store.rv > marked_rv and not self._waiting:
                    marked_rv = self._store.rv
                    yield self._bookmark()

    async def _rest(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._wake.wait(), max(seconds, 0.001))
        except TimeoutError:
            return

    def _line_of(self, change: Change) -> bytes | None:
        """The event a change is to this watch: a change in or out of the selection is a creation or a deletion."""
        scope, entry, old = self._scope, change.entry, change.old
        was = old is not None and scope.holds(old)
        if change.gone:
            return _line(b"DELETED", self._render(entry)) if was else None
        if scope.holds(entry):
            return _line(b"MODIFIED" if was else b"ADDED", self._render(entry))
        return _line(b"DELETED", self._render(stamped(old, change.rv))) if was and old is not None else None

    def _bookmark(self, *, end: bool = False) -> bytes:
        meta: dict[str, object] = {"resourceVersion": str(self._store.rv), "creationTimestamp": None}
        if end:
            meta["annotations"] = {INITIAL_END: "true"}
        body = {"kind": self._kind[1], "apiVersion": self._kind[0], "metadata": meta}
        return _line(b"BOOKMARK", orjson.dumps(body))


def _line(kind: bytes, body: bytes) -> bytes:
    return b'{"type":"' + kind + b'","object":' + body + b"}\n"
