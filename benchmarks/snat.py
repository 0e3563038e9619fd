"""What being somebody else outside costs: a translated pod and one that keeps its address, from one node by another to the external host."""

from __future__ import annotations

import json
import socket
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from benchmarks.figures import Figure, load
from benchmarks.lab import BenchLab, lab
from benchmarks.pairs import CONNECTIONS, PORT, THROUGHPUT, Pair, lab_id
from ncp.kube.client import Kube
from ncp.kube.resources import NAMESPACES, PODS
from ncp.probe.wire import run_in

ROUNDS = 31
SECONDS = 0.5
NODE = "node2"  # the lab lets out by node1
PATIENCE = 30.0


def run(rounds: Sequence[int] = (ROUNDS,)) -> list[Figure]:
    """Throughput of one TCP connection, and connections made one after another, both ways in turns; medians of rounds, and of their ratios.

    Both pods are on the same node, and the way is the same: by the tunnel to the node that lets out, and its kernel.

    Args:
        rounds: of each comparison; one number.
    """
    found: list[Figure] = []
    with lab(nodes=2) as bench:
        kube = Kube.connect(str(bench.state / "kubeconfig"))
        ways = [_leaving(bench, kube, space, no_snat) for space, no_snat in (("other", "false"), ("itself", "true"))]
        for way, itself in zip(ways, (False, True), strict=True):
            seen = _until(partial(_seen, way), f"{way.asker} does not reach the external host")
            if (seen == way.asker) != itself:
                raise RuntimeError(f"{way.asker} is seen as {seen}, so there is nothing to compare")
        for what, measure in (THROUGHPUT, CONNECTIONS):
            taken = []
            for turn in range(rounds[0] + 1):
                order = (0, 1) if turn % 2 else (1, 0)
                measured = {each: measure(ways[each], SECONDS) for each in order}
                if turn:  # the first warms up
                    taken.append((measured[0], measured[1]))
            found += _compared(what, taken)
        found.append(load())
    return found


def _compared(what: str, taken: list[tuple[float, float]]) -> Iterator[Figure]:
    yield Figure(f"{what}: as itself", statistics.median(plain for _, plain in taken), "")
    yield Figure("  as its namespace's address", statistics.median(translated for translated, _ in taken), "")
    ratios = sorted(translated / plain for translated, plain in taken)
    yield Figure("  the latter against the former, median", statistics.median(ratios), "x", "at least 0.85")
    quarter = len(ratios) // 4
    yield Figure("  ... half of the rounds between", ratios[quarter], "x")
    yield Figure("      and", ratios[-1 - quarter], "x")


def _leaving(bench: BenchLab, kube: Kube, space: str, no_snat: str) -> Pair:
    """A pod of a namespace of its own, and the external host."""
    kube.create(NAMESPACES, {"metadata": {"name": space, "annotations": {"ncp/no_snat": no_snat}}})
    spec = {"nodeName": NODE, "containers": [{"name": "main", "image": "bench"}]}
    uid = kube.create(PODS, {"metadata": {"name": "one"}, "spec": spec}, space)["metadata"]["uid"]
    address = _until(lambda: _address(kube, space), f"pod {space}/one is not ready")
    external = json.loads((bench.state / "external.json").read_text())
    outside = next(each for each in external["addresses"] if "." in each)
    return Pair(f"{lab_id(bench)}-p-{uid[:8]}", external["netns"], outside, address)


def _address(kube: Kube, space: str) -> str:
    status = kube.get(PODS, "one", space).get("status") or {}
    ready = any(each["type"] == "Ready" and each["status"] == "True" for each in status.get("conditions") or ())
    return str(status["podIP"]) if ready else ""


def _seen(pair: Pair) -> str:
    """Whom the external host sees; nothing while it is not reached."""
    with run_in(pair.destination, lambda: socket.create_server(("", PORT))) as server:
        try:
            with run_in(pair.source, lambda: socket.create_connection((pair.address, PORT), 1)):
                taken, peer = server.accept()
                taken.close()
                return str(peer[0])
        except TimeoutError:
            return ""


def _until(wanted: Callable[[], str], otherwise: str) -> str:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if found := wanted():
            return found
        time.sleep(0.05)
    raise RuntimeError(f"{otherwise} after {PATIENCE:g} s")
