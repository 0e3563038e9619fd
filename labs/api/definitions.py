"""The end of a custom resource definition: its objects go first, then it goes itself."""

from __future__ import annotations

import asyncio

from labs.api.crds import CLEANUP
from labs.api.lifecycle import Deletion
from labs.api.objects import Objects
from labs.api.store import Change, Key

STORE = "customresourcedefinitions.apiextensions.k8s.io"


class DefinitionKeeper:
    """Follows definitions that are to go, and deletes what they define."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._going: set[str] = {e.key.name for e in objects.store.entries(STORE) if e.going}
        self._wake = asyncio.Event()
        self._wake.set()
        objects.store.listen(self._heard)

    def _heard(self, change: Change) -> None:
        key = change.entry.key
        if key.store == STORE and not change.gone and change.entry.going:
            self._going.add(key.name)
            self._wake.set()
        elif change.gone and key.store in self._going:
            self._wake.set()

    async def run(self) -> None:
        """Works until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            for name in sorted(self._going):
                await self._empty(name)

    async def _empty(self, name: str) -> None:
        """Deletes the objects of a definition (its name is that of their store), and then lets it go."""
        objects = self._objects
        entry = objects.store.get(Key(STORE, "", name))
        if entry is None or not entry.going:
            self._going.discard(name)
            return
        resource = objects.catalog.stores().get(name)
        for place, held in enumerate(list(objects.store.entries(name))):
            if resource is None:
                objects.store.remove(held.key)
            elif not held.going:
                objects.delete(resource, held.key.namespace, held.key.name, Deletion())
            if place % 50 == 49:
                await asyncio.sleep(0)
        entry = objects.store.get(entry.key)
        if entry is None or next(objects.store.entries(name), None) is not None:
            return
        self._going.discard(name)
        obj = entry.load()
        obj["metadata"]["finalizers"] = [f for f in obj["metadata"].get("finalizers", ()) if f != CLEANUP]
        if obj["metadata"]["finalizers"]:
            objects.store.put(entry.key, obj)
        else:
            objects.store.remove(entry.key)
