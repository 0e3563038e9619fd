"""How far a long question has come: shown on standard error, and only once it has taken a while."""

from __future__ import annotations

import time
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

PATIENCE: Final = 1.0
"""Seconds in which nobody needs to be told anything."""


class Meter:
    """Shows named counts until it is closed; use it in a ``with``. A quiet one shows nothing."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._started = time.monotonic()
        self._tasks: dict[str, TaskID] = {}
        self._counts: dict[str, tuple[int, int]] = {}
        self._progress: Progress | None = None

    def __enter__(self) -> Meter:
        return self

    def __exit__(self, *error: object) -> None:
        if self._progress is not None:
            self._progress.stop()

    def tell(self, name: str, done: int, total: int) -> None:
        """``done`` of ``total`` of something are done."""
        if self._quiet:
            return
        self._counts[name] = (done, total)
        if self._progress is None:
            if time.monotonic() - self._started < PATIENCE:
                return
            columns = (TextColumn("{task.description:>9}"), BarColumn(), MofNCompleteColumn())
            self._progress = Progress(*columns, console=Console(stderr=True), transient=True)
            self._progress.start()
        for each, (completed, of) in self._counts.items():
            if each not in self._tasks:
                self._tasks[each] = self._progress.add_task(each, total=of)
            self._progress.update(self._tasks[each], completed=completed, total=of)
