"""Lists and watches: every change once, in order, from any version that is still known."""

from __future__ import annotations

import json

import pytest

from .client import TABLE, Client, Object
from .concessions import Server
from .shapes import CRDS, await_answer, config_map, core, crd, custom, pod


def names(answer_body: Object) -> list[str]:
    return [item["metadata"]["name"] for item in answer_body["items"]]


def test_a_list_names_its_kind_and_version(api: Client, ns: str) -> None:
    api.post(core(ns, "configmaps"), config_map("one")).must(201)
    listed = api.get(core(ns, "configmaps"), labelSelector="!server-made").must(200).body

    assert (listed["kind"], listed["apiVersion"]) == ("ConfigMapList", "v1")
    assert listed["metadata"]["resourceVersion"].isdigit()
    assert "one" in names(listed)
    # Items of a list carry neither: the list's kind says it.
    assert all("kind" not in item and "apiVersion" not in item for item in listed["items"])


def test_lists_are_ordered_by_namespace_and_name(api: Client, ns: str) -> None:
    for name in ("c", "a", "b"):
        api.post(core(ns, "secrets"), {"metadata": {"name": name}}).must(201)

    assert names(api.get(core(ns, "secrets")).body) == ["a", "b", "c"]
    everywhere = [
        (item["metadata"]["namespace"], item["metadata"]["name"]) for item in api.get("/api/v1/secrets").body["items"]
    ]
    assert everywhere == sorted(everywhere)


def test_a_watch_from_a_list_sees_every_change_in_order(api: Client, ns: str) -> None:
    path = core(ns, "secrets")
    with api.watch(path, resourceVersion=api.get(path).rv) as watch:
        made = api.post(path, {"metadata": {"name": "one"}}).must(201).body
        changed = api.merge(path + "/one", {"stringData": {"a": "b"}}).must(200).body
        api.delete(path + "/one").must(200)

        assert watch.next() == ("ADDED", made)
        assert watch.next() == ("MODIFIED", changed)
        kind, last = watch.next()
    assert kind == "DELETED"
    # The last state, under the version of its end.
    assert last["data"] == {"a": "Yg=="}
    assert int(last["metadata"]["resourceVersion"]) > int(changed["metadata"]["resourceVersion"])


def test_a_watch_from_nothing_begins_with_what_exists(api: Client, ns: str) -> None:
    path = core(ns, "secrets")
    for name in ("a", "b"):
        api.post(path, {"metadata": {"name": name}}).must(201)
    for start in ({}, {"resourceVersion": "0"}, {"resourceVersion": ""}):
        with api.watch(path, **start) as watch:
            seen = [watch.next(), watch.next()]
        assert sorted((kind, thing["metadata"]["name"]) for kind, thing in seen) == [("ADDED", "a"), ("ADDED", "b")]


def test_a_watch_resumes_from_any_object(api: Client, ns: str) -> None:
    path = core(ns, "secrets")
    first = api.post(path, {"metadata": {"name": "one"}}).must(201)
    api.merge(path + "/one", {"stringData": {"a": "1"}}).must(200)
    api.delete(path + "/one").must(200)

    with api.watch(path, resourceVersion=first.rv) as watch:
        assert [watch.next()[0], watch.next()[0]] == ["MODIFIED", "DELETED"]


def test_a_watch_of_all_namespaces_sees_them_all(api: Client, ns: str) -> None:
    with api.watch("/api/v1/secrets", resourceVersion=api.get("/api/v1/secrets").rv) as watch:
        api.post(core(ns, "secrets"), {"metadata": {"name": "one"}}).must(201)
        kind, thing = watch.next()
    assert (kind, thing["metadata"]["namespace"], thing["kind"]) == ("ADDED", ns, "Secret")


def test_a_watch_of_one_namespace_sees_no_other(api: Client, ns: str) -> None:
    path = core(ns, "secrets")
    with api.watch(path, resourceVersion=api.get(path).rv) as watch:
        api.post(core("default", "secrets"), {"metadata": {"name": f"other-{ns}"}}).must(201)
        api.post(path, {"metadata": {"name": "mine"}}).must(201)
        assert watch.next()[1]["metadata"]["name"] == "mine"


def test_a_watch_of_one_object_by_field(api: Client, ns: str) -> None:
    path = core(ns, "secrets")
    with api.watch(path, fieldSelector="metadata.name=two", resourceVersion=api.get(path).rv) as watch:
        api.post(path, {"metadata": {"name": "one"}}).must(201)
        api.post(path, {"metadata": {"name": "two"}}).must(201)
        assert watch.next()[1]["metadata"]["name"] == "two"


def test_an_object_that_leaves_the_selector_is_deleted_to_its_watchers(api: Client, ns: str) -> None:
    path = core(ns, "configmaps")
    start = api.get(path).rv
    with api.watch(path, labelSelector="tier=web", resourceVersion=start) as watch:
        api.post(path, config_map("one", labels={"tier": "db"})).must(201)
        entered = api.merge(path + "/one", {"metadata": {"labels": {"tier": "web"}}}).must(200)
        changed = api.merge(path + "/one", {"data": {"a": "2"}}).must(200)
        left = api.merge(path + "/one", {"metadata": {"labels": {"tier": "db"}}}).must(200)

        assert watch.next() == ("ADDED", entered.body)
        assert watch.next() == ("MODIFIED", changed.body)
        kind, thing = watch.next()
    assert kind == "DELETED"
    # It is shown as it last matched, under the version of the change that took it away.
    assert thing["metadata"]["labels"] == {"tier": "web"}
    assert thing["metadata"]["resourceVersion"] == left.rv


def test_an_object_that_leaves_a_field_selector_too(api: Client, ns: str) -> None:
    path = core(ns, "pods")
    with api.watch(path, fieldSelector="spec.nodeName=", resourceVersion=api.get(path).rv) as watch:
        api.post(path, pod("web")).must(201)
        target = {"apiVersion": "v1", "kind": "Node", "name": "n1"}
        api.post(path + "/web/binding", {"metadata": {"name": "web"}, "target": target}).must(201)
        assert [watch.next()[0], watch.next()[0]] == ["ADDED", "DELETED"]


def test_bookmarks_say_how_far_the_watch_has_come(api: Client, ns: str) -> None:
    path = core(ns, "secrets")
    api.post(path, {"metadata": {"name": "one"}}).must(201)
    # A server sends one shortly before it ends a watch that asked for them.
    with api.watch(path, resourceVersion="0", allowWatchBookmarks="true", timeoutSeconds=3) as watch:
        assert watch.next_of_any_type()[0] == "ADDED"
        later = api.post(core(ns, "secrets"), {"metadata": {"name": "two"}}).must(201).rv
        assert watch.next_of_any_type()[0] == "ADDED"
        kind, thing = watch.next_of_any_type()
    assert (kind, thing["kind"]) == ("BOOKMARK", "Secret")
    assert int(thing["metadata"]["resourceVersion"]) >= int(later)


def test_a_watch_ends_when_its_time_is_over(api: Client, ns: str) -> None:
    with api.watch(core(ns, "secrets"), timeoutSeconds=1) as watch:
        assert watch.ended()


def test_a_list_from_the_future_is_refused_or_waited_for(api: Client, ns: str) -> None:
    future = int(api.get(core(ns, "secrets")).rv) + 1_000_000
    refused = api.get(core(ns, "secrets"), resourceVersion=future, timeoutSeconds=1)
    assert refused.status == 504
    assert refused.body["reason"] == "Timeout"


def test_a_version_that_is_no_number_is_refused(api: Client, ns: str) -> None:
    # Old servers trip over it (500) where new ones say 400.
    assert api.get(core(ns, "secrets"), resourceVersion="abc").status in (400, 500)
    assert api.get(core(ns, "secrets"), watch="true", resourceVersion="abc").status in (400, 500)


def test_a_forgotten_version_is_gone(server: Server, ns: str) -> None:
    path = with_a_past_forgotten(server, ns)
    expired(server.client, path, "1")
    # What is listed now is known.
    with server.client.watch(path, resourceVersion=server.client.get(path).rv):
        pass


def with_a_past_forgotten(server: Server, ns: str) -> str:
    """Return a collection whose first changes the server no longer remembers."""
    api = server.client
    if server.window:
        path = core(ns, "configmaps")
        api.post(path, config_map("busy")).must(201)
        for number in range(server.window):
            api.merge(path + "/busy", {"data": {"a": str(number)}}).must(200)
        return path
    # kube-apiserver remembers nothing of a kind from before the kind was served.
    definition = crd(f"g{ns[2:]}.example.org", "Widget")
    api.post(CRDS, definition).must(201)
    await_answer(api, custom(definition, ns))
    return custom(definition, ns)


def expired(api: Client, path: str, version: str) -> None:
    """Check that a watch from ``version`` is told to list again: as an answer, or as the watch's first event."""
    answer = api.request("GET", path, watch="true", resourceVersion=version, timeoutSeconds=5)
    status = answer.body
    if answer.status == 200:
        event = status if isinstance(status, dict) else json.loads(status.splitlines()[0])
        assert event["type"] == "ERROR"
        status = event["object"]
    assert (status["kind"], status["code"], status["reason"]) == ("Status", 410, "Expired")


def test_a_page_of_a_forgotten_list_is_gone(server: Server, ns: str) -> None:
    if server.etcd is None:
        pytest.skip("needs a store that can be compacted under its server")
    api, path = server.client, core(ns, "secrets")
    for name in ("a", "b"):
        api.post(path, {"metadata": {"name": name}}).must(201)
    token = api.get(path, limit=1).must(200).body["metadata"]["continue"]
    now = api.post(path, {"metadata": {"name": "c"}}).must(201).rv
    assert server.etcd("/v3/kv/compaction", json.dumps({"revision": now}))[0] == 200

    gone = api.request("GET", path, limit=1, **{"continue": token}).must(410, "Expired")
    # The answer offers to go on, at the price of a list that is not of one moment.
    assert gone.body["metadata"]["continue"]


def test_a_watch_of_tables_is_what_kubectl_reads(api: Client, ns: str) -> None:
    path = core(ns, "configmaps")
    with api.watch(path, accept=TABLE, resourceVersion=api.get(path).rv) as watch:
        api.post(path, config_map("one")).must(201)
        api.merge(path + "/one", {"data": {"b": "2"}}).must(200)
        kind, table = watch.next()
        assert (kind, table["kind"], table["rows"][0]["cells"][:2]) == ("ADDED", "Table", ["one", 1])
        assert table["rows"][0]["object"]["metadata"]["name"] == "one"
        kind, table = watch.next()
    assert (kind, table["rows"][0]["cells"][:2]) == ("MODIFIED", ["one", 2])
