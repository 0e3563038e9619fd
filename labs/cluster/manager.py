"""Everything a lab's cluster runs beside its API server, as one object."""

from __future__ import annotations

from collections.abc import Collection

from labs.cluster.controllers import CONTROLLERS, Controller, Json
from labs.cluster.gc import Collector
from labs.cluster.loop import Loop
from labs.cluster.nodelife import NodeLife
from labs.cluster.scheduler import Scheduler
from labs.cluster.view import View
from ncp.kube.client import Kube
from ncp.kube.resources import ENDPOINT_SLICES, Resource

NODE_LIFE = "nodelifecycle"
NAMES = (*(each.name for each in CONTROLLERS), NODE_LIFE)
WORKERS = 4


def _read(controller: Controller) -> set[Resource]:
    return {controller.resource, *(watch.resource for watch in controller.watches), *controller.others}


class ControllerManager:
    """The controllers named in ``names``, with or without the scheduler and the garbage collection of a lone server."""

    def __init__(
        self, kube: Kube, names: Collection[str] = NAMES, *, scheduler: bool = True, collector: bool = False
    ) -> None:
        served = "v1" in kube.versions(ENDPOINT_SLICES.group)
        chosen = [each for each in CONTROLLERS if each.name in names and (served or ENDPOINT_SLICES not in _read(each))]
        self._loop = Loop(kube, chosen, WORKERS)
        self._scheduler = Scheduler(kube, WORKERS) if scheduler else None
        needed = {resource for each in chosen for resource in _read(each)}
        if self._scheduler is not None:
            needed |= set(Scheduler.needs)
        if NODE_LIFE in names:
            needed |= set(NodeLife.needs)
        if collector:
            needed |= set(Collector.needs)
        self.view = View(kube, sorted(needed), self._changed)
        self._loop.view = self.view
        if self._scheduler is not None:
            self._scheduler.view = self.view
        self._threads: list[NodeLife | Collector] = []
        if NODE_LIFE in names:
            self._threads.append(NodeLife(kube, self.view))
        if collector:
            self._threads.append(Collector(kube, self.view))

    def start(self) -> None:
        """Start everything; returns at once."""
        self.view.start()
        self._loop.queue.start()
        if self._scheduler is not None:
            self._scheduler.queue.start()
        for each in self._threads:
            each.start()

    def stop(self) -> None:
        """Stop everything."""
        for each in self._threads:
            each.stop()
        if self._scheduler is not None:
            self._scheduler.queue.stop()
        self._loop.queue.stop()
        self.view.stop()

    def _changed(self, resource: Resource, old: Json | None, new: Json | None) -> None:
        if self._scheduler is not None:
            self._scheduler.changed(resource, old, new)
        self._loop.changed(resource, old, new)
