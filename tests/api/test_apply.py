from __future__ import annotations

from typing import Any

import pytest

from tests.api.client import APPLY, MERGE, Client


def config(name: str, **fields: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, **fields}


@pytest.fixture
def path(ns: str) -> str:
    return f"/api/v1/namespaces/{ns}/configmaps/c"


def managers(obj: dict[str, Any]) -> dict[tuple[str, str], Any]:
    return {(e["manager"], e["operation"]): e["fieldsV1"] for e in obj["metadata"].get("managedFields", [])}


def test_apply_creates_updates_and_removes_what_it_no_longer_states(client: Client, path: str) -> None:
    made = client.ask("PATCH", f"{path}?fieldManager=me", config("c", data={"a": "1", "b": "2"}), media=APPLY)
    assert made.status == 201
    assert managers(made.body) == {("me", "Apply"): {"f:data": {"f:a": {}, "f:b": {}}}}
    again = client.ask("PATCH", f"{path}?fieldManager=me", config("c", data={"a": "1", "b": "2"}), media=APPLY)
    assert (again.status, again.body) == (200, made.body)
    less = client.ok("PATCH", f"{path}?fieldManager=me", config("c", data={"b": "3"}), media=APPLY)
    assert less["data"] == {"b": "3"}


def test_yaml_is_taken_and_a_manager_is_needed(client: Client, path: str) -> None:
    text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {day: '2024-01-01'}\n"
    assert client.ok("PATCH", f"{path}?fieldManager=me", text, media=APPLY)["data"] == {"day": "2024-01-01"}
    assert "fieldManager" in client.refused(400, "PATCH", path, text, media=APPLY)["message"]


def test_another_managers_field_is_a_conflict_unless_forced(client: Client, path: str) -> None:
    client.ok("PATCH", f"{path}?fieldManager=one", config("c", data={"a": "1", "b": "1"}), media=APPLY)
    clash = client.refused(409, "PATCH", f"{path}?fieldManager=two", config("c", data={"a": "2"}), media=APPLY)
    assert clash["message"] == 'Apply failed with 1 conflict: conflict with "one": .data.a'
    assert clash["details"]["causes"] == [
        {"reason": "FieldManagerConflict", "message": 'conflict with "one"', "field": ".data.a"}
    ]
    forced = client.ok("PATCH", f"{path}?fieldManager=two&force=true", config("c", data={"a": "2"}), media=APPLY)
    assert forced["data"] == {"a": "2", "b": "1"}
    assert managers(forced) == {
        ("one", "Apply"): {"f:data": {"f:b": {}}},
        ("two", "Apply"): {"f:data": {"f:a": {}}},
    }


def test_agreeing_managers_share_a_field_until_the_last_lets_go(client: Client, path: str) -> None:
    for who in ("one", "two"):
        client.ok("PATCH", f"{path}?fieldManager={who}", config("c", data={"a": "1"}), media=APPLY)
    assert client.ok("PATCH", f"{path}?fieldManager=one", config("c"), media=APPLY)["data"] == {"a": "1"}
    assert "data" not in client.ok("PATCH", f"{path}?fieldManager=two", config("c"), media=APPLY)


def test_an_update_takes_over_what_it_changes(client: Client, path: str) -> None:
    client.ok("PATCH", f"{path}?fieldManager=one", config("c", data={"a": "1"}), media=APPLY)
    patched = client.ok("PATCH", f"{path}?fieldManager=hand", {"data": {"a": "2"}}, media=MERGE)
    assert managers(patched) == {("hand", "Update"): {"f:data": {"f:a": {}}}}
    clash = client.refused(409, "PATCH", f"{path}?fieldManager=one", config("c", data={"a": "1"}), media=APPLY)
    assert 'conflict with "hand" using v1: .data.a' in clash["message"]
    kept = client.ok("PATCH", f"{path}?fieldManager=one", config("c"), media=APPLY)
    assert kept["data"] == {"a": "2"}


def test_what_was_there_before_the_first_apply_has_an_owner(client: Client, ns: str, path: str) -> None:
    client.ok("POST", f"/api/v1/namespaces/{ns}/configmaps", config("c", data={"a": "1", "b": "1"}))
    clash = client.refused(409, "PATCH", f"{path}?fieldManager=me", config("c", data={"a": "2"}), media=APPLY)
    assert '"before-first-apply"' in clash["message"]
    same = client.ok("PATCH", f"{path}?fieldManager=me", config("c", data={"a": "1"}), media=APPLY)
    assert same["data"] == {"a": "1", "b": "1"}


def deployment(**container: Any) -> dict[str, Any]:
    labels = {"app": "d"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "main", "image": "1", **container}]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "d"},
        "spec": {"selector": {"matchLabels": labels}, "template": template},
    }


def test_entries_of_keyed_lists_have_owners_of_their_own(client: Client, ns: str) -> None:
    path = f"/apis/apps/v1/namespaces/{ns}/deployments/d"
    client.ok("PATCH", f"{path}?fieldManager=one", deployment(ports=[{"containerPort": 80}]), media=APPLY)
    side = deployment()
    side["spec"]["template"]["spec"]["containers"] = [
        {"name": "main", "image": "1", "env": [{"name": "A", "value": "1"}]},
        {"name": "side", "image": "1"},
    ]
    client.ok("PATCH", f"{path}?fieldManager=two", side, media=APPLY)
    both = client.ok("GET", path)["spec"]["template"]["spec"]["containers"]
    assert [c["name"] for c in both] == ["main", "side"]
    assert (both[0]["ports"][0]["containerPort"], both[0]["env"][0]["name"]) == (80, "A")
    two_lets_go = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}}
    left = client.ok("PATCH", f"{path}?fieldManager=two", two_lets_go, media=APPLY)["spec"]["template"]["spec"][
        "containers"
    ]
    assert [c["name"] for c in left] == ["main"]
    assert "env" not in left[0]
    assert left[0]["ports"] == [{"containerPort": 80, "protocol": "TCP"}]


def test_status_is_applied_through_its_subresource_only(client: Client, ns: str) -> None:
    path = f"/apis/apps/v1/namespaces/{ns}/deployments/d"
    client.ok("PATCH", f"{path}?fieldManager=one", {**deployment(), "status": {"replicas": 3}}, media=APPLY)
    assert client.ok("GET", path)["status"] == {}
    body = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "status": {"replicas": 3}}
    applied = client.ok("PATCH", f"{path}/status?fieldManager=two", body, media=APPLY)
    assert applied["status"] == {"replicas": 3}
    entry = next(e for e in applied["metadata"]["managedFields"] if e["manager"] == "two")
    assert (entry["subresource"], entry["fieldsV1"]) == ("status", {"f:status": {"f:replicas": {}}})
