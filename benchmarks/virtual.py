"""Virtual servers in a lab for the benchmarks that measure them: services, members by hand, and packets of new connections."""

from __future__ import annotations

import functools
import socket
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from benchmarks.lab import BenchLab
from ncp.cli import nodeapi
from ncp.kube.client import Kube
from ncp.kube.resources import ENDPOINT_SLICES, SERVICES
from ncp.probe.wire import run_in
from ncp.translate.services import SERVICE_LABEL

SPACE = "default"
PORT = 80
PATIENCE = 60.0
SYN, ACK = 2, 0x10
_ETH_P_IP, _SO_RCVBUFFORCE, _SO_TIMESTAMPNS = 0x0800, 33, 35
TCP, UDP = socket.IPPROTO_TCP, socket.IPPROTO_UDP


def service(kube: Kube, name: str, protocol: int = TCP, port: int = PORT) -> str:
    """Make a service without a selector, so that its members are who the benchmark says; its cluster address."""
    ports = [{"name": "one", "port": port, "protocol": _name(protocol)}]
    spec = {"ports": ports, "ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv4"]}
    body = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": SPACE}, "spec": spec}
    return str(kube.create(SERVICES, body)["spec"]["clusterIP"])


def endpoint_slice(name: str, of: str, addresses: Iterable[str], port: int, protocol: int = TCP) -> dict:
    """A slice of the service ``of`` whose endpoints all have this port."""
    meta = {"name": name, "namespace": SPACE, "labels": {SERVICE_LABEL: of}}
    kind = {"apiVersion": ENDPOINT_SLICES.api_version, "kind": ENDPOINT_SLICES.kind, "metadata": meta}
    ports = [{"name": "one", "port": port, "protocol": _name(protocol)}]
    return {**kind, "addressType": "IPv4", "endpoints": endpoints(addresses), "ports": ports}


def endpoints(addresses: Iterable[str]) -> list[dict]:
    """Ready endpoints of a slice."""
    return [{"addresses": [each], "conditions": {"ready": True}} for each in addresses]


def on_one_pod(kube: Kube, name: str, address: str, ports: Iterable[int], protocol: int = TCP) -> str:
    """A service each of whose members is a port of one pod, so that one capture tells them apart; its cluster address."""
    vip = service(kube, name, protocol)
    for port in ports:
        kube.create(ENDPOINT_SLICES, endpoint_slice(f"{name}-{port}", name, [address], port, protocol))
    return vip


def forget(kube: Kube, name: str) -> None:
    """Delete a service and its slices."""
    kube.delete(SERVICES, name, SPACE)
    for each in kube.list(ENDPOINT_SLICES, SPACE, label_selector=f"{SERVICE_LABEL}={name}")[0]:
        kube.delete(ENDPOINT_SLICES, each["metadata"]["name"], SPACE)


def members(bench: BenchLab, name: str, node: str = "node1") -> list[dict]:
    """What a node's agent says of a service's members: a row each, with the connections they got."""
    rows = nodeapi.get(bench.state / "nodes" / node / "node.sock", "/v1/services")["members"]
    return [row for row in rows if (row["namespace"], row["name"]) == (SPACE, name)]


def status(bench: BenchLab, node: str = "node1") -> dict:
    """What a node's agent says of itself."""
    return dict(nodeapi.get(bench.state / "nodes" / node / "node.sock", "/v1/status"))


def await_members(bench: BenchLab, name: str, count: int, node: str = "node1") -> None:
    """Wait until a node sends connections to so many members."""
    await_true(lambda: len(members(bench, name, node)) == count, f"{node} has {count} members of {name}")
    await_true(lambda: status(bench, node)["in_step"], f"{node} is in step")


def await_true(condition: Callable[[], bool], what: str, every: float = 0.05) -> None:
    """Ask until it is so.

    Raises:
        RuntimeError: it is not, in reasonable time.
    """
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"after {PATIENCE:g} s it is still not so that {what}")
        time.sleep(every)


class Client:
    """First packets of connections from one pod to one address and port, of any source port."""

    def __init__(self, netns: str, source: str, target: str, port: int = PORT, protocol: int = TCP) -> None:
        self._socket = run_in(netns, lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, protocol))
        self._target = target
        ends = socket.inet_aton(source) + socket.inet_aton(target)
        self._packet = functools.partial(_syn, ends, port) if protocol == TCP else functools.partial(_datagram, port)

    def send(self, source_port: int) -> None:
        """Begin one connection."""
        self._socket.sendto(self._packet(source_port), (self._target, 0))

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self._socket.close()


class Tap:
    """Packets that come in at a pod: first ones of connections, or those with other flags of TCP (the low six bits)."""

    def __init__(self, netns: str, protocol: int = TCP, flags: int = SYN) -> None:
        self.stamped = 0.0  # when the kernel got the latest one, as of time.time()
        self._socket = run_in(netns, _packets)
        self._protocol, self._flags = protocol, flags

    def next(self, seconds: float) -> tuple[int, int] | None:
        """Source and destination port of the next one; None when there is none in time."""
        deadline = time.perf_counter() + seconds
        while (left := deadline - time.perf_counter()) > 0:
            self._socket.settimeout(left)
            try:
                packet, told, _, _ = self._socket.recvmsg(64, 64)
            except TimeoutError:
                return None
            if packet[9] == self._protocol and (self._protocol == UDP or packet[33] & 0x3F == self._flags):
                whole, rest = struct.unpack_from("@ll", told[0][2])
                self.stamped = whole + rest / 1e9
                return struct.unpack_from("!2H", packet, 20)
        return None

    def __enter__(self) -> Tap:
        return self

    def __exit__(self, *error: object) -> None:
        self._socket.close()


def _packets() -> socket.socket:
    found = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_IP))
    found.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 16 << 20)
    found.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    return found


@contextmanager
def listening(netns: str, ports: Iterable[int]) -> Iterator[None]:
    """A kernel that answers on these ports; what it accepts would wait, but clients that only begin reset it."""
    made = run_in(netns, lambda: [socket.create_server(("", port), backlog=4096) for port in ports])
    try:
        yield
    finally:
        for each in made:
            each.close()


def destinations(client: Client, tap: Tap, ports: Sequence[int], at_once: int = 20) -> dict[int, int]:
    """Begin a connection from each source port; the destination port each one had at the pod. Lost packets are left out.

    A few at a time: the next ones go when those have arrived, so that no queue runs over.
    """
    found: dict[int, int] = {}
    for start in range(0, len(ports), at_once):
        asked = ports[start : start + at_once]
        for each in asked:
            client.send(each)
        while not all(each in found for each in asked) and (seen := tap.next(0.2)):
            found[seen[0]] = seen[1]
    return found


def _syn(ends: bytes, port: int, source_port: int) -> bytes:
    body = struct.pack("!HHIIBBHHH", source_port, port, 1, 0, 0x50, SYN, 65535, 0, 0)
    total = sum(struct.unpack("!16H", ends + struct.pack("!HH", TCP, 20) + body))
    return body[:16] + struct.pack("!H", 0xFFFF - total % 0xFFFF) + body[18:]


def _datagram(port: int, source_port: int) -> bytes:
    return struct.pack("!4H", source_port, port, 8, 0)


def _name(protocol: int) -> str:
    return "TCP" if protocol == TCP else "UDP"
