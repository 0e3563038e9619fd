"""Selectors and pages of lists."""

from __future__ import annotations

import pytest

from .client import Client
from .shapes import NAMESPACES, config_map, core, pod

LABELS = {
    "one": {"tier": "web", "env": "prod"},
    "two": {"tier": "web", "env": "dev"},
    "three": {"tier": "db"},
    "four": {},
}


@pytest.fixture
def path(api: Client, ns: str) -> str:
    for name, labels in LABELS.items():
        api.post(core(ns, "configmaps"), config_map(name, labels=labels | {"ours": "yes"})).must(201)
    return core(ns, "configmaps")


@pytest.mark.parametrize(
    ("selector", "chosen"),
    [
        ("tier=web", {"one", "two"}),
        ("tier==web", {"one", "two"}),
        ("tier!=web", {"three", "four"}),
        ("tier=web,env=prod", {"one"}),
        ("tier in (web, db)", {"one", "two", "three"}),
        ("tier notin (web)", {"three", "four"}),
        ("env", {"one", "two"}),
        ("!env", {"three", "four"}),
        ("tier in (web),env notin (dev)", {"one"}),
        ("tier=", set()),
        ("tier=none", set()),
    ],
)
def test_label_selectors(api: Client, path: str, selector: str, chosen: set[str]) -> None:
    items = api.get(path, labelSelector=f"ours=yes,{selector}").must(200).body["items"]
    assert {item["metadata"]["name"] for item in items} == chosen


@pytest.mark.parametrize("selector", ["tier in web", "=x", "a=b=c", "tier in (web", "-bad-=x"])
def test_a_selector_that_is_none_is_a_bad_request(api: Client, ns: str, selector: str) -> None:
    api.get(core(ns, "configmaps"), labelSelector=selector).must(400, "BadRequest")


@pytest.mark.parametrize(
    ("selector", "chosen"),
    [
        ("metadata.name=one", {"one"}),
        ("metadata.name!=one", {"two", "three", "four"}),
        ("metadata.name=one,metadata.name=two", set()),
    ],
)
def test_field_selectors(api: Client, path: str, selector: str, chosen: set[str]) -> None:
    items = api.get(path, labelSelector="ours=yes", fieldSelector=selector).must(200).body["items"]
    assert {item["metadata"]["name"] for item in items} == chosen


def test_field_selectors_of_pods(api: Client, ns: str) -> None:
    path = core(ns, "pods")
    api.post(path, pod("bound", nodeName="n1")).must(201)
    api.post(path, pod("loose")).must(201)
    api.strategic(path + "/bound/status", {"status": {"phase": "Running", "podIP": "10.0.0.9"}}).must(200)

    def chosen(selector: str) -> list[str]:
        items = api.get(path, fieldSelector=selector).must(200).body["items"]
        return [item["metadata"]["name"] for item in items]

    assert chosen("spec.nodeName=n1") == ["bound"]
    assert chosen("spec.nodeName!=") == ["bound"]
    assert chosen("spec.nodeName=") == ["loose"]
    assert chosen("status.phase=Running") == ["bound"]
    assert chosen("status.phase!=Running") == ["loose"]
    assert chosen("status.podIP=10.0.0.9") == ["bound"]
    assert chosen("spec.restartPolicy=Always,metadata.name=loose") == ["loose"]


def test_field_selectors_of_namespaces_and_events(api: Client, ns: str) -> None:
    active = api.get(NAMESPACES, fieldSelector=f"status.phase=Active,metadata.name={ns}").must(200).body["items"]
    assert len(active) == 1
    event = {
        "metadata": {"name": "e1"},
        "involvedObject": {"kind": "Pod", "name": "web", "namespace": ns, "uid": "u1"},
        "reason": "Started",
        "type": "Normal",
    }
    api.post(core(ns, "events"), event).must(201)
    found = api.get(core(ns, "events"), fieldSelector="involvedObject.name=web,involvedObject.uid=u1").must(200).body
    assert len(found["items"]) == 1
    assert api.get(core(ns, "events"), fieldSelector="reason=Stopped").must(200).body["items"] == []


def test_an_unsupported_field_is_a_bad_request(api: Client, ns: str) -> None:
    refused = api.get(core(ns, "pods"), fieldSelector="spec.hostname=x").must(400, "BadRequest")
    assert "spec.hostname" in refused.body["message"]


def test_pages_add_up_to_the_list(api: Client, path: str) -> None:
    query = {"limit": 2, "labelSelector": "ours=yes"}
    first = api.get(path, **query).must(200).body
    assert len(first["items"]) == 2
    # With a selector the server does not count what remains.
    assert "remainingItemCount" not in first["metadata"]
    second = api.request("GET", path, **query, **{"continue": first["metadata"]["continue"]}).must(200).body
    assert "continue" not in second["metadata"]

    names = [item["metadata"]["name"] for item in first["items"] + second["items"]]
    assert names == ["four", "one", "three", "two"]


def test_pages_are_of_one_moment(api: Client, ns: str) -> None:
    path = core(ns, "secrets")
    for name in ("a", "c", "d"):
        api.post(path, {"metadata": {"name": name}}).must(201)
    first = api.get(path, limit=1).must(200).body
    assert first["metadata"]["remainingItemCount"] == 2
    api.post(path, {"metadata": {"name": "b"}}).must(201)
    api.delete(path + "/d").must(200)

    rest = api.request("GET", path, limit=10, **{"continue": first["metadata"]["continue"]}).must(200).body
    assert [item["metadata"]["name"] for item in rest["items"]] == ["c", "d"]
    assert rest["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]


def test_a_continue_token_that_is_none_is_a_bad_request(api: Client, ns: str) -> None:
    api.request("GET", core(ns, "secrets"), limit=1, **{"continue": "nonsense"}).must(400, "BadRequest")
