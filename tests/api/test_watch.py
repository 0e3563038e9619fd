from __future__ import annotations

from pathlib import Path
from typing import Any

from labs.api.testing import EmbeddedApi
from tests.api.client import MERGE, TABLE, Client


def put(client: Client, ns: str, name: str, **meta: Any) -> dict[str, Any]:
    return client.ok("POST", f"/api/v1/namespaces/{ns}/configmaps", {"metadata": {"name": name, **meta}})


def test_a_watch_without_a_version_begins_with_what_is_there(client: Client, ns: str) -> None:
    put(client, ns, "a")
    put(client, ns, "b")
    for query in ("", "?resourceVersion=0"):
        with client.watch(f"/api/v1/namespaces/{ns}/configmaps{query}") as events:
            assert events.take(2) == [("ADDED", "a"), ("ADDED", "b")]
            assert events.quiet()


def test_a_watch_from_a_version_brings_exactly_what_came_after(client: Client, ns: str) -> None:
    path = f"/api/v1/namespaces/{ns}/configmaps"
    put(client, ns, "a")
    version = client.ok("GET", path)["metadata"]["resourceVersion"]
    put(client, ns, "b")
    client.ok("PATCH", f"{path}/b", {"data": {"x": "1"}}, media=MERGE)
    client.ok("DELETE", f"{path}/a")
    with client.watch(f"{path}?resourceVersion={version}") as events:
        assert events.take(3) == [("ADDED", "b"), ("MODIFIED", "b"), ("DELETED", "a")]
        last = put(client, ns, "c")
        kind, seen = events.next()
        assert (kind, seen) == ("ADDED", last)


def test_a_deleted_object_carries_the_version_of_its_deletion(client: Client, ns: str) -> None:
    path = f"/api/v1/namespaces/{ns}/configmaps"
    made = put(client, ns, "a")
    with client.watch(f"{path}?resourceVersion={made['metadata']['resourceVersion']}") as events:
        client.ok("DELETE", f"{path}/a")
        kind, seen = events.next()
    assert kind == "DELETED"
    assert int(seen["metadata"]["resourceVersion"]) > int(made["metadata"]["resourceVersion"])
    assert seen["metadata"]["uid"] == made["metadata"]["uid"]


def test_an_object_that_leaves_the_selection_is_deleted_and_one_that_enters_is_added(client: Client, ns: str) -> None:
    path = f"/api/v1/namespaces/{ns}/configmaps"
    put(client, ns, "a", labels={"tier": "x"})
    put(client, ns, "b", labels={"tier": "y"})
    with client.watch(f"{path}?labelSelector=tier%3Dx") as events:
        assert events.take(1) == [("ADDED", "a")]
        left = client.ok("PATCH", f"{path}/a", {"metadata": {"labels": {"tier": "y"}}}, media=MERGE)
        kind, seen = events.next()
        assert (kind, seen["metadata"]["labels"]) == ("DELETED", {"tier": "x"})
        assert seen["metadata"]["resourceVersion"] == left["metadata"]["resourceVersion"]
        client.ok("PATCH", f"{path}/b", {"metadata": {"labels": {"tier": "x"}}}, media=MERGE)
        assert events.take(1) == [("ADDED", "b")]
        client.ok("PATCH", f"{path}/a", {"data": {"x": "1"}}, media=MERGE)
        assert events.quiet()


def test_field_selectors_hold_in_watches(client: Client, ns: str) -> None:
    pods = f"/api/v1/namespaces/{ns}/pods"
    body = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    with client.watch(f"{pods}?fieldSelector=spec.nodeName%3Dn1") as events:
        client.ok("POST", pods, body)
        client.ok("POST", f"{pods}/p/binding", {"target": {"name": "n1"}})
        kind, seen = events.next()
        assert (kind, seen["spec"]["nodeName"]) == ("ADDED", "n1")


def test_one_object_is_watched_by_its_path(client: Client, ns: str) -> None:
    put(client, ns, "a")
    put(client, ns, "b")
    with client.watch(f"/api/v1/namespaces/{ns}/configmaps/b") as events:
        assert events.take(1) == [("ADDED", "b")]
        assert events.quiet()


def test_initial_events_end_with_a_marked_bookmark(client: Client, ns: str) -> None:
    put(client, ns, "a")
    query = "sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan"
    with client.watch(f"/api/v1/namespaces/{ns}/configmaps?{query}") as events:
        assert events.take(1) == [("ADDED", "a")]
        kind, mark = events.next()
        assert (kind, mark["kind"]) == ("BOOKMARK", "ConfigMap")
        assert mark["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
        put(client, ns, "b")
        assert events.take(1) == [("ADDED", "b")]
    client.refused(422, "GET", f"/api/v1/namespaces/{ns}/configmaps?watch=true&sendInitialEvents=true")


def test_a_watch_ends_after_its_time_with_a_bookmark_of_where_it_was(client: Client, ns: str) -> None:
    path = f"/api/v1/namespaces/{ns}/configmaps"
    version = client.ok("GET", path)["metadata"]["resourceVersion"]
    with client.watch(f"{path}?resourceVersion={version}&timeoutSeconds=1&allowWatchBookmarks=true") as events:
        client.ok("POST", f"/api/v1/namespaces/{ns}/secrets", {"metadata": {"name": "s"}})
        seen = list(events.rest())
    assert [event["type"] for event in seen] == ["BOOKMARK"]
    assert int(seen[0]["object"]["metadata"]["resourceVersion"]) > int(version)


def test_a_version_older_than_the_history_is_gone(tmp_path: Path) -> None:
    with EmbeddedApi(tmp_path / "data", history=5) as api:
        client = Client(api.url)
        path = "/api/v1/namespaces/default/configmaps"
        version = client.ok("GET", path)["metadata"]["resourceVersion"]
        for number in range(8):
            put(client, "default", f"c{number}")
        with client.watch(f"{path}?resourceVersion={version}") as events:
            (said,) = events.rest()
        assert said["type"] == "ERROR"
        assert (said["object"]["code"], said["object"]["reason"]) == (410, "Expired")
        recent = client.ok("GET", path)["metadata"]["resourceVersion"]
        put(client, "default", "last")
        with client.watch(f"{path}?resourceVersion={recent}") as events:
            assert events.take(1) == [("ADDED", "last")]
        with client.watch(f"{path}?resourceVersion=999999") as events:
            assert [event["object"]["code"] for event in events.rest()] == [410]


def test_a_watch_goes_on_over_a_restart_where_nothing_was_missed(tmp_path: Path) -> None:
    with EmbeddedApi(tmp_path / "data") as api:
        client = Client(api.url)
        path = "/api/v1/namespaces/default/configmaps"
        put(client, "default", "a")
        version = client.ok("GET", path)["metadata"]["resourceVersion"]
        put(client, "default", "b")
        after = client.ok("GET", path)["metadata"]["resourceVersion"]
        client.ok("POST", "/api/v1/namespaces/default/secrets", {"metadata": {"name": "s"}})
        api.kill()
        api.start()
        with client.watch(f"{path}?resourceVersion={after}") as events:
            put(client, "default", "c")
            assert events.take(1) == [("ADDED", "c")]
        with client.watch(f"{path}?resourceVersion={version}") as events:
            assert [event["object"]["code"] for event in events.rest()] == [410]


def test_tables_are_watched_with_headers_once(client: Client, ns: str) -> None:
    put(client, ns, "a")
    with client.watch(f"/api/v1/namespaces/{ns}/configmaps", accept=TABLE) as events:
        _, first = events.next()
        put(client, ns, "b")
        _, second = events.next()
    assert first["kind"] == "Table"
    assert [column["name"] for column in first["columnDefinitions"]] == ["Name", "Data", "Age"]
    assert second["columnDefinitions"] == []
    assert second["rows"][0]["cells"][:2] == ["b", 0]
    assert second["rows"][0]["object"]["metadata"]["name"] == "b"


def test_every_watcher_sees_every_event_in_order(client: Client, ns: str) -> None:
    path = f"/api/v1/namespaces/{ns}/configmaps"
    version = client.ok("GET", path)["metadata"]["resourceVersion"]
    watchers = [client.watch(f"{path}?resourceVersion={version}") for _ in range(5)]
    try:
        for number in range(20):
            put(client, ns, f"c{number}")
        for watcher in watchers:
            assert watcher.take(20) == [("ADDED", f"c{number}") for number in range(20)]
    finally:
        for watcher in watchers:
            watcher.close()


def test_a_server_told_to_stop_ends_its_watches(tmp_path: Path) -> None:
    with EmbeddedApi(tmp_path / "data") as api, Client(api.url).watch("/api/v1/pods") as events:
        assert events.status == 200
        api.stop()
        assert list(events.rest()) == []
