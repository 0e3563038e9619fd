"""The one loop behind all controllers: changes make keys dirty, workers plan and write."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from labs.cluster.controllers import Controller, Json, Watch, matters
from labs.cluster.view import View
from labs.cluster.workqueue import WorkQueue
from labs.cluster.writes import Create, Delete, Patch, Replace, Warn, Write
from ncp.kube.client import Kube
from ncp.kube.errors import AlreadyExists, ApiError, Conflict, NotFound
from ncp.kube.resources import Resource

_log = logging.getLogger(__name__)


class Dirty(NamedTuple):
    """An object that a controller should look at."""

    controller: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.controller} {self.namespace}/{self.name}"


class Loop:
    """Runs controllers over a view; feed it changes with :meth:`changed`."""

    def __init__(self, kube: Kube, controllers: Sequence[Controller], workers: int) -> None:
        self.view: View | None = None
        self._kube = kube
        self._controllers = {each.name: each for each in controllers}
        self._watches: dict[Resource, list[tuple[str, Watch]]] = defaultdict(list)
        self._mains: dict[Resource, list[str]] = defaultdict(list)
        for each in controllers:
            self._mains[each.resource].append(each.name)
            for watch in each.watches:
                self._watches[watch.resource].append((each.name, watch))
        self.queue: WorkQueue[Dirty] = WorkQueue("controller", self._work, workers, expected=(ApiError, ValueError))

    def changed(self, resource: Resource, old: Json | None, new: Json | None) -> None:
        """Mark what a change concerns."""
        view = self.view
        if view is None or not matters(resource, old, new):
            return
        obj = new or old
        assert obj is not None
        for name in self._mains[resource]:
            self.queue.add(Dirty(name, obj["metadata"].get("namespace", ""), obj["metadata"]["name"]))
        for name, watch in self._watches[resource]:
            for each in (old, new):
                for key in watch.keys(view, each) if each is not None else ():
                    self.queue.add(Dirty(name, *key), watch.delay)

    def _work(self, dirty: Dirty) -> None:
        view = self.view
        assert view is not None
        if not view.synced():  # half a view would have pods made that are there already
            self.queue.add(dirty, 0.05)
            return
        controller = self._controllers[dirty.controller]
        key = (dirty.namespace, dirty.name)
        obj = view.get(controller.resource, key)
        if obj is None:
            for write in controller.gone(view, key) if controller.gone else ():
                carry_out(self._kube, view, write)
            return
        plan = controller.plan(view, obj, time.time())
        for write in plan.writes:
            self._carry_out(view, write, obj)
        if plan.again is not None:
            self.queue.add(dirty, plan.again)

    def _carry_out(self, view: View, write: Write, obj: Json) -> None:
        try:
            carry_out(self._kube, view, write)
        except ApiError as error:
            if isinstance(write, Create) and error.status in (403, 422) and "being terminated" not in error.message:
                text = f"Error creating: {error.message}"
                self._kube.event(obj, reason="FailedCreate", message=text, type="Warning", component="lab-controller")
            if error.status == 403 and "being terminated" in error.message:
                _log.debug("%s", error)  # the namespace is on its way out, and this object with it
                return
            raise


def carry_out(kube: Kube, view: View, write: Write) -> None:
    """Do one write and remember its outcome in the view. Raises :class:`ApiError` when the server refuses."""
    if isinstance(write, Warn):
        kube.event(write.obj, reason=write.reason, message=write.message, type="Warning", component="lab-controller")
        return
    metadata = write.obj["metadata"]
    space = metadata.get("namespace", "")
    try:
        if isinstance(write, Create):
            view.remember(write.resource, kube.create(write.resource, write.obj, space))
        elif isinstance(write, Patch):
            name, body = metadata["name"], write.body
            answer = kube.patch(write.resource, name, space, body=body, subresource=write.subresource, kind=write.kind)
            view.remember(write.resource, answer)
        elif isinstance(write, Replace):
            view.remember(write.resource, kube.replace(write.resource, write.obj))
        elif isinstance(write, Delete):
            uid = metadata["uid"]
            kube.delete(
                write.resource,
                metadata["name"],
                space,
                uid=uid,
                grace_seconds=write.grace_seconds,
                propagation="Background",
            )
            view.remember_deletion(write.resource, write.obj)
    except AlreadyExists as error:
        _log.debug("%s", error)
    except NotFound as error:
        if isinstance(write, Replace):
            raise
        _log.debug("%s", error)
    except Conflict as error:
        if not isinstance(write, Delete):
            raise
        _log.debug("%s", error)
