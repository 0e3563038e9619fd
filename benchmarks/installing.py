"""A whole program into Open vSwitch: our session against pre-packed bytes and against ``ovs-ofctl --bundle``."""

from __future__ import annotations

import gc
import tempfile
import threading
import time
from pathlib import Path

from benchmarks.figures import Figure, timed
from benchmarks.world import attachments, translated
from ncp.node.audit import key_of
from sdn.openflow.message import COMMIT, OPEN, pack_barrier, pack_bundle_add, pack_bundle_control
from sdn.openflow.pack import encode, flow_mod
from sdn.openflow.session import Switch
from sdn.openflow.wire import connect
from sdn.program import Changes, against, build
from tests.support.ovs import PrivateOvs

HELLO = bytes.fromhex("0600000800000001")


def run() -> list[Figure]:
    """Seconds of each way, and the ratios."""
    state = translated(40, 50)
    program = build(state.intent, "node1", 7, attachments(state))
    flows = [entry.flow for entry in program.entries()]
    with tempfile.TemporaryDirectory() as directory, PrivateOvs(directory) as ovs:
        ours, reading, nothing = _session(ovs, program, flows)
        packed = min(_prepacked(ovs, program) for _ in range(3))
        text = _as_text(ovs, Path(directory))
        ofctl = min(_ofctl(ovs, text) for _ in range(3))
    count = len(flows)
    return [
        Figure(f"{count:,} flows: encoded and installed in one atomic bundle", count / ours, "flows/s"),
        Figure("the same from pre-packed bytes", count / packed, "flows/s"),
        Figure("the same by ovs-ofctl --bundle add-flows", count / ofctl, "flows/s"),
        Figure("our time against pre-packed bytes", ours / packed, "x", "at most 2"),
        Figure("our time against ovs-ofctl --bundle", ours / ofctl, "x"),
        Figure("reading the whole table back and comparing", reading, "s"),
        Figure("flows to send when nothing changed", nothing, "flows", "0"),
    ]


def _session(ovs, program, flows):  # type: ignore[no-untyped-def]
    best, ready = [], threading.Event()
    switch = Switch(
        ovs.rundir,
        owner=7,
        on_connected=lambda switch: ready.set(),
        on_disconnected=lambda switch, why: None,
        on_packet_in=lambda switch, packet: None,
    )
    ovs.add_bridge()
    switch.start()
    ready.wait(10)
    for _ in range(3):
        ovs.ofctl("del-flows", "br-int")
        gc.collect()
        best.append(timed(lambda: switch.apply(Changes(tuple(encode(flow, 7) for flow in flows)))))
    started = time.perf_counter()
    left = against(program, {key_of(flow): flow.cookie for flow in switch.flows()})
    reading = time.perf_counter() - started
    switch.stop()
    return min(best), reading, len(left.add) + len(left.delete)


def _prepacked(ovs, program) -> float:  # type: ignore[no-untyped-def]
    ovs.ofctl("del-flows", "br-int")
    messages = [pack_bundle_control(1, OPEN, 2)]
    messages += [pack_bundle_add(1, flow_mod(entry, xid=9), 9) for entry in program.entries()]
    payload = b"".join([*messages, pack_bundle_control(1, COMMIT, 3), pack_barrier(4)])
    with connect(ovs.rundir / "br-int.mgmt", 30) as stream:
        stream.sendall(HELLO)
        return timed(lambda: _send_and_wait(stream, payload))


def _send_and_wait(stream, payload: bytes) -> None:  # type: ignore[no-untyped-def]
    barrier_reply = bytes.fromhex("0615000800000004")
    sender = threading.Thread(target=stream.sendall, args=(payload,))
    sender.start()
    received = b""
    while barrier_reply not in received:
        received = received[-16:] + stream.recv(1 << 16)
    sender.join()


def _as_text(ovs, directory: Path) -> Path:  # type: ignore[no-untyped-def]
    path = directory / "flows.txt"
    lines = ovs.ofctl("--no-stats", "--no-names", "dump-flows", "br-int").splitlines()
    path.write_text("\n".join(line.strip() for line in lines if "actions=" in line))
    return path


def _ofctl(ovs, text: Path) -> float:  # type: ignore[no-untyped-def]
    ovs.ofctl("del-flows", "br-int")
    return timed(lambda: ovs.ofctl("--bundle", "add-flows", "br-int", str(text)))
