"""The lab's controllers do the same work on both servers: what a lab on a real API server stands on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest

from labs.cluster.manager import ControllerManager
from ncp.kube.client import Kube

from .client import Client, Object
from .concessions import Server
from .shapes import NAMESPACES, NODES, apps, await_answer, core, deployment, leases, service


@pytest.fixture
def controllers(server: Server) -> Iterator[ControllerManager]:
    kube = Kube.connect(str(server.kubeconfig))
    # Our own server empties namespaces and collects dependants itself; a real one leaves that to a controller.
    manager = ControllerManager(kube, collector=server.name == "real")
    manager.start()
    yield manager
    manager.stop()
    kube.close()


@pytest.fixture
def node(api: Client, ns: str) -> Iterator[str]:
    """A node that is ready, and alive by its lease."""
    api.post(NODES, {"metadata": {"name": ns}}).must(201)
    ready = {"type": "Ready", "status": "True", "lastHeartbeatTime": now(), "lastTransitionTime": now()}
    room = {"cpu": "8", "memory": "8Gi", "pods": "500"}
    status = {"conditions": [ready], "allocatable": room, "capacity": room}
    api.strategic(f"{NODES}/{ns}/status", {"status": status}).must(200)
    spec = {"holderIdentity": ns, "leaseDurationSeconds": 600, "renewTime": now()[:-1] + ".000000Z"}
    api.post(leases("kube-node-lease"), {"metadata": {"name": ns}, "spec": spec}).must(201)
    yield ns
    api.delete(f"{NODES}/{ns}")
    api.delete(leases("kube-node-lease") + f"/{ns}")


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def until(condition: Callable[[], bool], what: str, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.05)


def pods_of(api: Client, ns: str) -> list[Object]:
    items: list[Object] = api.get(core(ns, "pods")).must(200).body["items"]
    return items


def end_dying_pods(api: Client, ns: str) -> bool:
    """Confirm the end of pods as a kubelet would; return whether none is left."""
    left = pods_of(api, ns)
    for pod in left:
        if pod["metadata"].get("deletionTimestamp"):
            api.delete(core(ns, "pods") + f"/{pod['metadata']['name']}", {"gracePeriodSeconds": 0})
    return not left


@pytest.mark.usefixtures("controllers", "node")
def test_a_deployment_and_its_service_live_and_die(api: Client, ns: str) -> None:
    await_answer(api, core(ns, "serviceaccounts") + "/default")
    api.post(apps(ns, "deployments"), deployment("web", replicas=3)).must(201)
    api.post(core(ns, "services"), service("web")).must(201)
    until(lambda: sum("nodeName" in pod["spec"] for pod in pods_of(api, ns)) == 3, "three pods on a node")

    addresses = [f"10.4.0.{number}" for number in (2, 3, 4)]
    for pod, address in zip(pods_of(api, ns), addresses, strict=True):
        status = {"phase": "Running", "podIP": address, "conditions": [{"type": "Ready", "status": "True"}]}
        api.strategic(core(ns, "pods") + f"/{pod['metadata']['name']}/status", {"status": status}).must(200)
    path = apps(ns, "deployments") + "/web"
    until(lambda: api.get(path).body["status"].get("readyReplicas") == 3, "three ready replicas")
    until(lambda: endpoints(api, ns) == addresses, "three endpoints")

    api.delete(path, {"propagationPolicy": "Background"}).must(200)
    until(lambda: end_dying_pods(api, ns), "no pod without its deployment")
    until(lambda: endpoints(api, ns) == [], "no endpoint without a pod")


def endpoints(api: Client, ns: str) -> list[str]:
    """Return the ready addresses behind the service ``web``."""
    found = api.get(core(ns, "endpoints") + "/web").body
    return sorted(address["ip"] for subset in found.get("subsets") or () for address in subset.get("addresses") or ())


@pytest.mark.usefixtures("controllers", "node")
def test_a_deleted_namespace_takes_everything_along(api: Client, ns: str) -> None:
    api.post(apps(ns, "deployments"), deployment("web", replicas=2)).must(201)
    until(lambda: len(pods_of(api, ns)) == 2, "two pods")
    api.delete(f"{NAMESPACES}/{ns}").must(200)
    until(lambda: end_dying_pods(api, ns) and api.get(f"{NAMESPACES}/{ns}").status == 404, "the namespace gone")
