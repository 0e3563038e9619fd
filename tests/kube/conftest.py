from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from ncp.kube.access import Access
from ncp.kube.client import Kube
from ncp.kube.reflector import Reflector
from ncp.kube.resources import PODS
from tests.kube.tiny_api import TinyApi


@pytest.fixture
def api() -> Iterator[TinyApi]:
    tiny = TinyApi()
    tiny.start()
    try:
        yield tiny
    finally:
        tiny.stop()


@pytest.fixture
def kube(api: TinyApi) -> Kube:
    return Kube(Access(f"http://127.0.0.1:{api.port}", None, lambda: None))


class Diary:
    """Remembers every change a reflector reports, and raises where it is told to."""

    def __init__(self) -> None:
        self.changes: list[tuple[str, str | None, str | None]] = []
        self.fail_on: set[str] = set()
        self._changed = threading.Condition()

    def __call__(self, key: tuple[str, str], old: dict | None, new: dict | None) -> None:
        with self._changed:
            self.changes.append((key[1], _color(old), _color(new)))
            self._changed.notify_all()
        if key[1] in self.fail_on:
            raise RuntimeError(f"told to fail on {key[1]}")

    def wait(self, change: tuple[str, str | None, str | None], timeout: float = 5.0) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: change in self.changes, timeout), (change, self.changes)


def _color(obj: dict | None) -> str | None:
    return None if obj is None else (obj.get("spec") or obj.get("data") or {}).get("color", "")


def eventually(condition: Callable[[], object], timeout: float = 5.0) -> None:
    """Wait until the condition holds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


@pytest.fixture
def diary() -> Diary:
    return Diary()


@pytest.fixture
def reflect(kube: Kube, api: TinyApi, diary: Diary) -> Iterator[Callable[[], Reflector]]:
    """Start a reflector on the API as it is now, and return it once it watches."""
    started: list[Reflector] = []

    def start() -> Reflector:
        reflector = Reflector(kube, PODS, diary)
        started.append(reflector)
        reflector.start()
        assert reflector.synced.wait(5)
        eventually(lambda: api.watching == len(started) and reflector._stream is not None)
        return reflector

    yield start
    for reflector in started:
        reflector.stop()
