"""New connections per second by a service's address against straight to the same pod: on one node and on two, with 1, 10 and 300 members."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

from benchmarks.figures import Figure, load
from benchmarks.lab import lab
from benchmarks.pairs import Pair, pods
from benchmarks.virtual import ACK, SYN, Client, Tap, await_members, listening, on_one_pod
from ncp.kube.client import Kube

MEMBERS = (1, 10, 300)
ROUNDS = 30
EACH = 1_600  # connections in a round, both ways
STRAIGHT = 2_000  # the port that is asked without the service; members' follow
AT_ONCE = 32
FIRST = 1_024
"""Source ports, from here on. None is used twice for one address: Open vSwitch gives a translated connection another source port
where its own was used a few seconds ago, and has to look for one."""


def run(members: Sequence[int] = MEMBERS, rounds: Sequence[int] = (ROUNDS,)) -> list[Figure]:
    """Both ways in turns, and their ratio; medians of rounds.

    Members are ports of one pod: its kernel answers, and the client's resets the connection, so that the switch has most of the work.
    Straight goes to a port beside them.

    Args:
        members: sizes of the pool.
        rounds: of each comparison; one number.
    """
    found: list[Figure] = []
    with lab(nodes=2) as bench:
        kube = Kube.connect(str(bench.state / "kubeconfig"))
        pairs = pods(bench, "near", "far", nodes={"one": "node1", "near": "node1", "far": "node2"})
        for where, pair in zip(("on one node", "on two nodes"), pairs, strict=True):
            last = STRAIGHT
            for count in members:
                name = f"{where.replace(' ', '-')}-{count}"
                # Ports of their own: no two services, and nobody who asks straight, shall have the same member.
                targets = range(last + 1, last + 1 + count)
                last = targets[-1]
                vip = on_one_pod(kube, name, pair.address, targets)
                await_members(bench, name, count)
                with listening(pair.destination, [STRAIGHT, *targets]):
                    found += _begun(f"{where}, {count} member{'s' * (count > 1)}", pair, vip, rounds[0])
            found.append(load())
    return found


def _begun(name: str, pair: Pair, vip: str, rounds: int) -> Iterator[Figure]:
    taken: list[tuple[float, float]] = []
    lost = 0
    with ExitStack() as stack:
        answers = stack.enter_context(Tap(pair.source, flags=SYN | ACK))
        straight = stack.enter_context(Client(pair.source, pair.asker, pair.address, STRAIGHT))
        served = stack.enter_context(Client(pair.source, pair.asker, vip))
        for turn in range(rounds + 1):
            ports = range(FIRST + turn * EACH, FIRST + (turn + 1) * EACH)
            rates = {}
            for client in (straight, served) if turn % 2 else (served, straight):
                rates[client], missed = _rate(client, answers, ports)
                lost += missed if client is served else 0
            if turn:  # the first warms up
                taken.append((rates[served], rates[straight]))
    yield from _compared(f"{name}: connections answered per second", taken)
    yield Figure("  by the service, not answered", lost, f"of {(rounds + 1) * EACH:,}")


def _rate(client: Client, answers: Tap, ports: range) -> tuple[float, int]:
    """Connections answered per second, and how many were not answered; a few are under way at a time."""
    lost = 0
    started = time.perf_counter()
    for start in range(0, len(ports), AT_ONCE):
        some = ports[start : start + AT_ONCE]
        for each in some:
            client.send(each)
        waiting = set(some)
        while waiting and (seen := answers.next(0.1)):
            waiting.discard(seen[1])
        lost += len(waiting)
    return (len(ports) - lost) / (time.perf_counter() - started), lost


def _compared(what: str, taken: list[tuple[float, float]]) -> Iterator[Figure]:
    yield Figure(f"{what}, straight", statistics.median(straight for _, straight in taken), "/s")
    yield Figure("  by the service", statistics.median(served for served, _ in taken), "/s")
    ratios = sorted(served / straight for served, straight in taken)
    yield Figure("  the service against straight, median", statistics.median(ratios), "x", "at least 0.9")
    quarter = len(ratios) // 4
    yield Figure("  ... half of the rounds between", ratios[quarter], "x")
    yield Figure("      and", ratios[-1 - quarter], "x")
