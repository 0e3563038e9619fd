"""What policies cost the packets of a pod: pods that 0, 1, 50 and 500 policies select, asked side by side by one other pod."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Iterator

from benchmarks.figures import Figure
from benchmarks.lab import lab
from benchmarks.pairs import CONNECTIONS, EXCHANGE, PORT, THROUGHPUT, pods
from ncp.kube.client import Kube
from ncp.kube.resources import NETWORK_POLICIES

COUNTS = (0, 1, 50, 500)
ROUNDS = 32
SECONDS = 0.3  # many short rounds, for on a shared machine one round differs from the next by a third
PATIENCE = 120.0


def run() -> list[Figure]:
    """Each measure for each number of policies, and its ratio to that without; medians of rounds in which all take turns."""
    with lab(nodes=1) as bench:
        kube = Kube.connect(str(bench.state / "kubeconfig"))
        names = [f"with{count}" for count in COUNTS]
        ends = dict(zip(COUNTS, pods(bench, *names), strict=True))
        started = time.perf_counter()
        for count in COUNTS:
            for number in range(count):
                kube.create(NETWORK_POLICIES, _policy(count, number), "default")
        written = time.perf_counter() - started
        _await_realised(kube)
        taken = time.perf_counter() - started
        found = [
            Figure(f"{sum(COUNTS)} policies written to the API one after another", written, "s"),
            Figure("  ... until the last of them is realised", taken, "s"),
        ]
        for what, measure in (THROUGHPUT, CONNECTIONS, EXCHANGE):
            rounds = []
            for turn in range(ROUNDS):
                order = COUNTS[turn % 4 :] + COUNTS[: turn % 4]  # none is always the first
                rounds.append({count: measure(ends[count], seconds=SECONDS) for count in order})
            found += _compared(what, rounds)
    return found


def _compared(what: str, rounds: list[dict[int, float]]) -> Iterator[Figure]:
    for count in COUNTS:
        yield Figure(f"{what}, {count} policies", statistics.median(each[count] for each in rounds), "")
    for count in COUNTS[1:]:
        ratios = [each[count] / each[0] for each in rounds]
        yield Figure(f"  {count} against 0", statistics.median(ratios), "x", "within 5 %")
    noise = [abs(one[0] - other[0]) / one[0] for one, other in itertools.pairwise(rounds)]
    yield Figure("  0 against 0, one round to the next: differs by (median)", statistics.median(noise), "")


def _policy(count: int, number: int) -> dict:
    """Policy ``number`` of those of one pod: each opens a port of its own, and the last of them the one that is measured."""
    port = PORT if number == count - 1 else 10_000 + number
    rules = [{"from": [{"podSelector": {"matchLabels": {"run": "one"}}}], "ports": [{"port": port}]}]
    spec = {"podSelector": {"matchLabels": {"run": f"with{count}"}}, "ingress": rules}
    name = f"with{count}-{number}"
    meta = {"name": name, "namespace": "default"}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": meta, "spec": spec}


def _await_realised(kube: Kube) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        listed = kube.list(NETWORK_POLICIES, "default")[0]
        said = [each["metadata"].get("annotations", {}).get("ncp/realisation", "") for each in listed]
        if all(each.startswith("Realized") for each in said):
            return
        time.sleep(0.05)
    raise RuntimeError(f"not all policies were realised within {PATIENCE:g} s")
