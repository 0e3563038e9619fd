"""A member comes or goes, written to the API -> the wire obeys: new connections reach it, or no longer do, in a running lab."""

from __future__ import annotations

import re
import statistics
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NamedTuple

from benchmarks.figures import Figure, load, percentile
from benchmarks.lab import BenchLab, lab
from benchmarks.pairs import Pair, pods
from benchmarks.virtual import (
    SPACE,
    Client,
    Tap,
    await_members,
    endpoint_slice,
    endpoints,
    forget,
    service,
    status,
)
from ncp.kube.client import Kube
from ncp.kube.resources import ENDPOINT_SLICES
from sdn.ovsdb.appctl import Appctl

TIMES = 40
MEMBERS = (10, 500, 1000)
SERVICES = (50, 1000, 5000)
IN_A_SLICE = 100  # as controllers fill them
IN_THE_CROWD = 2  # members of every other service
TARGET = 9_999
PORTS = 20  # source ports whose connections are known to go to the member that is there and is not
EVERY = 0.001  # seconds from one probe to the next
SILENCE = 0.1  # seconds without an arrival after which none comes any more
PAUSE = 0.3
PATIENCE = 10.0


def run(members: Sequence[int] = MEMBERS, services: Sequence[int] = SERVICES) -> list[Figure]:
    """At every size of the pool in the smallest world, then with the smallest pool in the larger ones.

    Args:
        members: how many the pool has beside the one that comes and goes.
        services: how many others there are in the cluster.
    """
    found: list[Figure] = []
    with lab(nodes=1) as bench:
        kube = Kube.connect(str(bench.state / "kubeconfig"))
        (pair,) = pods(bench, "two")
        there = 0
        for count in services:
            _crowd(kube, pair.address, range(there, count))
            there = count
            for size in members if count == services[0] else members[:1]:
                with _pool(bench, kube, pair, size) as (pool, arrivals):
                    found += _measured(f"{size:,} members, {count:,} services", pool, arrivals)
    return found


class Arrivals:
    """Connections begun one after another, every millisecond, and when the ones that went to the member arrived.

    All are from source ports that lead to the member where it is there. When each has been used once, the switch is told to forget
    its connections: a packet of one that it knows would go where the first one went.
    """

    def __init__(self, client: Client, tap: Tap, ports: Sequence[int], appctl: Appctl) -> None:
        self.arrived = threading.Event()
        self.first = self.last = 0.0
        self._client, self._tap, self._ports, self._appctl = client, tap, ports, appctl
        self._stop = threading.Event()

    @contextmanager
    def coming(self) -> Iterator[Arrivals]:
        """Begin connections for as long as the block lasts."""
        threads = [threading.Thread(target=work, daemon=True) for work in (self._ask, self._listen)]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()

    def _ask(self) -> None:
        with self._appctl.connect() as session:
            while not self._stop.is_set():
                session.call("dpctl/flush-conntrack")
                for port in self._ports:
                    self._client.send(port)
                    time.sleep(EVERY)

    def _listen(self) -> None:
        while not self._stop.is_set():
            if self._tap.next(0.2):
                self.last = time.perf_counter()
                if not self.arrived.is_set():
                    self.first = self.last
                    self.arrived.set()

    def first_since(self) -> float:
        """When the first one arrived since ``arrived`` was cleared."""
        if not self.arrived.wait(PATIENCE):
            raise RuntimeError(f"no connection reached the new member within {PATIENCE:g} s")
        return self.first

    def last_since(self, before: float) -> float:
        """When the last one arrived, once none has for a while; ``before`` if none has since then."""
        while time.perf_counter() - max(self.last, before) < SILENCE:
            if time.perf_counter() > before + PATIENCE:
                raise RuntimeError(f"connections still reached the member after {PATIENCE:g} s")
            time.sleep(0.002)
        return max(self.last, before)


class _Pool(NamedTuple):
    """A service of many members that are nowhere, and one that comes and goes."""

    bench: BenchLab
    kube: Kube
    member: str
    others: list[str]

    def write(self, there: bool) -> None:
        """Write the slice in which the member is, or is not."""
        addresses = [*self.others[: IN_A_SLICE - 1], self.member] if there else self.others[: IN_A_SLICE - 1]
        self.kube.patch(ENDPOINT_SLICES, "pool-0", SPACE, body={"endpoints": endpoints(addresses)})

    def leading(self, client: Client, tap: Tap) -> list[int]:
        """Source ports whose connections go to the member whenever it is there: which do is a matter of their hash."""
        self.write(True)
        await_members(self.bench, "pool", len(self.others) + 1)
        found: list[int] = []
        for start in range(1_024, 65_000, 500):
            found += _swept(client, tap, range(start, start + 500))
            if len(found) >= PORTS:
                break
        self.write(False)
        await_members(self.bench, "pool", len(self.others))
        if not found:
            raise RuntimeError("no source port leads to the member")
        return found[:PORTS]


def _swept(client: Client, tap: Tap, ports: range) -> list[int]:
    for start in range(0, len(ports), 20):
        for port in ports[start : start + 20]:
            client.send(port)
        time.sleep(0.005)
    found = []
    while seen := tap.next(0.05):
        found.append(seen[0])
    return found


@contextmanager
def _pool(bench: BenchLab, kube: Kube, pair: Pair, size: int) -> Iterator[tuple[_Pool, Arrivals]]:
    vip = service(kube, "pool")
    others = nowhere(pair.address, size)
    for number, start in enumerate(range(0, size, IN_A_SLICE - 1)):
        some = others[start : start + IN_A_SLICE - 1]
        kube.create(ENDPOINT_SLICES, endpoint_slice(f"pool-{number}", "pool", some, TARGET))
    pool = _Pool(bench, kube, pair.address, others)
    with Client(pair.source, pair.asker, vip) as client, Tap(pair.destination) as tap:
        ports = pool.leading(client, tap)
        appctl = Appctl(status(bench)["ovs_rundir"])
        appctl.call(
            "revalidator/purge"
        )  # what the search has left in the switch's cache is no part of what is measured
        with Arrivals(client, tap, ports, appctl).coming() as arrivals:
            yield pool, arrivals
    forget(kube, "pool")
    await_members(bench, "pool", 0)


def _measured(name: str, pool: _Pool, arrivals: Arrivals) -> Iterator[Figure]:
    came, gone, answered, seen = [], [], [], []
    metrics = pool.bench.port("node-node1")
    with _seeing(pool.kube) as sight:
        before = _spent(metrics)
        for _ in range(TIMES):
            for there, taken in ((True, came), (False, gone)):
                time.sleep(PAUSE)
                arrivals.arrived.clear()
                started = time.perf_counter()
                pool.write(there)
                answered.append(time.perf_counter() - started)
                at = arrivals.first_since() if there else arrivals.last_since(started)
                taken.append(at - started)
                seen.append(sight[-1] - started)
        spent = Spent(*(now - then for now, then in zip(_spent(metrics), before, strict=True)))
    for what, taken in (("added -> the first connection to it", came), ("removed -> the last one to it", gone)):
        yield Figure(f"{name}: member {what}, median", statistics.median(taken) * 1e3, "ms", "under 15")
        yield Figure("  95 of 100 within", percentile(taken, 95) * 1e3, "ms")
        yield Figure("  the slowest", max(taken) * 1e3, "ms")
    yield Figure("  of which: the API has answered, median", statistics.median(answered) * 1e3, "ms")
    yield Figure("  ... somebody who watches has seen it, median", statistics.median(seen) * 1e3, "ms")
    yield Figure("  the node: from seen to flows acknowledged, mean", spent.whole / spent.changes * 1e3, "ms")
    yield Figure("  ... of that the switch, from asked to acknowledged", spent.switch / spent.changes * 1e3, "ms")
    yield Figure("  ... changes that it sent", spent.changes, f"of {2 * TIMES}")
    yield load()


@contextmanager
def _seeing(kube: Kube) -> Iterator[list[float]]:
    """When a watch saw changes of slices."""
    found: list[float] = []
    version = kube.list(ENDPOINT_SLICES, SPACE)[1]
    stream = kube.watch(ENDPOINT_SLICES, version, SPACE)

    def see() -> None:
        with suppress(Exception):  # the stream is closed at the end
            for _ in stream:
                found.append(time.perf_counter())

    thread = threading.Thread(target=see, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        stream.close()
        thread.join(1)


class Spent(NamedTuple):
    """What a node's changes took until now, in seconds, and how many there were."""

    changes: float
    whole: float  # from seen to acknowledged
    switch: float  # of that, from computed to acknowledged


def _spent(port: int) -> Spent:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()

    def value(name: str) -> float:
        found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    whole = "ncp_event_to_ack_seconds"
    switch = 'ncp_node_switch_update_seconds_sum{reason="change"}'
    return Spent(value(f"{whole}_count"), value(f"{whole}_sum"), value(switch))


def nowhere(near: str, count: int) -> list[str]:
    """Addresses of the pods' block that no pod has."""
    block = ".".join(near.split(".")[:2])
    return [f"{block}.{200 + number // 250}.{1 + number % 250}" for number in range(count)]


def _crowd(kube: Kube, near: str, numbers: range) -> None:
    """Other services, each with a few members."""
    for number in numbers:
        service(kube, f"crowd-{number}")
        some = nowhere(near, IN_THE_CROWD)
        kube.create(ENDPOINT_SLICES, endpoint_slice(f"crowd-{number}", f"crowd-{number}", some, 1_024 + number))
