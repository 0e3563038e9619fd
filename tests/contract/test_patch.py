"""The three patches that change what is there: merge, strategic merge, JSON."""

from __future__ import annotations

from typing import Any

import pytest

from .client import Client
from .shapes import apps, config_map, core, deployment, pod, service


def test_merge_sets_and_null_removes(api: Client, ns: str) -> None:
    api.post(core(ns, "configmaps"), config_map("one", {"keep": "1", "drop": "1", "set": "1"})).must(201)
    data = {"drop": None, "set": "2", "new": "3", "never": None}
    after = api.merge(core(ns, "configmaps") + "/one", {"data": data}).must(200).body["data"]

    assert after == {"keep": "1", "set": "2", "new": "3"}


def test_merge_replaces_lists_whole(api: Client, ns: str) -> None:
    api.post(core(ns, "services"), service("web", {"name": "a", "port": 80}, {"name": "b", "port": 81})).must(201)
    patch = {"spec": {"ports": [{"name": "c", "port": 82}]}}
    ports = api.merge(core(ns, "services") + "/web", patch).must(200).body["spec"]["ports"]

    assert [port["name"] for port in ports] == ["c"]


def test_a_patch_with_a_version_is_conditional(api: Client, ns: str) -> None:
    path = core(ns, "configmaps") + "/one"
    old = api.post(core(ns, "configmaps"), config_map("one")).must(201).rv
    now = api.merge(path, {"data": {"a": "2"}, "metadata": {"resourceVersion": old}}).must(200).rv
    api.merge(path, {"data": {"a": "3"}, "metadata": {"resourceVersion": old}}).must(409, "Conflict")
    api.merge(path, {"data": {"a": "3"}, "metadata": {"resourceVersion": now}}).must(200)


def test_a_patch_does_not_rename(api: Client, ns: str) -> None:
    api.post(core(ns, "configmaps"), config_map("one")).must(201)
    assert api.merge(core(ns, "configmaps") + "/one", {"metadata": {"name": "two"}}).status in (400, 422)


def test_an_unknown_patch_type_is_415(api: Client, ns: str) -> None:
    api.post(core(ns, "configmaps"), config_map("one")).must(201)
    answer = api.request("PATCH", core(ns, "configmaps") + "/one", {"data": {}}, content="application/json")
    answer.must(415, "UnsupportedMediaType")


# --- strategic merge


def strategic(api: Client, ns: str, start: list[dict[str, Any]], patch: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the containers' environment after the patch of a deployment that began with ``start``."""
    body = deployment("web")
    body["spec"]["template"]["spec"]["containers"][0]["env"] = start
    api.post(apps(ns, "deployments"), body).must(201)
    change = {"spec": {"template": {"spec": {"containers": [{"name": "main", **patch}]}}}}
    after = api.strategic(apps(ns, "deployments") + "/web", change).must(200).body
    (container,) = after["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "web:1"
    environment: list[dict[str, Any]] = container.get("env", [])
    return environment


A, B, C = ({"name": name, "value": name.lower()} for name in "ABC")


def test_strategic_merges_lists_by_key(api: Client, ns: str) -> None:
    after = strategic(api, ns, [A, B], {"env": [{"name": "B", "value": "new"}, C]})
    # What is new goes before what was there, unless an order is given.
    assert sorted(after, key=lambda item: item["name"]) == [A, {"name": "B", "value": "new"}, C]


def test_strategic_deletes_by_key(api: Client, ns: str) -> None:
    assert strategic(api, ns, [A, B], {"env": [{"name": "A", "$patch": "delete"}]}) == [B]


def test_strategic_replaces_a_list_on_demand(api: Client, ns: str) -> None:
    assert strategic(api, ns, [A, B], {"env": [{"$patch": "replace"}, C]}) == [C]


def test_strategic_null_removes_the_list(api: Client, ns: str) -> None:
    assert strategic(api, ns, [A, B], {"env": None}) == []


def test_strategic_orders_as_kubectl_asks(api: Client, ns: str) -> None:
    order = [{"name": "C"}, {"name": "B"}, {"name": "A"}]
    assert strategic(api, ns, [A, B], {"$setElementOrder/env": order, "env": [C]}) == [C, B, A]


def test_strategic_replaces_an_object_on_demand(api: Client, ns: str) -> None:
    api.post(apps(ns, "deployments"), deployment("web")).must(201)
    change = {"spec": {"strategy": {"$patch": "replace", "type": "Recreate"}}}
    after = api.strategic(apps(ns, "deployments") + "/web", change).must(200).body
    assert after["spec"]["strategy"] == {"type": "Recreate"}


def test_strategic_retains_only_the_keys_named(api: Client, ns: str) -> None:
    body = deployment("web")
    body["spec"]["template"]["spec"]["volumes"] = [{"name": "v", "emptyDir": {}}]
    api.post(apps(ns, "deployments"), body).must(201)
    volume = {"name": "v", "$retainKeys": ["name", "configMap"], "configMap": {"name": "cm"}}
    change = {"spec": {"template": {"spec": {"volumes": [volume]}}}}
    after = api.strategic(apps(ns, "deployments") + "/web", change).must(200).body

    (volume,) = after["spec"]["template"]["spec"]["volumes"]
    assert "emptyDir" not in volume
    assert volume["configMap"]["name"] == "cm"


def test_strategic_unions_lists_of_plain_values(api: Client, ns: str) -> None:
    path = core(ns, "configmaps") + "/one"
    api.post(core(ns, "configmaps"), config_map("one", finalizers=["example.org/a", "example.org/b"])).must(201)
    added = api.strategic(path, {"metadata": {"finalizers": ["example.org/c"]}}).must(200).body["metadata"]
    assert set(added["finalizers"]) == {"example.org/a", "example.org/b", "example.org/c"}

    removal = {"$deleteFromPrimitiveList/finalizers": ["example.org/a", "example.org/c"]}
    after = api.strategic(path, {"metadata": removal}).must(200).body["metadata"]
    assert after["finalizers"] == ["example.org/b"]
    api.merge(path, {"metadata": {"finalizers": None}}).must(200)


def test_strategic_service_ports_merge_by_port(api: Client, ns: str) -> None:
    api.post(core(ns, "services"), service("web", {"name": "a", "port": 80}, {"name": "b", "port": 81})).must(201)
    change = {"spec": {"ports": [{"port": 81, "targetPort": 8081}]}}
    ports = api.strategic(core(ns, "services") + "/web", change).must(200).body["spec"]["ports"]
    assert {port["name"]: port["targetPort"] for port in ports} == {"a": 80, "b": 8081}


def test_strategic_container_ports_and_tolerations(api: Client, ns: str) -> None:
    """Container ports merge by number; tolerations have no key and are replaced whole."""
    body = deployment("web")
    spec = body["spec"]["template"]["spec"]
    spec["containers"][0]["ports"] = [{"containerPort": 80, "name": "http"}]
    spec["tolerations"] = [{"key": "a", "operator": "Exists"}]
    api.post(apps(ns, "deployments"), body).must(201)
    ports = [{"containerPort": 80, "name": "web"}, {"containerPort": 443, "name": "tls"}]
    change = {"containers": [{"name": "main", "ports": ports}], "tolerations": [{"key": "b", "operator": "Exists"}]}
    after = api.strategic(apps(ns, "deployments") + "/web", {"spec": {"template": {"spec": change}}}).must(200).body

    spec = after["spec"]["template"]["spec"]
    assert {port["containerPort"]: port["name"] for port in spec["containers"][0]["ports"]} == {80: "web", 443: "tls"}
    assert [toleration["key"] for toleration in spec["tolerations"]] == ["b"]


# --- JSON patch


def test_json_patch_does_its_six_things(api: Client, ns: str) -> None:
    api.post(core(ns, "configmaps"), config_map("one", {"a": "1", "b": "2"})).must(201)
    steps = [
        {"op": "test", "path": "/data/a", "value": "1"},
        {"op": "add", "path": "/data/c", "value": "3"},
        {"op": "replace", "path": "/data/a", "value": "9"},
        {"op": "remove", "path": "/data/b"},
        {"op": "move", "from": "/data/c", "path": "/data/d"},
        {"op": "copy", "from": "/data/d", "path": "/data/e~1f~0"},
    ]
    # Keys of a ConfigMap may not hold / or ~, which is validated after the patch has worked.
    refused = api.json_patch(core(ns, "configmaps") + "/one", steps).must(422, "Invalid")
    assert refused.fields == {"data[e/f~]"}
    steps[-1]["path"] = "/data/e"
    after = api.json_patch(core(ns, "configmaps") + "/one", steps).must(200).body
    assert after["data"] == {"a": "9", "d": "3", "e": "3"}


def test_json_patch_reaches_annotations_with_slashes(api: Client, ns: str) -> None:
    api.post(core(ns, "configmaps"), config_map("one", annotations={"ncp/cluster": "k8s"})).must(201)
    step = [{"op": "replace", "path": "/metadata/annotations/ncp~1cluster", "value": "lab"}]
    after = api.json_patch(core(ns, "configmaps") + "/one", step).must(200).body
    assert after["metadata"]["annotations"] == {"ncp/cluster": "lab"}


@pytest.mark.parametrize(
    "step",
    [
        {"op": "test", "path": "/data/a", "value": "other"},
        {"op": "remove", "path": "/data/none"},
        {"op": "replace", "path": "/data/none/deeper", "value": "1"},
    ],
    ids=lambda step: step["op"],
)
def test_a_json_patch_that_fails_changes_nothing(api: Client, ns: str, step: dict[str, Any]) -> None:
    path = core(ns, "configmaps") + "/one"
    was = api.post(core(ns, "configmaps"), config_map("one")).must(201)
    first = {"op": "add", "path": "/data/z", "value": "1"}
    api.json_patch(path, [first, step]).must(422, "Invalid")
    assert api.get(path).rv == was.rv


def test_a_json_patch_of_no_known_operation_is_refused(api: Client, ns: str) -> None:
    api.post(core(ns, "configmaps"), config_map("one")).must(201)
    assert api.json_patch(core(ns, "configmaps") + "/one", [{"op": "nonsense", "path": "/data"}]).status in (400, 422)
    api.json_patch(core(ns, "configmaps") + "/one", {"op": "add"}).must(400, "BadRequest")


def test_patched_objects_are_validated(api: Client, ns: str) -> None:
    api.post(core(ns, "pods"), pod("web")).must(201)
    refused = api.strategic(core(ns, "pods") + "/web", {"spec": {"hostNetwork": True}}).must(422, "Invalid")
    assert refused.fields == {"spec"}
    assert "pod updates may not change fields other than" in refused.body["message"]
