"""Two ends on the wire of a lab, and what is measured between them: throughput, new connections, round trips."""

from __future__ import annotations

import json
import re
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

from benchmarks.lab import BenchLab
from ncp.probe.wire import run_in

SECONDS = 1.0
PORT = 7001
AT_ONCE = struct.pack("ii", 1, 0)  # close with a reset, so that no port waits to be used again


class Pair(NamedTuple):
    """Network namespaces of who asks and who answers, the latter's address, and the former's."""

    source: str
    destination: str
    address: str
    asker: str = ""


Measure: TypeAlias = Callable[..., float]
"""Of a pair, in so many seconds."""


def pods(bench: BenchLab, *others: str, nodes: Mapping[str, str] = MappingProxyType({})) -> list[Pair]:
    """Run a pod ``one`` and others; the pairs of it with each. All are in namespace default, each labelled ``run`` with its name.

    ``nodes``: where some of them are to be, by name.
    """
    kubectl = ["kubectl", "--kubeconfig", str(bench.state / "kubeconfig")]
    names = ("one", *others)
    for name in names:
        place = {"spec": {"nodeName": nodes.get(name, "")}}
        command = [*kubectl, "run", name, "--image=bench", f"--overrides={json.dumps(place)}"]
        subprocess.run(command, check=True, capture_output=True)
    subprocess.run([*kubectl, "wait", "pod", *names, "--for=condition=Ready"], check=True, capture_output=True)
    listed = json.loads(subprocess.run([*kubectl, "get", "pods", "-o", "json"], check=True, capture_output=True).stdout)
    prefix = lab_id(bench)
    found = {pod["metadata"]["name"]: pod for pod in listed["items"]}
    inside = {name: f"{prefix}-p-{pod['metadata']['uid'][:8]}" for name, pod in found.items()}
    addresses = {name: pod["status"]["podIP"] for name, pod in found.items()}
    return [Pair(inside["one"], inside[name], addresses[name], addresses["one"]) for name in others]


def lab_id(bench: BenchLab) -> str:
    """What the names of the lab's network namespaces begin with."""
    return str(json.loads((bench.state / "external.json").read_text())["netns"].removesuffix("-ext"))


def _throughput(pair: Pair, seconds: float = SECONDS) -> float:
    source, destination, address, _ = pair
    with _listening(destination) as server:
        taken = threading.Thread(target=_swallow, args=(server,))
        taken.start()
        sender = run_in(source, lambda: socket.create_connection((address, PORT), 5))
        sent, chunk, deadline = 0, bytes(1 << 16), time.perf_counter() + seconds
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


def _connections(pair: Pair, seconds: float = SECONDS) -> float:
    source, destination, address, _ = pair
    with _listening(destination) as server:
        threading.Thread(target=_accept_all, args=(server,), daemon=True).start()
        return float(run_in(source, lambda: _connect_for(address, seconds)))


def _accept_all(server: socket.socket) -> None:
    with suppress(OSError):  # the server is closed at the end of the round
        while True:
            server.accept()[0].close()


def _connect_for(address: str, seconds: float) -> float:
    made, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        connection = socket.create_connection((address, PORT), 5)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
        connection.close()
        made += 1
    return made / (time.perf_counter() - started)


def _round_trip(pair: Pair) -> float:
    source, _, address, _ = pair
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


def _exchanges(pair: Pair, seconds: float = SECONDS) -> float:
    """Microseconds from a byte sent over a connection that is there to the one that answers it."""
    source, destination, address, _ = pair
    with _listening(destination) as server:
        threading.Thread(target=_echo, args=(server,), daemon=True).start()
        with run_in(source, lambda: socket.create_connection((address, PORT), 5)) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            made, started = 0, time.perf_counter()
            while time.perf_counter() - started < seconds:
                connection.send(b".")
                connection.recv(1)
                made += 1
            return (time.perf_counter() - started) / made * 1e6


def _echo(server: socket.socket) -> None:
    connection, _ = server.accept()
    with connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while got := connection.recv(64):
            connection.send(got)


THROUGHPUT: tuple[str, Measure] = ("throughput, Mbit/s", _throughput)
CONNECTIONS: tuple[str, Measure] = ("new connections/s", _connections)
ECHO: tuple[str, Measure] = ("round trip, microseconds", _round_trip)
EXCHANGE: tuple[str, Measure] = ("round trip in a connection, microseconds", _exchanges)
"""What is measured, and how; the first two are better when larger, the others when smaller."""
