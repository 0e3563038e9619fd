"""New connections over the members of a service: how far the members are from even, in a running lab."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator

from benchmarks.figures import Figure, load
from benchmarks.lab import BenchLab, lab
from benchmarks.pairs import Pair, pods
from benchmarks.virtual import TCP, UDP, Client, Tap, await_members, destinations, forget, members, on_one_pod
from ncp.kube.client import Kube

CONNECTIONS = 10_000
CASES = ((7, TCP), (10, TCP), (10, UDP), (300, TCP), (300, UDP))
FIRST_SOURCE, FIRST_TARGET = 10_000, 2_000
SETTLE = 3.0  # seconds in which a switch adds up what its cache has counted


def run() -> list[Figure]:
    """From one pod to one cluster address, a source port each; counted as they arrive, and by the members' flows."""
    found: list[Figure] = []
    with lab(nodes=1) as bench:
        kube = Kube.connect(str(bench.state / "kubeconfig"))
        (pair,) = pods(bench, "two")
        for turn, (count, protocol) in enumerate(CASES):
            # Ports of their own: what was used with a member a moment ago the switch would translate to another, and it not be recognised.
            sources = range(FIRST_SOURCE + turn * CONNECTIONS, FIRST_SOURCE + (turn + 1) * CONNECTIONS)
            found += _measured(bench, kube, pair, count, protocol, sources)
        found.append(load())
    return found


def _measured(bench: BenchLab, kube: Kube, pair: Pair, count: int, protocol: int, sources: range) -> Iterator[Figure]:
    targets = range(FIRST_TARGET, FIRST_TARGET + count)
    vip = on_one_pod(kube, "spread", pair.address, targets, protocol)
    await_members(bench, "spread", count)
    with Client(pair.source, pair.asker, vip, protocol=protocol) as client, Tap(pair.destination, protocol) as tap:
        arrived = destinations(client, tap, sources)
    counted = Counter(arrived.values())
    time.sleep(SETTLE)
    by_flow = {row["target"]: row["connections"] for row in members(bench, "spread")}
    forget(kube, "spread")
    await_members(bench, "spread", 0)
    yield from _told(f"{count} members, {'TCP' if protocol == TCP else 'UDP'}", targets, counted, by_flow)


def _told(name: str, targets: range, counted: Counter[int], by_flow: dict[int, int]) -> Iterator[Figure]:
    total, count = counted.total(), len(targets)
    even = total / count
    sigma = (even * (1 - 1 / count)) ** 0.5
    away = [abs(counted[each] - even) / sigma for each in targets]
    yield Figure(f"{name}: connections that arrived", total, f"of {CONNECTIONS:,}", "all")
    yield Figure("  the member furthest from even", max(away), "sigma", "under 3" if count <= 10 else "")
    yield Figure(
        "  members further than 3 sigma", sum(each > 3 for each in away), "members", f"{count * 0.0027:.2f} by chance"
    )
    squares = sum((counted[each] - even) ** 2 for each in targets) / even
    yield Figure("  chi square over its degrees of freedom", squares / (count - 1), "x", "1 by chance")
    differ = sum(abs(by_flow.get(each, 0) - counted[each]) for each in targets)
    yield Figure("  connections that the members' flows count otherwise", differ, "", "0")
