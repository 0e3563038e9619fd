"""Server-side apply: who owns which field, and what that forbids."""

from __future__ import annotations

import json
from typing import Any

from .client import APPLY, Client, Object
from .concessions import Server
from .shapes import apps, config_map, core, deployment, pod, service


def managers(thing: Object) -> dict[tuple[str, str], dict[str, Any]]:
    """Return (manager, operation) → the fields it owns."""
    return {(entry["manager"], entry["operation"]): entry["fieldsV1"] for entry in thing["metadata"]["managedFields"]}


def test_apply_creates_then_changes(api: Client, ns: str) -> None:
    path = core(ns, "configmaps") + "/one"
    api.apply(path, config_map("one", {"a": "1"}), "alice").must(201)
    after = api.apply(path, config_map("one", {"a": "2", "b": "1"}), "alice").must(200).body

    assert after["data"] == {"a": "2", "b": "1"}
    assert managers(after) == {("alice", "Apply"): {"f:data": {"f:a": {}, "f:b": {}}}}
    (entry,) = after["metadata"]["managedFields"]
    assert (entry["apiVersion"], entry["fieldsType"]) == ("v1", "FieldsV1")


def test_apply_twice_changes_nothing(api: Client, ns: str) -> None:
    path = core(ns, "configmaps") + "/one"
    first = api.apply(path, config_map("one"), "alice").must(201)
    assert api.apply(path, config_map("one"), "alice").must(200).rv == first.rv


def test_apply_takes_yaml(api: Client, ns: str) -> None:
    body = b"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: one\ndata:\n  a: b\n"
    path = core(ns, "configmaps") + "/one"
    made = api.request("PATCH", path, body, content=APPLY, fieldManager="alice").must(201).body
    assert made["data"] == {"a": "b"}


def test_apply_wants_a_manager(api: Client, ns: str) -> None:
    answer = api.request("PATCH", core(ns, "configmaps") + "/one", config_map("one"), content=APPLY)
    assert answer.status in (400, 422)
    assert "fieldManager" in answer.body["message"]


def test_what_is_left_out_is_removed_if_owned(api: Client, ns: str) -> None:
    path = core(ns, "configmaps") + "/one"
    api.apply(path, config_map("one", {"a": "1", "b": "1"}), "alice").must(201)
    api.merge(path, {"data": {"c": "by hand"}}, fieldManager="bob").must(200)

    after = api.apply(path, config_map("one", {"a": "1"}), "alice").must(200).body
    assert after["data"] == {"a": "1", "c": "by hand"}


def test_a_field_shared_stays_until_its_last_owner_leaves(api: Client, ns: str) -> None:
    path = core(ns, "configmaps") + "/one"
    for manager in ("alice", "bob"):
        api.apply(path, config_map("one", {"a": "1"}), manager)
    assert api.apply(path, config_map("one", {"x": "1"}), "alice").must(200).body["data"] == {"a": "1", "x": "1"}
    assert api.apply(path, config_map("one", {"y": "1"}), "bob").must(200).body["data"] == {"x": "1", "y": "1"}


def test_another_managers_field_is_a_conflict(api: Client, ns: str) -> None:
    path = core(ns, "configmaps") + "/one"
    api.apply(path, config_map("one", {"a": "1"}), "alice").must(201)

    refused = api.apply(path, config_map("one", {"a": "2"}), "bob").must(409, "Conflict")
    assert 'conflict with "alice"' in refused.body["message"]
    (cause,) = refused.body["details"]["causes"]
    assert cause["reason"] == "FieldManagerConflict"
    assert cause["field"] == ".data.a"
    assert api.get(path).body["data"] == {"a": "1"}


def test_force_takes_the_field_over(api: Client, ns: str) -> None:
    path = core(ns, "configmaps") + "/one"
    api.apply(path, config_map("one", {"a": "1"}), "alice").must(201)
    after = api.apply(path, config_map("one", {"a": "2"}), "bob", force=True).must(200).body

    assert after["data"] == {"a": "2"}
    assert managers(after) == {("bob", "Apply"): {"f:data": {"f:a": {}}}} or managers(after) == {
        ("alice", "Apply"): {},
        ("bob", "Apply"): {"f:data": {"f:a": {}}},
    }
    api.apply(path, config_map("one", {"a": "3"}), "alice").must(409, "Conflict")


def test_a_write_by_hand_owns_what_it_changed(api: Client, ns: str) -> None:
    path = core(ns, "configmaps") + "/one"
    api.post(core(ns, "configmaps"), config_map("one", {"a": "1", "b": "1"}), fieldManager="creator").must(201)
    after = api.merge(path, {"data": {"a": "2", "b": "1"}}, fieldManager="editor").must(200).body

    assert managers(after) == {
        ("creator", "Update"): {"f:data": {".": {}, "f:b": {}}},
        ("editor", "Update"): {"f:data": {"f:a": {}}},
    }
    refused = api.apply(path, config_map("one", {"a": "3"}), "alice").must(409, "Conflict")
    assert 'conflict with "editor"' in refused.body["message"]


def test_list_items_are_owned_by_their_key(api: Client, ns: str) -> None:
    path = apps(ns, "deployments") + "/web"
    api.apply(path, deployment("web"), "alice").must(201)
    environment = [{"name": "EXTRA", "value": "1"}]
    slice_of_it = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {"template": {"spec": {"containers": [{"name": "main", "env": environment}]}}},
    }
    after = api.apply(path, slice_of_it, "bob").must(200).body
    (container,) = after["spec"]["template"]["spec"]["containers"]
    assert (container["image"], container["env"]) == ("web:1", environment)

    owned = managers(after)["bob", "Apply"]["f:spec"]["f:template"]["f:spec"]["f:containers"]
    key = 'k:{"name":"main"}'
    assert owned == {
        key: {".": {}, "f:name": {}, "f:env": {'k:{"name":"EXTRA"}': {".": {}, "f:name": {}, "f:value": {}}}}
    }

    slice_of_it["spec"]["template"]["spec"]["containers"] = [{"name": "main"}]  # type: ignore[index]
    after = api.apply(path, slice_of_it, "bob").must(200).body
    (container,) = after["spec"]["template"]["spec"]["containers"]
    assert "env" not in container


def test_list_items_left_out_are_removed(api: Client, ns: str) -> None:
    path = core(ns, "services") + "/web"
    two = service("web", {"name": "a", "port": 80, "protocol": "TCP"}, {"name": "b", "port": 81, "protocol": "TCP"})
    api.apply(path, two, "alice").must(201)
    one = service("web", {"name": "b", "port": 81, "protocol": "TCP"})
    ports = api.apply(path, one, "alice").must(200).body["spec"]["ports"]
    assert [port["name"] for port in ports] == ["b"]


def test_applied_order_of_list_items(api: Client, ns: str) -> None:
    path = core(ns, "pods") + "/web"
    made = pod("web")
    made["spec"]["containers"][0]["env"] = [{"name": "B", "value": "1"}, {"name": "A", "value": "2"}]
    after = api.apply(path, made, "alice").must(201).body
    assert [entry["name"] for entry in after["spec"]["containers"][0]["env"]] == ["B", "A"]


def test_applied_managed_fields_must_be_absent(api: Client, ns: str) -> None:
    body = config_map("one", managedFields=[{"manager": "x", "operation": "Apply", "apiVersion": "v1"}])
    assert api.apply(core(ns, "configmaps") + "/one", body, "alice").status in (400, 422)


def test_apply_of_a_version_passed_is_a_conflict(api: Client, ns: str) -> None:
    path = core(ns, "configmaps") + "/one"
    old = api.apply(path, config_map("one", {"a": "1"}), "alice").must(201).rv
    api.apply(path, config_map("one", {"a": "2"}), "alice").must(200)
    api.apply(path, config_map("one", {"a": "3"}, resourceVersion=old), "alice").must(409, "Conflict")


def test_managed_fields_can_be_cleared(api: Client, ns: str) -> None:
    path = core(ns, "configmaps") + "/one"
    api.apply(path, config_map("one", {"a": "1"}), "alice").must(201)
    cleared = api.merge(path, {"metadata": {"managedFields": [{}]}}).must(200).body
    assert not cleared["metadata"].get("managedFields")


def test_dry_run_apply(api: Client, ns: str) -> None:
    path = core(ns, "configmaps") + "/one"
    api.apply(path, config_map("one"), "alice", dryRun="All").must(201)
    api.get(path).must(404)


def test_status_is_owned_apart(server: Server, ns: str) -> None:
    server.needs("server-side apply tracks subresources")
    api, path = server.client, core(ns, "pods") + "/web"
    api.post(core(ns, "pods"), pod("web"), fieldManager="maker").must(201)
    api.merge(path + "/status", {"status": {"phase": "Running"}}, fieldManager="maker").must(200)
    entries = api.get(path).body["metadata"]["managedFields"]
    assert sorted(entry.get("subresource", "") for entry in entries) == ["", "status"]


def test_apply_to_status(server: Server, ns: str) -> None:
    api, path = server.client, apps(ns, "deployments") + "/web"
    api.post(apps(ns, "deployments"), deployment("web")).must(201)
    status = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "status": {"replicas": 2, "observedGeneration": 1},
    }
    after = api.apply(path + "/status", status, "watcher").must(200).body
    assert after["status"] == {"replicas": 2, "observedGeneration": 1}
    assert json.dumps(managers(after)["watcher", "Apply"]).count("f:replicas") == 1
