"""A policy is written to the API -> the wire obeys: a connection passes, or no longer does, in a running lab."""

from __future__ import annotations

import socket
import statistics
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.figures import Figure, percentile
from benchmarks.lab import lab
from benchmarks.pairs import Pair, pods
from benchmarks.podadd import CROWD, crowd
from ncp.kube.client import Kube
from ncp.kube.resources import NETWORK_POLICIES
from ncp.probe.wire import run_in

TIMES = 60
POLICIES = 50
PORT = 9999
EVERY = 0.001  # seconds from one probe to the next
SILENCE = 0.1  # seconds without an answer after which nothing passes
PATIENCE = 10.0


def run() -> list[Figure]:
    """In a lab of one node with nothing else, and among pods and policies."""
    found: list[Figure] = []
    with lab(nodes=1) as bench:
        kube = Kube.connect(str(bench.state / "kubeconfig"))
        (pair,) = pods(bench, "two")
        kube.create(NETWORK_POLICIES, _policy("deny", {}), "default")
        with _asking(pair) as arrivals:
            found += _measured(kube, arrivals, "nothing else")
            crowd(kube, lambda: found.extend(_among(kube, arrivals)))
    return found


def _among(kube: Kube, arrivals: Arrivals) -> Iterator[Figure]:
    for number in range(POLICIES):
        space = f"crowd-{number % 10}"
        rules = [{"from": [{"podSelector": {}}], "ports": [{"port": 1000 + number}]}]
        kube.create(NETWORK_POLICIES, _policy(f"p{number}", {"ingress": rules}, space), space)
    yield from _measured(kube, arrivals, f"among {CROWD} pods and {POLICIES} policies")


class Arrivals:
    """Datagrams of one connection, every millisecond, and when they got through.

    One at a time, for a node looks at all its connections after each change.
    """

    def __init__(self) -> None:
        self.port = 20_000
        self.first = threading.Event()
        self.last = 0.0

    def next(self) -> None:
        """Another connection from here on."""
        self.port += 1

    def note(self) -> None:
        """One got through."""
        self.last = time.perf_counter()
        self.first.set()

    def silent_since(self, before: float) -> float:
        """When the last one got through, once none has for a while; ``before`` if none has since then."""
        deadline = time.perf_counter() + PATIENCE
        while time.perf_counter() - max(self.last, before) < SILENCE:
            if time.perf_counter() > deadline:
                raise RuntimeError(f"packets still got through after {PATIENCE:g} s")
            time.sleep(0.002)
        return max(self.last, before)


def _measured(kube: Kube, arrivals: Arrivals, where: str) -> Iterator[Figure]:
    times = [_once(kube, arrivals) for _ in range(TIMES)]
    for what, taken in (
        ("policy that allows, written to the API -> the first packet through", [each[0] for each in times]),
        ("policy deleted -> the last packet of that connection", [each[1] for each in times]),
    ):
        yield Figure(f"{what}, median, {where}", statistics.median(taken) * 1e3, "ms", "under 15")
        yield Figure("  95 of 100 within", percentile(taken, 95) * 1e3, "ms")
        yield Figure("  the slowest", max(taken) * 1e3, "ms")


def _once(kube: Kube, arrivals: Arrivals) -> tuple[float, float]:
    """Seconds from a policy written to the first packet through, and from its end to the last of that connection."""
    allow = _policy("allow", {"ingress": [{"ports": [{"port": PORT, "protocol": "UDP"}]}]})
    arrivals.next()
    arrivals.silent_since(time.perf_counter())
    arrivals.first.clear()
    started = time.perf_counter()
    kube.create(NETWORK_POLICIES, allow, "default")
    if not arrivals.first.wait(PATIENCE):
        raise RuntimeError(f"nothing got through within {PATIENCE:g} s")
    opened = time.perf_counter() - started
    time.sleep(0.3)  # what the node and the manager write on the policy is no part of the next measure
    started = time.perf_counter()
    kube.delete(NETWORK_POLICIES, "allow", "default")
    return opened, arrivals.silent_since(started) - started


@contextmanager
def _asking(pair: Pair) -> Iterator[Arrivals]:
    arrivals, stop = Arrivals(), threading.Event()
    sender = run_in(pair.source, lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP))
    receiver = run_in(pair.destination, _receiver)

    def ask() -> None:
        while not stop.wait(EVERY):
            sender.sendto(struct.pack("!4H", arrivals.port, PORT, 8, 0), (pair.address, 0))

    def listen() -> None:
        while not stop.is_set():
            try:
                receiver.recv(64)
            except TimeoutError:
                continue
            arrivals.note()

    threads = [threading.Thread(target=work, daemon=True) for work in (ask, listen)]
    for thread in threads:
        thread.start()
    try:
        yield arrivals
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        sender.close()
        receiver.close()


def _receiver() -> socket.socket:
    found = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    found.bind(("", PORT))
    found.settimeout(0.2)
    return found


def _policy(name: str, spec: dict, namespace: str = "default") -> dict:
    meta = {"name": name, "namespace": namespace}
    spec = {"podSelector": {}, "policyTypes": ["Ingress"], **spec}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": meta, "spec": spec}
