"""What a person does with kubectl."""

from __future__ import annotations

import json
import re

import yaml

from .client import Client, Kubectl, kubectl_minor
from .shapes import (
    CRDS,
    NODES,
    apps,
    await_answer,
    config_map,
    core,
    crd,
    custom,
    deployment,
    network_policy,
    pod,
    service,
)

MANY = [config_map("settings"), service("web"), deployment("web"), network_policy("deny")]


def test_apply_creates_then_finds_nothing_to_do_then_configures(kubectl: Kubectl, api: Client, ns: str) -> None:
    lines = kubectl("apply", "-f", "-", stdin=MANY).out.splitlines()
    assert lines == [
        "configmap/settings created",
        "service/web created",
        "deployment.apps/web created",
        "networkpolicy.networking.k8s.io/deny created",
    ]
    again = kubectl("apply", "-f", "-", stdin=MANY).out.splitlines()
    assert all(line.endswith(" unchanged") for line in again), again

    changed = deployment("web", replicas=3)
    changed["spec"]["template"]["spec"]["containers"][0]["env"] = [{"name": "A", "value": "1"}]
    assert kubectl("apply", "-f", "-", stdin=[changed]).out == "deployment.apps/web configured\n"
    after = api.get(apps(ns, "deployments") + "/web").body
    assert after["spec"]["replicas"] == 3
    assert after["spec"]["template"]["spec"]["containers"][0]["env"] == [{"name": "A", "value": "1"}]
    last = json.loads(after["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"])
    assert last["spec"]["replicas"] == 3


def test_apply_removes_what_was_applied_and_is_no_longer(kubectl: Kubectl, api: Client, ns: str) -> None:
    kubectl("apply", "-f", "-", stdin=[config_map("one", {"a": "1", "b": "1"})])
    api.merge(core(ns, "configmaps") + "/one", {"data": {"by-hand": "1"}}).must(200)
    kubectl("apply", "-f", "-", stdin=[config_map("one", {"a": "2"})])
    assert api.get(core(ns, "configmaps") + "/one").body["data"] == {"a": "2", "by-hand": "1"}


def test_diff_shows_the_change(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=[config_map("one", {"a": "1"})])
    assert kubectl("diff", "-f", "-", stdin=[config_map("one", {"a": "1"})]).out == ""
    shown = kubectl("diff", "-f", "-", stdin=[config_map("one", {"a": "2"})], fails=True)
    assert shown.code == 1, shown.err
    assert re.search(r'^-  a: "1"$', shown.out, re.M)
    assert re.search(r'^\+  a: "2"$', shown.out, re.M)


def test_server_side_apply(kubectl: Kubectl, api: Client, ns: str) -> None:
    said = kubectl("apply", "--server-side", "-f", "-", stdin=[config_map("one")]).out
    assert said == "configmap/one serverside-applied\n"
    kubectl("apply", "--server-side", "--field-manager=other", "-f", "-", stdin=[config_map("one")])
    refused = kubectl(
        *("apply", "--server-side", "--field-manager=other", "-f", "-"),
        stdin=[config_map("one", {"a": "2"})],
        fails=True,
    )
    assert 'conflict with "kubectl"' in refused.err
    forced = ("apply", "--server-side", "--force-conflicts", "--field-manager=other", "-f", "-")
    kubectl(*forced, stdin=[config_map("one", {"a": "2"})])
    assert api.get(core(ns, "configmaps") + "/one").body["data"] == {"a": "2"}


def test_create_refuses_what_exists(kubectl: Kubectl) -> None:
    assert kubectl("create", "configmap", "one", "--from-literal=a=1").out == "configmap/one created\n"
    refused = kubectl("create", "configmap", "one", fails=True)
    assert refused.err.endswith('configmaps "one" already exists\n')  # what comes before it differs by version


def test_get_in_every_form(kubectl: Kubectl, ns: str) -> None:
    kubectl("create", "-f", "-", stdin=[config_map("one", {"a": "1"}), config_map("two", {"a": "1", "b": "2"})])
    rows = kubectl("get", "cm", "one", "two").rows
    assert [row[:2] for row in rows] == [["NAME", "DATA"], ["one", "1"], ["two", "2"]]
    assert kubectl("get", "cm/one", "-o", "json").json["data"] == {"a": "1"}
    assert yaml.safe_load(kubectl("get", "cm/one", "-o", "yaml").out)["data"] == {"a": "1"}
    assert kubectl("get", "cm/one", "-o", "name").out == "configmap/one\n"
    assert kubectl("get", "cm/two", "-o", "jsonpath={.data.b}").out == "2"
    columns = kubectl("get", "cm/two", "-o", "custom-columns=N:.metadata.name,B:.data.b").rows
    assert columns == [["N", "B"], ["two", "2"]]
    assert kubectl("get", "cm", "none", fails=True).err == 'Error from server (NotFound): configmaps "none" not found\n'
    assert f"No resources found in {ns} namespace." in kubectl("get", "secrets,pods", "-l", "a=b").err


def test_get_pods_wide(kubectl: Kubectl, api: Client, ns: str) -> None:
    api.post(core(ns, "pods"), pod("web", nodeName="n1")).must(201)
    header, row = kubectl("get", "pods", "-o", "wide", "--show-labels").rows
    assert header == [
        *(
            "NAME",
            "READY",
            "STATUS",
            "RESTARTS",
            "AGE",
            "IP",
            "NODE",
            "NOMINATED",
            "NODE",
            "READINESS",
            "GATES",
            "LABELS",
        )
    ]
    assert row[:4] == ["web", "0/1", "Pending", "0"]
    assert row[5:] == ["<none>", "n1", "<none>", "<none>", "app=web"]
    assert kubectl("get", "pods", "-A", "-l", "app=web").rows[0][:2] == ["NAMESPACE", "NAME"]
    assert kubectl("get", "pods", "--field-selector=spec.nodeName=n1", "-o", "name").out == "pod/web\n"
    assert kubectl("get", "pods", "--sort-by=.metadata.name", "-o", "name").out == "pod/web\n"
    everything = kubectl("get", "all").out
    assert "pod/web" in everything


def test_get_watches(kubectl: Kubectl, api: Client, ns: str) -> None:
    api.post(core(ns, "configmaps"), config_map("zero", labels={"l": "w"})).must(201)
    with kubectl.running("get", "cm", "-l", "l=w", "-w", "--output-watch-events") as watching:
        assert watching.stdout
        assert watching.stdout.readline().split() == ["EVENT", "NAME", "DATA", "AGE"]
        assert watching.stdout.readline().split()[:3] == ["ADDED", "zero", "1"]
        api.merge(core(ns, "configmaps") + "/zero", {"data": {"b": "2"}}).must(200)
        assert watching.stdout.readline().split()[:3] == ["MODIFIED", "zero", "2"]
        api.delete(core(ns, "configmaps") + "/zero").must(200)
        assert watching.stdout.readline().split()[:2] == ["DELETED", "zero"]


def test_label_and_annotate(kubectl: Kubectl, api: Client, ns: str) -> None:
    path = core(ns, "configmaps") + "/one"
    api.post(core(ns, "configmaps"), config_map("one")).must(201)
    assert kubectl("label", "cm", "one", "tier=web").out == "configmap/one labeled\n"
    assert "'tier' already has a value" in kubectl("label", "cm", "one", "tier=db", fails=True).err
    kubectl("label", "cm", "one", "tier=db", "--overwrite")
    kubectl("annotate", "cm", "one", "ncp/no_snat=true", "note=a b")
    metadata = api.get(path).body["metadata"]
    assert (metadata["labels"], metadata["annotations"]) == ({"tier": "db"}, {"ncp/no_snat": "true", "note": "a b"})
    kubectl("label", "cm", "one", "tier-")
    kubectl("annotate", "cm", "one", "note-")
    assert "labels" not in api.get(path).body["metadata"]


def test_patch_in_three_ways(kubectl: Kubectl, api: Client, ns: str) -> None:
    api.post(apps(ns, "deployments"), deployment("web")).must(201)
    containers = {"containers": [{"name": "main", "image": "web:2"}]}
    kubectl("patch", "deploy", "web", "-p", json.dumps({"spec": {"template": {"spec": containers}}}))
    kubectl("patch", "deploy", "web", "--type=merge", "-p", '{"spec":{"replicas":2}}')
    kubectl("patch", "deploy", "web", "--type=json", "-p", '[{"op":"add","path":"/spec/paused","value":true}]')
    spec = api.get(apps(ns, "deployments") + "/web").body["spec"]
    assert (spec["replicas"], spec["paused"], spec["template"]["spec"]["containers"][0]["image"]) == (2, True, "web:2")
    assert (
        kubectl("patch", "deploy", "web", "-p", '{"spec":{"replicas":2}}').out
        == "deployment.apps/web patched (no change)\n"
    )


def test_delete(kubectl: Kubectl, api: Client, ns: str) -> None:
    for name in ("one", "two", "three"):
        api.post(core(ns, "configmaps"), config_map(name, labels={"l": "x"})).must(201)
    assert kubectl("delete", "cm", "one").out.startswith('configmap "one" deleted')
    assert "NotFound" in kubectl("delete", "cm", "one", fails=True).err
    kubectl("delete", "cm", "one", "--ignore-not-found")
    kubectl("delete", "cm", "-l", "l=x")
    assert api.get(core(ns, "configmaps"), labelSelector="l=x").body["items"] == []
    api.post(core(ns, "pods"), pod("web", nodeName="n1")).must(201)
    kubectl("delete", "pod", "web", "--grace-period=0", "--force")
    api.get(core(ns, "pods") + "/web").must(404)


def test_describe(kubectl: Kubectl, api: Client, ns: str) -> None:
    api.post(core(ns, "pods"), pod("web")).must(201)
    uid = api.get(core(ns, "pods") + "/web").body["metadata"]["uid"]
    event = {
        "metadata": {"name": "web.1"},
        "involvedObject": {"kind": "Pod", "name": "web", "namespace": ns, "uid": uid, "apiVersion": "v1"},
        "reason": "Looked",
        "message": "someone looked at it",
        "type": "Normal",
        "count": 1,
        "firstTimestamp": "2026-01-02T03:04:05Z",
        "lastTimestamp": "2026-01-02T03:04:05Z",
        "source": {"component": "test"},
    }
    api.post(core(ns, "events"), event).must(201)
    told = kubectl("describe", "pod", "web").out
    assert re.search(r"^Name: +web$", told, re.M)
    assert re.search(r"^Status: +Pending$", told, re.M)
    assert re.search(r"Normal +Looked .* test +someone looked at it", told)

    api.post(core(ns, "services"), service("web", {"port": 80})).must(201)
    told = kubectl("describe", "service", "web").out
    assert re.search(r"^Selector: +app=web$", told, re.M)
    assert re.search(r"^Endpoints: ", told, re.M)
    told = kubectl("describe", "namespace", ns).out
    assert re.search(r"^Status: +Active$", told, re.M)
    kubectl("create", "-f", "-", stdin=[deployment("web"), network_policy("deny")])
    told = kubectl("describe", "deployment/web", "networkpolicy/deny").out
    assert "RollingUpdateStrategy:" in told
    assert "Allowing ingress traffic:" in told or "Not affecting egress traffic" in told


def test_describe_node(kubectl: Kubectl, api: Client, ns: str) -> None:
    api.post(NODES, {"metadata": {"name": ns}}).must(201)
    told = kubectl("describe", "node", ns).out
    assert re.search(rf"^Name: +{ns}$", told, re.M)
    api.delete(f"{NODES}/{ns}").must(200)


def test_wait(kubectl: Kubectl, api: Client, ns: str) -> None:
    api.post(core(ns, "pods"), pod("web", nodeName="n1")).must(201)
    refused = kubectl("wait", "pod/web", "--for=condition=Ready", "--timeout=1s", fails=True)
    assert "timed out waiting for the condition" in refused.err
    with kubectl.running("wait", "pod/web", "--for=condition=Ready", "--timeout=20s") as waiting:
        ready = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
        api.strategic(core(ns, "pods") + "/web/status", ready).must(200)
        assert waiting.wait(20) == 0
    if kubectl_minor() >= 23:
        assert kubectl("wait", "pod/web", "--for=jsonpath={.spec.nodeName}=n1").out == "pod/web condition met\n"
    with kubectl.running("wait", "pod/web", "--for=delete", "--timeout=20s") as waiting:
        api.delete(core(ns, "pods") + "/web", {"gracePeriodSeconds": 0}).must(200)
        assert waiting.wait(20) == 0


def test_making_things_by_command(kubectl: Kubectl, api: Client, ns: str) -> None:
    kubectl("create", "deployment", "web", "--image=web:1", "--replicas=2", "--port=80")
    kubectl("expose", "deployment", "web", "--port=80", "--target-port=8080")
    kubectl("run", "tool", "--image=tool:1", "--labels=app=tool", "--restart=Never")
    kubectl("create", "secret", "generic", "s", "--from-literal=a=b")
    kubectl("create", "serviceaccount", "robot")
    kubectl("scale", "deployment", "web", "--replicas=5")
    kubectl("set", "image", "deployment/web", "web=web:2")
    kubectl("rollout", "restart", "deployment/web")

    spec = api.get(apps(ns, "deployments") + "/web").must(200).body["spec"]
    assert (spec["replicas"], spec["template"]["spec"]["containers"][0]["image"]) == (5, "web:2")
    assert "kubectl.kubernetes.io/restartedAt" in spec["template"]["metadata"]["annotations"]
    (port,) = api.get(core(ns, "services") + "/web").must(200).body["spec"]["ports"]
    assert (port["port"], port["targetPort"]) == (80, 8080)
    assert api.get(core(ns, "pods") + "/tool").must(200).body["spec"]["restartPolicy"] == "Never"


def test_namespaces(kubectl: Kubectl, api: Client, ns: str) -> None:
    assert kubectl("create", "namespace", f"{ns}-x").out == f"namespace/{ns}-x created\n"
    assert [f"{ns}-x", "Active"] in [row[:2] for row in kubectl("get", "ns").rows]
    api.post(core(f"{ns}-x", "configmaps"), config_map("held", finalizers=["example.org/hold"])).must(201)
    kubectl("delete", "namespace", f"{ns}-x", "--wait=false")
    assert kubectl("get", "ns", f"{ns}-x").rows[1][1] == "Terminating"


def test_replace_and_edit_conflicts(kubectl: Kubectl, api: Client, ns: str) -> None:
    old = api.post(core(ns, "configmaps"), config_map("one")).must(201).body
    api.merge(core(ns, "configmaps") + "/one", {"data": {"a": "2"}}).must(200)
    refused = kubectl("replace", "-f", "-", stdin=[old], fails=True)
    assert "Error from server (Conflict)" in refused.err
    kubectl("replace", "-f", "-", stdin=[config_map("one", {"a": "3"})])


def test_dry_run(kubectl: Kubectl, api: Client, ns: str) -> None:
    said = kubectl("apply", "--dry-run=server", "-f", "-", stdin=[config_map("one")]).out
    assert said == "configmap/one created (server dry run)\n"
    made = yaml.safe_load(kubectl("create", "deployment", "x", "--image=x", "--dry-run=client", "-o", "yaml").out)
    assert made["kind"] == "Deployment"
    api.get(core(ns, "configmaps") + "/one").must(404)


def test_mistakes_are_named(kubectl: Kubectl) -> None:
    wrong = deployment("web")
    wrong["spec"]["replicaz"] = 3
    refused = kubectl("apply", "-f", "-", stdin=[wrong], fails=True)
    assert "replicaz" in refused.err
    bad = service("web", {"port": 70000})
    refused = kubectl("apply", "-f", "-", stdin=[bad], fails=True)
    assert "spec.ports[0].port" in refused.err
    assert "the server doesn't have a resource type" in kubectl("get", "nonsense", fails=True).err


def test_custom_resources(kubectl: Kubectl, api: Client, ns: str) -> None:
    schema = {
        "type": "object",
        "properties": {"spec": {"type": "object", "properties": {"size": {"type": "integer"}}}},
    }
    columns = [{"name": "Size", "type": "integer", "jsonPath": ".spec.size"}]
    definition = crd(f"g{ns[2:]}.example.org", "Gadget", schema, additionalPrinterColumns=columns)
    assert kubectl("apply", "-f", "-", stdin=[definition]).out.endswith(" created\n")
    name = definition["metadata"]["name"]
    kubectl("wait", f"crd/{name}", "--for=condition=Established", "--timeout=20s")
    await_answer(api, custom(definition, ns))
    gadget = {
        "apiVersion": f"{definition['spec']['group']}/v1",
        "kind": "Gadget",
        "metadata": {"name": "g"},
        "spec": {"size": 3},
    }
    kubectl("apply", "--validate=false", "-f", "-", stdin=[gadget])
    assert kubectl("get", name).rows == [["NAME", "SIZE"], ["g", "3"]]
    kubectl("delete", name, "g")
    api.delete(f"{CRDS}/{name}").must(200)


def test_api_resources_and_explain(kubectl: Kubectl) -> None:
    listed = {row[0]: row for row in kubectl("api-resources").rows}
    assert listed["networkpolicies"][1] == "netpol"
    assert listed["customresourcedefinitions"][1] == "crd,crds"
    assert "v1" in kubectl("api-versions").out.splitlines()


def test_events(kubectl: Kubectl, api: Client, ns: str) -> None:
    event = {
        "metadata": {"name": "e.1"},
        "involvedObject": {"kind": "Pod", "name": "web", "namespace": ns, "apiVersion": "v1"},
        "reason": "Failed",
        "message": "no address",
        "type": "Warning",
        "lastTimestamp": "2026-01-02T03:04:05Z",
        "count": 3,
    }
    api.post(core(ns, "events"), event).must(201)
    row = kubectl("get", "events").rows[1]
    assert row[1:4] == ["Warning", "Failed", "pod/web"]
    if kubectl_minor() >= 26:
        assert "no address" in kubectl("events", "--for=pod/web").out
