"""A measured figure, and how to repeat a measurement."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple


class Figure(NamedTuple):
    """What was measured, its value and unit, and the budget it is held against (empty: none)."""

    what: str
    value: float
    unit: str
    budget: str = ""

    def __str__(self) -> str:
        text = f"{self.what:<64} {self.value:>12,.3f} {self.unit:<10}"
        return f"{text} (budget {self.budget})" if self.budget else text


def timed(work: Callable[[], object]) -> float:
    """Seconds of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def median(work: Callable[[], object], times: int) -> float:
    """Median seconds of some calls."""
    return statistics.median(timed(work) for _ in range(times))


def percentile(taken: Sequence[float], of_hundred: int) -> float:
    """What so many of a hundred were within."""
    return sorted(taken)[max(0, -(-len(taken) * of_hundred // 100) - 1)]


def load() -> Figure:
    """What else the machine does: a figure that was measured under a load of more than its cores may well be better without."""
    return Figure("load average of the last minute, when done", os.getloadavg()[0], f"on {os.cpu_count()}")
