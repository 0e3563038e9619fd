"""What packets pay for the pipeline: two pods of one node against the same cables on a bridge with one conntrack flow."""

from __future__ import annotations

import statistics
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.figures import Figure
from benchmarks.lab import BenchLab, lab
from benchmarks.pairs import CONNECTIONS, ECHO, THROUGHPUT, Pair, lab_id, pods

ROUNDS = 5
BRIDGE = "br-ref"


def run() -> list[Figure]:
    """Throughput, new connections per second and round-trip time; each as ratio to the reference bridge."""
    with lab(nodes=1) as bench:
        (ours,) = pods(bench, "two")
        with _reference(bench) as plain:
            found = []
            for what, measure in (THROUGHPUT, CONNECTIONS, ECHO):
                pairs = [(measure(ours), measure(plain)) for _ in range(ROUNDS)]
                found.append(Figure(f"{what}: between pods", statistics.median(pair[0] for pair in pairs), ""))
                found.append(Figure(f"{what}: reference bridge", statistics.median(pair[1] for pair in pairs), ""))
                ratio = statistics.median(pair[0] / pair[1] for pair in pairs)
                found.append(Figure(f"{what}: ratio", ratio, "x", "within 5 %"))
    return found


@contextmanager
def _reference(bench: BenchLab) -> Iterator[Pair]:
    """Two namespaces on a bridge of the same switch daemon with one conntrack flow."""
    prefix = lab_id(bench)
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
        yield Pair(names[0], names[1], "10.250.0.2")
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)
