"""A policy is seen -> the switch enforces it: the node's loop on a switch of its own, in growing worlds and for single large policies.

Enforced is what the node reports as such: the switch has acknowledged the flows, and the connections that are forbidden now are gone.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Iterator, Sequence

from benchmarks.figures import Figure, percentile, timed
from benchmarks.flowcount import MANY, crowd
from benchmarks.nodeloop import OWNER, Node, running
from benchmarks.policies import app, network_policy, team
from benchmarks.world import Change, pod
from sdn.model import Origin
from sdn.openflow.pack import encode, flow_key_bytes
from sdn.pipeline.flow import Flow
from sdn.program import Changes, rule_of

WORLDS = ((20, 25, 50), (40, 50, 200), (80, 50, 400))
TIMES = 200
ON_ONE_POD = 500
CROWD = 20  # namespace of the crowd, in the smallest world
NOBODY = Origin("Fabric", "", "benchmark", "")


def run() -> list[Figure]:
    """Added, rewritten and taken away at every size, against one flow; then policies that are large by themselves."""
    gc.set_threshold(100_000, 20, 50)  # as the node agent runs
    found: list[Figure] = []
    for namespaces, pods, policies in WORLDS:
        with running(namespaces, pods, policies) as node:
            found += _one_at_a_time(node, f"{namespaces} x {pods}, {policies} policies")
    with running(*WORLDS[0]) as node:
        found += _among_connections(node)
    with running(*WORLDS[0], extra=[pod(4, 100, "node1", labels={"alone": "yes"})]) as node:
        found += _many_on_one_pod(node)
    with running(*WORLDS[0], extra=list(crowd(space=CROWD))) as node:
        found += _with_many_peers(node)
    return found


def _one_at_a_time(node: Node, name: str) -> Iterator[Figure]:
    floor, added, changed, gone = [], [], [], []
    for turn in range(TIMES):
        floor.append(timed(lambda: _one_flow(node, True)))
        _one_flow(node, False)
        added.append(node.enforce(_policy(80 + turn)))
        changed.append(node.enforce(_policy(81 + turn)))
        gone.append(node.forget(_policy(81 + turn)))
    least = statistics.median(floor)
    for what, taken in (("added", added), ("rewritten", changed), ("deleted", gone)):
        middle = statistics.median(taken)
        yield Figure(f"{name}: policy {what}, median", middle * 1e3, "ms", "under 15")
        yield Figure("  99 of 100 within", percentile(taken, 99) * 1e3, "ms")
        yield Figure("  median against one flow acknowledged by the same switch", middle / least, "x")


def _among_connections(node: Node) -> Iterator[Figure]:
    """What the switch tracks is made up, for its own list takes minutes to fill; to read it costs more than this."""
    ports = [port for _, port in sorted(node.loop.translation.intent.ports.items())]
    zones = node.attached
    for count in (0, 1_000, 10_000):
        lines = []
        for number in range(count):
            one, two = ports[number % len(ports)], ports[(number + 7) % len(ports)]
            source, destination = one.addresses[0], two.addresses[0]
            there = f"src={source},dst={destination},sport={1024 + number},dport=8080"
            back = f"src={destination},dst={source},sport=8080,dport={1024 + number}"
            lines.append(f"tcp,orig=({there}),reply=({back}),zone={zones[two.name]},protoinfo=(state=ESTABLISHED)")
        text = "\n".join(lines)
        node.connections = lambda text=text: text  # type: ignore[misc]
        node.enforce(_policy(79))
        node.outcomes.clear()
        taken = [node.enforce(_policy(80 + turn)) for turn in range(10)]
        flows = [each.since_event for each in node.outcomes]
        yield Figure(
            f"policy rewritten, {count:,} connections tracked: flows acknowledged", med(flows), "ms", "under 15"
        )
        yield Figure("  ... and the connections looked through, median", med(taken), "ms")


def med(taken: Sequence[float]) -> float:
    """Their median, in milliseconds."""
    return statistics.median(taken) * 1e3


def _one_flow(node: Node, there: bool) -> None:
    flow = Flow(0, 1, (("in_port", 9999, None),), (), NOBODY)
    node.switch.apply(Changes((encode(flow, OWNER),)) if there else Changes((), (rule_of(flow_key_bytes(flow)),)))


def _many_on_one_pod(node: Node) -> Iterator[Figure]:
    many = [_for_one_pod(number) for number in range(ON_ONE_POD)]
    node.outcomes.clear()
    yield Figure(f"{ON_ONE_POD} policies on one pod, at once: enforced", node.enforce(*many) * 1e3, "ms")
    yield Figure("  flows", sum(each.added - each.deleted for each in node.outcomes), "flows")
    one = [node.enforce(_for_one_pod(turn, port=20_000 + turn)) for turn in range(TIMES)]
    yield Figure("  one of them rewritten, median", statistics.median(one) * 1e3, "ms", "under 15")
    yield Figure("  99 of 100 within", percentile(one, 99) * 1e3, "ms")


def _with_many_peers(node: Node) -> Iterator[Figure]:
    addresses = [{"ipBlock": {"cidr": f"198.18.{n >> 8}.{n & 255}/32"}} for n in range(MANY)]
    pods = [{"podSelector": app(1)}]
    one, all_of_them = {"matchLabels": {"statefulset.kubernetes.io/pod-name": "p0"}}, app(0)
    for what, pod_selector, peers in (
        (f"{MANY:,} addresses to one pod", one, addresses),
        (f"{MANY:,} pods with labels of their own to one pod", one, pods),
        (f"{MANY:,} pods to {MANY:,} others, all with labels of their own", all_of_them, pods),
    ):
        taken, flows, gone = [], 0, []
        for _ in range(5):
            ports = [{"port": port} for port in (80, 443, 8080)]
            spec = {"podSelector": pod_selector, "ingress": [{"from": peers, "ports": ports}]}
            policy = network_policy("large", CROWD, spec)
            node.outcomes.clear()
            taken.append(node.enforce(policy))
            flows = sum(each.added for each in node.outcomes)
            gone.append(node.forget(policy))
        yield Figure(f"{what}, three ports: enforced", med(taken), "ms")
        yield Figure("  flows added", flows, "flows")
        yield Figure("  deleted", statistics.median(gone) * 1e3, "ms")


def _policy(port: int) -> Change:
    peers = [{"namespaceSelector": team(2), "podSelector": app(1)}]
    ports = [{"port": port}, {"port": 8080}]
    return _versioned(network_policy("timed", 3, {"podSelector": app(0), "ingress": [{"from": peers, "ports": ports}]}))


def _for_one_pod(number: int, port: int | None = None) -> Change:
    """For one pod, from the pods of one app: a port each."""
    peers = [{"podSelector": app(1 + number % 4)}]
    ports = [{"port": 1_000 + number if port is None else port}]
    spec = {"podSelector": {"matchLabels": {"alone": "yes"}}, "ingress": [{"from": peers, "ports": ports}]}
    return _versioned(network_policy(f"one{number}", 4, spec))


def _versioned(change: Change) -> Change:
    """As the API server has it: another generation each time."""
    kind, key, obj = change
    return kind, key, {**obj, "metadata": {**obj["metadata"], "generation": time.monotonic_ns()}}
