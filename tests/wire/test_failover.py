"""Two edges, one of them active: what becomes of packets to the outside when it dies, and when it comes back."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from labs import execute, parts, processes, switches
from labs.processes import Table
from labs.wish import Wish, topology_of
from ncp.cli import nodeapi
from ncp.kube.client import Kube
from ncp.kube.errors import NotFound
from ncp.kube.resources import EDGE_LEASE, LEASES
from tests.support.lab import Lab
from tests.wire.conftest import namespace, pod
from topologies.plan import UPLINK

pytestmark = pytest.mark.lab
log = logging.getLogger(__name__)
SECONDS = 20.0
OUTSIDE = "203.0.113.7"
GOAL = 3.0


@pytest.fixture(scope="module")
def edges(tmp_path_factory) -> Iterator[Lab]:
    """Three nodes, the first two of which are edges; a pod on the third."""
    with Lab(tmp_path_factory.mktemp("edges") / "state", Wish()) as lab:
        lab.apply(namespace("red"), pod("red/a", "node3"))
        lab.kubectl("wait", "pods", "-n", "red", "--all", "--for=condition=Ready", "--timeout=30s")
        lab.kubectl("label", "node", "node1", "node2", "ncp/edge=true")
        yield lab


class Edges:
    """The lab's edges as a test sees and breaks them."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.kube = Kube.connect(str(lab.state.kubeconfig))
        self.dead: set[str] = set()
        self.place = execute.of_pod(lab.state, "red/a")  # the API server may not answer later

    def lease(self) -> dict[str, Any]:
        try:
            return self.kube.get(LEASES, EDGE_LEASE[1], EDGE_LEASE[0])
        except NotFound:
            return {}

    def holder(self) -> str:
        return (self.lease().get("spec") or {}).get("holderIdentity") or ""

    def until(self, what: str, condition: Callable[[], object], seconds: float = SECONDS) -> float:
        """Wait; seconds it took."""
        began = time.monotonic()
        while not condition():
            assert time.monotonic() < began + seconds, f"not within {seconds} s: {what}; {self.said()}"
            time.sleep(0.02)
        return time.monotonic() - began

    def said(self) -> dict[str, Any]:
        answers, _ = nodeapi.survey(self.lab.state.root)
        return {name: each["edge"] for name, each in answers.items()}

    def settled(self) -> str:
        """The active edge once every living edge is well and hears every other living one."""
        living = {"node1", "node2"} - self.dead

        def well() -> bool:
            said = self.said()
            return all(
                name in said
                and said[name]["state"] == "well"
                and all(
                    (said[name]["bfd"].get(other) == "up") == (other in living) for other in {"node1", "node2"} - {name}
                )
                for name in living
            )

        self.until("edges are well", well)
        self.until("one is active", lambda: sum(self.said()[name]["active"] for name in living) == 1)
        if len(living) == 2:  # a session is slow until it is up, and for a moment longer (RFC 5880 6.8.3)
            for name in living:
                self.until("BFD is fast", lambda name=name: "RX Interval: Approx 200ms" in self.bfd(name))
        return self.holder()

    def bfd(self, node: str) -> str:
        paths = self.lab.state.node(node)
        env = {**os.environ, **switches.environment(paths)}
        return subprocess.run(("ovs-appctl", "bfd/show"), env=env, capture_output=True, text=True, timeout=10).stdout

    def way_out_at(self, node: str) -> bool:
        """Whether a node's switch has default routes."""
        flows = nodeapi.get(self.lab.state.root / "nodes" / node / "node.sock", "/v1/flows")["flows"]
        return any(flow["origin"]["detail"] == "default by the exit node" and flow["state"] == "ok" for flow in flows)

    def kill(self, node: str, *, agent: bool = True, switch: bool = True) -> None:
        """The agent and the switch at once, as if the node had lost its power; or one of them."""
        table = Table(self.lab.state)
        for name in (*([parts.agent(node)] if agent else []), *([parts.switch(node)] if switch else [])):
            processes.kill(table.get(name))
        self.dead.add(node)

    def revive(self, node: str) -> None:
        table = Table(self.lab.state)
        for part, name in (("switch", parts.switch(node)), ("node", parts.agent(node))):
            if not table.get(name).alive:
                self.lab.restart(part, node)
        self.dead.discard(node)

    def leaves_by(self) -> set[str]:
        """Nodes whose own port the pod's packets to the outside reach."""
        before = {node: self.received(node) for node in ("node1", "node2") if node not in self.dead}
        five = ("ping", "-c", "5", "-i", "0.02", "-W", "0.1", "-q", "-n", OUTSIDE)
        subprocess.run(execute.command_line(self.place, five), capture_output=True, timeout=10)
        return {node for node, count in before.items() if self.received(node) >= count + 5}

    @contextmanager
    def stream(self) -> Iterator[None]:
        """A packet of the pod's to the outside every 20 ms."""
        command = execute.command_line(self.place, ("ping", "-i", "0.02", "-q", "-n", OUTSIDE))
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as ping:
            try:
                yield
            finally:
                ping.terminate()

    def received(self, node: str) -> int:
        done = self.lab.exec_node(node, "cat", "/sys/class/net/ncp-node0/statistics/rx_packets")
        return int(done.stdout)

    def fails_over(self, to: str) -> tuple[float, float]:
        """Seconds until the lease is another's, and until packets leave by it, as of now."""
        began, before = time.monotonic(), self.received(to)
        self.until(f"{to} holds the lease", lambda: self.holder() == to)
        lease = time.monotonic() - began
        self.until(f"packets leave by {to}", lambda: self.received(to) > before + 3)
        return lease, time.monotonic() - began


@pytest.fixture
def world(edges) -> Iterator[Edges]:
    found = Edges(edges)
    found.settled()
    try:
        yield found
    finally:
        for node in sorted(found.dead):
            found.revive(node)


def other_than(edge: str) -> str:
    return "node2" if edge == "node1" else "node1"


def moves_within(world: Edges, what: str, fault: Callable[[str], None]) -> tuple[str, str]:
    """Let a fault befall the active edge under traffic; the first and the second edge."""
    first = world.settled()
    second = other_than(first)
    world.until("packets leave by the active edge", lambda: world.leaves_by() == {first})
    with world.stream():
        fault(first)
        lease, packets = world.fails_over(second)
    log.info(f"{what}: another edge holds the lease after {lease:.2f} s, packets leave by it after {packets:.2f} s")
    assert packets < GOAL
    return first, second


def test_the_standby_takes_over_from_an_edge_that_dies_and_keeps_what_it_has(world):
    first, second = moves_within(world, "agent and switch killed", world.kill)
    moved = world.lease()
    assert "BFD finds it dead" in moved["metadata"]["annotations"]["ncp/why"]
    world.revive(first)
    world.settled()
    with pytest.raises(AssertionError):  # longer than the preferred edge would wait
        world.until("it moves", lambda: world.holder() != second, 7)
    assert world.lease()["spec"]["leaseTransitions"] == moved["spec"]["leaseTransitions"]


def test_an_edge_whose_switch_dies_gives_up_at_once(world):
    moves_within(world, "switch killed", lambda edge: world.kill(edge, agent=False))


def test_an_edge_whose_link_is_lost_gives_up_at_once(world):
    def set_link(edge: str, state: str) -> None:
        done = world.lab.exec_node(edge, "ip", "link", "set", UPLINK, state)
        assert done.returncode == 0, done.stderr

    first = world.settled()
    try:
        moves_within(world, "link lost", lambda edge: set_link(edge, "down"))
        assert "no link" in world.lease()["metadata"]["annotations"]["ncp/why"]
        assert world.said()[first]["state"] == "ill"
    finally:
        set_link(first, "up")
        switches.connect(world.lab.state, topology_of(world.lab.state), first)


def test_an_edge_whose_agent_dies_stays_active_and_its_packets_flow(world):
    first = world.settled()
    moved = world.lease()["spec"]["leaseTransitions"]
    with world.stream():
        world.kill(first, switch=False)
        began, before = time.monotonic(), world.received(first)
        with pytest.raises(AssertionError):
            world.until("another holds the lease", lambda: world.holder() != first, 4)
        flowed = world.received(first) - before
        assert flowed > 0.8 * (time.monotonic() - began) / 0.02
    world.revive(first)
    world.settled()
    assert world.lease()["spec"]["leaseTransitions"] == moved


def test_an_api_server_that_comes_back_finds_the_same_edge_active(world):
    first = world.settled()
    moved = world.lease()["spec"]["leaseTransitions"]
    world.lab.restart("api")
    assert world.settled() == first
    assert world.lease()["spec"]["leaseTransitions"] == moved


def test_an_edge_that_hears_neither_the_server_nor_the_other_edge_stops_until_it_does(world):
    """The other is dead, which this one cannot know: it might as well have taken over."""
    first = world.settled()
    moved = world.lease()["spec"]["leaseTransitions"]
    api = Table(world.lab.state).get(parts.API)
    os.kill(api.pid, signal.SIGSTOP)  # it accepts, and never answers
    try:
        world.kill(other_than(first))
        world.until("it stops", lambda: not world.said()[first]["active"], GOAL)
        world.until("it is no way out in its own eyes", lambda: not world.way_out_at(first))
    finally:
        os.kill(api.pid, signal.SIGCONT)
    world.until("it goes on", lambda: world.said()[first]["active"] and world.way_out_at(first))
    world.until("packets leave by it", lambda: world.leaves_by() == {first})
    assert world.lease()["spec"]["leaseTransitions"] == moved


def test_both_edges_dead_and_back(world):
    first = world.settled()
    second = other_than(first)
    for edge in (second, first):
        world.kill(edge)
    for edge in (first, second):
        world.revive(edge)
    active = world.settled()
    world.until("packets leave by it", lambda: world.leaves_by() == {active})


def test_a_standby_that_is_no_edge_any_more_takes_nothing_and_an_active_edge_hands_over(world):
    first = world.settled()
    second = other_than(first)
    try:
        world.lab.kubectl("label", "node", first, "ncp/edge-")
        world.until("the other is active", lambda: world.holder() == second)
        world.until("packets leave by it", lambda: world.leaves_by() == {second})
        world.until("nothing is watched", lambda: not world.bfd(first))
    finally:
        world.lab.kubectl("label", "node", first, "ncp/edge=true", "--overwrite")


def test_renewals_cost_other_nodes_nothing(world):
    """Twice a second the lease changes; a node that is no edge computes nothing for it."""
    world.settled()
    given = nodeapi.statuses(world.lab.state.root)["node3"]["given"]
    seen: set[str] = set()
    world.until("it has been renewed often", lambda: seen.add(world.lease()["spec"]["renewTime"]) or len(seen) > 5)
    changed = nodeapi.statuses(world.lab.state.root)["node3"]["given"] - given
    assert changed <= 2, "kubelets may report now and then; renewals would have been 5"


def test_a_preferred_edge_takes_over_again_where_it_is_told_to(tmp_path):
    with Lab(tmp_path / "state", Wish()) as lab:
        ini = lab.state.ini
        text = ini.read_text().replace("[nsx_v3]", "[nsx_v3]\nfailover_mode = PREEMPTIVE")
        ini.write_text(text)
        for node in ("node1", "node2", "node3"):
            lab.restart("node", node)
        lab.apply(namespace("red"), pod("red/a", "node3"))
        lab.kubectl("wait", "pods", "-n", "red", "--all", "--for=condition=Ready", "--timeout=30s")
        lab.kubectl("label", "node", "node1", "node2", "ncp/edge=true")
        world = Edges(lab)
        world.settled()
        world.until("the first by name", lambda: world.holder() == "node1")
        lab.kubectl("annotate", "node", "node2", "ncp/edge-priority=10")
        took = world.until("the one with the higher priority", lambda: world.holder() == "node2")
        log.info(f"preferred from now on: active after {took:.2f} s")
        moves_within(world, "agent and switch killed", world.kill)
        world.revive("node2")
        back = world.until("it comes back", lambda: world.holder() == "node2")
        log.info(f"preferred edge back: active {back:.2f} s after it was programmed")
        world.until("packets leave by it", lambda: world.leaves_by() == {"node2"})
