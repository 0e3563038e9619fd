"""A custom resource that is there, comes and goes, against the project's own API server."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator

import pytest

from labs.api.testing import EmbeddedApi
from ncp.kube.client import Kube
from ncp.kube.custom import CustomReflector, is_served
from ncp.kube.errors import NotFound, Unavailable
from ncp.kube.resources import CUSTOM_RESOURCE_DEFINITIONS, Resource
from tests.kube.conftest import Diary, eventually

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def real() -> Iterator[Kube]:
    with EmbeddedApi() as server:
        found = Kube.connect(str(server.kubeconfig))
        yield found
        found.close()


class Kind:
    """A custom resource of the test's own."""

    def __init__(self, kube: Kube) -> None:
        self.kube = kube
        self.resource = Resource(f"g{next(_numbers)}.example.com", "v1", "widgets", "Widget", namespaced=True)
        self.name = f"widgets.{self.resource.group}"

    def define(self, **served: bool) -> None:
        """Serve it in these versions; ``define()`` in v1."""
        free = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        versions = [
            {
                "name": name,
                "served": on,
                "storage": number == 0,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": free}}},
            }
            for number, (name, on) in enumerate((served or {"v1": True}).items())
        ]
        spec = {"group": self.resource.group, "scope": "Namespaced", "versions": versions}
        spec["names"] = {"plural": "widgets", "kind": "Widget"}
        body = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "spec": spec}
        body["metadata"] = {"name": self.name}
        self.kube.patch(
            CUSTOM_RESOURCE_DEFINITIONS, self.name, body=body, kind="apply", field_manager="test", force=True
        )

    def undefine(self) -> None:
        self.kube.delete(CUSTOM_RESOURCE_DEFINITIONS, self.name)
        eventually(self.is_gone)

    def is_gone(self) -> bool:
        try:
            self.kube.get(CUSTOM_RESOURCE_DEFINITIONS, self.name)
        except NotFound:
            return True
        return False

    def put(self, name: str, color: str = "") -> None:
        body = {"apiVersion": self.resource.api_version, "kind": "Widget", "metadata": {"name": name}}
        body["spec"] = {"color": color}
        self.kube.patch(self.resource, name, "default", body=body, kind="apply", field_manager="test", force=True)

    def drop(self, name: str) -> None:
        self.kube.delete(self.resource, name, "default")


@pytest.fixture
def kind(real: Kube) -> Iterator[Kind]:
    found = Kind(real)
    yield found
    if not found.is_gone():
        found.undefine()


@pytest.fixture
def follow(real: Kube, kind: Kind, diary: Diary) -> Iterator[CustomReflector]:
    """Not started yet."""
    reflector = CustomReflector(real, kind.resource, diary)
    yield reflector
    reflector.stop()


def names(reflector: CustomReflector) -> set[str]:
    return {name for _, name in reflector.store}


def test_objects_that_are_there_are_known_once_it_is_in_step(kind: Kind, follow: CustomReflector, diary: Diary):
    kind.define()
    kind.put("a", "red")
    kind.put("b")
    follow.start()
    assert follow.synced.wait(5)
    assert sorted(diary.changes) == [("a", None, "red"), ("b", None, "")]
    assert names(follow) == {"a", "b"}
    assert follow.healthy()


def test_without_a_definition_there_is_nothing_and_that_is_well(follow: CustomReflector, diary: Diary):
    follow.start()
    assert follow.synced.wait(5)
    assert follow.healthy()
    assert (dict(follow.store), diary.changes) == ({}, [])


def test_a_definition_that_comes_goes_and_comes_again_has_its_objects_seen_each_time(
    kind: Kind, follow: CustomReflector, diary: Diary
):
    follow.start()
    assert follow.synced.wait(5)
    kind.define()
    kind.put("a", "red")
    diary.wait(("a", None, "red"))
    kind.put("a", "blue")
    kind.put("b")
    diary.wait(("b", None, ""))
    kind.undefine()
    diary.wait(("a", "blue", None))
    diary.wait(("b", "", None))
    eventually(lambda: not names(follow))
    assert follow.healthy()
    before = len(diary.changes)
    kind.define()
    kind.put("a", "green")
    diary.wait(("a", None, "green"))
    assert diary.changes[before:] == [("a", None, "green")], "each object is told once, as new"
    kind.drop("a")
    diary.wait(("a", "green", None))


def test_only_the_version_that_is_read_counts(kind: Kind, follow: CustomReflector, diary: Diary):
    kind.define(v2=True)
    follow.start()
    assert follow.synced.wait(5)
    kind.define(v2=True, v1=True)
    kind.put("a")
    diary.wait(("a", None, ""))
    kind.define(v2=True, v1=False)
    diary.wait(("a", "", None))
    assert not names(follow)


def test_another_definition_is_no_concern_of_its(real: Kube, kind: Kind, follow: CustomReflector, diary: Diary):
    other = Kind(real)
    kind.define()
    follow.start()
    assert follow.synced.wait(5)
    other.define()
    other.put("theirs")
    other.undefine()
    kind.put("ours")
    diary.wait(("ours", None, ""))
    assert diary.changes == [("ours", None, "")]


@pytest.mark.parametrize(
    ("status", "served", "counts"),
    [
        ({"conditions": [{"type": "Established", "status": "True"}]}, True, True),
        ({"conditions": [{"type": "Established", "status": "True"}]}, False, False),
        ({"conditions": [{"type": "Established", "status": "False"}]}, True, False),
        ({"conditions": [{"type": "NamesAccepted", "status": "True"}]}, True, False),
        ({"conditions": None}, True, False),
        (None, True, False),
    ],
)
def test_a_definition_is_in_force_once_it_is_established_and_served(status, served, counts):
    definition = {"spec": {"versions": [{"name": "v0", "served": True}, {"name": "v1", "served": served}]}}
    assert is_served(definition | {"status": status}, "v1") is counts
    assert not is_served(definition | {"status": status}, "v2")


def test_nothing_is_told_after_it_was_stopped(kind: Kind, follow: CustomReflector, diary: Diary):
    kind.define()
    kind.put("a")
    follow.start()
    assert follow.synced.wait(5)
    follow.stop()
    kind.undefine()
    assert diary.changes == [("a", None, "")]
    assert not follow.healthy()


class Refusing(Kube):
    """A client whose server does not list the objects of one resource."""

    def __init__(self, kube: Kube, resource: Resource) -> None:
        super().__init__(kube.access)
        self.refused, self.asked = resource, threading.Event()

    def list(self, res: Resource, *arguments, **more):
        if res == self.refused:
            self.asked.set()
            raise Unavailable(503, "Unavailable", "not now")
        return super().list(res, *arguments, **more)


def test_a_definition_that_goes_before_its_objects_are_listed_keeps_nobody_waiting(kind: Kind, diary: Diary):
    kind.define()
    kube = Refusing(kind.kube, kind.resource)
    reflector = CustomReflector(kube, kind.resource, diary)
    reflector.start()
    try:
        assert kube.asked.wait(5)
        assert not reflector.synced.is_set(), "there may be objects"
        assert not reflector.healthy()
        kind.undefine()
        assert reflector.synced.wait(3)
        assert reflector.healthy()
    finally:
        reflector.stop()
        kube.close()


def test_stopped_before_the_server_ever_answered_it_leaves_no_thread(diary: Diary, kube: Kube, api):
    api.answers = [(503, {})] * 100
    before = set(threading.enumerate())
    reflector = CustomReflector(kube, Resource("example.com", "v1", "widgets", "Widget", True), diary)
    reflector.start()
    eventually(lambda: api.requests)
    reflector.stop()
    left = [each for each in set(threading.enumerate()) - before if each.name.startswith(("sync-", "reflect-"))]
    deadline = time.monotonic() + 3
    for each in left:
        each.join(deadline - time.monotonic())
    assert not [each.name for each in left if each.is_alive()]
    assert not reflector.synced.is_set()
