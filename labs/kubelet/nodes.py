"""Node objects: what the lab's kubelets register and keep alive."""

from __future__ import annotations

import logging
import os
import platform
import threading
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from labs.cluster.pods import condition, now_text, with_condition
from labs.kubelet.config import NodeSpec
from ncp.kube.client import Kube
from ncp.kube.errors import AlreadyExists, ApiError, NotFound
from ncp.kube.reflector import Key, Reflector
from ncp.kube.resources import LEASES, NAMESPACES, NODES

_log = logging.getLogger(__name__)

Json = dict[str, Any]

LEASE_NAMESPACE = "kube-node-lease"
LEASE_SECONDS = 40
RENEW_SECONDS = 10.0
_FIRST_LOOK = 0.2  # seconds between looks for the CNI server of a node that is not ready yet
# A lab node promises more than it has: its pods are namespaces without processes.
_CONDITIONS = frozenset({"MemoryPressure", "DiskPressure", "PIDPressure", "Ready"})
_CAPACITY = {"cpu": "64", "memory": "256Gi", "ephemeral-storage": "1Ti", "pods": "500"}


def node_object(spec: NodeSpec) -> Json:
    """The Node as registered, without status."""
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    labels = {
        "kubernetes.io/hostname": spec.name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": machine,
        **spec.labels,
    }
    body: Json = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": spec.name, "labels": labels}, "spec": {}}
    if spec.annotations:
        body["metadata"]["annotations"] = dict(spec.annotations)
    if spec.taints:
        body["spec"]["taints"] = list(spec.taints)
    return body


def node_status(spec: NodeSpec, held: Json, *, ready: bool, now: str) -> Json:
    """The status of a node; its Ready condition is false until its CNI server is there, as with a real kubelet.

    Of the conditions only a kubelet's own: what ``held`` shows of others' may be old by the time this is written.
    """
    conditions = [each for each in held.get("status", {}).get("conditions") or () if each["type"] in _CONDITIONS]
    network = (
        {"status": "True", "reason": "KubeletReady", "message": "kubelet is posting ready status"}
        if ready
        else {
            "status": "False",
            "reason": "KubeletNotReady",
            "message": f"network plugin is not ready: no CNI server at {spec.cni_socket}",
        }
    )
    for each in (
        {"type": "MemoryPressure", "status": "False", "reason": "KubeletHasSufficientMemory"},
        {"type": "DiskPressure", "status": "False", "reason": "KubeletHasNoDiskPressure"},
        {"type": "PIDPressure", "status": "False", "reason": "KubeletHasSufficientPID"},
        {"type": "Ready", **network},
    ):
        conditions = with_condition(conditions, {**each, "lastHeartbeatTime": now, "lastTransitionTime": now})
    addresses = [{"type": "InternalIP", "address": each} for each in spec.addresses]
    return {
        "capacity": _CAPACITY,
        "allocatable": _CAPACITY,
        "conditions": conditions,
        "addresses": [*addresses, {"type": "Hostname", "address": spec.name}],
        "nodeInfo": {
            "architecture": platform.machine(),
            "bootID": "",
            "containerRuntimeVersion": "lab://1",
            "kernelVersion": os.uname().release,
            "kubeProxyVersion": "",
            "kubeletVersion": "v1.32.0-lab",
            "machineID": "",
            "operatingSystem": "linux",
            "osImage": "network namespace",
            "systemUUID": "",
        },
        "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
    }


class Nodes:
    """Registers the nodes once, renews their leases, and puts back a Ready condition that others took away.

    A Node object deleted while this runs stays deleted, as with a kubelet: that is how a node leaves.
    """

    def __init__(self, kube: Kube, specs: Iterable[NodeSpec]) -> None:
        self._kube = kube
        self._specs = {spec.name: spec for spec in specs}
        self._ready: set[str] = set()
        self._registered = False
        self._wake = threading.Event()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="nodes", daemon=True)
        self.reflector = Reflector(kube, NODES, self._changed)

    def start(self) -> None:
        """Start registering; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """Stop renewing leases."""
        self._stopped = True
        self._wake.set()
        self._thread.join()
        self.reflector.stop()

    def node(self, name: str) -> Json:
        """The Node object as last seen; as it would be registered while it was not seen."""
        return self.reflector.store.get(("", name)) or node_object(self._specs[name])

    def _changed(self, key: Key, old: Json | None, new: Json | None) -> None:
        if new is not None and key[1] in self._specs:
            self._wake.set()

    def _run(self) -> None:
        renewed = 0.0
        while not self._stopped:
            try:
                if not self._registered:
                    self._register()
                    self.reflector.start()
                    self.reflector.synced.wait(10)
                self._report()
                now = datetime.now(UTC).timestamp()
                if now - renewed >= RENEW_SECONDS:
                    self._renew()
                    renewed = now
            except ApiError as error:
                _log.warning("nodes: %s", error)
                self._wake.wait(1.0)
            waiting_for_cni = len(self._ready) < len(self._specs)
            self._wake.wait(_FIRST_LOOK if waiting_for_cni else 2.0)
            self._wake.clear()

    def _register(self) -> None:
        try:
            namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": LEASE_NAMESPACE}}
            self._kube.create(NAMESPACES, namespace)
        except AlreadyExists:
            _log.debug("namespace %s is there", LEASE_NAMESPACE)
        for spec in self._specs.values():
            try:
                self._kube.create(NODES, node_object(spec))
            except AlreadyExists:
                said = {name: value for name, value in node_object(spec)["metadata"].items() if name != "name"}
                self._kube.patch(NODES, spec.name, body={"metadata": said})
        self._registered = True

    def _report(self) -> None:
        for spec in self._specs.values():
            if spec.name not in self._ready and (not spec.cni_socket or Path(spec.cni_socket).exists()):
                self._ready.add(spec.name)
            held = self.reflector.store.get(("", spec.name))
            if held is None:
                continue
            ready = spec.name in self._ready
            status = node_status(spec, held, ready=ready, now=now_text())
            same = condition(held, "Ready").get("status") == ("True" if ready else "False")
            if not same or held.get("status", {}).get("addresses") != status["addresses"]:
                self._write(spec, status)

    def _write(self, spec: NodeSpec, status: Json) -> None:
        # Conditions are merged by type, so that those of others stay. Addresses would be merged by type as well, and
        # two of one type would become one, so that list is replaced, as a kubelet does it.
        body = {**status, "addresses": [{"$patch": "replace"}, *status["addresses"]]}
        try:
            self._kube.patch(NODES, spec.name, body={"status": body}, kind="strategic", subresource="status")
        except NotFound:
            _log.warning("node %s was deleted", spec.name)

    def _renew(self) -> None:
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        for name in self._specs:
            node = self.reflector.store.get(("", name))
            if node is None:
                continue
            try:
                self._kube.patch(LEASES, name, LEASE_NAMESPACE, body={"spec": {"renewTime": stamp}})
            except NotFound:
                self._kube.create(LEASES, _lease(node, stamp))


def _lease(node: Json, stamp: str) -> Json:
    name = node["metadata"]["name"]
    owner = {"apiVersion": "v1", "kind": "Node", "name": name, "uid": node["metadata"]["uid"]}
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": name, "namespace": LEASE_NAMESPACE, "ownerReferences": [owner]},
        "spec": {"holderIdentity": name, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": stamp},
    }
