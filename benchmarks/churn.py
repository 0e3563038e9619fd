"""Members that come and go twenty times a second, under load: are connections to those that stay broken, and do packets reach those that left?

A packet is wrong when it is a first one (a TCP SYN without ACK) or a datagram, and the kernel has stamped it at the pod of a member
that is gone after the client's node has said that everything it was told is on its switch, the cache included, and before the member was written
again. There is no grace beyond that; the node is asked every few milliseconds, which is how much later than the truth its word can be.
"""

from __future__ import annotations

import selectors
import socket
import statistics
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import NamedTuple

from benchmarks.figures import Figure, load, percentile
from benchmarks.lab import BenchLab, lab
from benchmarks.pairs import Pair, pods
from benchmarks.virtual import (
    PORT,
    SPACE,
    TCP,
    UDP,
    Client,
    Tap,
    await_members,
    endpoint_slice,
    endpoints,
    members,
    service,
    status,
)
from ncp.kube.client import Kube
from ncp.kube.resources import ENDPOINT_SLICES
from ncp.probe.wire import run_in

MINUTES = 10.0
EACH_SECOND = 20  # changes
STAYING, MOVING = range(2_000, 2_005), range(2_100, 2_105)  # members, by their ports: of each pod, for each protocol
LASTING = 40  # connections to members that stay
TALK = 0.1  # seconds from one byte over each of them to the next
BEGUN = 0.004  # seconds from one new connection to the next, of either protocol
CONVERSATIONS = range(40_000, 40_040)  # source ports whose datagrams go on and on
FIRST, LAST = 1_024, 30_000  # source ports of what is new; the kernel takes others for its own
LINGER = 1.0  # seconds after the last change in which packets are still looked at
WORST = 5  # wrong packets that are told of one by one
ASKED = 0.005  # seconds from one question to the node to the next
NAMES: Mapping[int, str] = {TCP: "churn-tcp", UDP: "churn-udp"}


class Mover(NamedTuple):
    """A member that comes and goes."""

    protocol: int
    pod: str
    port: int


class Absence(NamedTuple):
    """A time that a member was away: written, and acknowledged by the client's node; ``until`` it was written again."""

    mover: Mover
    written: float
    acknowledged: float
    until: float


def run(minutes: tuple[float, ...] = (MINUTES,)) -> list[Figure]:
    """One client, members on its node and on another.

    Args:
        minutes: how long; one number.
    """
    with lab(nodes=2) as bench, ExitStack() as stack:
        kube = Kube.connect(str(bench.state / "kubeconfig"))
        near, far = pods(bench, "near", "far", nodes={"one": "node1", "near": "node1", "far": "node2"})
        pairs = {"near": near, "far": far}
        addresses = {name: pair.address for name, pair in pairs.items()}
        vips = {protocol: service(kube, name, protocol) for protocol, name in NAMES.items()}
        movers = [Mover(protocol, pod, port) for port in MOVING for pod in pairs for protocol in NAMES]
        for staying in [Mover(protocol, pod, port) for port in STAYING for pod in pairs for protocol in NAMES]:
            _create(kube, staying, addresses[staying.pod], there=True)
        for mover in movers:
            _create(kube, mover, addresses[mover.pod], there=False)
        for name in NAMES.values():
            await_members(bench, name, len(STAYING) * len(pairs))
        for pair in pairs.values():
            stack.enter_context(_running(_echoing(pair)))
        lasting = Lasting(near.source, vips[TCP])
        churn = Churn(bench, kube, movers, addresses)
        arrivals = {key: Arrivals(*key, pairs[key[1]]) for key in ((p, pod) for p in NAMES for pod in pairs)}
        begun = Begun(near, vips)
        with ExitStack() as during:
            for work in (lasting.talk, begun.go_on, churn.acknowledge, *(each.take for each in arrivals.values())):
                during.enter_context(_running(work))
            churn.go_on(minutes[0] * 60)
            time.sleep(LINGER)
            churn.finish()
        return list(_told(churn, lasting, begun, [each for one in arrivals.values() for each in one.found]))


def _told(churn: Churn, lasting: Lasting, begun: Begun, arrived: list[tuple[float, Mover]]) -> Iterator[Figure]:
    times = defaultdict(list)
    for at, mover in arrived:
        times[mover].append(at)
    late: list[float] = []
    wrong: list[tuple[float, Mover]] = []
    for each in churn.absences:
        since = [at for at in times[each.mover] if each.written < at < each.until]
        late += [max(since) - each.written] if since else []
        wrong += [(at - each.acknowledged, each.mover) for at in since if at > each.acknowledged]
    took = [each.acknowledged - each.written for each in churn.absences]
    yield Figure("changes of members", churn.changes, "")
    yield Figure("  per second", churn.changes / churn.seconds, "/s", f"{EACH_SECOND}")
    yield Figure("  departures acknowledged before the member came again", len(took), f"of {churn.departures}", "all")
    yield Figure("  from written to acknowledged, cache included, median", statistics.median(took) * 1e3, "ms")
    yield Figure("  99 of 100 within", percentile(took, 99) * 1e3, "ms")
    yield Figure("connections begun and datagrams sent", begun.sent, "")
    yield Figure("  arrived at members that come and go", len(arrived), "")
    yield Figure("packets to members that left, after that was acknowledged", len(wrong), "packets", "0")
    for after, mover in sorted(wrong)[-WORST:]:
        yield Figure(f"  {NAMES[mover.protocol]}, {mover.pod}: that much later", after * 1e3, "ms")
    yield Figure("the last packet to a member that left, from written: median", statistics.median(late) * 1e3, "ms")
    yield Figure("  the latest", max(late) * 1e3, "ms")
    yield Figure("connections to members that stay", LASTING, "")
    yield Figure("  bytes that came back over them", lasting.exchanges, "")
    yield Figure("  broken", len(lasting.broken), "", "0")
    yield load()


class Churn:
    """Writes changes, and notes when the client's node has acknowledged them."""

    def __init__(self, bench: BenchLab, kube: Kube, movers: list[Mover], addresses: Mapping[str, str]) -> None:
        self.absences: list[Absence] = []
        self.changes = self.departures = 0
        self.seconds = 0.0
        self._bench, self._kube, self._movers, self._addresses = bench, kube, movers, addresses
        self._gone: dict[Mover, float] = {}  # written, and not acknowledged
        self._known: dict[Mover, tuple[float, float]] = {}  # written, acknowledged
        self._lock = threading.Lock()

    def go_on(self, seconds: float) -> None:
        """One change after another: members come in turn, then go in turn."""
        started = time.perf_counter()
        while (due := self.changes / EACH_SECOND) < seconds:
            time.sleep(max(0.0, started + due - time.perf_counter()))
            turn, which = divmod(self.changes, len(self._movers))
            self._write(self._movers[which], there=turn % 2 == 0)
            self.changes += 1
        self.seconds = time.perf_counter() - started

    def finish(self) -> None:
        """The members that are gone at the end have been away until then."""
        now = time.time()
        self.absences += [Absence(mover, *known, now) for mover, known in self._known.items()]

    def _write(self, mover: Mover, *, there: bool) -> None:
        now = time.time()
        if there:
            with self._lock:
                if mover in self._known:
                    self.absences.append(Absence(mover, *self._known.pop(mover), now))
                self._gone.pop(mover, None)
        addresses = [self._addresses[mover.pod]] if there else []
        self._kube.patch(ENDPOINT_SLICES, _name(mover), SPACE, body={"endpoints": endpoints(addresses)})
        if not there:
            self.departures += 1
            with self._lock:
                self._gone[mover] = now

    def acknowledge(self, stopped: threading.Event) -> None:
        """Ask the node again and again: first whom it sends connections to, then how much of what it knows by then is done."""
        numbers: dict[Mover, int] = {}  # of something that the node was given no earlier than that the member goes
        pod_of = {address: name for name, address in self._addresses.items()}
        while not stopped.wait(ASKED):
            with self._lock:
                waiting = dict(self._gone)
            if not waiting:
                continue
            there = {
                Mover(protocol, pod_of[row["address"]], row["target"])
                for protocol, name in NAMES.items()
                for row in members(self._bench, name)
            }
            said = status(self._bench)
            now = time.time()
            with self._lock:
                numbers = {each: numbers.get(each, said["given"]) for each in waiting if each not in there}
                for mover in [
                    each for each, number in numbers.items() if number <= said["settled"] and each in self._gone
                ]:
                    self._known[mover] = self._gone.pop(mover), now


class Lasting:
    """Connections that are to last: a byte there and back over each, all the time."""

    def __init__(self, netns: str, address: str) -> None:
        self.exchanges = 0
        self.broken: list[OSError] = []
        self._open = run_in(netns, lambda: [socket.create_connection((address, PORT), 5) for _ in range(LASTING)])

    def talk(self, stopped: threading.Event) -> None:
        """Until stopped; a connection that breaks, or is silent for two seconds, is not used again."""
        for each in self._open:
            each.settimeout(2)
        while not stopped.wait(TALK):
            for each in list(self._open):
                try:
                    each.sendall(b".")
                    if each.recv(1) != b".":
                        raise ConnectionResetError("closed")
                    self.exchanges += 1
                except OSError as error:
                    self.broken.append(error)
                    self._open.remove(each)
                    each.close()
        for each in self._open:
            each.close()


class Begun:
    """New connections, datagrams from new ports, and datagrams that go on from the same ports."""

    def __init__(self, pair: Pair, vips: Mapping[int, str]) -> None:
        self.sent = 0
        self._pair, self._vips = pair, vips

    def go_on(self, stopped: threading.Event) -> None:
        """Until stopped."""
        tcp, udp = (Client(self._pair.source, self._pair.asker, self._vips[each], protocol=each) for each in (TCP, UDP))
        with tcp, udp:
            while not stopped.wait(BEGUN):
                new = FIRST + self.sent // 3 % (LAST - FIRST)
                tcp.send(new)
                udp.send(new)
                udp.send(CONVERSATIONS[self.sent // 3 % len(CONVERSATIONS)])
                self.sent += 3


class Arrivals:
    """What arrived at the members of one pod that come and go, and when."""

    def __init__(self, protocol: int, pod: str, pair: Pair) -> None:
        self.found: list[tuple[float, Mover]] = []
        self._protocol, self._pod, self._netns = protocol, pod, pair.destination

    def take(self, stopped: threading.Event) -> None:
        """Until stopped."""
        with Tap(self._netns, self._protocol) as tap:
            while not stopped.is_set():
                if (seen := tap.next(0.2)) and seen[1] in MOVING:
                    self.found.append((tap.stamped, Mover(self._protocol, self._pod, seen[1])))


def _echoing(pair: Pair) -> Callable[[threading.Event], None]:
    """What answers at the members of one pod that stay: every byte that comes in goes back."""
    servers = run_in(pair.destination, lambda: [socket.create_server(("", port), backlog=4096) for port in STAYING])

    def answer(stopped: threading.Event) -> None:
        with selectors.DefaultSelector() as ready:
            for each in servers:
                ready.register(each, selectors.EVENT_READ, True)
            while not stopped.is_set():
                for key, _ in ready.select(0.2):
                    if key.data:
                        ready.register(key.fileobj.accept()[0], selectors.EVENT_READ, False)  # type: ignore[union-attr]
                    else:
                        _echo(ready, key.fileobj)  # type: ignore[arg-type]
            for key in list(ready.get_map().values()):
                key.fileobj.close()  # type: ignore[union-attr]

    return answer


def _echo(ready: selectors.BaseSelector, connection: socket.socket) -> None:
    with suppress(OSError):
        if got := connection.recv(64):
            connection.sendall(got)
            return
    ready.unregister(connection)
    connection.close()


@contextmanager
def _running(work: Callable[[threading.Event], None]) -> Iterator[None]:
    """Work in a thread of its own for as long as the block lasts; what ends it earlier is raised at the end."""
    stopped = threading.Event()
    failed: list[Exception] = []

    def body() -> None:
        try:
            work(stopped)
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=body, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()
    if failed:
        raise failed[0]


def _name(mover: Mover) -> str:
    return f"{NAMES[mover.protocol]}-{mover.pod}-{mover.port}"


def _create(kube: Kube, mover: Mover, address: str, *, there: bool) -> None:
    some = [address] if there else []
    made = endpoint_slice(_name(mover), NAMES[mover.protocol], some, mover.port, mover.protocol)
    kube.create(ENDPOINT_SLICES, made)
