"""Status and spec keep out of each other's way, and what else has a subresource."""

from __future__ import annotations

from .client import Client
from .shapes import apps, core, deployment, pod, service


def test_status_is_not_written_through_the_object(api: Client, ns: str) -> None:
    body = {**pod("web"), "status": {"phase": "Running", "podIP": "10.0.0.1"}}
    assert api.post(core(ns, "pods"), body).must(201).body["status"] == {"phase": "Pending", "qosClass": "BestEffort"}

    patched = api.merge(core(ns, "pods") + "/web", {"status": {"phase": "Running"}}).must(200).body
    assert patched["status"]["phase"] == "Pending"


def test_the_object_is_not_written_through_status(api: Client, ns: str) -> None:
    api.post(apps(ns, "deployments"), deployment("web", replicas=1)).must(201)
    path = apps(ns, "deployments") + "/web"
    patch = {"spec": {"replicas": 5}, "status": {"replicas": 3, "observedGeneration": 1}}
    after = api.merge(path + "/status", patch).must(200).body

    assert after["spec"]["replicas"] == 1
    assert after["status"] == {"replicas": 3, "observedGeneration": 1}
    assert after["metadata"]["generation"] == 1


def test_status_by_replace(api: Client, ns: str) -> None:
    made = api.post(core(ns, "services"), service("web", type="LoadBalancer")).must(201).body
    balancer = {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}
    after = api.put(core(ns, "services") + "/web/status", {**made, "status": balancer}).must(200).body

    assert after["status"] == balancer
    api.put(core(ns, "services") + "/web/status", {**made, "status": {}}).must(409, "Conflict")


def test_pod_conditions_merge_by_type(api: Client, ns: str) -> None:
    api.post(core(ns, "pods"), pod("web")).must(201)
    path = core(ns, "pods") + "/web/status"
    api.strategic(path, {"status": {"conditions": [{"type": "Ready", "status": "False", "reason": "Starting"}]}})
    api.strategic(path, {"status": {"conditions": [{"type": "Initialized", "status": "True"}]}}).must(200)
    after = api.strategic(path, {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}).must(200).body

    states = {condition["type"]: condition["status"] for condition in after["status"]["conditions"]}
    assert states == {"Ready": "True", "Initialized": "True"}


def test_pod_addresses_follow_the_first_one(api: Client, ns: str) -> None:
    api.post(core(ns, "pods"), pod("web")).must(201)
    path = core(ns, "pods") + "/web/status"
    both = {"podIP": "10.4.0.2", "podIPs": [{"ip": "10.4.0.2"}, {"ip": "fd00::2"}]}
    status = api.strategic(path, {"status": both}).must(200).body["status"]

    assert (status["podIP"], status["podIPs"]) == ("10.4.0.2", [{"ip": "10.4.0.2"}, {"ip": "fd00::2"}])


def test_binding_gives_a_pod_its_node_once(api: Client, ns: str) -> None:
    api.post(core(ns, "pods"), pod("web")).must(201)
    binding = {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": "web", "namespace": ns},
        "target": {"apiVersion": "v1", "kind": "Node", "name": "n1"},
    }
    api.post(core(ns, "pods") + "/web/binding", binding).must(201)
    bound = api.get(core(ns, "pods") + "/web").body
    assert bound["spec"]["nodeName"] == "n1"
    scheduled = {item["type"]: item["status"] for item in bound["status"]["conditions"]}
    assert scheduled["PodScheduled"] == "True"

    again = {**binding, "target": {**binding["target"], "name": "n2"}}
    api.post(core(ns, "pods") + "/web/binding", again).must(409, "Conflict")


def test_scale_reads_and_writes_replicas(api: Client, ns: str) -> None:
    api.post(apps(ns, "deployments"), deployment("web", replicas=1)).must(201)
    path = apps(ns, "deployments") + "/web"
    scale = api.get(path + "/scale").must(200).body
    assert (scale["kind"], scale["apiVersion"], scale["spec"]) == ("Scale", "autoscaling/v1", {"replicas": 1})
    assert scale["status"]["selector"] == "app=web"

    api.put(path + "/scale", {**scale, "spec": {"replicas": 4}}).must(200)
    assert api.get(path).body["spec"]["replicas"] == 4
    api.merge(path + "/scale", {"spec": {"replicas": 2}}).must(200)
    assert api.get(path).body["spec"]["replicas"] == 2


def test_a_deleted_pod_by_eviction(api: Client, ns: str) -> None:
    api.post(core(ns, "pods"), pod("web")).must(201)
    eviction = {"apiVersion": "policy/v1beta1", "kind": "Eviction", "metadata": {"name": "web", "namespace": ns}}
    api.post(core(ns, "pods") + "/web/eviction", eviction).must(201)
    api.get(core(ns, "pods") + "/web").must(404)
