from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from labs.api.testing import EmbeddedApi
from labs.cluster.nodelife import GRACE_SECONDS, NOT_READY, UNREACHABLE, NodeLife, evicted, plan_node
from labs.cluster.view import View
from labs.cluster.writes import Delete, Patch
from ncp.kube.client import Kube
from ncp.kube.resources import LEASES, NAMESPACES, NODES, PODS
from tests.cluster.small_cluster import eventually, pod

Json = dict[str, Any]


def node(status: str, taints: list[Json] | None = None) -> Json:
    return {
        "metadata": {"name": "n1", "uid": "u"},
        "spec": {"taints": taints} if taints else {},
        "status": {"conditions": [{"type": "Ready", "status": status}, {"type": "DiskPressure", "status": "False"}]},
    }


def stamp(epoch: float) -> str:
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def keys(write: Any) -> set[str]:
    assert isinstance(write, Patch)
    return {each["key"] for each in write.body["spec"]["taints"] or ()}


def test_a_silent_node_becomes_unknown_and_tainted() -> None:
    status, taints = plan_node(node("True"), silent=True)
    assert isinstance(status, Patch)
    conditions = {each["type"]: each["status"] for each in status.body["status"]["conditions"]}
    assert conditions == {"Ready": "Unknown"}
    assert status.kind == "strategic", "what others say of the node stays"
    assert keys(taints) == {UNREACHABLE}
    assert plan_node(node("Unknown", taints.body["spec"]["taints"]), silent=True) == []


def test_taints_follow_readiness_and_foreign_taints_stay() -> None:
    foreign = {"key": "dedicated", "effect": "NoSchedule"}
    (write,) = plan_node(node("False", [foreign]), silent=False)
    assert keys(write) == {"dedicated", NOT_READY}
    (write,) = plan_node(node("True", write.body["spec"]["taints"]), silent=False)
    assert keys(write) == {"dedicated"}
    assert plan_node(node("True", [foreign]), silent=False) == []


@pytest.mark.parametrize(
    ("tolerations", "age", "goes"),
    [
        ([], 299, False),
        ([], 301, True),
        ([{"key": UNREACHABLE, "operator": "Exists", "tolerationSeconds": 10}], 11, True),
        ([{"key": UNREACHABLE, "operator": "Exists", "tolerationSeconds": 10}], 9, False),
        ([{"operator": "Exists"}], 10**6, False),
    ],
)
def test_pods_leave_an_unreachable_node_in_their_own_time(tolerations: list[Json], age: int, goes: bool) -> None:
    now = time.time()
    taints = [{"key": UNREACHABLE, "effect": "NoExecute", "timeAdded": stamp(now - age)}]
    held = pod("n", "p", tolerations=tolerations)
    assert evicted(held, node("Unknown", taints), now) is goes


def test_a_foreign_no_execute_taint_sends_pods_away_at_once() -> None:
    taints = [{"key": "maintenance", "effect": "NoExecute"}]
    assert evicted(pod("n", "p"), node("True", taints), time.time())


@pytest.fixture
def kube() -> Iterator[Kube]:
    with EmbeddedApi() as api:
        client = Kube.connect(str(api.kubeconfig))
        yield client
        client.close()


def test_silence_is_measured_by_lease_renewals_and_pods_of_gone_nodes_go(kube: Kube) -> None:
    for name in ("alive", "silent", "leaves"):
        kube.create(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": {}})
        status = {"conditions": [{"type": "Ready", "status": "True"}]}
        kube.patch(NODES, name, body={"status": status}, subresource="status")
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kube-node-lease"}}
    if not any(each["metadata"]["name"] == "kube-node-lease" for each in kube.list(NAMESPACES)[0]):
        kube.create(NAMESPACES, space)
    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "spec": {}}
    kube.create(LEASES, lease | {"metadata": {"name": "alive", "namespace": "kube-node-lease"}})
    body = pod("default", "stray", 80, nodeName="leaves")
    kube.create(PODS, {"apiVersion": "v1", "kind": "Pod", **body})
    view = View(kube, NodeLife.needs, lambda *_: None)
    view.start()
    try:
        eventually(view.synced, "everything is listed")
        life = NodeLife(kube, view)
        assert life.tick(0.0, time.time()) == []
        kube.delete(NODES, "leaves")
        renewed = {"spec": {"renewTime": "2030-01-01T00:00:00.000000Z"}}
        kube.patch(LEASES, "alive", "kube-node-lease", body=renewed)
        eventually(lambda: view.get(NODES, ("", "leaves")) is None, "the node is gone from view")
        eventually(lambda: view.get(LEASES, ("kube-node-lease", "alive"))["spec"], "the renewal is in view")
        first = life.tick(GRACE_SECONDS / 2, time.time())
        assert first == [], "a pod may be seen before its node"
        late = life.tick(GRACE_SECONDS + 1, time.time())
        assert {each.obj["metadata"]["name"] for each in late} == {"silent", "stray"}
        (gone,) = (each for each in late if isinstance(each, Delete))
        assert gone.grace_seconds == 0
    finally:
        view.stop()
