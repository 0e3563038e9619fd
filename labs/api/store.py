"""The objects: SQLite as the truth on disk, an index in memory over it, and the history that watches replay.

Every change is written through before it is acknowledged. SQLite runs in WAL mode, so an acknowledged write survives
the death of the process; checkpoints run in a thread of their own and never make a request wait.
"""

from __future__ import annotations

import sqlite3
import threading
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from labs.api.selectors import selectable

CHECKPOINT_EVERY = 2000
_SCHEMA = """
CREATE TABLE IF NOT EXISTS objects (
  store TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL, rv INTEGER NOT NULL, body BLOB NOT NULL,
  PRIMARY KEY (store, namespace, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS deletions (store TEXT PRIMARY KEY, rv INTEGER NOT NULL) WITHOUT ROWID;
"""


class Key(NamedTuple):
    """Which object: the store it is in, its namespace (empty if it has none) and its name."""

    store: str
    namespace: str
    name: str


class Entry(NamedTuple):
    """One object as stored: its encoding, and what is asked of it without decoding."""

    key: Key
    rv: int
    uid: str
    raw: bytes
    labels: dict[str, str]
    fields: dict[str, str]
    owners: tuple[str, ...]
    going: bool
    """Whether its deletion has begun."""

    def load(self) -> dict[str, Any]:
        """A fresh copy of the object, the caller's to change."""
        return orjson.loads(self.raw)


class Change(NamedTuple):
    """One change in the order it happened: ``old`` is None for a creation, ``gone`` tells a deletion."""

    rv: int
    entry: Entry
    old: Entry | None
    gone: bool


Listener = Callable[[Change], None]


class Shelf:
    """The objects of one store, kept by namespace, and its changes since ``floor``."""

    __slots__ = ("_order", "changes", "floor", "listeners", "namespaces")

    def __init__(self) -> None:
        self.namespaces: dict[str, dict[str, Entry]] = {}
        self.changes: deque[Change] = deque()
        self.floor = 0
        """A watch may start at this resourceVersion or later; what came before is forgotten."""
        self.listeners: list[Listener] = []
        self._order: list[tuple[str, str]] | None = None

    def order(self) -> list[tuple[str, str]]:
        """(namespace, name) of every object, sorted as lists are."""
        if self._order is None:
            self._order = sorted((ns, name) for ns, held in self.namespaces.items() for name in held)
        return self._order

    def set(self, entry: Entry) -> None:
        """Puts an object in, or in place of its older self."""
        held = self.namespaces.setdefault(entry.key.namespace, {})
        if entry.key.name not in held:
            self._order = None
        held[entry.key.name] = entry

    def drop(self, key: Key) -> None:
        """Takes an object out."""
        held = self.namespaces[key.namespace]
        del held[key.name]
        if not held:
            del self.namespaces[key.namespace]
        self._order = None


class Store:
    """All objects. Used from one thread (the event loop's); only checkpoints run elsewhere."""

    def __init__(self, path: Path, *, history: int = 10000) -> None:
        self._path, self._history = path, history
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.executescript(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA wal_autocheckpoint=0;" + _SCHEMA
        )
        self._shelves: dict[str, Shelf] = {}
        self._recent: deque[str] = deque()
        self._all_listeners: list[Listener] = []
        self._since_checkpoint = 0
        self._checkpointer: threading.Thread | None = None
        self.rv = 1
        self._load()

    def _load(self) -> None:
        for store, rv in self._db.execute("SELECT store, rv FROM deletions"):
            self.shelf(store).floor = rv
            self.rv = max(self.rv, rv)
        for store, namespace, name, rv, body in self._db.execute(
            "SELECT store, namespace, name, rv, body FROM objects"
        ):
            shelf = self.shelf(store)
            shelf.set(_entry(Key(store, namespace, name), rv, orjson.loads(body), body))
            shelf.floor = max(shelf.floor, rv)
            self.rv = max(self.rv, rv)

    def shelf(self, store: str) -> Shelf:
        """The shelf of a store, made when first asked for."""
        found = self._shelves.get(store)
        if found is None:
            found = self._shelves[store] = Shelf()
        return found

    def get(self, key: Key) -> Entry | None:
        """The object at a key, or None."""
        return self.shelf(key.store).namespaces.get(key.namespace, {}).get(key.name)

    def entries(self, store: str, namespace: str = "", after: tuple[str, str] | None = None) -> Iterator[Entry]:
        """Objects of a store (of one namespace, if named) in order, beginning behind ``after``."""
        shelf = self.shelf(store)
        if namespace:
            held = shelf.namespaces.get(namespace, {})
            names = sorted(held)
            start = bisect_right(names, after[1]) if after else 0
            return (held[name] for name in names[start:])
        order = shelf.order()
        start = bisect_right(order, after) if after else 0
        return (shelf.namespaces[ns][name] for ns, name in order[start:])

    def entries_at(
        self, store: str, rv: int, namespace: str = "", after: tuple[str, str] | None = None
    ) -> Iterator[Entry]:
        """The same as of a past resourceVersion; ValueError if the history does not reach back to it."""
        shelf = self.shelf(store)
        if rv < shelf.floor:
            raise ValueError(f"the history of {store} begins at {shelf.floor}")
        undone: dict[Key, Entry | None] = {}
        for change in reversed(shelf.changes):
            if change.rv <= rv:
                break
            undone[change.entry.key] = change.old
        if not undone:
            return self.entries(store, namespace, after)
        now = {entry.key: entry for entry in self.entries(store, namespace)}
        then = now | {k: e for k, e in undone.items() if e is not None and namespace in ("", k.namespace)}
        keys = sorted(k for k in then if undone.get(k, then[k]) is not None)
        return (then[k] for k in keys if after is None or (k.namespace, k.name) > after)

    def everything(self) -> Iterator[Entry]:
        """Every object of every store."""
        for store in list(self._shelves):
            yield from self.entries(store)

    def put(self, key: Key, obj: dict[str, Any]) -> Entry:
        """Stores an object under a new resourceVersion (written into it) and tells the listeners."""
        rv = self.rv + 1
        obj["metadata"]["resourceVersion"] = str(rv)
        raw = encode(obj)
        self._db.execute("INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?)", (*key, rv, raw))
        self.rv = rv
        shelf, old = self.shelf(key.store), self.get(key)
        entry = _entry(key, rv, obj, raw)
        shelf.set(entry)
        self._record(shelf, Change(rv, entry, old, False))
        return entry

    def remove(self, key: Key) -> Entry:
        """Deletes an object; returns its last state under the resourceVersion of the deletion. KeyError if absent."""
        old = self.get(key)
        if old is None:
            raise KeyError(key)
        rv = self.rv + 1
        self._db.execute("BEGIN")
        self._db.execute("DELETE FROM objects WHERE store = ? AND namespace = ? AND name = ?", key)
        self._db.execute("INSERT OR REPLACE INTO deletions VALUES (?, ?)", (key.store, rv))
        self._db.execute("COMMIT")
        self.rv = rv
        shelf = self.shelf(key.store)
        shelf.drop(key)
        entry = stamped(old, rv)
        self._record(shelf, Change(rv, entry, old, True))
        return entry

    def listen(self, listener: Listener, store: str | None = None) -> Callable[[], None]:
        """Calls the listener after every change (of one store, or of all); returns the way to stop that."""
        listeners = self._all_listeners if store is None else self.shelf(store).listeners
        listeners.append(listener)
        return lambda: listeners.remove(listener)

    def _record(self, shelf: Shelf, change: Change) -> None:
        shelf.changes.append(change)
        self._recent.append(change.entry.key.store)
        if len(self._recent) > self._history:
            oldest = self.shelf(self._recent.popleft())
            oldest.floor = oldest.changes.popleft().rv
        for listener in tuple(shelf.listeners):
            listener(change)
        for listener in tuple(self._all_listeners):
            listener(change)
        self._since_checkpoint += 1
        if self._since_checkpoint >= CHECKPOINT_EVERY:
            self._checkpoint()

    def _checkpoint(self) -> None:
        """Moves the log into the database file beside the traffic."""
        if self._checkpointer is None or not self._checkpointer.is_alive():
            self._since_checkpoint = 0
            self._checkpointer = threading.Thread(target=self._checkpoint_now, name="checkpoint", daemon=True)
            self._checkpointer.start()

    def _checkpoint_now(self) -> None:
        connection = sqlite3.connect(self._path)
        try:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        finally:
            connection.close()

    def close(self) -> None:
        """Ends the use of the database; everything acknowledged is in it already."""
        if self._checkpointer is not None:
            self._checkpointer.join()
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._db.close()


def encode(obj: dict[str, Any]) -> bytes:
    """The object's bytes, apiVersion and kind first, metadata next."""
    front = {"apiVersion": obj["apiVersion"], "kind": obj["kind"], "metadata": obj["metadata"]}
    return orjson.dumps(front | obj)


def stamped(entry: Entry, rv: int) -> Entry:
    """The same object under another resourceVersion."""
    obj = entry.load()
    obj["metadata"]["resourceVersion"] = str(rv)
    return entry._replace(rv=rv, raw=encode(obj))


def _entry(key: Key, rv: int, obj: dict[str, Any], raw: bytes) -> Entry:
    meta = obj["metadata"]
    owners = tuple(ref["uid"] for ref in meta.get("ownerReferences", ()) if ref.get("uid"))
    return Entry(
        key,
        rv,
        meta.get("uid", ""),
        raw,
        meta.get("labels") or {},
        selectable(key, obj),
        owners,
        "deletionTimestamp" in meta,
    )
