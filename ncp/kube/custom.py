"""A custom resource, followed while its definition is in force: it may come to a cluster, and go, at any time."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import Any

from ncp.kube.client import Kube
from ncp.kube.reflector import Json, Key, OnChange, Reflector
from ncp.kube.resources import CUSTOM_RESOURCE_DEFINITIONS, Resource

log = logging.getLogger(__name__)

LOOK = 0.2
"""Seconds between looks at whether what is waited for can still come."""


def is_served(definition: Mapping[str, Any], version: str) -> bool:
    """Whether a CustomResourceDefinition is in force in a version."""
    versions = {each["name"] for each in definition["spec"]["versions"] if each.get("served")}
    conditions = (definition.get("status") or {}).get("conditions") or ()
    return version in versions and any(
        each["type"] == "Established" and each["status"] == "True" for each in conditions
    )


class CustomReflector:
    """Like a :class:`~ncp.kube.reflector.Reflector`; while the resource is not served there are no objects of it.

    ``synced`` is set once it is known whether it is served, and if so what objects there are.
    """

    def __init__(self, kube: Kube, resource: Resource, on_change: OnChange) -> None:
        self.resource = resource
        self.synced = threading.Event()
        self._kube = kube
        self._on_change = on_change
        self._name = f"{resource.plural}.{resource.group}"
        self._definitions = Reflector(
            kube, CUSTOM_RESOURCE_DEFINITIONS, self._redefined, field_selector=f"metadata.name={self._name}"
        )
        self._objects: Reflector | None = None  # while the resource is served
        self._changing = threading.Lock()
        self._stopping = threading.Event()

    @property
    def store(self) -> Mapping[Key, Json]:
        """The objects there are."""
        objects = self._objects
        return {} if objects is None else objects.store

    def start(self) -> None:
        """Begin to watch; returns at once."""
        self._definitions.start()
        threading.Thread(target=self._await_sync, name=f"sync-{self.resource.plural}", daemon=True).start()

    def stop(self) -> None:
        """End; no call of ``on_change`` starts after this returns."""
        self._stopping.set()
        self._definitions.stop()
        with self._changing:
            if self._objects is not None:
                self._objects.stop()

    def healthy(self) -> bool:
        """Whether the copy can be trusted."""
        objects = self._objects
        return self._definitions.healthy() and (objects is None or objects.healthy())

    def _redefined(self, key: Key, old: Json | None, new: Json | None) -> None:
        served = new is not None and is_served(new, self.resource.version)
        with self._changing:
            held = self._objects
            if served and held is None:
                log.info("%s are served; following them", self._name)
                self._objects = Reflector(self._kube, self.resource, self._on_change)
                self._objects.start()
            elif not served and held is not None:
                log.info("%s are no longer served", self._name)
                held.stop()
                self._objects = None
                for name, obj in held.store.items():
                    self._on_change(name, obj, None)

    def _await_sync(self) -> None:
        while not self._definitions.synced.wait(LOOK):
            if self._stopping.is_set():
                return
        # Where it stops being served before its objects are listed, there are none, and nobody will list them.
        while (objects := self._objects) is not None and not objects.synced.wait(LOOK):
            if self._stopping.is_set():
                return
        self.synced.set()
