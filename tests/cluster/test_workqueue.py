from __future__ import annotations

import threading
import time

import pytest

from labs.cluster.workqueue import WorkQueue
from tests.cluster.small_cluster import eventually


class Recorder:
    """Work that notes its keys, can be held up, and can fail."""

    def __init__(self, failures: int = 0) -> None:
        self.seen: list[str] = []
        self.gate = threading.Event()
        self.gate.set()
        self.busy = 0
        self.most = 0
        self._failures = failures
        self._lock = threading.Lock()

    def __call__(self, key: str) -> None:
        with self._lock:
            self.seen.append(key)
            self.busy += 1
            self.most = max(self.most, self.busy)
        self.gate.wait(5)
        with self._lock:
            self.busy -= 1
            if self._failures:
                self._failures -= 1
                raise ValueError("not now")


@pytest.mark.parametrize("workers", [1, 3])
def test_a_key_waits_once_and_is_never_worked_on_twice_at_a_time(workers: int) -> None:
    work = Recorder()
    work.gate.clear()
    queue: WorkQueue[str] = WorkQueue("test", work, workers)
    queue.start()
    queue.add("a")
    eventually(lambda: work.seen == ["a"], "the key is worked on")
    for _ in range(5):
        queue.add("a")
    assert work.seen == ["a"]
    work.gate.set()
    eventually(lambda: len(work.seen) == 2, "it is worked on once more")
    queue.stop()
    assert work.seen == ["a", "a"]
    assert work.most == 1


def test_failures_come_back_later_and_later() -> None:
    work = Recorder(failures=2)
    queue: WorkQueue[str] = WorkQueue("test", work, 1, expected=(ValueError,))
    queue.start()
    started = time.monotonic()
    queue.add("a")
    eventually(lambda: len(work.seen) == 3, "the key came back twice")
    assert time.monotonic() - started >= 0.6  # 0.2 and 0.4 seconds
    queue.stop()


def test_a_delayed_key_comes_in_time_though_workers_are_busy_with_others() -> None:
    work = Recorder()
    queue: WorkQueue[str] = WorkQueue("test", work, 2)
    queue.start()
    queue.add("later", 0.1)
    queue.add("later", 5.0)  # the earlier appointment stands
    queue.add("now")
    eventually(lambda: work.seen == ["now", "later"], "both are worked on", timeout=2)
    queue.stop()
    assert work.seen == ["now", "later"]


def test_adding_now_cancels_the_delay() -> None:
    work = Recorder()
    queue: WorkQueue[str] = WorkQueue("test", work, 1)
    queue.start()
    queue.add("a", 0.05)
    queue.add("a")
    queue.add("b", 0.15)
    eventually(lambda: "b" in work.seen, "b is worked on")
    queue.stop()
    assert work.seen == ["a", "b"]
