from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.api.client import MERGE, STRATEGIC, TABLE, Client

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
SPEC = {
    "type": "object",
    "required": ["size"],
    "properties": {
        "size": {"type": "integer", "minimum": 1, "maximum": 9},
        "color": {"type": "string", "enum": ["red", "blue"], "default": "red"},
        "replicas": {"type": "integer"},
        "tags": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        "port": {"x-kubernetes-int-or-string": True},
        "parts": {
            "type": "array",
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
            "items": {
                "type": "object",
                "properties": {"name": {"type": "string"}, "weight": {"type": "integer", "default": 1}},
            },
        },
    },
}


def definition(group: str) -> dict[str, Any]:
    status = {"type": "object", "properties": {"replicas": {"type": "integer"}, "phase": {"type": "string"}}}
    version = {
        "served": True,
        "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": SPEC, "status": status}}},
        "subresources": {
            "status": {},
            "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"},
        },
        "additionalPrinterColumns": [
            {"name": "Size", "type": "integer", "jsonPath": ".spec.size"},
            {"name": "Parts", "type": "string", "jsonPath": ".spec.parts[*].name", "priority": 1},
        ],
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"widgets.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": "widgets", "kind": "Widget", "shortNames": ["wg"], "categories": ["all"]},
            "versions": [{"name": "v1", "storage": True, **version}, {"name": "v1beta1", "storage": False, **version}],
        },
    }


@pytest.fixture
def group(client: Client, ns: str) -> Iterator[str]:
    name = f"{ns}.example.com"
    client.ok("POST", CRDS, definition(name))
    yield name
    client.ask("DELETE", f"{CRDS}/widgets.{name}")


@pytest.fixture
def path(group: str, ns: str) -> str:
    return f"/apis/{group}/v1/namespaces/{ns}/widgets"


def widget(name: str, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "kind": "Widget", "spec": {"size": 1, **spec}}


def test_a_definition_is_established_and_served_at_once(client: Client, group: str) -> None:
    made = client.ok("GET", f"{CRDS}/widgets.{group}")
    conditions = {c["type"]: c["status"] for c in made["status"]["conditions"]}
    assert conditions == {"NamesAccepted": "True", "Established": "True"}
    assert made["status"]["acceptedNames"]["singular"] == "widget"
    assert made["status"]["storedVersions"] == ["v1"]
    found = client.ok("GET", f"/apis/{group}/v1")["resources"]
    assert [r["name"] for r in found] == ["widgets", "widgets/status", "widgets/scale"]
    assert found[0]["shortNames"] == ["wg"]
    versions = client.ok("GET", f"/apis/{group}")["versions"]
    assert [v["version"] for v in versions] == ["v1", "v1beta1"]


def test_defaults_are_filled_and_undeclared_fields_pruned(client: Client, path: str) -> None:
    body = widget("w", other=1, free={"any": {"thing": 1}}, parts=[{"name": "a"}], port="http")
    made = client.ok("POST", path, body)
    assert made["spec"] == {
        "size": 1,
        "color": "red",
        "free": {"any": {"thing": 1}},
        "parts": [{"name": "a", "weight": 1}],
        "port": "http",
    }
    assert client.ok("GET", f"{path}")["items"][0]["kind"] == "Widget"


@pytest.mark.parametrize(
    ("spec", "field", "words"),
    [
        ({"size": 0}, "spec.size", "should be greater than or equal to 1"),
        ({"size": "big"}, "spec.size", "must be of type integer"),
        ({"size": 1, "color": "green"}, "spec.color", "Unsupported value"),
        ({"size": 1, "tags": ["a", "a"]}, "spec.tags[1]", "Duplicate value"),
        ({"size": 1, "parts": [{"name": "a"}, {"name": "a"}]}, "spec.parts[1]", "Duplicate value"),
        ({}, "spec.size", "Required value"),
    ],
)
def test_the_schema_is_kept(client: Client, path: str, spec: dict[str, Any], field: str, words: str) -> None:
    said = client.ask("POST", path, {"metadata": {"name": "w"}, "spec": spec})
    assert said.status in (400, 422)
    assert field in said.body["message"]
    assert words in said.body["message"]


def test_status_scale_and_generation(client: Client, path: str) -> None:
    made = client.ok("POST", path, {**widget("w", replicas=2), "status": {"phase": "No"}})
    assert "status" not in made
    assert made["metadata"]["generation"] == 1
    after = client.ok(
        "PATCH", f"{path}/w/status", {"status": {"phase": "Up", "replicas": 2}, "spec": {"size": 5}}, media=MERGE
    )
    assert (after["status"]["phase"], after["spec"]["size"], after["metadata"]["generation"]) == ("Up", 1, 1)
    scale = client.ok("GET", f"{path}/w/scale")
    assert (scale["spec"], scale["status"]) == ({"replicas": 2}, {"replicas": 2})
    client.ok("PATCH", f"{path}/w/scale", {"spec": {"replicas": 7}}, media=MERGE)
    now = client.ok("GET", f"{path}/w")
    assert (now["spec"]["replicas"], now["metadata"]["generation"]) == (7, 2)


def test_versions_show_the_same_object(client: Client, path: str) -> None:
    client.ok("POST", path, widget("w"))
    older = path.replace("/v1/", "/v1beta1/")
    seen = client.ok("GET", f"{older}/w")
    assert seen["apiVersion"].endswith("/v1beta1")
    client.ok("PUT", f"{older}/w", {**seen, "spec": {"size": 4}})
    assert client.ok("GET", f"{path}/w")["spec"]["size"] == 4
    with client.watch(older) as events:
        _, obj = events.next()
        assert obj["apiVersion"].endswith("/v1beta1")


def test_custom_objects_take_no_strategic_patch_nor_a_blind_update(client: Client, path: str) -> None:
    client.ok("POST", path, widget("w"))
    client.refused(415, "PATCH", f"{path}/w", {"spec": {"size": 2}}, media=STRATEGIC)
    assert "must be specified for an update" in client.refused(422, "PUT", f"{path}/w", widget("w"))["message"]


def test_columns_come_from_the_definition(client: Client, path: str) -> None:
    client.ok("POST", path, widget("w", parts=[{"name": "a"}, {"name": "b"}]))
    table = client.ok("GET", path, accept=TABLE)
    assert [(c["name"], c["priority"]) for c in table["columnDefinitions"]] == [("Name", 0), ("Size", 0), ("Parts", 1)]
    assert table["rows"][0]["cells"] == ["w", 1, '["a","b"]']


def test_a_changed_definition_is_followed_and_a_deleted_one_takes_its_objects(
    client: Client, group: str, path: str
) -> None:
    client.ok("POST", path, widget("w"))
    now = client.ok("GET", f"{CRDS}/widgets.{group}")
    now["spec"]["versions"][1]["served"] = False
    client.ok("PUT", f"{CRDS}/widgets.{group}", now)
    client.refused(404, "GET", path.replace("/v1/", "/v1beta1/"))
    client.ok("DELETE", f"{CRDS}/widgets.{group}")
    client.until_gone(f"{CRDS}/widgets.{group}")
    client.refused(404, "GET", path)
    client.ok("POST", CRDS, definition(group))
    assert client.ok("GET", path)["items"] == []


def test_a_definition_must_be_whole_and_its_names_free(client: Client, group: str) -> None:
    bad = definition(group + "x")
    bad["metadata"]["name"] = "other"
    assert 'spec.names.plural+"."+spec.group' in client.refused(422, "POST", CRDS, bad)["message"]
    bad = definition(group + "x")
    bad["spec"]["versions"][1]["storage"] = True
    assert "exactly one version" in client.refused(422, "POST", CRDS, bad)["message"]
    rival = definition(group)
    rival["metadata"]["name"] = f"gadgets.{group}"
    rival["spec"]["names"] = {"plural": "gadgets", "kind": "Widget"}
    made = client.ok("POST", CRDS, rival)
    assert {c["type"]: c["status"] for c in made["status"]["conditions"]}["NamesAccepted"] == "False"
    client.ok("DELETE", f"{CRDS}/gadgets.{group}")
