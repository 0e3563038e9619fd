"""Crafted packets on the wire: sent from inside a pod's network namespace, and what comes back.

One packet socket is opened per source, inside its namespace; all probes of a round are sent at once and told apart by
their source port or identifier, so a table of hundreds costs one round trip. Silence is only believed after a second
packet went unanswered too.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import select
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from pyroute2.netns import setns

from ipam.address import Address
from ncp.probe.answers import Question, identify
from ncp.probe.frames import build
from ncp.probe.model import EXTERNAL, Endpoint, Probe, Verdict

__all__ = ["Station", "build", "external_endpoint", "observe", "packet_socket", "run_in"]

ETH_P_ALL: Final = 3
FIRST_PORT: Final = 33000
LAST_PORT: Final = 61000
AT_ONCE: Final = 4000
"""Probes of one round: what answers has to be told apart by number."""
BURST: Final = 24
"""Packets sent without a look at what came back: a switch takes them one by one, and its sockets hold few."""
QUIET: Final = 0.15
"""Seconds without an answer after which a round is over, at first; later rounds wait longer."""


def run_in(netns: str, work: Callable[[], Any]) -> Any:
    """Call ``work`` in a thread inside a network namespace (its name under /run/netns, or a path) and return its result.

    Raises:
        OSError: there is no such namespace.
    """
    outcome: list[Any] = []

    def body() -> None:
        try:
            setns(netns, flags=0)  # without flags it would make what is not there
            outcome.append((True, work()))
        except BaseException as error:  # carried to the caller's thread, raised there
            outcome.append((False, error))

    thread = threading.Thread(target=body, name=f"netns-{netns}")
    thread.start()
    thread.join()
    done, value = outcome[0]
    if not done:
        raise value
    return value


def packet_socket(netns: str, interface: str) -> socket.socket:
    """A packet socket on an interface inside a namespace, receiving everything that comes in.

    Raises:
        OSError: no such namespace or interface.
    """

    def make() -> socket.socket:
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        if interface:
            sock.bind((interface, ETH_P_ALL))
        sock.setblocking(False)
        return sock

    return run_in(netns, make)


class Station:
    """Where probes of one source leave and their answers arrive: a pod's interface, or a host that routes by itself.

    A host's kernel chooses the next hop of packets that are handed to it.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.receiving = packet_socket(endpoint.netns, endpoint.interface)
        self._routed: dict[int, socket.socket] = {}
        if endpoint.is_host:
            self._routed = run_in(endpoint.netns, _raw_sockets)

    def __enter__(self) -> Station:
        return self

    def __exit__(self, *error: object) -> None:
        for sock in (self.receiving, *self._routed.values()):
            sock.close()

    def send(self, frame: bytes) -> None:
        """Put an Ethernet frame on the wire (a host: what is inside it, by the kernel's routes)."""
        if not self._routed:
            self.receiving.send(frame)
        elif frame[12:14] == b"\x08\x00":
            self._routed[4].sendto(frame[14:], (socket.inet_ntoa(frame[30:34]), 0))
        else:
            self._routed[6].sendto(frame[14:], (socket.inet_ntop(socket.AF_INET6, frame[38:54]), 0))

    def received(self) -> Iterator[bytes]:
        """The frames that have come in by now."""
        with contextlib.suppress(BlockingIOError):
            while True:
                frame, address = self.receiving.recvfrom(65535)
                if address[2] != socket.PACKET_OUTGOING:
                    yield frame


def _raw_sockets() -> dict[int, socket.socket]:
    """Sockets that take whole IP packets, by family."""
    header_included = 36  # IPV6_HDRINCL
    v6 = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW)
    v6.setsockopt(socket.IPPROTO_IPV6, header_included, 1)
    return {4: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW), 6: v6}


def observe(
    endpoints: Mapping[str, Endpoint],
    probes: Iterable[Probe],
    *,
    waits: Sequence[float] = (QUIET, 2 * QUIET),
    progress: Callable[[int], None] = lambda done: None,
) -> dict[Probe, Verdict]:
    """Send every probe and tell what came back.

    Args:
        endpoints: sources and destinations by name; a source without a namespace makes its probes ``unknown``.
        probes: what to send.
        waits: a round for each: what is still unanswered is sent, and the round is over when nothing has come back for
            so many seconds. Who is silent in all of them is silent.
        progress: told how many answers are in.
    """
    found: dict[Probe, Verdict] = {}
    open_probes: list[Probe] = []
    for probe in dict.fromkeys(probes):
        if verdict := _unaskable(endpoints, probe):
            found[probe] = verdict
        else:
            open_probes.append(probe)
    # Somewhere else each time: a connection that a switch still knows would be let pass without a question.
    numbers = itertools.count(random.randrange(LAST_PORT - FIRST_PORT))
    numbers = (FIRST_PORT + number % (LAST_PORT - FIRST_PORT) for number in numbers)
    with contextlib.ExitStack() as stack:
        names = dict.fromkeys(probe.source for probe in open_probes)
        stations = {name: stack.enter_context(Station(endpoints[name])) for name in names}
        for wait in waits:
            left = [probe for probe in open_probes if probe not in found]
            for start in range(0, len(left), AT_ONCE):
                for probe, verdict in _round(endpoints, stations, left[start : start + AT_ONCE], numbers, wait):
                    found[probe] = verdict
                    progress(len(found))
    return {**{probe: Verdict("no", "silence") for probe in open_probes}, **found}


def _unaskable(endpoints: Mapping[str, Endpoint], probe: Probe) -> Verdict | None:
    source, destination = endpoints.get(probe.source), endpoints.get(probe.destination)
    if source is None or not source.netns or destination is None:
        return Verdict("unknown", f"nothing can be sent from {probe.source} here")
    if source.address(probe.family) is None or destination.address(probe.family) is None:
        return Verdict("no", f"no IPv{probe.family} address on one side")
    return None


def _round(
    endpoints: Mapping[str, Endpoint],
    stations: Mapping[str, Station],
    probes: list[Probe],
    numbers: Iterator[int],
    wait: float,
) -> Iterator[tuple[Probe, Verdict]]:
    waiting: dict[tuple[str, Question], Probe] = {}
    frames = []
    for probe in probes:
        number = 0 if probe.protocol == "neighbour" else next(numbers)
        source, destination = endpoints[probe.source], endpoints[probe.destination]
        peer = destination.address(probe.family)
        assert peer is not None
        waiting[probe.source, Question(probe.protocol, probe.family, number, peer, probe.port)] = probe
        frames.append((stations[probe.source], build(source, destination, probe, number)))
    poll = select.poll()
    by_fileno = {station.receiving.fileno(): name for name, station in stations.items()}
    for fileno in by_fileno:
        poll.register(fileno, select.POLLIN)

    def answers(seconds: float) -> Iterator[tuple[Probe, Verdict]]:
        for fileno, _ in poll.poll(seconds * 1000):
            name = by_fileno[fileno]
            for frame in stations[name].received():
                answer = identify(frame)
                if answer and (probe := waiting.pop((name, answer[0]), None)):
                    yield probe, answer[1]

    for index, (station, frame) in enumerate(frames):
        station.send(frame)
        if index % BURST == BURST - 1:
            yield from answers(0.001)
    deadline = time.monotonic() + wait
    while waiting and (left := deadline - time.monotonic()) > 0:
        for answer in answers(left):
            deadline = time.monotonic() + wait
            yield answer


def external_endpoint(netns: str, addresses: tuple[Address, ...]) -> Endpoint:
    """The host beyond tier-0, as a source or destination."""
    return Endpoint(EXTERNAL, addresses, netns, interface="", is_host=True)
