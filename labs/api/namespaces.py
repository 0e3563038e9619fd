"""Namespaces: those every cluster has, a default service account in each, and the end of one with all it holds."""

from __future__ import annotations

import asyncio

from labs.api.errors import ApiError
from labs.api.lifecycle import Deletion, Write
from labs.api.objects import Objects
from labs.api.resources import Resource
from labs.api.store import Change, Key

FIRST = ("default", "kube-system", "kube-public", "kube-node-lease")
RETRY_SECONDS = 1.0
_WRITE = Write("namespace-controller")


def first_objects(objects: Objects) -> None:
    """Creates what a new cluster has: its namespaces and the Service of the API itself."""
    for name in FIRST:
        if objects.store.get(Key("namespaces", "", name)) is None:
            objects.create(_resource(objects, "namespaces"), "", {"metadata": {"name": name}}, _WRITE)
        _default_account(objects, name)
    if objects.store.get(Key("services", "default", "kubernetes")) is None:
        labels = {"component": "apiserver", "provider": "kubernetes"}
        spec = {"clusterIP": "10.96.0.1", "ports": [{"name": "https", "port": 443, "targetPort": 6443}]}
        service = {"metadata": {"name": "kubernetes", "labels": labels}, "spec": spec}
        objects.create(_resource(objects, "services"), "default", service, _WRITE)


def _resource(objects: Objects, plural: str) -> Resource:
    found = objects.catalog.find("", "v1", plural)
    assert found is not None, f"{plural} is a built-in resource"
    return found


def _default_account(objects: Objects, namespace: str) -> None:
    if objects.store.get(Key("serviceaccounts", namespace, "default")) is None:
        objects.create(_resource(objects, "serviceaccounts"), namespace, {"metadata": {"name": "default"}}, _WRITE)


class NamespaceKeeper:
    """Follows namespaces: gives each its service account, and empties those that are to go."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._dirty: dict[str, None] = dict.fromkeys(entry.key.name for entry in objects.store.entries("namespaces"))
        self._wake = asyncio.Event()
        self._wake.set()
        objects.store.listen(self._heard)

    def _heard(self, change: Change) -> None:
        key = change.entry.key
        name = key.name if key.store == "namespaces" else key.namespace if change.gone else ""
        if name:
            self._dirty[name] = None
            self._wake.set()

    async def run(self) -> None:
        """Works until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            for name in list(self._dirty):
                self._dirty.pop(name, None)
                await self._settle(name)

    async def _settle(self, name: str) -> None:
        entry = self._objects.store.get(Key("namespaces", "", name))
        if entry is None:
            return
        if entry.fields["status.phase"] != "Terminating":
            _default_account(self._objects, name)
            return
        left = await self._emptied(name)
        if left:
            return  # The deletion of the last object wakes this loop again.
        obj = entry.load()
        obj["spec"]["finalizers"] = [f for f in obj["spec"].get("finalizers", ()) if f != "kubernetes"]
        current = self._objects.store.get(entry.key)
        if current is None or current.rv != entry.rv:
            self._dirty[name] = None
            self._wake.set()
        elif obj["spec"]["finalizers"] or obj["metadata"].get("finalizers"):
            self._objects.store.put(entry.key, obj)
        else:
            self._objects.store.remove(entry.key)

    async def _emptied(self, name: str) -> int:
        """Deletes everything in a namespace; returns how many objects still wait for something."""
        left = 0
        for resource in self._objects.catalog.stores().values():
            if not resource.namespaced:
                continue
            for place, entry in enumerate(list(self._objects.store.entries(resource.store, name))):
                if entry.going:
                    left += 1
                    continue
                try:
                    _, is_gone = self._objects.delete(
                        resource, name, entry.key.name, Deletion(propagation="Background")
                    )
                except ApiError as error:
                    if error.status != 404:
                        raise
                    is_gone = True
                left += not is_gone
                if place % 50 == 49:
                    await asyncio.sleep(0)
        return left
