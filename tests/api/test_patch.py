from __future__ import annotations

from typing import Any

import pytest

from labs.api.errors import ApiError
from labs.api.patch import json_patch, merge_patch, strategic
from labs.api.types import named
from tests.api.client import JSON_PATCH, MERGE, STRATEGIC, Client
from tests.api.conftest import deployment

POD = named("PodSpec")
SERVICE = named("ServiceSpec")


def spec(**fields: Any) -> dict[str, Any]:
    return {"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "1"}], **fields}


def test_lists_with_a_merge_key_merge_by_it() -> None:
    result = strategic(spec(), {"containers": [{"name": "b", "image": "2"}, {"name": "c", "image": "3"}]}, POD)
    assert [(c["name"], c["image"]) for c in result["containers"]] == [("a", "1"), ("b", "2"), ("c", "3")]


def test_lists_inside_merged_entries_merge_by_their_own_keys() -> None:
    before = spec(containers=[{"name": "a", "env": [{"name": "X", "value": "1"}], "args": ["one"]}])
    change = {"containers": [{"name": "a", "env": [{"name": "Y", "value": "2"}], "args": ["two"]}]}
    merged = strategic(before, change, POD)["containers"][0]
    assert merged["env"] == [{"name": "X", "value": "1"}, {"name": "Y", "value": "2"}]
    assert merged["args"] == ["two"]


def test_an_entry_is_deleted_and_a_list_replaced_by_directive() -> None:
    gone = strategic(spec(), {"containers": [{"name": "a", "$patch": "delete"}]}, POD)
    assert [c["name"] for c in gone["containers"]] == ["b"]
    replaced = strategic(spec(), {"containers": [{"$patch": "replace"}, {"name": "z"}]}, POD)
    assert replaced["containers"] == [{"name": "z"}]


def test_maps_merge_and_null_removes() -> None:
    before = spec(nodeSelector={"a": "1", "b": "2"}, hostNetwork=True)
    after = strategic(before, {"nodeSelector": {"b": None, "c": "3"}, "hostNetwork": None}, POD)
    assert after["nodeSelector"] == {"a": "1", "c": "3"}
    assert "hostNetwork" not in after
    assert strategic(before, {"nodeSelector": {"$patch": "replace", "z": "9"}}, POD)["nodeSelector"] == {"z": "9"}


def test_atomic_lists_are_replaced() -> None:
    before = spec(tolerations=[{"key": "a"}])
    assert strategic(before, {"tolerations": [{"key": "b"}]}, POD)["tolerations"] == [{"key": "b"}]


def test_the_stated_order_wins_and_others_keep_their_place() -> None:
    change = {
        "$setElementOrder/containers": [{"name": "c"}, {"name": "a"}],
        "containers": [{"name": "c", "image": "3"}],
    }
    before = {"containers": [{"name": "a"}, {"name": "x"}]}
    assert [c["name"] for c in strategic(before, change, POD)["containers"]] == ["x", "c", "a"]
    only_order = {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}
    assert [c["name"] for c in strategic(spec(), only_order, POD)["containers"]] == ["b", "a"]


def test_scalars_are_united_and_taken_out_of_lists() -> None:
    meta = named("ObjectMeta")
    before = {"finalizers": ["a", "b"]}
    assert strategic(before, {"finalizers": ["c"]}, meta)["finalizers"] == ["a", "b", "c"]
    assert strategic(before, {"$deleteFromPrimitiveList/finalizers": ["a"]}, meta)["finalizers"] == ["b"]


def test_only_retained_keys_stay() -> None:
    shape = named("DeploymentSpec")
    before = {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}
    change = {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}
    assert strategic(before, change, shape) == {"strategy": {"type": "Recreate"}}


def test_service_ports_merge_by_port() -> None:
    before = {"ports": [{"port": 80, "name": "a"}, {"port": 81, "name": "b"}]}
    after = strategic(before, {"ports": [{"port": 81, "targetPort": 8}]}, SERVICE)
    assert after["ports"] == [{"port": 80, "name": "a"}, {"port": 81, "name": "b", "targetPort": 8}]


def test_a_patch_without_the_merge_key_or_with_an_unknown_directive_is_refused() -> None:
    with pytest.raises(ApiError, match="does not contain declared merge key: name"):
        strategic(spec(), {"containers": [{"image": "x"}]}, POD)
    with pytest.raises(ApiError, match="unknown patch type"):
        strategic(spec(), {"$patch": "explode"}, POD)


def test_the_original_is_left_alone() -> None:
    before = spec()
    strategic(before, {"containers": [{"name": "a", "image": "2"}]}, POD)
    assert before == spec()


def test_merge_patch_follows_rfc_7386() -> None:
    cases = [
        ({"a": "b"}, {"a": None}, {}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [1]}, {"a": [2]}, {"a": [2]}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
        ({"a": "b"}, ["c"], ["c"]),
    ]
    for before, change, after in cases:
        assert merge_patch(before, change) == after


def test_a_json_patch_that_does_not_fit_is_422_and_a_malformed_one_400() -> None:
    with pytest.raises(ApiError) as failed:
        json_patch({"a": 1}, [{"op": "test", "path": "/a", "value": 2}])
    assert failed.value.status == 422
    with pytest.raises(ApiError) as failed:
        json_patch({"a": 1}, [{"op": "remove", "path": "/b/c"}])
    assert failed.value.status == 422
    with pytest.raises(ApiError) as failed:
        json_patch({"a": 1}, [{"op": "explode", "path": "/a"}])
    assert failed.value.status == 400


def test_every_kind_of_patch_over_the_wire(client: Client, ns: str) -> None:
    path = f"/apis/apps/v1/namespaces/{ns}/deployments"
    client.ok("POST", path, deployment("d"))
    path += "/d"
    merged = client.ok("PATCH", path, {"metadata": {"labels": {"a": "1"}}}, media=MERGE)
    assert merged["metadata"]["labels"] == {"a": "1"}
    ops = [{"op": "replace", "path": "/spec/replicas", "value": 3}]
    assert client.ok("PATCH", path, ops, media=JSON_PATCH)["spec"]["replicas"] == 3
    change = {"spec": {"template": {"spec": {"containers": [{"name": "side", "image": "x"}]}}}}
    containers = client.ok("PATCH", path, change, media=STRATEGIC)["spec"]["template"]["spec"]["containers"]
    assert [c["name"] for c in containers] == ["main", "side"]
    assert client.refused(415, "PATCH", path, {}, media="text/plain")["reason"] == "UnsupportedMediaType"
    outdated = {"metadata": {"resourceVersion": "1"}, "spec": {"replicas": 1}}
    assert client.refused(409, "PATCH", path, outdated, media=MERGE)["reason"] == "Conflict"
    client.refused(404, "PATCH", path + "x", {}, media=MERGE)
