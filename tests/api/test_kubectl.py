"""The server as kubectl sees it. ``KUBECTL`` names another kubectl to test with."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labs.api.testing import EmbeddedApi
from tests.api.client import MERGE, STRATEGIC, Client
from tests.api.conftest import deployment

Kubectl = Callable[..., str]
pytestmark = pytest.mark.skipif(
    not shutil.which(os.environ.get("KUBECTL", "kubectl")), reason="kubectl is not installed (set KUBECTL)"
)
GUESTBOOK = ("guestbook/app.yaml",)
BOUTIQUE = ("online-boutique/app.yaml", "online-boutique/network-policies.yaml")


@pytest.mark.parametrize("files", [GUESTBOOK, BOUTIQUE], ids=["guestbook", "online-boutique"])
def test_real_applications_are_applied_twice_and_deleted(
    kubectl: Kubectl, manifests: Path, files: tuple[str, ...]
) -> None:
    words = [word for file in files for word in ("-f", str(manifests / file))]
    first = kubectl("apply", *words).splitlines()
    assert len(first) > 5
    assert all(line.endswith("created") for line in first)
    assert all(line.endswith("unchanged") for line in kubectl("apply", *words).splitlines())
    assert "NAME" in kubectl("get", "all", "-o", "wide")
    kubectl("delete", "--wait=false", *words)
    assert "deployment" not in kubectl("get", "deployments,services", "-o", "name")


def test_a_real_definition_is_served(kubectl: Kubectl, manifests: Path) -> None:
    file = str(manifests / "crds")
    kubectl("apply", "-f", file)
    try:
        assert "Established" in kubectl("get", "crd", "-o", "jsonpath={.items[*].status.conditions[*].type}")
        kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=10s")
        policy = """
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: deny}
spec:
  tier: Admin
  priority: 10
  subject: {namespaces: {}}
  ingress: [{action: Deny, name: all, from: [{namespaces: {}}]}]
"""
        assert "created" in kubectl("apply", "-f", "-", stdin=policy)
        assert kubectl("get", "cnp").split()[:6] == ["NAME", "TIER", "PRIORITY", "AGE", "deny", "Admin"]
        refused = kubectl("apply", "-f", "-", stdin=policy.replace("tier: Admin", "tier: Nowhere"), code=1)
        assert "spec.tier: Unsupported value" in refused
        kubectl("delete", "cnp", "deny")
    finally:
        kubectl("delete", "-f", file)


def test_everyday_commands(kubectl: Kubectl) -> None:
    assert kubectl("create", "deployment", "web", "--image=nginx", "--replicas=2", "--port=80").endswith(
        "web created\n"
    )
    assert "exposed" in kubectl("expose", "deployment", "web", "--port=80")
    assert "scaled" in kubectl("scale", "deployment", "web", "--replicas=5")
    assert kubectl("get", "deploy", "web", "-o", "jsonpath={.spec.replicas}") == "5"
    assert "labeled" in kubectl("label", "deploy", "web", "tier=front")
    assert "annotated" in kubectl("annotate", "deploy", "web", "note=x")
    assert "image updated" in kubectl("set", "image", "deploy/web", "nginx=nginx:2")
    assert "restarted" in kubectl("rollout", "restart", "deploy/web")
    assert "web" in kubectl("get", "deploy", "-l", "tier in (front)", "-o", "name")
    assert "pod/box created" in kubectl("run", "box", "--image=busybox")
    assert "Status:           Pending" in kubectl("describe", "pod", "box").replace(
        "Status:       Pending", "Status:           Pending"
    )
    assert "Selector:" in kubectl("describe", "service", "web")
    assert "StrategyType:" in kubectl("describe", "deployment", "web")
    assert kubectl("get", "pod", "box", "-o", "wide").split()[:5] == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    assert json.loads(kubectl("get", "pod", "box", "-o", "json"))["kind"] == "Pod"
    assert "deleted" in kubectl("delete", "pod", "box")
    assert 'pods "box" not found' in kubectl("get", "pod", "box", code=1)
    assert "deleted" in kubectl("delete", "deploy,svc", "--all")


def test_patches_of_every_kind(kubectl: Kubectl) -> None:
    kubectl("create", "configmap", "c", "--from-literal=a=1")
    kubectl("patch", "configmap", "c", "-p", '{"data":{"b":"2"}}')
    kubectl("patch", "configmap", "c", "--type=merge", "-p", '{"data":{"a":null}}')
    kubectl("patch", "configmap", "c", "--type=json", "-p", '[{"op":"add","path":"/data/c","value":"3"}]')
    assert json.loads(kubectl("get", "configmap", "c", "-o", "jsonpath={.data}")) == {"b": "2", "c": "3"}


def yaml_of(image: str, replicas: int) -> str:
    return json.dumps(
        {**deployment("d", replicas=replicas)} | {"spec": {**deployment("d")["spec"], "replicas": replicas}}
    ).replace("web:1", image)


def test_apply_on_the_server_resolves_conflicts_as_told(kubectl: Kubectl) -> None:
    kubectl("apply", "--server-side", "-f", "-", stdin=yaml_of("web:1", 1))
    kubectl("scale", "deployment", "d", "--replicas=3")
    said = kubectl("apply", "--server-side", "-f", "-", stdin=yaml_of("web:2", 1), code=1)
    assert "conflict" in said
    assert ".spec.replicas" in said
    assert "serverside-applied" in kubectl(
        "apply", "--server-side", "--force-conflicts", "-f", "-", stdin=yaml_of("web:2", 1)
    )
    assert kubectl("get", "deploy", "d", "-o", "jsonpath={.spec.replicas} {..image}") == "1 web:2"


def test_client_apply_moves_to_server_apply(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=yaml_of("web:1", 1))
    assert "serverside-applied" in kubectl("apply", "--server-side", "-f", "-", stdin=yaml_of("web:1", 1))


def test_mistakes_are_told(kubectl: Kubectl) -> None:
    broken = yaml_of("web:1", 1).replace('"replicas"', '"replcas"')
    assert 'unknown field "' in kubectl("apply", "-f", "-", stdin=broken, code=1)
    assert "already exists" in kubectl("create", "namespace", "default", code=1)
    assert "RFC 1123 label" in kubectl("create", "namespace", "Bad_Name", code=1)
    assert "may not be deleted" in kubectl("delete", "namespace", "default", code=1)
    assert "the server doesn't have a resource type" in kubectl("get", "nothings", code=1)


def test_dry_runs_and_differences_leave_nothing(kubectl: Kubectl) -> None:
    assert "server dry run" in kubectl("apply", "--dry-run=server", "-f", "-", stdin=yaml_of("web:1", 1))
    assert "not found" in kubectl("get", "deploy", "d", code=1)
    kubectl("apply", "-f", "-", stdin=yaml_of("web:1", 1))
    assert "+        image: web:2" in kubectl("diff", "-f", "-", stdin=yaml_of("web:2", 1), code=1).replace(
        "+      - image", "+        image"
    )


def test_waiting_and_rollouts(kubectl: Kubectl, client: Client, ns: str) -> None:
    kubectl("create", "-f", "-", stdin=yaml_of("web:1", 2))
    status: dict[str, Any] = {
        "observedGeneration": 1,
        "replicas": 2,
        "updatedReplicas": 2,
        "availableReplicas": 2,
        "readyReplicas": 2,
    }
    status["conditions"] = [{"type": "Available", "status": "True"}]
    client.ok("PATCH", f"/apis/apps/v1/namespaces/{ns}/deployments/d/status", {"status": status}, media=STRATEGIC)
    assert "successfully rolled out" in kubectl("rollout", "status", "deployment", "d", "--timeout=10s")
    assert "condition met" in kubectl("wait", "--for=condition=Available", "deploy/d", "--timeout=10s")
    kubectl("delete", "deploy", "d")
    assert "not found" in kubectl("get", "deploy", "d", code=1)


def test_watching_prints_each_change(server: EmbeddedApi, client: Client, ns: str, tmp_path: Path) -> None:
    path = f"/api/v1/namespaces/{ns}/configmaps"
    client.ok("POST", path, {"metadata": {"name": "c"}})
    environment = {**os.environ, "KUBECONFIG": str(server.kubeconfig), "HOME": str(tmp_path)}
    command = [os.environ.get("KUBECTL", "kubectl"), "-n", ns, "get", "configmaps", "-w"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as watching:
        try:
            assert watching.stdout is not None
            assert watching.stdout.readline().split() == ["NAME", "DATA", "AGE"]
            assert watching.stdout.readline().split()[:2] == ["c", "0"]
            client.ok("PATCH", f"{path}/c", {"data": {"a": "1"}}, media=MERGE)
            assert watching.stdout.readline().split()[:2] == ["c", "1"]
        finally:
            watching.kill()


def test_the_rest_of_the_tour(kubectl: Kubectl) -> None:
    resources = kubectl("api-resources", "-o", "name").split()
    assert {"pods", "deployments.apps", "networkpolicies.networking.k8s.io"} <= set(resources)
    assert "FIELD" in kubectl("explain", "pod.spec.containers.ports").upper()
    assert "yes" in kubectl("auth", "can-i", "create", "pods")
    kubectl("create", "secret", "generic", "s", "--from-literal=a=b")
    kubectl("create", "serviceaccount", "x")
    kubectl("create", "job", "j", "--image=busybox", "--", "date")
    kubectl("create", "quota", "q", "--hard=pods=1")
    kubectl("create", "role", "r", "--verb=get", "--resource=pods")
    kubectl("create", "service", "nodeport", "np", "--tcp=80:80")
    assert "service/np" in kubectl("get", "all", "-o", "name")
    kubectl("delete", "secret/s", "sa/x", "job/j", "quota/q", "role/r", "svc/np")
