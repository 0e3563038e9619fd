"""Garbage collection: objects whose owners are gone go too, as the deletion of the owner asked for."""

from __future__ import annotations

import asyncio
from typing import Any

from labs.api.errors import ApiError
from labs.api.lifecycle import Deletion
from labs.api.objects import Objects
from labs.api.store import Change, Entry, Key

FOREGROUND, ORPHAN = "foregroundDeletion", "orphan"


class GarbageCollector:
    """Knows who owns whom, by uid, and follows deletions down."""

    def __init__(self, objects: Objects) -> None:
        self._objects, self._store = objects, objects.store
        self._alive: dict[str, Key] = {}
        self._dependents: dict[str, set[Key]] = {}
        self._dirty: dict[Key, None] = {}
        self._wake = asyncio.Event()
        for entry in self._store.everything():
            self._learn(entry)
            if entry.owners or FOREGROUND in _finalizers(entry) or ORPHAN in _finalizers(entry):
                self._touch(entry.key)
        self._store.listen(self._heard)

    def _learn(self, entry: Entry) -> None:
        self._alive[entry.uid] = entry.key
        for owner in entry.owners:
            self._dependents.setdefault(owner, set()).add(entry.key)

    def _touch(self, key: Key) -> None:
        self._dirty[key] = None
        self._wake.set()

    def _heard(self, change: Change) -> None:
        entry, old = change.entry, change.old
        if change.gone:
            self._alive.pop(entry.uid, None)
            for dependent in self._dependents.get(entry.uid, ()):
                self._touch(dependent)
        else:
            self._alive[entry.uid] = entry.key
        before, after = old.owners if old else (), () if change.gone else entry.owners
        if before != after:
            self._relink(entry.key, before, after)
        if change.gone:
            for owner in before:
                if owner in self._alive:
                    self._touch(self._alive[owner])
        elif (old is None and after) or before != after or entry.going:
            self._touch(entry.key)

    def _relink(self, key: Key, before: tuple[str, ...], after: tuple[str, ...]) -> None:
        for owner in before:
            held = self._dependents.get(owner)
            if held is not None:
                held.discard(key)
                if not held:
                    del self._dependents[owner]
        for owner in after:
            self._dependents.setdefault(owner, set()).add(key)

    async def run(self) -> None:
        """Works until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            for place, key in enumerate(list(self._dirty)):
                self._dirty.pop(key, None)
                self._settle(key)
                if place % 20 == 19:
                    await asyncio.sleep(0)

    def _settle(self, key: Key) -> None:
        entry = self._store.get(key)
        if entry is None:
            return
        finalizers = _finalizers(entry)
        if ORPHAN in finalizers:
            self._orphan(entry)
        elif FOREGROUND in finalizers:
            self._delete_dependents_first(entry)
        elif entry.owners:
            self._check_owners(entry)

    def _orphan(self, entry: Entry) -> None:
        for key in list(self._dependents.get(entry.uid, ())):
            dependent = self._store.get(key)
            if dependent is not None:
                self._without_owners(dependent, {entry.uid})
        self._without_finalizer(entry, ORPHAN)

    def _delete_dependents_first(self, entry: Entry) -> None:
        blocking = 0
        for key in list(self._dependents.get(entry.uid, ())):
            dependent = self._store.get(key)
            if dependent is None:
                continue
            blocking += self._blocks(dependent, entry.uid)
            if not dependent.going and not self._other_owner(dependent, entry.uid):
                self._delete(dependent, "Foreground" if dependent.uid in self._dependents else "")
        if self._store.get(entry.key) is not None and not any(
            self._blocks(found, entry.uid)
            for found in map(self._store.get, list(self._dependents.get(entry.uid, ())))
            if found is not None
        ):
            self._without_finalizer(entry, FOREGROUND)

    def _blocks(self, dependent: Entry, owner: str) -> bool:
        refs = dependent.load()["metadata"].get("ownerReferences", ())
        return any(ref["uid"] == owner and ref.get("blockOwnerDeletion") for ref in refs)

    def _other_owner(self, dependent: Entry, owner: str) -> bool:
        return any(uid != owner and uid in self._alive for uid in dependent.owners)

    def _check_owners(self, entry: Entry) -> None:
        absent = {uid for uid in entry.owners if uid not in self._alive}
        if not absent:
            return
        if len(absent) < len(set(entry.owners)):
            self._without_owners(entry, absent)
        elif not entry.going:
            self._delete(entry, "")

    def _delete(self, entry: Entry, propagation: str) -> None:
        resource = self._objects.catalog.stores().get(entry.key.store)
        if resource is None:
            self._store.remove(entry.key)
            return
        finalizers = _finalizers(entry)
        if not propagation:
            propagation = (
                "Orphan" if ORPHAN in finalizers else "Foreground" if FOREGROUND in finalizers else "Background"
            )
        try:
            self._objects.delete(resource, entry.key.namespace, entry.key.name, Deletion(None, propagation, entry.uid))
        except ApiError as error:
            if error.status not in (404, 409):
                raise

    def _without_owners(self, entry: Entry, uids: set[str]) -> None:
        obj = entry.load()
        kept = [ref for ref in obj["metadata"].get("ownerReferences", ()) if ref["uid"] not in uids]
        obj["metadata"]["ownerReferences"] = kept
        if not kept:
            del obj["metadata"]["ownerReferences"]
        self._store.put(entry.key, obj)

    def _without_finalizer(self, entry: Entry, finalizer: str) -> None:
        current = self._store.get(entry.key)
        if current is None:
            return
        obj: dict[str, Any] = current.load()
        kept = [f for f in obj["metadata"].get("finalizers", ()) if f != finalizer]
        obj["metadata"]["finalizers"] = kept
        if kept or obj["metadata"].get("deletionGracePeriodSeconds"):
            if not kept:
                del obj["metadata"]["finalizers"]
            self._store.put(entry.key, obj)
        else:
            self._store.remove(entry.key)


def _finalizers(entry: Entry) -> list[str]:
    if b'"finalizers"' not in entry.raw:
        return []
    return entry.load()["metadata"].get("finalizers") or []
