"""Telling a person how far a lab is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Say = Callable[[str], None]


class Progress:
    """Says each step when it is done, with the seconds it took; safe from several threads."""

    def __init__(self, say: Say | None = None) -> None:
        self._say = say or (lambda text: None)

    def say(self, text: str) -> None:
        """A line of its own."""
        self._say(text)

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """A step that is said when its block ends well."""
        started = time.monotonic()
        yield
        self._say(f"{text}  {time.monotonic() - started:.2f} s")
