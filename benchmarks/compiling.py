"""Compile and diff of one pod's change, and of a whole program, as the world grows."""

from __future__ import annotations

import gc
import itertools
import statistics
import time

from benchmarks.figures import Figure, timed
from benchmarks.world import attachments, pod, translated
from ncp.translate.intent import apply
from sdn.program import build, update

WORLDS = ((20, 25), (40, 50), (200, 50))
CHANGES = 200


def run() -> list[Figure]:
    """One change at every size, its growth, and the full recompute."""
    found, medians = [], []
    for namespaces, pods in WORLDS:
        state = translated(namespaces, pods)
        attached = attachments(state)
        name = f"{namespaces * pods:,} pods"
        gc.collect()
        gc.freeze()
        programs = []
        seconds = timed(lambda: programs.append(build(state.intent, "node1", 7, attached)))  # noqa: B023
        found.append(Figure(f"full program, {name}, {len(programs[0]):,} flows", seconds, "s", "under 10 at 10,000"))
        medians.append(_one_change(state, programs[0], attached, pods))
        found.append(Figure(f"one pod gone and back, {name}: compile + diff", medians[-1] * 1e3, "ms", "under 10"))
        gc.unfreeze()
    found.append(Figure("the same, 10,000 pods against 500", medians[-1] / medians[0], "x", "at most 2"))
    return found


def _one_change(state, program, attached, pods) -> float:  # type: ignore[no-untyped-def]
    taken = []
    for number in itertools.islice(itertools.cycle(range(pods)), CHANGES):
        kind, key, obj = pod(0, number, "node1")
        for change in (None, obj):
            started = time.perf_counter()
            state, delta = apply(state, kind, key, change)
            program, changes = update(program, state.intent, attached, delta)
            taken.append(time.perf_counter() - started)
            assert changes
    return statistics.median(taken)
