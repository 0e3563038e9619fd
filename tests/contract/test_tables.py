"""Tables: the columns a person sees, made by the server for kubectl."""

from __future__ import annotations

import pytest

from .client import Client, Object
from .shapes import (
    NAMESPACES,
    NODES,
    apps,
    config_map,
    core,
    deployment,
    network_policies,
    network_policy,
    pod,
    service,
)

# Columns of priority 0, then those of -o wide. A newer server may add to either.
COLUMNS = {
    "/api/v1/pods": (
        ["Name", "Ready", "Status", "Restarts", "Age"],
        ["IP", "Node", "Nominated Node", "Readiness Gates"],
    ),
    "/api/v1/services": (["Name", "Type", "Cluster-IP", "External-IP", "Port(s)", "Age"], ["Selector"]),
    "/api/v1/nodes": (
        ["Name", "Status", "Roles", "Age", "Version"],
        ["Internal-IP", "External-IP", "OS-Image", "Kernel-Version", "Container-Runtime"],
    ),
    "/api/v1/namespaces": (["Name", "Status", "Age"], []),
    "/api/v1/endpoints": (["Name", "Endpoints", "Age"], []),
    "/api/v1/configmaps": (["Name", "Data", "Age"], []),
    "/api/v1/secrets": (["Name", "Type", "Data", "Age"], []),
    "/api/v1/events": (
        ["Last Seen", "Type", "Reason", "Object", "Message"],
        ["Subobject", "Source", "First Seen", "Count", "Name"],
    ),
    "/apis/apps/v1/deployments": (
        ["Name", "Ready", "Up-to-date", "Available", "Age"],
        ["Containers", "Images", "Selector"],
    ),
    "/apis/apps/v1/replicasets": (["Name", "Desired", "Current", "Ready", "Age"], ["Containers", "Images", "Selector"]),
    "/apis/apps/v1/statefulsets": (["Name", "Ready", "Age"], ["Containers", "Images"]),
    "/apis/apps/v1/daemonsets": (
        ["Name", "Desired", "Current", "Ready", "Up-to-date", "Available", "Node Selector", "Age"],
        ["Containers", "Images", "Selector"],
    ),
    "/apis/networking.k8s.io/v1/networkpolicies": (["Name", "Pod-Selector", "Age"], []),
    "/apis/coordination.k8s.io/v1/leases": (["Name", "Holder", "Age"], []),
    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions": (["Name", "Created At"], []),
}


@pytest.mark.parametrize("path", COLUMNS, ids=lambda path: path.rsplit("/", 1)[1])
def test_columns(api: Client, path: str) -> None:
    table = api.table(path)
    narrow, wide = COLUMNS[path]
    assert table["apiVersion"] == "meta.k8s.io/v1"
    assert [column["name"] for column in table["columnDefinitions"] if column["priority"] == 0] == narrow
    assert [column["name"] for column in table["columnDefinitions"] if column["priority"] > 0][: len(wide)] == wide
    assert all(column["type"] and "description" in column for column in table["columnDefinitions"])


def row(api: Client, path: str, name: str) -> Object:
    """Return one object's cells by column."""
    table = api.table(f"{path}/{name}")
    (only,) = table["rows"]
    assert only["object"]["kind"] == "PartialObjectMetadata"
    assert only["object"]["metadata"]["name"] == name
    return {column["name"]: cell for column, cell in zip(table["columnDefinitions"], only["cells"], strict=True)}


def test_a_pending_pod(api: Client, ns: str) -> None:
    api.post(core(ns, "pods"), pod("web")).must(201)
    cells = row(api, core(ns, "pods"), "web")
    assert {name: cells[name] for name in ("Name", "Ready", "Status")} == {
        "Name": "web",
        "Ready": "0/1",
        "Status": "Pending",
    }
    assert str(cells["Restarts"]) == "0"
    assert (cells["IP"], cells["Node"], cells["Nominated Node"], cells["Readiness Gates"]) == ("<none>",) * 4


def test_a_running_pod(api: Client, ns: str) -> None:
    api.post(core(ns, "pods"), pod("web", nodeName="n1")).must(201)
    container = {
        "name": "main",
        "ready": True,
        "restartCount": 0,
        "image": "web:1",
        "imageID": "",
        "state": {"running": {"startedAt": "2026-01-02T03:04:05Z"}},
    }
    status = {
        "phase": "Running",
        "podIP": "10.4.0.2",
        "podIPs": [{"ip": "10.4.0.2"}],
        "conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": [container],
    }
    api.strategic(core(ns, "pods") + "/web/status", {"status": status}).must(200)
    cells = row(api, core(ns, "pods"), "web")
    assert (cells["Ready"], cells["Status"], cells["IP"], cells["Node"]) == ("1/1", "Running", "10.4.0.2", "n1")

    waiting = container | {"ready": False, "restartCount": 2, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}
    api.strategic(core(ns, "pods") + "/web/status", {"status": {"containerStatuses": [waiting]}}).must(200)
    cells = row(api, core(ns, "pods"), "web")
    assert (cells["Ready"], cells["Status"], str(cells["Restarts"])[0]) == ("0/1", "CrashLoopBackOff", "2")

    api.delete(core(ns, "pods") + "/web").must(200)
    assert row(api, core(ns, "pods"), "web")["Status"] == "Terminating"


def test_a_pod_that_has_finished(api: Client, ns: str) -> None:
    api.post(core(ns, "pods"), pod("once", nodeName="n1")).must(201)
    ended = {
        "name": "main",
        "ready": False,
        "restartCount": 0,
        "image": "web:1",
        "imageID": "",
        "state": {"terminated": {"exitCode": 0, "reason": "Completed"}},
    }
    status = {"phase": "Succeeded", "containerStatuses": [ended]}
    api.strategic(core(ns, "pods") + "/once/status", {"status": status}).must(200)
    assert row(api, core(ns, "pods"), "once")["Status"] == "Completed"


def test_services(api: Client, ns: str) -> None:
    path = core(ns, "services")
    api.post(path, service("web", {"name": "a", "port": 80}, {"name": "b", "port": 53, "protocol": "UDP"})).must(201)
    cells = row(api, path, "web")
    assert (cells["Type"], cells["External-IP"], cells["Port(s)"]) == ("ClusterIP", "<none>", "80/TCP,53/UDP")
    assert cells["Selector"] == "app=web"

    made = api.post(path, service("bal", {"port": 80}, type="LoadBalancer")).must(201).body
    cells = row(api, path, "bal")
    node_port = made["spec"]["ports"][0]["nodePort"]
    assert (cells["External-IP"], cells["Port(s)"]) == ("<pending>", f"80:{node_port}/TCP")
    status = {"loadBalancer": {"ingress": [{"ip": "192.0.2.9"}]}}
    api.merge(path + "/bal/status", {"status": status}).must(200)
    assert row(api, path, "bal")["External-IP"] == "192.0.2.9"

    api.post(path, service("head", clusterIP="None")).must(201)
    assert row(api, path, "head")["Cluster-IP"] == "None"
    api.post(path, {"metadata": {"name": "ext"}, "spec": {"type": "ExternalName", "externalName": "x.example.org"}})
    cells = row(api, path, "ext")
    assert (cells["Type"], cells["Cluster-IP"], cells["External-IP"]) == ("ExternalName", "<none>", "x.example.org")


def test_nodes(api: Client, ns: str) -> None:
    labels = {"node-role.kubernetes.io/worker": ""}
    api.post(NODES, {"metadata": {"name": ns, "labels": labels}}).must(201)
    cells = row(api, NODES, ns)
    assert (cells["Status"], cells["Roles"], cells["Internal-IP"]) == ("Unknown", "worker", "<none>")

    status = {
        "conditions": [{"type": "Ready", "status": "True"}],
        "addresses": [{"type": "InternalIP", "address": "192.0.2.7"}],
        "nodeInfo": {"kubeletVersion": "v1.30.0", "osImage": "Debian", "kernelVersion": "6.1"},
    }
    api.strategic(f"{NODES}/{ns}/status", {"status": status}).must(200)
    api.merge(f"{NODES}/{ns}", {"spec": {"unschedulable": True}}).must(200)
    cells = row(api, NODES, ns)
    assert (cells["Status"], cells["Version"]) == ("Ready,SchedulingDisabled", "v1.30.0")
    assert (cells["Internal-IP"], cells["OS-Image"], cells["Kernel-Version"]) == ("192.0.2.7", "Debian", "6.1")
    api.delete(f"{NODES}/{ns}").must(200)


def test_workloads(api: Client, ns: str) -> None:
    api.post(apps(ns, "deployments"), deployment("web", replicas=3)).must(201)
    status = {"replicas": 3, "readyReplicas": 2, "updatedReplicas": 3, "availableReplicas": 2}
    api.merge(apps(ns, "deployments") + "/web/status", {"status": status}).must(200)
    cells = row(api, apps(ns, "deployments"), "web")
    assert (cells["Ready"], cells["Up-to-date"], cells["Available"]) == ("2/3", 3, 2)
    assert (cells["Containers"], cells["Images"], cells["Selector"]) == ("main", "web:1", "app=web")

    body = {**deployment("set"), "kind": "StatefulSet"}
    body["spec"] = {**body["spec"], "serviceName": "set", "replicas": 2}
    api.post(apps(ns, "statefulsets"), body).must(201)
    assert row(api, apps(ns, "statefulsets"), "set")["Ready"] == "0/2"


def test_small_kinds(api: Client, ns: str) -> None:
    api.post(core(ns, "configmaps"), config_map("one", {"a": "1", "b": "2"})).must(201)
    assert row(api, core(ns, "configmaps"), "one")["Data"] == 2
    api.post(core(ns, "secrets"), {"metadata": {"name": "s"}, "data": {"a": "YQ=="}}).must(201)
    cells = row(api, core(ns, "secrets"), "s")
    assert (cells["Type"], cells["Data"]) == ("Opaque", 1)
    assert row(api, NAMESPACES, ns)["Status"] == "Active"
    api.post(network_policies(ns), network_policy("np", podSelector={"matchLabels": {"app": "web"}})).must(201)
    assert row(api, network_policies(ns), "np")["Pod-Selector"] == "app=web"
    api.post(network_policies(ns), network_policy("all")).must(201)
    assert row(api, network_policies(ns), "all")["Pod-Selector"] == "<none>"


def test_endpoints(api: Client, ns: str) -> None:
    subset = {"addresses": [{"ip": "10.4.0.2"}, {"ip": "10.4.0.3"}], "ports": [{"port": 80}]}
    api.post(core(ns, "endpoints"), {"metadata": {"name": "web"}, "subsets": [subset]}).must(201)
    api.post(core(ns, "endpoints"), {"metadata": {"name": "none"}}).must(201)
    assert row(api, core(ns, "endpoints"), "web")["Endpoints"] == "10.4.0.2:80,10.4.0.3:80"
    assert row(api, core(ns, "endpoints"), "none")["Endpoints"] == "<none>"


def test_rows_can_carry_the_whole_object_or_nothing(api: Client, ns: str) -> None:
    api.post(core(ns, "configmaps"), config_map("one")).must(201)
    whole = api.table(core(ns, "configmaps") + "/one", includeObject="Object")
    assert whole["rows"][0]["object"]["data"] == {"a": "1"}
    bare = api.table(core(ns, "configmaps") + "/one", includeObject="None")
    assert not bare["rows"][0].get("object")
