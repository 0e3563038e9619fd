"""A whole program into Open vSwitch: our session against pre-packed bytes and against ``ovs-ofctl --bundle``."""

from __future__ import annotations

import gc
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from benchmarks.figures import Figure, timed
from benchmarks.world import attachments, translated
from ncp.node.audit import key_of
from sdn.openflow.message import COMMIT, OPEN, pack_barrier, pack_bundle_control, pack_bundle_flow
from sdn.openflow.pack import Encoded, encode
from sdn.openflow.session import Switch
from sdn.openflow.wire import UnixStream, connect
from sdn.program import Changes, Program, Rule, against, build
from tests.support.ovs import PrivateOvs

ROUNDS = 5
HELLO = bytes.fromhex("0600000800000001")


class AsTheyCome(NamedTuple):
    """Changes whose flows are encoded while earlier ones are on their way to the switch."""

    add: Iterator[Encoded]
    delete: tuple[Rule, ...] = ()


def run() -> list[Figure]:
    """Flows per second of each way at its best of some rounds, all ways in each round, and the ratios."""
    state = translated(40, 50)
    program = build(state.intent, "node1", 7, attachments(state))
    flows = [entry.flow for entry in program.entries()]
    gc.set_threshold(100_000, 20, 50)  # as the node agent runs
    with tempfile.TemporaryDirectory() as directory, PrivateOvs(directory) as ovs, _session(ovs) as switch:
        switch.apply(Changes(tuple(program.entries())))
        text = _as_text(ovs, Path(directory))
        ways: dict[str, Callable[[], float]] = {
            "ours": lambda: timed(lambda: switch.apply(AsTheyCome(encode(flow, 7) for flow in flows), 60)),
            "encoded": lambda: timed(lambda: switch.apply(Changes(tuple(program.entries())), 60)),
            "packed": lambda: _prepacked(ovs, program),
            "ofctl": lambda: timed(lambda: ovs.ofctl("--bundle", "add-flows", "br-int", str(text))),
        }
        best = _best_of_rounds(ovs, ways, len(flows))
        reading, nothing = _read_back(ovs, switch, program)
    count = len(flows)
    return [
        Figure(f"{count:,} flows: encoded and installed in one atomic bundle", count / best["ours"], "flows/s"),
        Figure("the same, encoded before", count / best["encoded"], "flows/s"),
        Figure("the same from pre-packed bytes", count / best["packed"], "flows/s"),
        Figure("the same by ovs-ofctl --bundle add-flows", count / best["ofctl"], "flows/s"),
        Figure(
            "our time, encoding included, against pre-packed bytes", best["ours"] / best["packed"], "x", "at most 2"
        ),
        Figure(
            "our time, encoded before, against pre-packed bytes", best["encoded"] / best["packed"], "x", "at most 2"
        ),
        Figure("our time, encoding included, against ovs-ofctl --bundle", best["ours"] / best["ofctl"], "x", "below 1"),
        Figure("reading the whole table back and comparing", reading, "s"),
        Figure("flows to send when nothing changed", nothing, "flows", "0"),
    ]


def _best_of_rounds(ovs: PrivateOvs, ways: dict[str, Callable[[], float]], count: int) -> dict[str, float]:
    """Seconds of each way, the least of some rounds; each starts from an empty table and must fill it."""
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(ROUNDS):
        for way, install in ways.items():
            ovs.ofctl("del-flows", "br-int")
            gc.collect()
            seconds[way].append(install())
            said = ovs.ofctl("dump-aggregate", "br-int")
            if f"flow_count={count}" not in said:
                raise RuntimeError(f"{way} should have installed {count} flows: {said}")
    return {way: min(taken) for way, taken in seconds.items()}


@contextmanager
def _session(ovs: PrivateOvs) -> Iterator[Switch]:
    ready = threading.Event()
    ovs.add_bridge()
    switch = Switch(
        ovs.rundir,
        owner=7,
        on_connected=lambda switch: ready.set(),
        on_disconnected=lambda switch, why: None,
        on_packet_in=lambda switch, packet: None,
    )
    switch.start()
    try:
        ready.wait(10)
        yield switch
    finally:
        switch.stop()


def _read_back(ovs: PrivateOvs, switch: Switch, program: Program) -> tuple[float, int]:
    """Seconds to read everything and compare, and how many flows differ from the program (none should)."""
    ovs.ofctl("del-flows", "br-int")
    switch.apply(Changes(tuple(program.entries())))
    started = time.perf_counter()
    left = against(program, {key_of(flow): flow.cookie for flow in switch.flows()})
    return time.perf_counter() - started, len(left.add) + len(left.delete)


def _prepacked(ovs: PrivateOvs, program: Program) -> float:
    messages = [pack_bundle_control(1, OPEN, 2)]
    messages += [pack_bundle_flow(1, entry, 9) for entry in program.entries()]
    payload = b"".join([*messages, pack_bundle_control(1, COMMIT, 3), pack_barrier(4)])
    with connect(ovs.rundir / "br-int.mgmt", 30) as stream:
        stream.sendall(HELLO)
        stream.recv(1 << 10)  # the switch's own hello
        return timed(lambda: _send_and_wait(stream, payload))


def _send_and_wait(stream: UnixStream, payload: bytes) -> None:
    barrier_reply = bytes.fromhex("0615000800000004")
    sender = threading.Thread(target=stream.sendall, args=(payload,))
    sender.start()
    received = b""
    while barrier_reply not in received:
        received = received[-16:] + stream.recv(1 << 16)
    sender.join()


def _as_text(ovs: PrivateOvs, directory: Path) -> Path:
    """What the switch holds, as ovs-ofctl reads it."""
    path = directory / "flows.txt"
    lines = ovs.ofctl("--no-stats", "--no-names", "dump-flows", "br-int").splitlines()
    path.write_text("\n".join(line.strip() for line in lines if "actions=" in line))
    return path
