from __future__ import annotations

import time

import pytest

from ncp.kube.reflector import Reflector
from ncp.kube.resources import Resource
from tests.kube.conftest import eventually
from tests.kube.tiny_api import pod


def names(reflector):
    return {name for _, name in reflector.store}


def test_lists_then_follows(api, diary, reflect):
    api.put("a", color="red")
    reflector = reflect()
    assert diary.changes == [("a", None, "red")]
    api.put("a", color="blue")
    api.put("b")
    api.drop("a")
    diary.wait(("a", "blue", None))
    assert diary.changes[1:] == [("a", "red", "blue"), ("b", None, ""), ("a", "blue", None)]
    assert names(reflector) == {"b"}
    assert reflector.store["default", "b"]["kind"] == "Pod"
    assert reflector.healthy()


def test_synced_comes_after_the_calls_for_the_first_list(api, kube, diary):
    from ncp.kube.reflector import Reflector
    from ncp.kube.resources import PODS

    api.put("a")
    seen = []
    reflector = Reflector(kube, PODS, lambda *_: seen.append(reflector.synced.is_set()))
    reflector.start()
    assert reflector.synced.wait(5)
    reflector.stop()
    assert seen == [False]


def test_an_event_arrives_without_waiting_for_a_buffer_to_fill(api, diary, reflect):
    reflect()
    started = time.monotonic()
    api.put("a")
    diary.wait(("a", None, ""))
    assert time.monotonic() - started < 0.1


def test_resumes_where_it_was_when_the_connection_breaks_mid_line(api, diary, reflect):
    api.put("a")
    reflector = reflect()
    api.put("b", color="first")
    diary.wait(("b", None, "first"))
    api.raw(b'{"type":"ADDED","object":{"metadata":{"name":"half"')
    last = api.version
    api.cut()
    api.put("c")
    diary.wait(("c", None, ""))
    assert f"resourceVersion={last}" in api.requests[-1]
    assert reflector.relists == 1
    assert names(reflector) == {"a", "b", "c"}


@pytest.mark.parametrize("as_event", [False, True], ids=["HTTP 410", "ERROR event"])
def test_lists_anew_when_its_version_is_gone_and_computes_what_was_deleted(api, diary, reflect, as_event):
    for name in ("stays", "goes", "changes"):
        api.put(name)
    reflector = reflect()
    with api.lock:
        api.cut()
        api.drop("goes")
        api.put("changes", color="new")
        api.put("comes")
        api.oldest, api.gone_as_event = api.version, as_event
    diary.wait(("comes", None, ""))
    assert sorted(diary.changes[3:]) == [("changes", "", "new"), ("comes", None, ""), ("goes", "", None)]
    assert diary.changes[3] == ("goes", "", None), "what is gone is told first: its addresses may be in use again"
    assert names(reflector) == {"stays", "changes", "comes"}
    assert reflector.relists == 2


def test_replayed_and_overtaken_events_change_nothing(api, diary, reflect):
    old = api.put("a", color="old")
    reflector = reflect()
    new = api.put("a", color="new")
    diary.wait(("a", "old", "new"))
    before = list(diary.changes)
    api.inject("MODIFIED", old)
    api.inject("ADDED", new)
    api.inject("DELETED", pod("a", int(old["metadata"]["resourceVersion"])))
    api.put("end")
    diary.wait(("end", None, ""))
    assert diary.changes == [*before, ("end", None, "")]
    assert reflector.store["default", "a"]["spec"]["color"] == "new"


def test_a_late_event_does_not_bring_a_deleted_object_back(api, diary, reflect):
    was = api.put("a", color="old")
    reflector = reflect()
    api.drop("a")
    api.inject("MODIFIED", was)
    api.put("end")
    diary.wait(("end", None, ""))
    assert diary.changes == [("a", None, "old"), ("a", "old", None), ("end", None, "")]
    assert names(reflector) == {"end"}


def test_an_object_made_again_under_its_name_comes_back(api, diary, reflect):
    api.put("a", uid="first", color="old")
    reflector = reflect()
    api.drop("a")
    api.put("a", uid="second", color="new")
    diary.wait(("a", None, "new"))
    assert reflector.store["default", "a"]["metadata"]["uid"] == "second"


def test_a_deletion_without_a_version_of_its_own_still_deletes(api, diary, reflect):
    held = api.put("a")
    reflector = reflect()
    api.inject("DELETED", held)
    diary.wait(("a", "", None))
    assert not names(reflector)


def test_a_bookmark_moves_the_version_and_drops_nothing(api, diary, reflect):
    api.put("a")
    reflector = reflect()
    api.bookmark()
    marked = api.version
    api.put("b")
    diary.wait(("b", None, ""))
    api.inject("BOOKMARK", {"metadata": {"resourceVersion": str(marked + 50)}})
    api.cut()
    eventually(lambda: f"resourceVersion={marked + 50}" in api.requests[-1])
    assert names(reflector) == {"a", "b"}


def test_keeps_its_state_while_the_server_is_away_and_catches_up(api, diary, reflect):
    api.put("a")
    reflector = reflect()
    api.stop()
    eventually(lambda: reflector._stream is None)
    assert names(reflector) == {"a"}
    assert reflector.healthy(), "a short absence is no illness"
    assert not reflector.healthy(max_age=-1.0)
    api.put("b")
    api.start()
    back = time.monotonic()
    diary.wait(("b", None, ""))
    assert time.monotonic() - back < 2.5
    assert reflector.relists == 1
    eventually(lambda: reflector.healthy(max_age=-1.0))


def test_a_quiet_watch_is_healthy_only_while_its_server_answers(api, kube, reflect, monkeypatch):
    reflector = reflect()
    monkeypatch.setattr(kube, "_answered", float("-inf"))
    assert reflector.healthy(max_age=-1.0)
    assert api.requests[-1] == "/version"
    asked = len(api.requests)
    assert reflector.healthy(max_age=-1.0)
    assert len(api.requests) == asked, "one answer serves for a while"
    api.answers = [(503, {})]
    monkeypatch.setattr(kube, "_answered", float("-inf"))
    assert not reflector.healthy(max_age=-1.0)


def test_a_server_that_lost_its_memory_is_listed_anew(api, diary, reflect):
    for name in ("a", "b"):
        api.put(name)
    reflector = reflect()
    with api.lock:
        api.stop()
        api.objects.clear()
        api.log.clear()
        api.version, api.oldest, api.gone_as_event = 5, 1 << 30, False
    api.start()
    api.put("fresh")
    diary.wait(("fresh", None, ""))
    assert names(reflector) == {"fresh"}


def test_a_server_that_refuses_to_resume_is_listed_anew(api, diary, reflect):
    api.put("a")
    reflector = reflect()
    refusal = {"kind": "Status", "code": 504, "reason": "Timeout", "message": "Too large resource version"}
    api.watch_answers = [(504, refusal)]
    api.cut()
    eventually(lambda: reflector.relists == 2 and api.watching)
    api.put("b")
    diary.wait(("b", None, ""))
    assert diary.changes == [("a", None, ""), ("b", None, "")], "an object that did not change is not told again"


def test_a_failing_handler_is_counted_and_loses_nothing(api, diary, reflect, caplog):
    diary.fail_on = {"bad"}
    api.put("bad")
    reflector = reflect()
    api.put("bad", color="again")
    api.put("good")
    diary.wait(("good", None, ""))
    assert reflector.handler_errors == 2
    assert names(reflector) == {"bad", "good"}
    assert reflector.store["default", "bad"]["spec"]["color"] == "again"
    assert "Pod default/bad" in caplog.text
    assert reflector.relists == 1


def test_garbage_on_the_wire_leads_to_a_new_list(api, diary, reflect):
    reflector = reflect()
    api.raw(b"<html>proxy error</html>\n")
    eventually(lambda: reflector.relists == 2 and api.watching)
    api.put("a")
    diary.wait(("a", None, ""))


def test_many_lines_in_one_piece_and_one_line_in_many(api, diary, reflect):
    import json

    reflector = reflect()
    lines = b"".join(
        json.dumps({"type": "ADDED", "object": pod(f"p{index}", 200 + index)}).encode() + b"\n" for index in range(50)
    )
    for start in range(0, len(lines), 37):
        api.raw(lines[start : start + 37])
    diary.wait(("p49", None, ""))
    assert len(reflector.store) == 50
    api.raw(lines.replace(b'"2', b'"3'))
    eventually(lambda: reflector.store["default", "p49"]["metadata"]["resourceVersion"] == "349")


@pytest.mark.parametrize("api_is", ["quiet", "away"])
def test_stop_returns_promptly_and_nothing_is_reported_after(api, diary, reflect, api_is):
    reflector = reflect()
    if api_is == "away":
        api.stop()
    started = time.monotonic()
    reflector.stop()
    assert time.monotonic() - started < 0.5
    assert not reflector._thread.is_alive()
    assert not reflector.healthy()


def test_the_store_can_be_walked_while_it_changes(api, diary, reflect):
    reflector = reflect()
    reflector._objects.update({("default", str(number)): pod(str(number), number) for number in range(100)})
    for key in reflector.store:
        reflector._objects.pop(key)
    assert len(reflector.store) == 0


@pytest.mark.parametrize("optional", [True, False])
def test_a_resource_that_is_not_served_has_no_objects_where_it_is_optional_and_is_waited_for_where_not(
    api, kube, optional
):
    api.answers += [(404, {"kind": "Status", "code": 404, "reason": "NotFound", "message": "no such resource"})] * 50
    reflector = Reflector(kube, Resource("nobody.example", "v1", "things", "Thing", True), print, optional=optional)
    reflector.start()
    try:
        assert reflector.synced.wait(2 if optional else 0.5) is optional
        assert (len(reflector.store), reflector.healthy()) == (0, optional)
    finally:
        reflector.stop()
