"""The client and the reflector against the project's own API server, which is killed, forgets and comes back."""

from __future__ import annotations

import statistics
import time

import pytest

from labs.api.testing import EmbeddedApi
from ncp.kube.client import AlreadyExists, Conflict, Kube, NotFound
from ncp.kube.reflector import Reflector
from ncp.kube.resources import CONFIG_MAPS, EVENTS, NAMESPACES, PODS
from tests.kube.conftest import Diary, eventually


@pytest.fixture
def embedded():
    with EmbeddedApi(history=20) as api:
        yield api


@pytest.fixture
def real(embedded) -> Kube:
    kube = Kube.connect(str(embedded.kubeconfig))
    eventually(lambda: any(item["metadata"]["name"] == "default" for item in kube.list(NAMESPACES)[0]))
    return kube


@pytest.fixture
def follow(real):
    started = []

    def begin(**scope) -> tuple[Reflector, Diary]:
        diary = Diary()
        reflector = Reflector(real, CONFIG_MAPS, diary, namespace="default", **scope)
        started.append(reflector)
        reflector.start()
        assert reflector.synced.wait(5)
        return reflector, diary

    yield begin
    for reflector in started:
        reflector.stop()


def config(name: str, color: str = "", **labels: str) -> dict:
    """Carries its colour where the diary looks for one."""
    return {"metadata": {"name": name, "labels": labels}, "data": {"color": color}}


def names(reflector: Reflector) -> set[str]:
    return {name for _, name in reflector.store}


def test_objects_are_written_and_their_errors_told_apart(real):
    made = real.create(CONFIG_MAPS, config("a", "red"), "default")
    with pytest.raises(AlreadyExists):
        real.create(CONFIG_MAPS, config("a"), "default")
    for kind, body in (
        ("merge", {"data": {"merge": "1"}}),
        ("strategic", {"data": {"strategic": "1"}}),
        ("json", [{"op": "add", "path": "/data/json", "value": "1"}]),
    ):
        real.patch(CONFIG_MAPS, "a", "default", body=body, kind=kind)
    applied = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"apply": "1"}}
    now = real.patch(CONFIG_MAPS, "a", "default", body=applied, kind="apply", field_manager="test", force=True)
    assert now["data"] == {"color": "red", "merge": "1", "strategic": "1", "json": "1", "apply": "1"}
    with pytest.raises(Conflict):
        real.replace(CONFIG_MAPS, made | {"data": {}})
    with pytest.raises(Conflict):
        real.delete(CONFIG_MAPS, "a", "default", uid="another")
    real.delete(CONFIG_MAPS, "a", "default", uid=made["metadata"]["uid"])
    with pytest.raises(NotFound):
        real.get(CONFIG_MAPS, "a", "default")


def test_the_same_event_is_counted(real):
    about = real.get(NAMESPACES, "default")
    for _ in range(3):
        real.event(about, reason="Tested", message="it was", type="Warning")
    found = [event for event in real.list(EVENTS, "default")[0] if event["reason"] == "Tested"]
    assert [event["count"] for event in found] == [3]


def test_groups_have_versions(real):
    assert real.versions("") == ["v1"]
    assert real.versions("apps") == ["v1"]
    assert real.versions("nobody.example.com") == []
    assert real.ping() < 3


def test_labels_choose_and_a_changed_label_deletes(real, follow):
    reflector, _ = follow(label_selector="team=blue")
    real.create(CONFIG_MAPS, config("mine", team="blue"), "default")
    real.create(CONFIG_MAPS, config("other", team="red"), "default")
    eventually(lambda: names(reflector) == {"mine"})
    real.patch(CONFIG_MAPS, "other", "default", body={"metadata": {"labels": {"team": "blue"}}})
    eventually(lambda: names(reflector) == {"mine", "other"})
    real.patch(CONFIG_MAPS, "mine", "default", body={"metadata": {"labels": {"team": "red"}}})
    eventually(lambda: names(reflector) == {"other"})


def test_a_killed_server_comes_back_and_nothing_is_lost(embedded, real, follow):
    for name in ("stays", "goes"):
        real.create(CONFIG_MAPS, config(name), "default")
    reflector, _ = follow()
    before = names(reflector)
    assert before >= {"stays", "goes"}
    embedded.kill()
    eventually(lambda: reflector._stream is None)
    assert names(reflector) == before
    embedded.start()
    real.delete(CONFIG_MAPS, "goes", "default")
    real.create(CONFIG_MAPS, config("comes"), "default")
    eventually(lambda: names(reflector) == before - {"goes"} | {"comes"})
    assert reflector.handler_errors == 0


def test_a_history_that_was_dropped_leads_to_a_new_list(embedded, real, follow):
    reflector, _ = follow()
    base = names(reflector)
    embedded.kill()
    eventually(lambda: reflector._stream is None)
    reflector._version = "1"  # as if it had been away for longer than the server remembers
    embedded.start()
    for number in range(60):
        real.create(CONFIG_MAPS, config(f"c{number}"), "default")
    eventually(lambda: names(reflector) == base | {f"c{number}" for number in range(60)})
    eventually(lambda: reflector.relists >= 2)


def test_a_change_is_heard_within_milliseconds(real, follow):
    reflector, _ = follow()
    eventually(lambda: reflector._stream is not None)
    delays = []
    for number in range(20):
        started = time.monotonic()
        real.create(CONFIG_MAPS, config(f"c{number}"), "default")
        while ("default", f"c{number}") not in reflector.store:
            time.sleep(0.0005)
        delays.append(time.monotonic() - started)
    assert statistics.median(delays) < 0.05


def test_pods_are_bound(real):
    spec = {"containers": [{"name": "c", "image": "none"}]}
    real.create(PODS, {"metadata": {"name": "p"}, "spec": spec}, "default")
    real.bind("p", "default", "node-1")
    assert real.get(PODS, "p", "default")["spec"]["nodeName"] == "node-1"
