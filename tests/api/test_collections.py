from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from labs.api.clock import span
from labs.api.jsonpath import found
from tests.api.client import MERGE, TABLE, Client
from tests.api.conftest import deployment, pod


@pytest.fixture
def maps(client: Client, ns: str) -> str:
    path = f"/api/v1/namespaces/{ns}/configmaps"
    for name, labels in (("a", {"app": "x", "n": "1"}), ("b", {"app": "y", "n": "5"}), ("c", {"app": "x"}), ("d", {})):
        client.ok("POST", path, {"metadata": {"name": name, "labels": labels}})
    return path


def names(listed: dict[str, Any]) -> str:
    return "".join(item["metadata"]["name"] for item in listed["items"])


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("app=x", "ac"),
        ("app==x", "ac"),
        ("app!=x", "bd"),
        ("app", "abc"),
        ("!app", "d"),
        ("app in (x,y)", "abc"),
        ("app notin (x)", "bd"),
        ("app in (x),n", "a"),
        ("app=x,n notin (1)", "c"),
        ("n>3", "b"),
        ("n<3", "a"),
        ("", "abcd"),
    ],
)
def test_label_selectors(client: Client, maps: str, selector: str, expected: str) -> None:
    assert names(client.ok("GET", f"{maps}?labelSelector={quote(selector)}")) == expected


@pytest.mark.parametrize("selector", ["app in x", "=x", "app=x y", "a,,b"])
def test_an_unreadable_label_selector_is_refused(client: Client, maps: str, selector: str) -> None:
    client.refused(400, "GET", f"{maps}?labelSelector={quote(selector)}")


def test_field_selectors(client: Client, ns: str, maps: str) -> None:
    assert names(client.ok("GET", f"{maps}?fieldSelector=metadata.name%3Db")) == "b"
    assert names(client.ok("GET", f"{maps}?fieldSelector=metadata.name!%3Db")) == "acd"
    everywhere = client.ok("GET", f"/api/v1/configmaps?fieldSelector=metadata.namespace%3D{ns}")
    assert names(everywhere) == "abcd"
    said = client.refused(400, "GET", f"{maps}?fieldSelector=data.x%3D1")["message"]
    assert said == "field label not supported: data.x"
    pods = f"/api/v1/namespaces/{ns}/pods"
    client.ok("POST", pods, pod("p"))
    client.ok("POST", pods, pod("q"))
    client.ok("POST", f"{pods}/q/binding", {"target": {"name": "n1"}})
    client.ok("PATCH", f"{pods}/q/status", {"status": {"phase": "Running"}}, media=MERGE)
    assert names(client.ok("GET", f"{pods}?fieldSelector=spec.nodeName%3D")) == "p"
    assert names(client.ok("GET", f"{pods}?fieldSelector=spec.nodeName%3Dn1,status.phase!%3DPending")) == "q"


def test_pages_continue_where_they_ended(client: Client, maps: str) -> None:
    first = client.ok("GET", f"{maps}?limit=3")
    assert (names(first), first["metadata"]["remainingItemCount"]) == ("abc", 1)
    second = client.ok("GET", f"{maps}?limit=3&continue={quote(first['metadata']['continue'])}")
    assert names(second) == "d"
    assert "continue" not in second["metadata"]
    client.refused(400, "GET", f"{maps}?limit=3&continue=nonsense")


def test_lists_speak_as_a_real_server_does(client: Client, maps: str) -> None:
    listed = client.ok("GET", maps)
    assert (listed["kind"], listed["apiVersion"]) == ("ConfigMapList", "v1")
    assert "kind" not in listed["items"][0]
    too_new = client.refused(504, "GET", f"{maps}?resourceVersion=99999999")
    assert too_new["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"


def test_metadata_alone_is_given(client: Client, maps: str) -> None:
    accept = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
    listed = client.ok("GET", maps, accept=accept)
    assert listed["kind"] == "PartialObjectMetadataList"
    assert set(listed["items"][0]) == {"apiVersion", "kind", "metadata"}
    one = client.ok("GET", f"{maps}/a", accept="application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io")
    assert (one["kind"], one["metadata"]["name"]) == ("PartialObjectMetadata", "a")
    assert client.ask("GET", maps, accept="application/vnd.kubernetes.protobuf").status == 406


def rows(client: Client, path: str) -> dict[str, dict[str, Any]]:
    table = client.ok("GET", path, accept=TABLE)
    headers = [column["name"] for column in table["columnDefinitions"]]
    return {row["cells"][0]: dict(zip(headers, row["cells"], strict=True)) for row in table["rows"]}


def test_pods_are_told_as_kubectl_users_know_them(client: Client, ns: str) -> None:
    path = f"/api/v1/namespaces/{ns}/pods"
    for name in ("new", "up", "bad", "going"):
        client.ok("POST", path, pod(name))
        client.ok("POST", f"{path}/{name}/binding", {"target": {"name": "n1"}})
    up = {"name": "main", "ready": True, "restartCount": 2, "state": {"running": {}}}
    status = {"phase": "Running", "podIP": "10.4.0.2", "containerStatuses": [up]}
    client.ok("PATCH", f"{path}/up/status", {"status": status}, media=MERGE)
    waiting = {"name": "main", "ready": False, "restartCount": 0, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}
    client.ok("PATCH", f"{path}/bad/status", {"status": {"containerStatuses": [waiting]}}, media=MERGE)
    client.ok("DELETE", f"{path}/going")
    seen = rows(client, path)
    assert {name: row["Status"] for name, row in seen.items()} == {
        "new": "Pending",
        "up": "Running",
        "bad": "CrashLoopBackOff",
        "going": "Terminating",
    }
    assert (seen["up"]["Ready"], seen["up"]["Restarts"], seen["up"]["IP"], seen["up"]["Node"]) == (
        "1/1", "2", "10.4.0.2", "n1",
    )  # fmt: skip
    assert seen["new"]["Ready"] == "0/1"


def test_workloads_nodes_and_namespaces_have_their_columns(client: Client, ns: str) -> None:
    path = f"/apis/apps/v1/namespaces/{ns}/deployments"
    client.ok("POST", path, deployment("d", replicas=3))
    client.ok("PATCH", f"{path}/d/status", {"status": {"readyReplicas": 2, "updatedReplicas": 3}}, media=MERGE)
    row = rows(client, path)["d"]
    assert (row["Ready"], row["Up-to-date"], row["Available"], row["Images"]) == ("2/3", 3, 0, "web:1")
    node = f"node-{ns}"
    client.ok("POST", "/api/v1/nodes", {"metadata": {"name": node, "labels": {"node-role.kubernetes.io/edge": ""}}})
    condition = {
        "conditions": [{"type": "Ready", "status": "True"}],
        "addresses": [{"type": "InternalIP", "address": "1.2.3.4"}],
    }
    client.ok("PATCH", f"/api/v1/nodes/{node}/status", {"status": condition}, media=MERGE)
    row = rows(client, "/api/v1/nodes")[node]
    assert (row["Status"], row["Roles"], row["Internal-IP"]) == ("Ready", "edge", "1.2.3.4")
    client.ok("DELETE", f"/api/v1/nodes/{node}")
    assert rows(client, "/api/v1/namespaces")[ns]["Status"] == "Active"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0s"),
        (119, "119s"),
        (125, "2m5s"),
        (3600, "60m"),
        (11000, "3h3m"),
        (100000, "27h"),
        (200000, "2d7h"),
        (864000, "10d"),
    ],
)
def test_ages_are_told_in_kubectls_words(seconds: int, words: str) -> None:
    assert span(seconds) == words


def test_json_paths_of_columns() -> None:
    obj = {"a": {"b/c": [{"type": "X", "v": 1}, {"type": "Ready", "v": 2}]}}
    assert found(obj, ".a['b/c'][0].v") == [1]
    assert found(obj, '.a["b/c"][*].v') == [1, 2]
    assert found(obj, ".a.b/c[?(@.type=='Ready')].v") == [2]
    assert found(obj, ".x.y") == []
    assert found(obj, "(((") == []
