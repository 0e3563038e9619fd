"""Rules of definitions (x-kubernetes-validations) and formats: kept where they are understood, else told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.api.client import MERGE, Client

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
SPEC: dict[str, Any] = {
    "type": "object",
    "x-kubernetes-validations": [
        {"rule": "!has(self.low) || !has(self.high) || self.low < self.high", "message": "low must be below high"},
        {
            "rule": "self.word != 'no'",
            "reason": "FieldValueForbidden",
            "fieldPath": ".word",
            "message": "no is no word",
        },
    ],
    "properties": {
        "low": {"type": "integer", "format": "int32"},
        "high": {"type": "integer"},
        "word": {"type": "string", "default": "yes", "maxLength": 5},
        "parts": {
            "type": "array",
            "items": {"type": "string", "x-kubernetes-validations": [{"rule": "self.startsWith('p')"}]},
        },
        "named": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "properties": {"size": {"type": "integer"}},
                "x-kubernetes-validations": [{"rule": "self.size > 0"}],
            },
        },
        "at": {"type": "string", "format": "date-time"},
        "four": {"type": "string", "format": "ipv4"},
        "six": {"type": "string", "format": "ipv6"},
        "block": {"type": "string", "format": "cidr"},
        "other": {"type": "string", "format": "made-up"},
    },
}
BEYOND = {"rule": "self ==\n  oldSelf", "message": "immutable"}


def definition(group: str, *rules: dict[str, str]) -> dict[str, Any]:
    """A definition of Rulers; more rules hold for the whole object."""
    schema = {"type": "object", "properties": {"spec": SPEC}, "x-kubernetes-validations": list(rules)}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    names = {"plural": "rulers", "kind": "Ruler"}
    return {
        "metadata": {"name": f"rulers.{group}"},
        "spec": {"group": group, "scope": "Cluster", "names": names, "versions": [version]},
    }


@pytest.fixture
def group(client: Client, ns: str) -> Iterator[str]:
    yield f"{ns}.example.com"
    client.ask("DELETE", f"{CRDS}/rulers.{ns}.example.com")


@pytest.fixture
def rulers(client: Client, group: str) -> str:
    """The path of Rulers that may not be called forbidden."""
    client.ok("POST", CRDS, definition(group, {"rule": "self.metadata.name != 'forbidden'"}))
    return f"/apis/{group}/v1/rulers"


def ruler(name: str = "r", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": spec}


def causes(said: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [(cause["field"], cause["reason"], cause["message"]) for cause in said["details"]["causes"]]


@pytest.mark.parametrize(
    ("spec", "field", "reason", "words"),
    [
        ({"low": 2, "high": 1}, "spec", "FieldValueInvalid", 'Invalid value: "object": low must be below high'),
        ({"word": "no"}, "spec.word", "FieldValueForbidden", "Forbidden: no is no word"),
        (
            {"parts": ["p", "q"]},
            "spec.parts[1]",
            "FieldValueInvalid",
            "Invalid value: \"string\": failed rule: self.startsWith('p')",
        ),
        (
            {"named": {"a": {"size": 1}, "b": {}}},
            "spec.named[b]",
            "FieldValueInvalid",
            'Invalid value: "object": no such key: size evaluating rule: self.size > 0',
        ),
        (
            {"low": 2**31},
            "<nil>",
            "FieldValueInvalid",
            'Invalid value: "": Checked value must be of type integer with format int32 in spec.low',
        ),
        (
            {"at": "2026-02-30T00:00:00Z"},
            "spec.at",
            "FieldValueTypeInvalid",
            'Invalid value: "2026-02-30T00:00:00Z": spec.at in body must be of type date-time: "2026-02-30T00:00:00Z"',
        ),
    ],
)
def test_a_broken_rule_is_told_in_kubernetes_words(
    client: Client, rulers: str, spec: dict[str, Any], field: str, reason: str, words: str
) -> None:
    said = causes(client.refused(422, "POST", rulers, ruler(**spec)))
    assert said[0] == (field, reason, words)
    blocked = reason == "FieldValueTypeInvalid"
    assert len(said) == 1 + blocked


def test_a_rule_of_the_whole_object_sees_its_name(client: Client, rulers: str) -> None:
    said = causes(client.refused(422, "POST", rulers, ruler("forbidden")))
    assert said == [
        ("<nil>", "FieldValueInvalid", "Invalid value: \"object\": failed rule: self.metadata.name != 'forbidden'")
    ]


def test_rules_wait_until_the_values_have_their_types(client: Client, rulers: str) -> None:
    said = causes(client.refused(422, "POST", rulers, ruler(low=2, high=1, word="a long word")))
    assert [field for field, _, _ in said] == ["spec.word", "<nil>"]
    assert "some validation rules were not checked because the object was invalid" in said[1][2]


def test_rules_hold_for_changes_as_well(client: Client, rulers: str) -> None:
    client.ok("POST", rulers, ruler(low=1, high=2))
    client.refused(422, "PATCH", f"{rulers}/r", {"spec": {"low": 2}}, media=MERGE)
    assert client.ok("PATCH", f"{rulers}/r", {"spec": {"high": None}}, media=MERGE)["spec"] == {"low": 1, "word": "yes"}


@pytest.mark.parametrize(
    ("field", "fits", "misfits"),
    [
        (
            "at",
            ["2026-01-02T03:04:05Z", "2026-01-02t23:59:59.123456+01:00"],
            ["2026-01-02", "2026-01-02T24:00:00Z", ""],
        ),
        ("four", ["10.0.0.1"], ["10.0.0", "::1", "10.0.0.1/8"]),
        ("six", ["::1", "fd00::a"], ["10.0.0.1", "fe80::1%eth0"]),
        ("block", ["10.0.0.0/8", "10.1.2.3/8", "::/0"], ["10.0.0.0", "10.0.0.0/33", "10.0.0.0/255.0.0.0"]),
        ("other", ["anything"], []),
        ("low", [-(2**31), 2**31 - 1, 3.0], [-(2**31) - 1, 2**31, 1.5, True]),
        ("high", [2**63 - 1], [2**63]),
    ],
)
def test_formats(client: Client, rulers: str, field: str, fits: list[Any], misfits: list[Any]) -> None:
    for value in fits:
        client.ok("POST", f"{rulers}?dryRun=All", ruler(**{field: value}))
    for value in misfits:
        client.refused(422, "POST", f"{rulers}?dryRun=All", ruler(**{field: value}))


def test_a_definition_whose_rules_are_understood_says_nothing_of_them(client: Client, rulers: str, group: str) -> None:
    conditions = client.ok("GET", f"{CRDS}/rulers.{group}")["status"]["conditions"]
    assert [each["type"] for each in conditions] == ["NamesAccepted", "Established"]


def test_a_rule_that_is_not_understood_is_taken_told_and_not_enforced(client: Client, group: str) -> None:
    answer = client.ask("POST", CRDS, definition(group, BEYOND))
    assert answer.status == 201
    assert answer.headers["warning"] == (
        '299 - "x-kubernetes-validations not enforced by this server: 1; see the condition RulesEnforced"'
    )
    told = answer.body["status"]["conditions"][-1]
    assert (told["type"], told["status"], told["reason"]) == ("RulesEnforced", "False", "NotUnderstood")
    assert told["message"] == "this server does not evaluate 'self == oldSelf' ('oldSelf' is not understood)"

    rulers = f"/apis/{group}/v1/rulers"
    client.ok("POST", rulers, ruler(low=1))
    client.ok("PATCH", f"{rulers}/r", {"spec": {"low": 0}}, media=MERGE)
    client.refused(422, "PATCH", f"{rulers}/r", {"spec": {"high": 0}}, media=MERGE)

    now = client.ok("GET", f"{CRDS}/rulers.{group}")
    now["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["x-kubernetes-validations"] = []
    changed = client.ask("PUT", f"{CRDS}/rulers.{group}", now)
    assert "warning" not in changed.headers
    assert [each["type"] for each in changed.body["status"]["conditions"]] == ["NamesAccepted", "Established"]
