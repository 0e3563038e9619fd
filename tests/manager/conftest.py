"""A Kubernetes API for the tests of the running manager."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import pytest
from prometheus_client.registry import CollectorRegistry

from labs.api.testing import EmbeddedApi
from ncp.kube.client import Kube
from ncp.kube.errors import NotFound
from ncp.kube.resources import NAMESPACES, PODS
from ncp.manager import Service
from ncp.settings import parse

T = TypeVar("T")

INI = """
[nsx_v3]
container_ip_blocks = 10.4.0.0/16, fd00:10:4::/48
[ha]
master_timeout = 3
heartbeat_period = 1
update_timeout = 2
"""


def eventually(look: Callable[[], T], what: str, seconds: float = 10.0) -> T:
    """The first true answer of ``look``."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := look():
            return found
        time.sleep(0.01)
    raise AssertionError(f"not within {seconds} s: {what}")


class Client:
    """What a test does to the API and sees there."""

    def __init__(self, kubeconfig: str):
        self.kubeconfig = kubeconfig
        self.kube = Kube.connect(kubeconfig)

    def namespace(self, name: str, **annotations: str) -> dict[str, Any]:
        meta = {"name": name, "annotations": {k.replace("__", "/"): v for k, v in annotations.items()}}
        return self.kube.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": meta})

    def pod(self, namespace: str, name: str, **annotations: str) -> dict[str, Any]:
        meta = {"name": name, "namespace": namespace}
        meta["annotations"] = {k.replace("__", "/"): v for k, v in annotations.items()}
        spec = {"containers": [{"name": "c", "image": "none"}]}
        return self.kube.create(PODS, {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})

    def delete_pod(self, namespace: str, name: str) -> None:
        self.kube.delete(PODS, name, namespace, grace_seconds=0)

    def annotations(self, *where: str) -> dict[str, str]:
        try:
            obj = self.kube.get(PODS, where[1], where[0]) if len(where) == 2 else self.kube.get(NAMESPACES, where[0])
        except NotFound:
            return {}
        return obj["metadata"].get("annotations") or {}

    def has(self, annotation: str, *where: str) -> str:
        return eventually(lambda: self.annotations(*where).get(annotation), f"{annotation} on {'/'.join(where)}")

    def lacks(self, annotation: str, *where: str) -> None:
        eventually(lambda: annotation not in self.annotations(*where), f"no {annotation} on {'/'.join(where)}")

    def addresses(self, namespace: str, name: str) -> list[str]:
        return json.loads(self.has("ncp/port", namespace, name))["addresses"]

    def ports(self) -> dict[str, dict[str, Any]]:
        """``ncp/port`` of every pod that shows one."""
        pods, _ = self.kube.list(PODS)
        return {
            f"{pod['metadata']['namespace']}/{pod['metadata']['name']}": json.loads(text)
            for pod in pods
            if (text := (pod["metadata"].get("annotations") or {}).get("ncp/port"))
        }

    @contextmanager
    def manager(self, ini: str = INI, identity: str = "one") -> Iterator[Service]:
        """A replica that runs in this process until the end of the block."""
        stop = threading.Event()
        service = Service(parse(ini), Kube.connect(self.kubeconfig), identity=identity, registry=CollectorRegistry())
        thread = threading.Thread(target=service.run, args=(stop,))
        thread.start()
        try:
            yield service
        finally:
            stop.set()
            thread.join(15)
        assert not thread.is_alive(), "the manager does not stop"


@pytest.fixture
def api() -> Iterator[EmbeddedApi]:
    with EmbeddedApi() as server:
        yield server


@pytest.fixture
def client(api: EmbeddedApi) -> Iterator[Client]:
    found = Client(str(api.kubeconfig))
    yield found
    found.kube.close()
