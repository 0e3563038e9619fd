"""Keeps a local copy of one kind of object in step with the API server, and says what changed."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, ItemsView, Iterator, KeysView, Mapping, ValuesView
from typing import Any, Final
from weakref import WeakSet

from ncp.kube.client import Kube, WatchStream
from ncp.kube.errors import ApiError, Gone, NotFound
from ncp.kube.resources import Resource

log = logging.getLogger(__name__)

Key = tuple[str, str]
"""(namespace, name)"""
Json = dict[str, Any]
OnChange = Callable[[Key, Json | None, Json | None], None]

FIRST_DELAY: Final = 0.1
LAST_DELAY: Final = 2.0
UNSERVED: Final = 10.0
"""Seconds until a resource that is optional, and not served, is asked for again; well below what :meth:`healthy` allows."""
TOMBSTONES: Final = 10_000
"""Deleted objects remembered, to recognise an old event about them."""


running: Final[WeakSet[Reflector]] = WeakSet()
"""Every reflector of this process that was started and not stopped, for its metrics."""


class Store(Mapping[Key, Json]):
    """What the server has, as last heard. Reading is safe from any thread: iteration goes over a snapshot."""

    def __init__(self) -> None:
        self._objects: dict[Key, Json] = {}

    def __getitem__(self, key: Key) -> Json:
        return self._objects[key]

    def __len__(self) -> int:
        return len(self._objects)

    def __contains__(self, key: object) -> bool:
        return key in self._objects

    def __iter__(self) -> Iterator[Key]:
        return iter(self._objects.copy())

    def keys(self) -> KeysView[Key]:
        """Keys of a snapshot."""
        return self._objects.copy().keys()

    def items(self) -> ItemsView[Key, Json]:
        """Keys and objects of a snapshot."""
        return self._objects.copy().items()

    def values(self) -> ValuesView[Json]:
        """Objects of a snapshot."""
        return self._objects.copy().values()


class Reflector:
    """List and watch in a daemon thread.

    ``on_change(key, old, new)`` is called from that thread, after ``store`` changed; ``new`` is None when the object is
    gone, and an object deleted and made again under the same name may come as one call (compare uids).
    A call that raises is logged and counted in ``handler_errors``; the object stays in the store.
    ``synced`` is set after the calls for the first full list. While the API is away the store keeps its last state.
    Objects handed out are shared: never change them.
    """

    def __init__(
        self,
        kube: Kube,
        resource: Resource,
        on_change: OnChange,
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        optional: bool = False,
    ):
        self.resource = resource
        self.store = Store()
        self.synced = threading.Event()
        self.served = True  # as the server said last: it knows the resource
        self.last_contact = 0.0  # time.monotonic() when the server was last heard; 0: never
        self.handler_errors = 0
        self.relists = 0
        self.watch_restarts = 0
        self._kube = kube
        self._on_change = on_change
        self._optional = optional  # the server may not know the resource: then there are no objects of it
        self._scope: dict[str, Any] = {
            "namespace": namespace,
            "label_selector": label_selector,
            "field_selector": field_selector,
        }
        self._objects = self.store._objects
        self._version = ""  # to resume from; empty: list first
        self._floor = 0  # resourceVersion of the last list: older events about unknown objects are stale
        self._buried: dict[Key, int] = {}
        self._stream: WatchStream | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"reflect-{resource.plural}", daemon=True)

    def start(self) -> None:
        """Start the thread; ``synced.wait()`` waits for the first full list."""
        running.add(self)
        self._thread.start()

    def stop(self) -> None:
        """End the watch and the thread. No ``on_change`` call starts after this returns."""
        running.discard(self)
        self._stopping.set()
        stream = self._stream
        if stream is not None:
            stream.close()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout=2.0)

    def healthy(self, max_age: float = 15.0) -> bool:
        """Whether the copy can be trusted: listed once, and the server heard of within ``max_age`` seconds.

        A watch is quiet while nothing changes; then the server is asked whether it still lives, which takes a few
        seconds if it does not.
        """
        if not self.synced.is_set() or not self._thread.is_alive():
            return False
        if time.monotonic() - self.last_contact <= max_age:
            return True
        return self._stream is not None and self._kube.answering()

    def _run(self) -> None:
        delay = FIRST_DELAY
        while not self._stopping.is_set():
            before = self.last_contact
            started = time.monotonic()
            ended = False
            try:
                if not self._version:
                    self._relist()
                self._follow()
                ended = True
            except Gone as error:
                log.info("%s: %s; listing anew", self.resource.plural, error)
                self._version = ""
            except NotFound as error:
                if not self._optional:
                    log.warning("%s: %s; retrying", self.resource.plural, error)
                self._unserved()
            except ApiError as error:
                log.warning("%s: %s; retrying", self.resource.plural, error)
                if error.status or error.reason == "BadEvent":  # it answered, and does not like where we resume
                    self._version = ""
            except Exception:
                log.exception("%s: unexpected failure; listing anew", self.resource.plural)
                self._version = ""
            # A server that accepts and hangs up at once must not be asked in a tight loop either.
            useful = self.last_contact > before and time.monotonic() - started > FIRST_DELAY
            delay = FIRST_DELAY if useful else min(delay * 2, LAST_DELAY)
            if not self._stopping.is_set():
                self.watch_restarts += 1
            if not (ended and useful):
                self._stopping.wait(delay * random.uniform(0.5, 1.0))

    def _relist(self) -> None:
        items, version = self._kube.list(self.resource, **self._scope)
        self._heard()
        self.served = True
        self.relists += 1
        listed = {_key(item): item for item in items}
        self._floor = _number(version)
        self._buried.clear()
        for key in [key for key in self._objects if key not in listed]:
            self._change(key, None)
        for key, item in listed.items():
            held = self._objects.get(key)
            if held is None or _version(held) != _version(item) or _uid(held) != _uid(item):
                self._change(key, item)
        self._version = version
        if not self._stopping.is_set():
            self.synced.set()

    def _unserved(self) -> None:
        """The server answered that there is no such resource: for an optional one that is an answer, asked for again after a while."""
        self._version = ""
        self.served = False
        if self._optional:
            self._heard()
            for key in list(self._objects):
                self._change(key, None)
            if not self._stopping.is_set():
                self.synced.set()
            self._stopping.wait(UNSERVED)

    def _follow(self) -> None:
        """Watch until the server ends it."""
        stream = self._kube.watch(self.resource, self._version, **self._scope)
        self._stream = stream
        self._heard()
        try:
            if self._stopping.is_set():
                return
            for kind, obj in stream:
                self._heard()
                self._accept(kind, obj)
                if self._stopping.is_set():
                    return
        finally:
            self._stream = None
            stream.close()

    def _accept(self, kind: str, obj: Json) -> None:
        version = _version(obj)
        if kind == "BOOKMARK":
            self._version = version or self._version
            return
        key = _key(obj)
        if not self._is_old(key, version, gone=kind == "DELETED"):
            if kind == "DELETED":
                self._bury(key, version)
                if key in self._objects:
                    self._change(key, None)
            else:
                self._buried.pop(key, None)
                self._change(key, obj)
        self._version = version or self._version

    def _is_old(self, key: Key, version: str, *, gone: bool) -> bool:
        """Whether an event only tells what we know already, or knew better: replayed, or overtaken by a later one."""
        held = self._objects.get(key)
        number = _number(version)
        if held is not None:
            known = _number(_version(held))
            # A deletion usually carries a version of its own; the same version again is the end of what we hold.
            return bool(number and known and number < known) or (not gone and _version(held) == version)
        known = self._buried.get(key, self._floor)
        return bool(number and known and number <= known)

    def _bury(self, key: Key, version: str) -> None:
        self._buried.pop(key, None)
        self._buried[key] = _number(version)
        if len(self._buried) > TOMBSTONES:
            del self._buried[next(iter(self._buried))]

    def _change(self, key: Key, new: Json | None) -> None:
        if self._stopping.is_set():
            return
        old = self._objects.get(key)
        if new is None:
            self._objects.pop(key, None)
        else:
            self._objects[key] = new
        try:
            self._on_change(key, old, new)
        except Exception:
            self.handler_errors += 1
            log.exception("%s %s/%s: the change was not taken", self.resource.kind, *key)

    def _heard(self) -> None:
        self.last_contact = time.monotonic()


def _key(obj: Json) -> Key:
    metadata = obj["metadata"]
    return (metadata.get("namespace", ""), metadata["name"])


def _version(obj: Json) -> str:
    return str(obj.get("metadata", {}).get("resourceVersion", ""))


def _uid(obj: Json) -> str:
    return str(obj["metadata"].get("uid", ""))


def _number(version: str) -> int:
    """Versions are ordered numbers on every server there is; anything else compares as unknown (0)."""
    return int(version) if version.isdigit() else 0
