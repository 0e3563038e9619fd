"""What packets pay for the pipeline: two pods of one node against the same cables on a bridge with one conntrack flow."""

from __future__ import annotations

import json
import re
import socket
import statistics
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from benchmarks.figures import Figure
from benchmarks.lab import BenchLab, lab
from ncp.probe.wire import run_in

ROUNDS = 5
SECONDS = 1.0
BRIDGE = "br-ref"
PORT = 7001
AT_ONCE = struct.pack("ii", 1, 0)  # close with a reset, so that no port waits to be used again


def run() -> list[Figure]:
    """Throughput, new connections per second and round-trip time; each as ratio to the reference bridge."""
    with lab(nodes=1) as bench:
        ours = _pods(bench)
        with _reference(bench) as plain:
            measures: dict[str, Callable[[tuple[str, str, str]], float]] = {
                "throughput, Mbit/s": _throughput,
                "new connections/s": _connections,
                "round trip, microseconds": _round_trip,
            }
            found = []
            for what, measure in measures.items():
                pairs = [(measure(ours), measure(plain)) for _ in range(ROUNDS)]
                found.append(Figure(f"{what}: between pods", statistics.median(pair[0] for pair in pairs), ""))
                found.append(Figure(f"{what}: reference bridge", statistics.median(pair[1] for pair in pairs), ""))
                ratio = statistics.median(pair[0] / pair[1] for pair in pairs)
                found.append(Figure(f"{what}: ratio", ratio, "x", "within 5 %"))
    return found


def _pods(bench: BenchLab) -> tuple[str, str, str]:
    """Namespaces of two pods of one segment, and the second's address."""
    kubectl = ["kubectl", "--kubeconfig", str(bench.state / "kubeconfig")]
    for name in ("one", "two"):
        subprocess.run([*kubectl, "run", name, "--image=bench"], check=True, capture_output=True)
    subprocess.run([*kubectl, "wait", "pod", "one", "two", "--for=condition=Ready"], check=True, capture_output=True)
    ports = json.loads(bench.ncp("get", "ports", "--output", "json"))
    pods = json.loads(subprocess.run([*kubectl, "get", "pods", "-o", "json"], check=True, capture_output=True).stdout)
    uids = {pod["metadata"]["name"]: pod for pod in pods["items"]}
    assert ports
    prefix = json.loads((bench.state / "external.json").read_text())["netns"].removesuffix("-ext")
    names = [f"{prefix}-p-{uids[name]['metadata']['uid'][:8]}" for name in ("one", "two")]
    return names[0], names[1], uids["two"]["status"]["podIP"]


@contextmanager
def _reference(bench: BenchLab) -> Iterator[tuple[str, str, str]]:
    """Two namespaces on a bridge of the same switch daemon with one conntrack flow."""
    prefix = json.loads((bench.state / "external.json").read_text())["netns"].removesuffix("-ext")
    node = f"{prefix}-node1"
    names = [f"{prefix}-ref{number}" for number in (1, 2)]
    vsctl = ("lab", "exec", "--node", "node1", "--", "ovs-vsctl")
    try:
        bench.ncp(*vsctl, "add-br", BRIDGE, "--", "set", "bridge", BRIDGE, "datapath_type=netdev")
        for number, name in enumerate(names, 1):
            for command in (
                f"ip netns add {name}",
                f"ip link add ref{number} mtu 1442 netns {node} type veth peer name eth0 mtu 1442 netns {name}",
                f"ip -n {name} addr add 10.250.0.{number}/24 dev eth0",
                f"ip -n {name} link set eth0 up",
                f"ip -n {node} link set ref{number} up",
                f"ip netns exec {name} ethtool -K eth0 tx off",
                f"ip netns exec {node} ethtool -K ref{number} tx off",
            ):
                subprocess.run(command.split(), check=True, capture_output=True)
            bench.ncp(*vsctl, "add-port", BRIDGE, f"ref{number}")
        ofctl = ("lab", "exec", "--node", "node1", "--", "ovs-ofctl")
        bench.ncp(*ofctl, "add-flow", BRIDGE, "priority=10,ip,actions=ct(commit),NORMAL")
        yield names[0], names[1], "10.250.0.2"
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


def _throughput(pair: tuple[str, str, str]) -> float:
    source, destination, address = pair
    with _listening(destination) as server:
        taken = threading.Thread(target=_swallow, args=(server,))
        taken.start()
        sender = run_in(source, lambda: socket.create_connection((address, PORT), 5))
        sent, chunk, deadline = 0, bytes(1 << 16), time.perf_counter() + SECONDS
        started = time.perf_counter()
        while time.perf_counter() < deadline:
            sent += sender.send(chunk)
        sender.close()
        taken.join()
        return sent * 8 / (time.perf_counter() - started) / 1e6


def _swallow(server: socket.socket) -> None:
    connection, _ = server.accept()
    with connection:
        while connection.recv(1 << 20):
            continue


def _connections(pair: tuple[str, str, str]) -> float:
    source, destination, address = pair
    with _listening(destination) as server:
        threading.Thread(target=_accept_all, args=(server,), daemon=True).start()
        return float(run_in(source, lambda: _connect_for(address)))


def _accept_all(server: socket.socket) -> None:
    with suppress(OSError):  # the server is closed at the end of the round
        while True:
            server.accept()[0].close()


def _connect_for(address: str) -> float:
    made, started = 0, time.perf_counter()
    while time.perf_counter() - started < SECONDS:
        connection = socket.create_connection((address, PORT), 5)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
        connection.close()
        made += 1
    return made / (time.perf_counter() - started)


def _round_trip(pair: tuple[str, str, str]) -> float:
    source, _, address = pair
    command = ["ip", "netns", "exec", source, "ping", "-q", "-i", "0.001", "-c", "1000", address]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = re.search(r"= [\d.]+/([\d.]+)/", said)
    assert found is not None
    return float(found[1]) * 1000


@contextmanager
def _listening(netns: str) -> Iterator[socket.socket]:
    server = run_in(netns, lambda: socket.create_server(("", PORT), backlog=4096))
    try:
        yield server
    finally:
        with suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
        server.close()
