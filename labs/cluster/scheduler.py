"""The scheduler: binds each pod that has no node to one that takes it, and says so where none does."""

from __future__ import annotations

import logging
import threading
from typing import Any

from labs.cluster.controllers import matters
from labs.cluster.pods import condition, is_leaving, is_terminal, now_text
from labs.cluster.scheduling import Ledger, choose
from labs.cluster.view import View
from labs.cluster.workqueue import WorkQueue
from ncp.kube.client import Kube
from ncp.kube.errors import ApiError, Conflict, NotFound
from ncp.kube.reflector import Key
from ncp.kube.resources import NAMESPACES, NODES, PODS, Resource

_log = logging.getLogger(__name__)

Json = dict[str, Any]

RETRY_SECONDS = 10.0


class Scheduler:
    """Decides one pod at a time; the bindings themselves are written by several workers at once."""

    needs = (PODS, NODES, NAMESPACES)

    def __init__(self, kube: Kube, workers: int) -> None:
        self.view: View | None = None
        self._kube = kube
        self._ledger = Ledger()
        self._assumed: dict[str, str] = {}  # uid → node, until the server tells of the binding
        self._waiting: set[Key] = set()
        self._lock = threading.Lock()
        self.queue: WorkQueue[Key] = WorkQueue("scheduler", self._work, workers, expected=(ApiError, ValueError))

    def changed(self, resource: Resource, old: Json | None, new: Json | None) -> None:
        """Take note of a change of a pod or a node."""
        if resource == PODS:
            self._pod_changed(old, new)
        elif resource == NODES and matters(resource, old, new):
            self._retry()

    def _pod_changed(self, old: Json | None, new: Json | None) -> None:
        freed = False
        with self._lock:
            if old is not None and (new is None or new["metadata"]["uid"] != old["metadata"]["uid"]):
                uid = old["metadata"]["uid"]
                self._ledger.drop(uid)
                self._assumed.pop(uid, None)
                self._waiting.discard(_key(old))
                freed = True
            if new is not None:
                uid = new["metadata"]["uid"]
                if new["spec"].get("nodeName"):
                    self._assumed.pop(uid, None)
                self._ledger.put(new, self._assumed.get(uid, ""))
                freed = freed or is_terminal(new)
        if new is not None and _wants_node(new):
            self.queue.add(_key(new))
        if freed:
            self._retry()

    def _retry(self) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, set()
        for key in waiting:
            self.queue.add(key)

    def _work(self, key: Key) -> None:
        view = self.view
        assert view is not None
        if not view.synced():
            self.queue.add(key, 0.05)
            return
        pod = view.get(PODS, key)
        if pod is None or not _wants_node(pod):
            return
        uid = pod["metadata"]["uid"]
        namespaces = {each["metadata"]["name"]: each for each in view.all(NAMESPACES)}
        with self._lock:
            if uid in self._assumed:
                return
            choice = choose(pod, view.all(NODES), self._ledger, namespaces)
            if choice.node:
                self._assumed[uid] = choice.node
                self._ledger.put(pod, choice.node)
            else:
                self._waiting.add(key)
        if choice.node:
            self._bind(pod, choice.node)
        else:
            self._cannot(pod, choice.message)
            self.queue.add(key, RETRY_SECONDS)

    def _bind(self, pod: Json, node: str) -> None:
        namespace, name = _key(pod)
        try:
            self._kube.bind(name, namespace, node)
        except (NotFound, Conflict) as error:  # deleted, or bound by somebody else: its event tells
            _log.debug("%s/%s: %s", namespace, name, error)
            self._unassume(pod)
        except ApiError:
            self._unassume(pod)
            raise

    def _unassume(self, pod: Json) -> None:
        with self._lock:
            if self._assumed.pop(pod["metadata"]["uid"], None) is not None:
                self._ledger.drop(pod["metadata"]["uid"])

    def _cannot(self, pod: Json, message: str) -> None:
        before = condition(pod, "PodScheduled")
        if before.get("status") == "False" and before.get("message") == message:
            return
        verdict = {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": message,
            "lastTransitionTime": before.get("lastTransitionTime") or now_text(),
        }
        body = {"metadata": {"uid": pod["metadata"]["uid"]}, "status": {"phase": "Pending", "conditions": [verdict]}}
        namespace, name = _key(pod)
        try:
            self._kube.patch(PODS, name, namespace, body=body, kind="strategic", subresource="status")
            self._kube.event(
                pod, reason="FailedScheduling", message=message, type="Warning", component="default-scheduler"
            )
        except (NotFound, Conflict) as error:
            _log.debug("%s/%s: %s", namespace, name, error)


def _wants_node(pod: Json) -> bool:
    spec = pod["spec"]
    ours = spec.get("schedulerName", "default-scheduler") == "default-scheduler"
    return ours and not spec.get("nodeName") and not spec.get("schedulingGates") and not is_leaving(pod)


def _key(obj: Json) -> Key:
    return (obj["metadata"]["namespace"], obj["metadata"]["name"])
