"""Our own Kubernetes client and reflector, on both servers."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from typing import Any

import pytest

from ncp.kube.client import AlreadyExists, ApiError, Conflict, Invalid, Kube, NotFound
from ncp.kube.reflector import Key, Reflector
from ncp.kube.resources import CONFIG_MAPS, EVENTS, PODS, SERVICES
from ncp.manager.demand import LoadBalancing
from ncp.manager.vips import VirtualAddresses
from ncp.settings import parse

from .concessions import Server
from .shapes import config_map, core, pod, service


@pytest.fixture
def kube(server: Server) -> Iterator[Kube]:
    client = Kube.connect(str(server.kubeconfig))
    yield client
    client.close()


def test_objects(kube: Kube, ns: str) -> None:
    made = kube.create(CONFIG_MAPS, config_map("one", {"a": "1"}), ns)
    assert kube.get(CONFIG_MAPS, "one", ns) == made
    replaced = kube.replace(CONFIG_MAPS, {**made, "data": {"a": "2"}})
    assert replaced["data"] == {"a": "2"}
    items, version = kube.list(CONFIG_MAPS, ns, field_selector="metadata.name=one")
    assert items == [replaced]
    assert version.isdigit()
    kube.delete(CONFIG_MAPS, "one", ns, uid=made["metadata"]["uid"])
    assert kube.list(CONFIG_MAPS, ns, field_selector="metadata.name=one")[0] == []


@pytest.mark.parametrize("kind", ["merge", "strategic"])
def test_patches(kube: Kube, ns: str, kind: Any) -> None:
    kube.create(CONFIG_MAPS, config_map("one"), ns)
    body = {"metadata": {"annotations": {"ncp/cluster": "k8s"}}}
    assert kube.patch(CONFIG_MAPS, "one", ns, body=body, kind=kind)["metadata"]["annotations"] == {"ncp/cluster": "k8s"}


def test_json_patch_and_apply(kube: Kube, ns: str) -> None:
    kube.patch(CONFIG_MAPS, "one", ns, body=config_map("one"), kind="apply", field_manager="ncp")
    step = [{"op": "test", "path": "/data/a", "value": "1"}, {"op": "add", "path": "/data/b", "value": "2"}]
    assert kube.patch(CONFIG_MAPS, "one", ns, body=step, kind="json")["data"] == {"a": "1", "b": "2"}
    with pytest.raises(Invalid):
        kube.patch(CONFIG_MAPS, "one", ns, body=[{"op": "test", "path": "/data/a", "value": "x"}], kind="json")


def test_refusals_are_told_apart(kube: Kube, ns: str) -> None:
    made = kube.create(CONFIG_MAPS, config_map("one"), ns)
    with pytest.raises(AlreadyExists):
        kube.create(CONFIG_MAPS, config_map("one"), ns)
    with pytest.raises(NotFound):
        kube.get(CONFIG_MAPS, "none", ns)
    with pytest.raises(Invalid):
        kube.create(CONFIG_MAPS, config_map("Not_A_Name"), ns)
    kube.patch(CONFIG_MAPS, "one", ns, body={"data": {"a": "2"}})
    with pytest.raises(Conflict):
        kube.replace(CONFIG_MAPS, made)
    with pytest.raises(Conflict):
        kube.delete(CONFIG_MAPS, "one", ns, uid="00000000-0000-0000-0000-000000000000")
    with pytest.raises(ApiError) as refused:
        kube.create(CONFIG_MAPS, config_map("one"), "c-nowhere")
    assert refused.value.status == 404


def test_binding_and_grace(kube: Kube, ns: str) -> None:
    kube.create(PODS, pod("web"), ns)
    kube.bind("web", ns, "n1")
    assert kube.get(PODS, "web", ns)["spec"]["nodeName"] == "n1"
    kube.delete(PODS, "web", ns)
    assert kube.get(PODS, "web", ns)["metadata"]["deletionTimestamp"]
    kube.delete(PODS, "web", ns, grace_seconds=0)
    with pytest.raises(NotFound):
        kube.get(PODS, "web", ns)


def test_events_count(kube: Kube, ns: str) -> None:
    about = kube.create(PODS, pod("web"), ns)
    for _ in range(3):
        kube.event(about, reason="IP_BLOCK_EXHAUSTED", message="no address", type="Warning")
    (event,), _ = kube.list(EVENTS, ns, field_selector="involvedObject.name=web")
    assert (event["count"], event["type"], event["reason"]) == (3, "Warning", "IP_BLOCK_EXHAUSTED")


def test_discovery(kube: Kube, server: Server) -> None:
    assert "v1" in kube.versions("apps")
    assert ("v1" in kube.versions("discovery.k8s.io")) == server.has("discovery.k8s.io/v1")
    assert kube.versions("nothing.example.org") == []


def test_watching(kube: Kube, ns: str) -> None:
    _, version = kube.list(CONFIG_MAPS, ns)
    kube.create(CONFIG_MAPS, config_map("one"), ns)
    kube.patch(CONFIG_MAPS, "one", ns, body={"data": {"a": "2"}})
    kube.delete(CONFIG_MAPS, "one", ns)
    seen = []
    for kind, thing in kube.watch(CONFIG_MAPS, version, ns, timeout_seconds=2):
        if kind != "BOOKMARK" and thing["metadata"]["name"] == "one":
            seen.append(kind)
        if seen[-1:] == ["DELETED"]:
            break
    assert seen == ["ADDED", "MODIFIED", "DELETED"]


Seen = queue.Queue[tuple[Key, bool, bool]]


def test_a_reflector_follows(kube: Kube, server: Server, ns: str) -> None:
    api, path = server.client, core(ns, "pods")
    api.post(path, pod("first")).must(201)
    seen: Seen = queue.Queue()
    reflector = Reflector(kube, PODS, lambda key, old, new: seen.put((key, bool(old), bool(new))), namespace=ns)
    reflector.start()
    try:
        assert reflector.synced.wait(10)
        assert seen.get(timeout=5) == ((ns, "first"), False, True)
        api.post(path, pod("second")).must(201)
        assert seen.get(timeout=5) == ((ns, "second"), False, True)
        api.merge(path + "/second", {"metadata": {"labels": {"x": "y"}}}).must(200)
        assert seen.get(timeout=5) == ((ns, "second"), True, True)
        assert reflector.store[ns, "second"]["metadata"]["labels"]["x"] == "y"
        api.delete(path + "/first").must(200)
        last = seen.get(timeout=5)
        if last == ((ns, "first"), True, True):  # kube-apiserver marks a pod as dying before it goes, however fast
            last = seen.get(timeout=5)
        assert last == ((ns, "first"), True, False)
        assert set(reflector.store) == {(ns, "second")}
        assert reflector.healthy()
    finally:
        reflector.stop()


def test_virtual_addresses_are_written_once_and_cleared(kube: Kube, ns: str) -> None:
    """Where a server knows no ipMode it is lost on the way, and where it leaves the status to us it is cleared by us."""
    pools = parse("[nsx_v3]\nexternal_ip_pools_lb = contract=198.51.100.77").nsx_v3.external_ip_pools_lb
    kube.create(SERVICES, service("web", type="LoadBalancer", loadBalancerIP="contract"), ns)
    seen: queue.Queue[dict[str, Any] | None] = queue.Queue()
    reflector = Reflector(kube, SERVICES, lambda key, old, new: seen.put(new), namespace=ns)
    follower = VirtualAddresses(kube, LoadBalancing("k8scluster", pools), lambda: True)
    reflector.start()
    follower.start()
    try:
        states = [seen.get(timeout=5) for _ in range(3)]  # as it was, marked as ours, with its address
        assert [each["ip"] for each in states[-1]["status"]["loadBalancer"]["ingress"]] == ["198.51.100.77"]
        kube.patch(SERVICES, "web", ns, body={"spec": {"type": "ClusterIP"}})
        states = [seen.get(timeout=5) for _ in range(3)]  # changed, cleared, no longer marked
        assert states[-1]["status"] == {"loadBalancer": {}}
        assert "ncp/cluster" not in states[-1]["metadata"].get("annotations", {})
        kube.delete(SERVICES, "web", ns)
        assert seen.get(timeout=5) is None, "nothing was written in between"
    finally:
        follower.stop()
        reflector.stop()
