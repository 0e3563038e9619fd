"""How a client finds out what a server serves."""

from __future__ import annotations

import pytest

from .client import Client
from .concessions import Server
from .shapes import config_map, core


def test_version(api: Client) -> None:
    version = api.get("/version").must(200).body
    assert version["major"] == "1"
    assert version["gitVersion"].startswith("v1.")


def test_health(api: Client) -> None:
    for path in ("/readyz", "/livez", "/healthz"):
        assert api.get(path).must(200).body == "ok"


def test_core_discovery(api: Client) -> None:
    assert api.get("/api").must(200).body["versions"] == ["v1"]
    listed = api.get("/api/v1").must(200).body
    assert (listed["kind"], listed["groupVersion"]) == ("APIResourceList", "v1")
    resources = {item["name"]: item for item in listed["resources"]}
    pods = resources["pods"]
    assert (pods["kind"], pods["namespaced"], pods["shortNames"]) == ("Pod", True, ["po"])
    assert set(pods["verbs"]) == {
        *("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"),
    }
    assert resources["nodes"]["namespaced"] is False
    assert {"pods/status", "pods/log", "pods/binding", "namespaces/finalize", "services/status"} <= set(resources)
    assert "all" in pods["categories"]


@pytest.mark.parametrize(
    ("group", "version", "kinds"),
    [
        ("apps", "v1", {"deployments", "replicasets", "statefulsets", "daemonsets", "deployments/scale"}),
        ("batch", "v1", {"jobs", "jobs/status"}),
        ("networking.k8s.io", "v1", {"networkpolicies", "ingresses", "ingressclasses"}),
        ("coordination.k8s.io", "v1", {"leases"}),
        ("apiextensions.k8s.io", "v1", {"customresourcedefinitions"}),
        ("rbac.authorization.k8s.io", "v1", {"roles", "rolebindings", "clusterroles", "clusterrolebindings"}),
    ],
)
def test_group_discovery(api: Client, group: str, version: str, kinds: set[str]) -> None:
    groups = {item["name"]: item for item in api.get("/apis").must(200).body["groups"]}
    assert version in [item["version"] for item in groups[group]["versions"]]
    assert api.get(f"/apis/{group}").must(200).body["kind"] == "APIGroup"
    resources = api.get(f"/apis/{group}/{version}").must(200).body["resources"]
    assert kinds <= {item["name"] for item in resources}


def test_newer_versions(server: Server) -> None:
    def served(group: str) -> list[str]:
        return [item["version"] for item in server.client.get(f"/apis/{group}").must(200).body["versions"]]

    assert ("v1" in served("discovery.k8s.io")) == server.has("discovery.k8s.io/v1")
    if server.has("policy/v1"):
        assert "v1" in served("policy")


def test_answers_are_json_unless_asked_otherwise(api: Client, ns: str) -> None:
    api.post(core(ns, "configmaps"), config_map("one")).must(201)
    assert api.get(core(ns, "configmaps"), accept="*/*").headers["Content-Type"].startswith("application/json")
    mixed = "application/vnd.kubernetes.protobuf,application/json"
    assert api.get(core(ns, "configmaps"), accept=mixed).status == 200


def test_metadata_only(api: Client, ns: str) -> None:
    api.post(core(ns, "configmaps"), config_map("one")).must(201)
    accept = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
    listed = api.request("GET", core(ns, "configmaps"), accept=accept, labelSelector="!x").must(200).body
    assert listed["kind"] == "PartialObjectMetadataList"
    assert all("data" not in item for item in listed["items"])


def test_a_verb_that_is_not_served_is_405(api: Client, ns: str) -> None:
    answer = api.put(core(ns, "configmaps"), config_map("one"))
    assert answer.status == 405
    assert answer.body["reason"] == "MethodNotAllowed"
