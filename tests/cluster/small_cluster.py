"""A cluster for tests: the embedded API, controllers and kubelets of this process, a CNI plugin of a few lines."""

from __future__ import annotations

import os
import secrets
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, TypeVar

from labs.api.testing import EmbeddedApi
from labs.cluster.manager import ControllerManager
from labs.kubelet import netns
from labs.kubelet.config import Config, parse
from labs.kubelet.kubelet import Kubelet
from labs.realkube import RealApi
from ncp.kube.client import Kube
from ncp.kube.errors import NotFound
from ncp.kube.resources import NAMESPACES, PODS, Resource

Json = dict[str, Any]
T = TypeVar("T")
PLUGIN = Path(__file__).with_name("fake_cni.sh")


def eventually(probe: Callable[[], T], what: str, timeout: float = 15.0) -> T:
    """What ``probe`` returns once that is true; fails the test naming ``what`` otherwise."""
    deadline = time.monotonic() + timeout
    while True:
        found = probe()
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {timeout} s: {what}; last seen {found!r}"
        time.sleep(0.02)


def unique_name() -> str:
    """A name for a network namespace that tells whose it is."""
    return f"ncptest-{os.getpid()}-{secrets.token_hex(4)}"


def sweep() -> None:
    """Remove network namespaces that a test run left behind which was killed."""
    for each in netns.RUN.glob("ncptest-*-*"):
        owner = each.name.split("-")[1]
        if owner.isdigit() and not Path(f"/proc/{owner}").exists():
            netns.delete(each.name)


class SmallCluster:
    """``with SmallCluster(path, nodes=2) as cluster``; everything is gone at the end of the block."""

    def __init__(self, path: Path, nodes: int = 1, api: EmbeddedApi | RealApi | None = None) -> None:
        self.path = path
        self.api = api or EmbeddedApi(pod_logs=path / "logs")
        self.real = isinstance(self.api, RealApi)
        self.prefix = unique_name()
        self.node_names = [f"node{number}" for number in range(1, nodes + 1)]
        self.node_netns = f"{self.prefix}-nodes"
        self.kubelet: Kubelet | None = None
        self.manager: ControllerManager | None = None
        self._stack = ExitStack()

    def knows(self, minor: int) -> bool:
        """Whether the API server is of Kubernetes 1.``minor`` or later, as the embedded one always is."""
        return not isinstance(self.api, RealApi) or self.api.version[:2] >= (1, minor)

    def __enter__(self) -> SmallCluster:
        with ExitStack() as stack:
            stack.callback(self._remove_namespaces)
            netns.create(self.node_netns)
            for command in (
                "link add br0 type bridge",
                "addr add 10.9.0.1/16 dev br0",
                "addr add fd09::1/64 dev br0 nodad",
                "link set br0 up",
            ):
                subprocess.run(["ip", "-n", self.node_netns, *command.split()], check=True)
            stack.enter_context(self.api)
            self.kube = Kube.connect(str(self.api.kubeconfig))
            stack.callback(self.kube.close)
            stack.callback(self.stop)
            self.start_kubelet()
            self.start_manager()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def stop(self) -> None:
        """Stop controllers and kubelets; pods stay."""
        if self.manager is not None:
            self.manager.stop()
            self.manager = None
        self.stop_kubelet()

    def start_manager(self) -> ControllerManager:
        """Start the controllers, as a new process would; beside a real server they also collect garbage."""
        self.manager = ControllerManager(self.kube, collector=self.real)
        self.manager.start()
        return self.manager

    def restart_api(self) -> None:
        """Kill the API server and start it again on what it had stored."""
        if isinstance(self.api, RealApi):
            self.api.restart()
        else:
            self.api.kill()
            self.api.start()

    def start_kubelet(self) -> Kubelet:
        """Start the kubelets, as a new process would."""
        self.kubelet = Kubelet(self.kube, self.config())
        self.kubelet.start()
        return self.kubelet

    def stop_kubelet(self) -> None:
        """Stop the kubelets; pods keep their namespaces."""
        if self.kubelet is not None:
            self.kubelet.stop()
            self.kubelet = None

    def config(self) -> Config:
        """The kubelets' configuration: all nodes share one namespace, which is enough for what is tested here."""
        return parse(self.raw_config())

    def raw_config(self) -> Json:
        """The same as JSON."""
        return {
            "nodes": [
                {"name": name, "netns": self.node_netns, "addresses": ["10.9.0.1", "fd09::1"]}
                for name in self.node_names
            ],
            "cni_command": [str(PLUGIN), str(self.path), self.node_netns],
            "cni_config": {"cniVersion": "1.0.0", "name": "test", "type": "fake"},
            "pod_netns_prefix": f"{self.prefix}-p-",
            "pod_logs": str(self.path / "logs"),
            "state": str(self.path / "state"),
            "max_parallel": 4,
        }

    def namespace(self, name: str) -> str:
        """Make a namespace."""
        self.kube.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        return name

    def empty(self, name: str) -> None:
        """Delete a namespace and wait until its pods are gone."""
        self.kube.delete(NAMESPACES, name)
        eventually(lambda: self.get(NAMESPACES, "", name) is None, f"namespace {name} is gone")

    def create(self, resource: Resource, obj: Json) -> Json:
        """Create an object of ``resource``."""
        return self.kube.create(resource, {"apiVersion": resource.api_version, "kind": resource.kind, **obj})

    def get(self, resource: Resource, namespace: str, name: str) -> Json | None:
        """One object, or None."""
        try:
            return self.kube.get(resource, name, namespace)
        except NotFound:
            return None

    def pods(self, namespace: str = "", labels: str = "") -> list[Json]:
        """Pods by name."""
        found, _ = self.kube.list(PODS, namespace, label_selector=labels)
        return sorted(found, key=lambda pod: pod["metadata"]["name"])

    def pod_namespaces(self) -> list[str]:
        """The pod network namespaces there are."""
        return [each.name for each in netns.RUN.glob(f"{self.prefix}-p-*")]

    def calls(self, verb: str) -> list[str]:
        """Calls of the CNI plugin so far."""
        try:
            lines = (self.path / "calls").read_text().splitlines()
        except FileNotFoundError:
            return []
        return [line.partition(" ")[2] for line in lines if line.startswith(verb)]

    def _remove_namespaces(self) -> None:
        for each in netns.RUN.glob(f"{self.prefix}-*"):
            netns.delete(each.name)
        with suppress(OSError):  # others are using it
            netns.FILES.rmdir()


def ready(pod: Json) -> bool:
    """Whether a pod is Running and Ready."""
    conditions = {each["type"]: each["status"] for each in pod.get("status", {}).get("conditions", ())}
    return pod.get("status", {}).get("phase") == "Running" and conditions.get("Ready") == "True"


def pod(namespace: str, name: str, *ports: int, **spec: Any) -> Json:
    """A pod with one container that serves TCP ``ports``; ``spec`` is merged into its spec, ``container`` into it."""
    container = {"name": "c", "image": "example/app:1", "ports": [{"containerPort": each} for each in ports]}
    container |= spec.pop("container", {})
    return {"metadata": {"name": name, "namespace": namespace}, "spec": {"containers": [container], **spec}}
