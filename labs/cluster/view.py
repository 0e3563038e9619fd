"""What the controllers know of the cluster: the reflectors' copies, and on top of them what was just written.

A controller that has made a pod must not make it again because the watch has not told of it yet, so every answer to a
write is remembered at once; an event that is older than what is known is left aside.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from labs.cluster.pods import now_text
from ncp.kube.client import Kube
from ncp.kube.reflector import Key, Reflector
from ncp.kube.resources import LEASES, Resource

Json = dict[str, Any]
OnChange = Callable[[Resource, Json | None, Json | None], None]

LEASE_NAMESPACE = "kube-node-lease"
_REMEMBERED = 20_000  # uids of deleted objects, so that a late answer about one does not bring it back


class View:
    """All objects of some resources. Objects handed out are shared: they must not be changed."""

    def __init__(self, kube: Kube, resources: Iterable[Resource], on_change: OnChange) -> None:
        self._on_change = on_change
        self._lock = threading.Lock()
        self._held: dict[Resource, dict[str, dict[str, Json]]] = {}
        self._gone: deque[str] = deque(maxlen=_REMEMBERED)
        self._gone_set: set[str] = set()
        self._reflectors: dict[Resource, Reflector] = {}
        for each in resources:
            self._held[each] = {}
            namespace = LEASE_NAMESPACE if each == LEASES else ""
            self._reflectors[each] = Reflector(kube, each, self._heard(each), namespace=namespace)

    def start(self) -> None:
        """Start all reflectors."""
        for each in self._reflectors.values():
            each.start()

    def stop(self) -> None:
        """Stop all reflectors."""
        for each in self._reflectors.values():
            each.stop()

    def synced(self) -> bool:
        """Whether everything has been listed once."""
        return all(each.synced.is_set() for each in self._reflectors.values())

    def resources(self) -> tuple[Resource, ...]:
        """The resources in view."""
        return tuple(self._reflectors)

    def has(self, resource: Resource) -> bool:
        """Whether the resource is in view."""
        return resource in self._held

    def get(self, resource: Resource, key: Key) -> Json | None:
        """One object, or None."""
        with self._lock:
            return self._held[resource].get(key[0], {}).get(key[1])

    def within(self, resource: Resource, namespace: str) -> list[Json]:
        """The objects of one namespace (empty: those that have none)."""
        with self._lock:
            return list(self._held[resource].get(namespace, {}).values())

    def all(self, resource: Resource) -> list[Json]:
        """The objects of all namespaces."""
        with self._lock:
            return [each for objects in self._held[resource].values() for each in objects.values()]

    def remember(self, resource: Resource, obj: Json) -> None:
        """Take note of what the server answered to a write."""
        if resource in self._held:
            with self._lock:
                if obj["metadata"]["uid"] not in self._gone_set:
                    self._put(resource, obj)

    def remember_deletion(self, resource: Resource, obj: Json) -> None:
        """Take note that the deletion of ``obj`` was asked for."""
        if resource not in self._held:
            return
        metadata = obj["metadata"]
        with self._lock:
            held = self._held[resource].get(metadata.get("namespace", ""), {})
            known = held.get(metadata["name"])
            if known is not None and known["metadata"]["uid"] == metadata["uid"]:
                marked = {"deletionTimestamp": now_text(), **known["metadata"]}
                held[metadata["name"]] = {**known, "metadata": marked}

    def _put(self, resource: Resource, obj: Json) -> None:
        metadata = obj["metadata"]
        held = self._held[resource].setdefault(metadata.get("namespace", ""), {})
        known = held.get(metadata["name"])
        if known is None or known["metadata"]["uid"] != metadata["uid"] or _version(known) <= _version(obj):
            held[metadata["name"]] = obj

    def _heard(self, resource: Resource) -> Callable[[Key, Json | None, Json | None], None]:
        def on_change(key: Key, old: Json | None, new: Json | None) -> None:
            with self._lock:
                if old is not None and (new is None or new["metadata"]["uid"] != old["metadata"]["uid"]):
                    self._bury(resource, key, old["metadata"]["uid"])
                if new is not None:
                    self._put(resource, new)
            self._on_change(resource, old, new)

        return on_change

    def _bury(self, resource: Resource, key: Key, uid: str) -> None:
        if len(self._gone) == self._gone.maxlen:
            self._gone_set.discard(self._gone[0])
        self._gone.append(uid)
        self._gone_set.add(uid)
        held = self._held[resource].get(key[0], {})
        if key[1] in held and held[key[1]]["metadata"]["uid"] == uid:
            del held[key[1]]


def _version(obj: Json) -> int:
    text = str(obj["metadata"].get("resourceVersion", "0"))
    return int(text) if text.isdigit() else 0
