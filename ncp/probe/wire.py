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
WAITS: Final = (0.05, 0.25)
"""Seconds without any answer after which a round is over. The first packet of a probe has all of them to be answered in."""


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
    waits: Sequence[float] = WAITS,
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
        for start in range(0, len(open_probes), AT_ONCE):
            table = _Table(endpoints, stations, open_probes[start : start + AT_ONCE], numbers)
            for wait in waits:
                for probe, verdict in table.round(wait):
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


class _Table:
    """Probes that are asked side by side, and whoever has not answered yet. An answer to any packet of a probe counts, however
    late: it says by its number what it answers."""

    def __init__(
        self,
        endpoints: Mapping[str, Endpoint],
        stations: Mapping[str, Station],
        probes: list[Probe],
        numbers: Iterator[int],
    ) -> None:
        self._endpoints, self._stations, self._numbers = endpoints, stations, numbers
        self._open = dict.fromkeys(probes)
        self._asked: dict[tuple[str, Question], Probe] = {}
        self._names = {station.receiving.fileno(): name for name, station in stations.items()}
        self._poll = select.poll()
        for fileno in self._names:
            self._poll.register(fileno, select.POLLIN)

    def round(self, wait: float) -> Iterator[tuple[Probe, Verdict]]:
        """Ask whoever has not answered; the answers that come in until none has come for ``wait`` seconds."""
        frames = [(self._stations[probe.source], self._frame(probe)) for probe in self._open]
        for index, (station, frame) in enumerate(frames):
            station.send(frame)
            if index % BURST == BURST - 1:
                yield from self._answers(0.001)
        deadline = time.monotonic() + wait
        while self._open and (left := deadline - time.monotonic()) > 0:
            for answer in self._answers(left):
                deadline = time.monotonic() + wait
                yield answer

    def _frame(self, probe: Probe) -> bytes:
        number = 0 if probe.protocol == "neighbour" else next(self._numbers)
        source, destination = self._endpoints[probe.source], self._endpoints[probe.destination]
        peer = destination.address(probe.family)
        assert peer is not None
        self._asked[probe.source, Question(probe.protocol, probe.family, number, peer, probe.port)] = probe
        return build(source, destination, probe, number)

    def _answers(self, seconds: float) -> Iterator[tuple[Probe, Verdict]]:
        for fileno, _ in self._poll.poll(seconds * 1000):
            name = self._names[fileno]
            for frame in self._stations[name].received():
                answer = identify(frame)
                probe = self._asked.get((name, answer[0])) if answer else None
                if answer and probe in self._open:
                    del self._open[probe]
                    yield probe, answer[1]


def external_endpoint(netns: str, addresses: tuple[Address, ...]) -> Endpoint:
    """The host beyond tier-0, as a source or destination."""
    return Endpoint(EXTERNAL, addresses, netns, interface="", is_host=True)
