from __future__ import annotations

import json
import socket
import threading

import pytest

from ncp.kube.access import Access
from ncp.kube.client import (
    PAGE,
    AlreadyExists,
    ApiError,
    Conflict,
    Gone,
    Invalid,
    Kube,
    NotFound,
    Unavailable,
)
from ncp.kube.resources import LEASES, NAMESPACES, NODES, PODS
from tests.kube.tiny_api import pod


def status(code: int, reason: str) -> tuple[int, dict]:
    return code, {"kind": "Status", "code": code, "reason": reason, "message": f"it is {reason}"}


def test_list_reads_every_page_and_completes_the_items(api, kube):
    for number in range(PAGE + 3):
        api.put(f"p{number:04}")
    items, version = kube.list(PODS)
    assert len({item["metadata"]["name"] for item in items}) == PAGE + 3
    assert version == str(api.version)
    assert {(item["kind"], item["apiVersion"]) for item in items} == {("Pod", "v1")}
    assert len(api.requests) == 2


def test_list_starts_over_without_pages_when_a_page_expired(api, kube):
    api.put("a")
    api.answers = [
        (200, {"metadata": {"continue": "x", "resourceVersion": "7"}, "items": [pod("stale", 7)]}),
        status(410, "Expired"),
    ]
    items, version = kube.list(PODS)
    assert [item["metadata"]["name"] for item in items] == ["a"]
    assert version == str(api.version)


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        (404, "NotFound", NotFound),
        (409, "Conflict", Conflict),
        (409, "AlreadyExists", AlreadyExists),
        (410, "Gone", Gone),
        (422, "Invalid", Invalid),
        (503, "ServiceUnavailable", Unavailable),
        (429, "TooManyRequests", Unavailable),
        (403, "Forbidden", ApiError),
    ],
)
def test_a_refusal_becomes_its_error_and_says_what_was_asked(api, kube, code, reason, kind):
    api.answers = [status(code, reason)]
    with pytest.raises(ApiError) as caught:
        kube.get(PODS, "a", "default")
    assert type(caught.value) is kind
    assert (caught.value.status, caught.value.reason) == (code, reason)
    assert "GET /api/v1/namespaces/default/pods/a" in caught.value.message
    assert f"it is {reason}" in str(caught.value)


def test_a_server_that_is_not_there_is_unavailable():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        kube = Kube(Access(f"http://127.0.0.1:{taken.getsockname()[1]}", None, lambda: None))
        with pytest.raises(Unavailable, match="refused") as caught:
            kube.list(PODS)
        assert caught.value.status == 0


def test_a_server_that_never_answers_is_unavailable():
    with socket.create_server(("127.0.0.1", 0)) as mute:
        kube = Kube(Access(f"http://127.0.0.1:{mute.getsockname()[1]}", None, lambda: None))
        with pytest.raises(Unavailable, match="timed out"):
            kube.ping(timeout=0.1)


def test_an_answer_that_is_not_json_is_an_error():
    def serve() -> None:
        peer, _ = html.accept()
        with peer:
            peer.recv(4096)
            peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>")

    with socket.create_server(("127.0.0.1", 0)) as html:
        threading.Thread(target=serve, daemon=True).start()
        kube = Kube(Access(f"http://127.0.0.1:{html.getsockname()[1]}", None, lambda: None))
        with pytest.raises(ApiError, match="BadResponse"):
            kube.get(NODES, "n")


@pytest.mark.parametrize(
    ("kind", "content_type"),
    [
        ("merge", "application/merge-patch+json"),
        ("json", "application/json-patch+json"),
        ("strategic", "application/strategic-merge-patch+json"),
        ("apply", "application/apply-patch+yaml"),
    ],
)
def test_patch_sends_the_type_of_its_kind(api, kube, kind, content_type):
    body = {"metadata": {"labels": {"a": "ü"}}}
    kube.patch(PODS, "p", "ns", body=body, kind=kind, subresource="status", field_manager="me", force=True)
    assert api.bodies == [("PATCH", content_type, body)]
    assert api.requests == ["/api/v1/namespaces/ns/pods/p/status?fieldManager=me&force=true"]


def test_writes_go_where_the_object_belongs(api, kube):
    lease = {"metadata": {"name": "l", "namespace": "kube-system"}}
    kube.create(LEASES, lease)
    kube.replace(LEASES, lease, subresource="status")
    kube.create(NAMESPACES, {"metadata": {"name": "blue"}})
    kube.create(PODS, {"metadata": {"name": "p"}}, "blue")
    assert api.requests == [
        "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases",
        "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/l/status",
        "/api/v1/namespaces",
        "/api/v1/namespaces/blue/pods",
    ]


def test_delete_carries_its_conditions(api, kube):
    kube.delete(PODS, "p", "ns", grace_seconds=0, uid="u", propagation="Foreground")
    method, _, body = api.bodies[0]
    assert method == "DELETE"
    assert body["gracePeriodSeconds"] == 0
    assert body["preconditions"] == {"uid": "u"}
    assert body["propagationPolicy"] == "Foreground"


def test_bind_posts_the_target(api, kube):
    kube.bind("p", "ns", "node-1")
    assert api.requests == ["/api/v1/namespaces/ns/pods/p/binding"]
    assert api.bodies[0][2]["target"]["name"] == "node-1"


def test_the_same_event_again_raises_its_count(api, kube):
    about = pod("p", 1)
    api.answers = [
        (201, {}),
        status(409, "AlreadyExists"),
        (200, {"count": 4}),
        (200, {}),
    ]
    for _ in range(2):
        kube.event(about, reason="NoAddress", message="none left", type="Warning")
    first, again, patched = api.bodies
    assert first[2]["metadata"]["name"] == again[2]["metadata"]["name"]
    assert first[2]["involvedObject"]["uid"] == "u1"
    assert patched[2]["count"] == 5


def test_versions_of_a_group(api, kube):
    api.answers = [
        (200, {"versions": ["v1"]}),
        (200, {"versions": [{"groupVersion": "x/v2", "version": "v2"}, {"version": "v1"}]}),
        status(404, "NotFound"),
    ]
    assert kube.versions("") == ["v1"]
    assert kube.versions("policy.networking.k8s.io") == ["v2", "v1"]
    assert kube.versions("nobody.example") == []


def test_one_namespaced_object_needs_its_namespace():
    with pytest.raises(ValueError, match="needs a namespace"):
        PODS.path(name="p")
    with pytest.raises(ValueError, match="has no namespaces"):
        NODES.path("default")


def test_selectors_reach_the_server(api, kube):
    kube.list(PODS, "ns", label_selector="app in (a, b)", field_selector="spec.nodeName=n1")
    assert "labelSelector=app+in+%28a%2C+b%29" in api.requests[0]
    assert "fieldSelector=spec.nodeName%3Dn1" in api.requests[0]
    assert json.dumps("limit=500")[1:-1] in api.requests[0]
