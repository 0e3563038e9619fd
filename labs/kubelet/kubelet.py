"""The kubelets of all lab nodes: brings each pod that is bound to one of them to what its object says.

Level-triggered: whatever happened, :meth:`Kubelet._sync` looks at the pod object, at the sandbox written down for it
and at the network namespace that is or is not there, and does what is missing. What it needs to know after a crash is
in the sandbox files, so a new process adopts the pods of the old one.
"""

from __future__ import annotations

import logging
import re
import secrets
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from labs.cluster.pods import is_leaving, is_terminal, now_text, seconds
from labs.cluster.workqueue import WorkQueue
from labs.kubelet import cni, nameserver, netns, status
from labs.kubelet.config import Config, NodeSpec
from labs.kubelet.nodes import Nodes
from labs.kubelet.probes import Prober, Target
from labs.kubelet.responder import Responders
from labs.kubelet.sandbox import Sandbox, Shelf
from ncp.kube.client import Kube
from ncp.kube.errors import ApiError, Conflict, NotFound
from ncp.kube.reflector import Key, Reflector
from ncp.kube.resources import PODS

_log = logging.getLogger(__name__)

Json = dict[str, Any]

AUDIT_SECONDS = 10.0
# What a server says to a strategic merge patch with a list it does not know, as before 1.28 to hostIPs.
_REFUSED_FIELD = re.compile(r'unable to find api field in struct PodStatus for the json field "(\w+)"')


class NotNow(Exception):
    """A pod could not be brought up or taken down; the text says why."""


class Kubelet:
    """Plays the kubelets of the nodes in ``config``; :meth:`start` returns at once."""

    def __init__(self, kube: Kube, config: Config) -> None:
        self._kube = kube
        self._config = config
        self._shelf = Shelf(config.state)
        self._sandboxes = self._shelf.load()
        self._pods: dict[str, Json] = {}
        self._logs: dict[str, Path] = {}
        self._serving: set[str] = set()
        self._written: dict[str, tuple[int, Json]] = {}
        self._restarts: dict[str, list[tuple[str, str]]] = {}
        self._unknown_fields: set[str] = set()
        self._lock = threading.Lock()
        self.responders = Responders()
        self._queue: WorkQueue[str] = WorkQueue("kubelet", self._sync, config.max_parallel, expected=(NotNow, ApiError))
        self._prober = Prober(self.responders.loop, self._queue.add, self._gave_up)
        self._reflector = Reflector(kube, PODS, self._changed)
        self._named = nameserver.watched(kube)
        self._name_servers = nameserver.NameServers(
            self.responders.loop, lambda: self._named if self._named.synced() else None
        )
        self.nodes = Nodes(kube, config.nodes.values())
        self._stopping = threading.Event()

    def start(self) -> None:
        """Register the nodes and start taking care of pods."""
        self.nodes.start()
        self._named.start()
        self._reflector.start()
        self._queue.start()

    def run(self, stop: threading.Event) -> None:
        """Start, and audit now and then until ``stop`` is set; pods stay as they are when it returns."""
        self.start()
        while not self._reflector.synced.wait(0.1):
            if stop.is_set():
                return
        self.forget_old_logs()
        while True:
            self.audit()
            if stop.wait(AUDIT_SECONDS):
                return

    def stop(self) -> None:
        """Stop working and answering. Sandboxes stay, to be adopted by the next process."""
        self._reflector.stop()
        self._queue.stop()
        self._named.stop()
        self.nodes.stop()
        self._name_servers.close()
        self.responders.close()

    def synced(self) -> bool:
        """Whether all pods have been listed once; nothing is taken down before."""
        return self._reflector.synced.is_set()

    def audit(self) -> None:
        """Look again at every pod that has a sandbox and no object, or an object and no living sandbox."""
        for uid, sandbox in list(self._sandboxes.items()):
            if uid not in self._pods or uid not in self._serving or not _lives(sandbox):
                self._queue.add(uid)

    def _changed(self, key: Key, old: Json | None, new: Json | None) -> None:
        if old is not None and (new is None or new["metadata"]["uid"] != old["metadata"]["uid"]):
            uid = old["metadata"]["uid"]
            if self._pods.pop(uid, None) is not None:
                self._logs[uid] = self._log_directory(old)
                self._queue.add(uid)
        if new is not None and new["spec"].get("nodeName") in self._config.nodes:
            uid = new["metadata"]["uid"]
            self._pods[uid] = new
            self._queue.add(uid)

    def _gave_up(self, uid: str, container: str, why: str) -> None:
        with self._lock:
            self._restarts.setdefault(uid, []).append((container, why))
        self._queue.add(uid)

    def _sync(self, uid: str) -> None:
        if not self.synced():
            self._queue.add(uid, 0.1)  # an unknown pod may just not be listed yet
            return
        pod = self._pods.get(uid)
        if pod is None:
            self._take_down(uid)
            self._forget(uid)
        elif is_leaving(pod):
            self._leave(uid, pod)
        elif is_terminal(pod):
            self._take_down(uid)
        else:
            self._bring_up(uid, pod)

    # Bringing up

    def _bring_up(self, uid: str, pod: Json) -> None:
        node = self._config.nodes[pod["spec"]["nodeName"]]
        sandbox = self._sandboxes.get(uid)
        if sandbox is None or not self._usable(uid, sandbox):
            sandbox = self._make_sandbox(pod, node, sandbox)
        end = status.ending(pod)
        if end is not None:
            left = seconds(sandbox.started) + end.after - time.time() if end.after else 0.0
            if left <= 0:
                self._report(pod, status.ended(pod, sandbox, self._hosts(node), end.code, now_text()))
                return
            if left != float("inf"):
                self._queue.add(uid, left)
        sandbox = self._restart_failed(uid, pod, sandbox)
        waiting = self._serve(uid, pod, sandbox, node)
        health = self._prober.health(uid)
        self._report(pod, status.running(pod, sandbox, self._hosts(node), health, now_text(), waiting))
        if waiting:
            raise NotNow(waiting)

    def _usable(self, uid: str, sandbox: Sandbox) -> bool:
        """Whether a sandbox can go on; one taken over from an earlier process must still have its interface."""
        if not sandbox.plugged or not _lives(sandbox):
            self._stop_serving(uid)
            return False
        return not sandbox.netns or uid in self._serving or cni.INTERFACE in netns.interfaces(sandbox.netns)

    def _make_sandbox(self, pod: Json, node: NodeSpec, old: Sandbox | None) -> Sandbox:
        if old is not None:
            self._remove_sandbox(old)
        metadata = pod["metadata"]
        uid = metadata["uid"]
        sandbox = Sandbox(
            uid=uid,
            namespace=metadata["namespace"],
            name=metadata["name"],
            node=node.name,
            container_id=secrets.token_hex(32),
            netns="" if pod["spec"].get("hostNetwork") else self._config.pod_netns_prefix + uid[:8],
            attempt=old.attempt + 1 if old else 0,
            restarts=old.restarts if old else {},
        )
        self._keep(sandbox)
        addresses = node.addresses
        if sandbox.netns:
            try:
                netns.create(sandbox.netns)
                netns.configure(sandbox.netns, nameserver.files(sandbox.namespace))
                addresses = cni.add(self._config.cni_command, self._cni_config(node), _attachment(sandbox))
            except (cni.CniError, OSError) as error:
                self._sandbox_failed(pod, node, sandbox, str(error))
        sandbox = replace(sandbox, plugged=True, addresses=addresses, started=now_text())
        self._keep(sandbox)
        return sandbox

    def _sandbox_failed(self, pod: Json, node: NodeSpec, sandbox: Sandbox, why: str) -> None:
        """Undo, say so on the pod, and raise :class:`NotNow`."""
        text = f"Failed to create pod sandbox: {why}"
        try:
            self._remove_sandbox(sandbox)
        except NotNow as error:
            _log.info("%s; taken away with the next attempt", error)
        self._report(pod, status.pending(pod, self._hosts(node), text, now_text()))
        self._kube.event(pod, reason="FailedCreatePodSandBox", message=text, type="Warning", component="kubelet")
        raise NotNow(text)

    def _restart_failed(self, uid: str, pod: Json, sandbox: Sandbox) -> Sandbox:
        """Count the containers their probes gave up as restarted; the pod's responders and probes begin anew."""
        with self._lock:
            failed = self._restarts.pop(uid, [])
        if not failed or uid not in self._serving:
            return sandbox
        restarts = dict(sandbox.restarts)
        for container, why in failed:
            restarts[container] = restarts.get(container, 0) + 1
            text = f"{why}; container {container} restarted"
            self._kube.event(pod, reason="Unhealthy", message=text, type="Warning", component="kubelet")
        self._stop_serving(uid)
        sandbox = replace(sandbox, restarts=restarts, started=now_text())
        self._keep(sandbox)
        return sandbox

    def _serve(self, uid: str, pod: Json, sandbox: Sandbox, node: NodeSpec) -> str:
        """Have the pod answer and be probed; returns why its containers cannot start, if so."""
        if uid in self._serving:
            return ""
        inside = sandbox.netns or node.netns
        try:
            if sandbox.netns:  # a pod on its host's network asks whom the host asks
                self._name_servers.serve(uid, sandbox.netns)
            shared = nameserver.PORT if sandbox.netns else 0
            self.responders.serve(uid, inside, sandbox.name, status.ports(pod), self._log_directory(pod), shared=shared)
        except FileNotFoundError as error:
            raise NotNow(f"network namespace {inside} is gone: {error}") from error
        except OSError as error:
            why = error.strerror or str(error)
            self._kube.event(pod, reason="Failed", message=why, type="Warning", component="kubelet")
            return why
        self._serving.add(uid)
        address = sandbox.addresses[0] if sandbox.addresses else "127.0.0.1"
        self._prober.start(Target(uid, pod, address, inside, node.netns))
        return ""

    # Taking down

    def _leave(self, uid: str, pod: Json) -> None:
        sandbox = self._sandboxes.get(uid)
        left = 0.0 if is_terminal(pod) else status.leaves_at(pod) - time.time()
        if left > 0 and sandbox is not None and self._usable(uid, sandbox):
            self._queue.add(uid, left)
            self._bring_up(uid, pod)  # it serves and is probed to its end
            return
        if sandbox is not None and sandbox.plugged and pod["metadata"].get("finalizers"):
            # Somebody still holds the object: it must not look as if it served.
            hosts = self._hosts(self._config.nodes[sandbox.node])
            self._report(pod, status.ended(pod, sandbox, hosts, 0, now_text()))
        self._take_down(uid)
        self._delete(pod)

    def _take_down(self, uid: str) -> None:
        self._stop_serving(uid)
        sandbox = self._sandboxes.get(uid)
        if sandbox is not None:
            self._remove_sandbox(sandbox)
        self._written.pop(uid, None)
        with self._lock:
            self._restarts.pop(uid, None)

    def _stop_serving(self, uid: str) -> None:
        self._prober.stop(uid)
        self.responders.stop(uid)
        self._name_servers.stop(uid)
        self._serving.discard(uid)

    def _remove_sandbox(self, sandbox: Sandbox) -> None:
        node = self._config.nodes.get(sandbox.node)
        if sandbox.netns:
            if node is None:
                _log.warning("pod %s/%s was on %s, no node of this lab", sandbox.namespace, sandbox.name, sandbox.node)
            else:
                try:
                    cni.delete(self._config.cni_command, self._cni_config(node), _attachment(sandbox))
                except cni.CniError as error:
                    raise NotNow(f"pod {sandbox.namespace}/{sandbox.name} stays: {error}") from error
            netns.delete(sandbox.netns)
        self._shelf.drop(sandbox.uid)
        self._sandboxes.pop(sandbox.uid, None)

    def _delete(self, pod: Json) -> None:
        """Tell the API server that a pod asked to go is gone, unless finalizers still hold it."""
        metadata = pod["metadata"]
        if metadata.get("deletionGracePeriodSeconds") == 0:
            return
        try:
            self._kube.delete(PODS, metadata["name"], metadata["namespace"], grace_seconds=0, uid=metadata["uid"])
        except (NotFound, Conflict) as error:
            _log.debug("%s/%s is gone already: %s", metadata["namespace"], metadata["name"], error)

    def _forget(self, uid: str) -> None:
        directory = self._logs.pop(uid, None)
        if directory is not None and directory.exists():
            shutil.rmtree(directory)

    def forget_old_logs(self) -> None:
        """Remove logs of pods that went while no kubelet was running."""
        if not self._config.pod_logs.exists():
            return
        for directory in self._config.pod_logs.iterdir():
            if directory.is_dir() and directory.name.rpartition("_")[2] not in self._pods:
                shutil.rmtree(directory)

    # Reporting

    def _report(self, pod: Json, wanted: Json) -> None:
        """Write the pod's status where it differs from what the server has, or is about to tell us it has."""
        wanted = {name: value for name, value in wanted.items() if name not in self._unknown_fields}
        uid, metadata = pod["metadata"]["uid"], pod["metadata"]
        version, written = self._written.get(uid, (0, {}))
        if int(metadata["resourceVersion"]) < version and _same(written, wanted):
            return
        if not status.differs(pod, wanted):
            return
        try:
            answer = self._kube.patch(
                PODS,
                metadata["name"],
                metadata["namespace"],
                body=status.patch(pod, wanted),
                kind="strategic",
                subresource="status",
            )
        except (NotFound, Conflict) as error:
            _log.debug("%s/%s is another pod by now: %s", metadata["namespace"], metadata["name"], error)
            return
        except ApiError as error:
            unknown = _REFUSED_FIELD.search(error.message)
            if unknown is None or unknown[1] not in wanted:
                raise
            _log.warning("this API server knows no status.%s of a pod; left out from now on", unknown[1])
            self._unknown_fields.add(unknown[1])
            self._report(pod, wanted)
            return
        self._written[uid] = (int(answer["metadata"]["resourceVersion"]), wanted)

    def _keep(self, sandbox: Sandbox) -> None:
        self._shelf.put(sandbox)
        self._sandboxes[sandbox.uid] = sandbox

    def _hosts(self, node: NodeSpec) -> tuple[str, ...]:
        return node.addresses

    def _cni_config(self, node: NodeSpec) -> Json:
        return {**self._config.cni_config, "socket": node.cni_socket} if node.cni_socket else self._config.cni_config

    def _log_directory(self, pod: Json) -> Path:
        metadata = pod["metadata"]
        return self._config.pod_logs / f"{metadata['namespace']}_{metadata['name']}_{metadata['uid']}"


def _lives(sandbox: Sandbox) -> bool:
    return not sandbox.netns or netns.exists(sandbox.netns)


def _attachment(sandbox: Sandbox) -> cni.Attachment:
    path = str(netns.path(sandbox.netns)) if netns.exists(sandbox.netns) else ""
    return cni.Attachment(sandbox.container_id, path, sandbox.namespace, sandbox.name, sandbox.uid)


def _same(one: Json, other: Json) -> bool:
    """Whether two statuses say the same, but for when they were written."""
    return _timeless(one) == _timeless(other)


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        skipped = ("lastTransitionTime", "startTime", "finishedAt")
        return {name: _timeless(each) for name, each in value.items() if name not in skipped}
    return [_timeless(each) for each in value] if isinstance(value, list) else value
