"""An annotation kept on objects of a real API server, whoever else writes there."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator

import pytest

from labs.api.testing import EmbeddedApi
from ncp.kube.client import Kube
from ncp.kube.reflector import Reflector
from ncp.kube.resources import NAMESPACES, NETWORK_POLICIES
from ncp.node import notes
from ncp.node.notes import Noted, Notes
from ncp.translate.objects import annotation

NAME = "ncp/realised.node1"
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def api() -> Iterator[EmbeddedApi]:
    with EmbeddedApi() as server:
        yield server


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notes, "RETRY", 0.1)


class Keeper:
    """Notes on the policies of a namespace of the test's own, told by a reflector what those say."""

    def __init__(self, kube: Kube) -> None:
        self.kube = kube
        self.space = f"s{next(_numbers)}"
        kube.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.space}})
        self.notes: Notes | None = None

    def start(self) -> None:
        """As an agent does."""
        self.reflector = Reflector(self.kube, NETWORK_POLICIES, self._changed, namespace=self.space)
        self.notes = Notes(self.kube, NAME, self._held)
        self.reflector.start()
        assert self.reflector.synced.wait(5)
        self.notes.start()

    def stop(self) -> None:
        if self.notes is not None:
            self.reflector.stop()
            self.notes.stop()

    def _changed(self, key, old, new) -> None:
        if new is not None and self.notes is not None:
            self.notes.saw(Noted(NETWORK_POLICIES, *key), annotation(new, NAME))

    def _held(self) -> dict[Noted, str]:
        found = {Noted(NETWORK_POLICIES, *key): annotation(obj, NAME) for key, obj in self.reflector.store.items()}
        return {noted: value for noted, value in found.items() if value is not None}

    def make(self, name: str, **annotations: str) -> None:
        meta = {"name": name, "namespace": self.space, "annotations": {"their/own": "word"} | annotations}
        self.kube.create(NETWORK_POLICIES, {"metadata": meta, "spec": {"podSelector": {}}})

    def keep(self, **values: str) -> None:
        self.notes.keep({Noted(NETWORK_POLICIES, self.space, name): value for name, value in values.items()})

    def write(self, name: str, value: str | None) -> None:
        """Somebody else writes it."""
        body = {"metadata": {"annotations": {NAME: value}}}
        self.kube.patch(NETWORK_POLICIES, name, self.space, body=body)

    def meta(self, name: str) -> dict:
        return self.kube.get(NETWORK_POLICIES, name, self.space)["metadata"]

    def said(self) -> dict[str, str]:
        """What policies say, by name."""
        items, _ = self.kube.list(NETWORK_POLICIES, self.space)
        found = {each["metadata"]["name"]: annotation(each, NAME) for each in items}
        return {name: value for name, value in found.items() if value is not None}

    def until(self, **values: str) -> None:
        deadline = time.monotonic() + 5
        while self.said() != values:
            assert time.monotonic() < deadline, (self.said(), values)
            time.sleep(0.01)


@pytest.fixture
def keeper(api: EmbeddedApi) -> Iterator[Keeper]:
    kube = Kube.connect(str(api.kubeconfig))
    found = Keeper(kube)
    yield found
    found.stop()
    for name in [each["metadata"]["name"] for each in kube.list(NETWORK_POLICIES, found.space)[0]]:
        kube.delete(NETWORK_POLICIES, name, found.space)
    kube.delete(NAMESPACES, found.space)
    kube.close()


@pytest.fixture
def running(keeper: Keeper) -> Callable[..., Keeper]:
    """Start with policies ``a`` and ``b``."""
    keeper.make("a")
    keeper.make("b")
    keeper.start()
    return keeper


def test_what_should_be_there_is_written_changed_and_taken_off(running: Keeper):
    running.keep(a="1", b="4")
    running.until(a="1", b="4")
    running.keep(a="2")
    running.until(a="2")
    running.keep()
    running.until()
    assert running.meta("a")["annotations"] == {"their/own": "word"}


def test_nothing_is_touched_before_it_is_known_what_should_be_there(keeper: Keeper):
    """An agent that starts enforces what it did before; it must not take that back first."""
    keeper.make("a", **{NAME: "1"})
    keeper.make("b", **{NAME: "1"})
    keeper.start()
    keeper.write("b", "7")
    deadline = time.monotonic() + 0.3
    while time.monotonic() < deadline:
        assert keeper.said() == {"a": "1", "b": "7"}
    before = keeper.meta("a")["resourceVersion"]
    keeper.keep(a="1")
    keeper.until(a="1")
    assert keeper.meta("a")["resourceVersion"] == before, "what is right is not written again"


@pytest.mark.parametrize("value", [None, "0"], ids=["taken away", "changed"])
def test_what_somebody_else_undid_is_done_again(running: Keeper, value: str | None):
    running.keep(a="1", b="1")
    running.until(a="1", b="1")
    running.write("a", value)
    running.until(a="1", b="1")


def test_what_somebody_else_wrote_is_taken_off(running: Keeper):
    running.keep(a="1")
    running.until(a="1")
    running.write("b", "1")
    running.until(a="1")


def test_an_object_made_anew_gets_it_again(running: Keeper):
    running.keep(a="1", b="1")
    running.until(a="1", b="1")
    running.kube.delete(NETWORK_POLICIES, "a", running.space)
    running.make("a")
    running.until(a="1", b="1")


def test_an_object_that_is_gone_holds_nobody_up_and_gets_it_when_it_comes(running: Keeper):
    running.keep(a="1", missing="1", z="1")
    running.until(a="1")
    running.make("z")
    running.until(a="1", z="1")


def test_two_who_disagree_do_not_race_each_other(running: Keeper, monkeypatch: pytest.MonkeyPatch):
    """What is undone again and again is written again at a measured pace."""
    monkeypatch.setattr(notes, "RETRY", 0.2)
    running.keep(a="1")
    running.until(a="1")
    first, began = int(running.meta("a")["resourceVersion"]), time.monotonic()
    while time.monotonic() - began < 0.7:
        running.write("a", None)
    writes = [
        obj
        for kind, obj in history(running, str(first))
        if obj["metadata"]["name"] == "a" and annotation(obj, NAME) == "1"
    ]
    assert 1 <= len(writes) <= 4


def history(keeper: Keeper, version: str) -> list[tuple[str, dict]]:
    """Every event since a version."""
    keeper.make("last")
    found = []
    stream = keeper.kube.watch(NETWORK_POLICIES, version, keeper.space)
    for kind, obj in stream:
        if obj["metadata"].get("name") == "last":
            break
        found.append((kind, obj))
    stream.close()
    return found


def test_a_server_that_is_away_is_told_when_it_is_back(api: EmbeddedApi, running: Keeper):
    api.kill()
    try:
        running.keep(a="1")
    finally:
        api.start()
    running.until(a="1")


def test_nothing_is_written_after_the_end(running: Keeper):
    running.keep(a="1")
    running.until(a="1")
    running.notes.stop()
    running.keep(a="2")
    running.write("b", "9")
    deadline = time.monotonic() + 0.25
    while time.monotonic() < deadline:
        assert running.said() == {"a": "1", "b": "9"}
