"""Custom resources: from a definition to served, defaulted, pruned, validated objects."""

from __future__ import annotations

import pytest

from .client import Client, Object
from .shapes import CRDS, await_answer, crd, custom

SCHEMA = {
    "type": "object",
    "required": ["spec"],
    "properties": {
        "spec": {
            "type": "object",
            "required": ["size"],
            "properties": {
                "size": {"type": "integer", "minimum": 1, "maximum": 10},
                "colour": {"type": "string", "enum": ["red", "blue"], "default": "red"},
                "name": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 5},
                "tags": {"type": "array", "maxItems": 2, "items": {"type": "string"}},
                "extra": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                "limits": {"type": "object", "additionalProperties": {"type": "integer"}},
                "rules": {
                    "type": "array",
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["name"],
                    "items": {
                        "type": "object",
                        "required": ["name"],
                        "properties": {"name": {"type": "string"}, "action": {"type": "string"}},
                    },
                },
            },
        },
        "status": {"type": "object", "properties": {"phase": {"type": "string"}}},
    },
}
COLUMNS = [
    {"name": "Size", "type": "integer", "jsonPath": ".spec.size"},
    {"name": "Phase", "type": "string", "jsonPath": ".status.phase", "description": "how it is"},
    {"name": "Colour", "type": "string", "jsonPath": ".spec.colour", "priority": 1},
]


@pytest.fixture
def definition(api: Client, ns: str) -> Object:
    body = crd(
        f"g{ns[2:]}.example.org", "Widget", SCHEMA, subresources={"status": {}}, additionalPrinterColumns=COLUMNS
    )
    api.post(CRDS, body).must(201)
    await_answer(api, custom(body, ns))
    return body


@pytest.fixture
def widgets(definition: Object, ns: str) -> str:
    """The collection's path."""
    return custom(definition, ns)


def widget(definition: Object, /, **spec: object) -> Object:
    version = f"{definition['spec']['group']}/v1"
    return {"apiVersion": version, "kind": "Widget", "metadata": {"name": "w"}, "spec": {"size": 1, **spec}}


def test_a_definition_becomes_established(api: Client, definition: Object) -> None:
    read = api.get(f"{CRDS}/{definition['metadata']['name']}").must(200).body
    conditions = {item["type"]: item["status"] for item in read["status"]["conditions"]}
    assert conditions["NamesAccepted"] == conditions["Established"] == "True"
    assert read["status"]["acceptedNames"]["plural"] == "widgets"
    assert read["status"]["storedVersions"] == ["v1"]
    assert read["spec"]["conversion"] == {"strategy": "None"}


def test_it_shows_in_discovery(api: Client, definition: Object) -> None:
    group = definition["spec"]["group"]
    resources = {item["name"]: item for item in api.get(f"/apis/{group}/v1").must(200).body["resources"]}
    assert resources["widgets"]["kind"] == "Widget"
    assert resources["widgets"]["namespaced"] is True
    assert {"get", "list", "watch", "create", "update", "patch", "delete"} <= set(resources["widgets"]["verbs"])
    assert "widgets/status" in resources
    groups = {item["name"]: item for item in api.get("/apis").must(200).body["groups"]}
    assert groups[group]["preferredVersion"] == {"groupVersion": f"{group}/v1", "version": "v1"}


def test_objects_are_defaulted_and_pruned(api: Client, definition: Object, widgets: str) -> None:
    made = widget(definition, unknown="x", extra={"kept": {"deep": 1}}, limits={"a": 1})
    made["nonsense"] = True
    read = api.post(widgets, made).must(201).body

    assert read["spec"] == {
        "size": 1,
        "colour": "red",
        "extra": {"kept": {"deep": 1}},
        "limits": {"a": 1},
    }
    assert "nonsense" not in read
    assert read["metadata"]["generation"] == 1


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"size": 11}, "spec.size"),
        ({"size": 0}, "spec.size"),
        ({"size": "big"}, "spec.size"),
        ({"size": None}, "spec.size"),
        ({"colour": "green"}, "spec.colour"),
        ({"name": "Upper"}, "spec.name"),
        ({"name": "toolong"}, "spec.name"),
        ({"tags": ["a", "b", "c"]}, "spec.tags"),
        ({"limits": {"a": "x"}}, "spec.limits.a"),
        ({"rules": [{"action": "drop"}]}, "spec.rules.name"),
        ({"rules": [{"name": "a"}, {"name": "a"}]}, "spec.rules[1]"),
    ],
    ids=str,
)
def test_objects_are_validated(api: Client, definition: Object, widgets: str, spec: Object, field: str) -> None:
    refused = api.post(widgets, widget(definition, **spec)).must(422, "Invalid").body
    fields = {cause["field"] for cause in refused["details"]["causes"]}
    # Newer servers name the item of a list as well.
    assert any(field in (named, named.replace("[0]", "")) for named in fields), f"{field} not in {fields}"
    assert refused["details"]["kind"] == "Widget"
    assert refused["details"]["name"] == "w"


def test_a_required_field_is_required(api: Client, definition: Object, widgets: str) -> None:
    incomplete = widget(definition)
    del incomplete["spec"]
    refused = api.post(widgets, incomplete).must(422, "Invalid")
    assert refused.fields == {"spec"}
    assert refused.body["details"]["causes"][0]["reason"] == "FieldValueRequired"


def test_updates_and_patches_are_validated(api: Client, definition: Object, widgets: str) -> None:
    made = api.post(widgets, widget(definition)).must(201).body
    api.put(f"{widgets}/w", {**made, "spec": {"size": 99}}).must(422, "Invalid")
    api.merge(f"{widgets}/w", {"spec": {"size": 99}}).must(422, "Invalid")
    api.json_patch(f"{widgets}/w", [{"op": "replace", "path": "/spec/size", "value": 3}]).must(200)
    # Nobody has told the server a merge key: strategic merge is for built-in kinds.
    api.strategic(f"{widgets}/w", {"spec": {"size": 4}}).must(415, "UnsupportedMediaType")


def test_replace_wants_a_version(api: Client, definition: Object, widgets: str) -> None:
    api.post(widgets, widget(definition)).must(201)
    refused = api.put(f"{widgets}/w", widget(definition, size=2)).must(422, "Invalid")
    assert refused.fields == {"metadata.resourceVersion"}


def test_status_and_spec_are_apart(api: Client, definition: Object, widgets: str) -> None:
    made = api.post(widgets, {**widget(definition), "status": {"phase": "Ready"}}).must(201).body
    assert "status" not in made

    both = {"spec": {"size": 5}, "status": {"phase": "Ready"}}
    after = api.merge(f"{widgets}/w/status", both).must(200).body
    assert (after["spec"]["size"], after["status"]) == (1, {"phase": "Ready"})
    assert after["metadata"]["generation"] == 1
    after = api.merge(f"{widgets}/w", {"spec": {"size": 5}, "status": {"phase": "Broken"}}).must(200).body
    assert (after["spec"]["size"], after["status"]) == (5, {"phase": "Ready"})
    assert after["metadata"]["generation"] == 2


def test_printer_columns(api: Client, definition: Object, widgets: str) -> None:
    api.post(widgets, widget(definition, size=7)).must(201)
    api.merge(f"{widgets}/w/status", {"status": {"phase": "Ready"}}).must(200)
    table = api.table(widgets)

    columns = [(column["name"], column["type"], column["priority"]) for column in table["columnDefinitions"]]
    assert columns == [("Name", "string", 0), ("Size", "integer", 0), ("Phase", "string", 0), ("Colour", "string", 1)]
    assert table["rows"][0]["cells"] == ["w", 7, "Ready", "red"]


def test_without_columns_there_is_an_age(api: Client, ns: str) -> None:
    body = crd(f"h{ns[2:]}.example.org", "Plain")
    api.post(CRDS, body).must(201)
    await_answer(api, custom(body, ns))
    api.post(custom(body, ns), {"apiVersion": f"h{ns[2:]}.example.org/v1", "kind": "Plain", "metadata": {"name": "p"}})
    table = api.table(custom(body, ns))
    assert [column["name"] for column in table["columnDefinitions"]] == ["Name", "Age"]
    assert table["rows"][0]["cells"][0] == "p"


def test_server_side_apply_merges_lists_by_their_declared_key(api: Client, definition: Object, widgets: str) -> None:
    path = f"{widgets}/w"
    api.apply(path, widget(definition, rules=[{"name": "a", "action": "allow"}]), "alice").must(201)
    other = widget(definition, rules=[{"name": "b", "action": "drop"}])
    after = api.apply(path, other, "bob").must(200).body
    assert after["spec"]["rules"] == [{"name": "a", "action": "allow"}, {"name": "b", "action": "drop"}]


def test_integers_or_strings(api: Client, ns: str) -> None:
    """Apart from the other fields: in servers before 1.21, one such field makes every list of its kind atomic."""
    port = {"type": "object", "properties": {"port": {"x-kubernetes-int-or-string": True}}}
    body = crd(f"i{ns[2:]}.example.org", "Port", port)
    api.post(CRDS, body).must(201)
    await_answer(api, custom(body, ns))
    for number, value in enumerate((80, "http", 1.5)):
        made = {"apiVersion": f"i{ns[2:]}.example.org/v1", "kind": "Port", "metadata": {"name": f"p{number}"}}
        answer = api.post(custom(body, ns), {**made, "port": value})
        if isinstance(value, float):
            assert answer.must(422, "Invalid").fields == {"port"}
        else:
            assert answer.must(201).body["port"] == value


def test_watching_custom_resources(api: Client, definition: Object, widgets: str) -> None:
    with api.watch(widgets, resourceVersion=api.get(widgets).rv) as watch:
        made = api.post(widgets, widget(definition)).must(201).body
        api.delete(f"{widgets}/w").must(200)
        assert watch.next() == ("ADDED", made)
        assert watch.next()[0] == "DELETED"


def test_a_cluster_scoped_kind(api: Client, ns: str) -> None:
    body = crd(f"k{ns[2:]}.example.org", "Zone", scope="Cluster")
    api.post(CRDS, body).must(201)
    await_answer(api, custom(body))
    zone = {"apiVersion": f"k{ns[2:]}.example.org/v1", "kind": "Zone", "metadata": {"name": "z"}, "any": {"thing": 1}}
    made = api.post(custom(body), zone).must(201).body
    assert made["any"] == {"thing": 1}
    assert "namespace" not in made["metadata"]
    assert api.get(custom(body, ns)).status == 404


def test_a_deleted_definition_takes_its_objects_along(api: Client, definition: Object, widgets: str) -> None:
    api.post(widgets, widget(definition)).must(201)
    api.delete(f"{CRDS}/{definition['metadata']['name']}").must(200)
    await_answer(api, widgets, 404)


def test_a_definition_is_validated(api: Client, ns: str) -> None:
    wrong_name = crd(f"g{ns[2:]}.example.org", "Widget")
    wrong_name["metadata"]["name"] = "other.example.org"
    refused = api.post(CRDS, wrong_name).must(422, "Invalid")
    assert "metadata.name" in refused.fields

    no_schema = crd(f"g{ns[2:]}.example.org", "Widget")
    del no_schema["spec"]["versions"][0]["schema"]
    api.post(CRDS, no_schema).must(422, "Invalid")
