"""An edge node's router kept in step with the network: real daemons, a real router beyond, a real API server."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import orjson
import pytest

from ipam.address import parse_address
from labs.api.testing import EmbeddedApi
from ncp.frr.daemons import stop
from ncp.kube.client import Kube
from ncp.kube.resources import EVENTS, NODES
from ncp.node.bgp import RouterState
from ncp.node.edge import Edge
from ncp.settings import parse
from sdn.model import Intent
from tests.frr.routers import Router, routers, wait
from tests.sdn.worlds import world

pytestmark = pytest.mark.switch

SETTINGS = "[bgp]\nlocal_as = 65001\npeers = 10.9.0.2 as 65002, fd09:1::2 as 65002\n"


@pytest.fixture(scope="module")
def kube() -> Iterator[Kube]:
    with EmbeddedApi() as api:
        connected = Kube.connect(str(api.kubeconfig))
        yield connected
        connected.close()


class Agent:
    """What an edge has of its agent: the network as it is known, and the node's object."""

    def __init__(self, kube: Kube, router: Router, intent: Intent | None, settings: str = SETTINGS) -> None:
        self.kube = kube
        self.news = threading.Condition()
        self.intent = intent
        self.states: list[RouterState] = []
        self.edge = Edge(
            parse(settings),
            "node1",
            router.daemons.rundir.parent / "edge",
            router.netns,
            kube,
            intent=lambda: self.intent,
            wait=self.wait,
            node=self.node,
            on_state=self.states.append,
        )
        self.edge.start()

    def wait(self, intent: Intent, seconds: float) -> None:
        with self.news:
            self.news.wait_for(lambda: self.intent is not intent, seconds)

    def becomes(self, intent: Intent) -> None:
        with self.news:
            self.intent = intent
            self.news.notify_all()

    def node(self):
        return self.kube.get(NODES, "node1")

    def noted(self):
        text = (self.node()["metadata"].get("annotations") or {}).get("ncp/bgp")
        return orjson.loads(text) if text else None

    def events(self) -> set[str]:
        return {each["reason"] for each in self.kube.list(EVENTS)[0] if each["involvedObject"]["name"] == "node1"}


@pytest.fixture
def scene(kube, tmp_path) -> Iterator[tuple[Kube, Router, Router]]:
    """Where the edge is to be, and the router beyond, which knows it as AS 65001."""
    kube.create(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node1"}})
    with routers(tmp_path) as (near, far):
        stop(near.daemons.rundir)
        try:
            yield kube, near, far
        finally:
            stop(tmp_path / "edge")
            for each in kube.list(EVENTS)[0]:
                kube.delete(EVENTS, each["metadata"]["name"], each["metadata"]["namespace"])
            kube.delete(NODES, "node1")


@pytest.fixture
def agent(scene) -> Iterator[Agent]:
    kube, near, _ = scene
    found = Agent(kube, near, quiet())
    yield found
    found.edge.stop()


def quiet() -> Intent:
    """Everybody is translated, nobody to anything yet."""
    return world().replace(snat_families=frozenset({4, 6}))


def translated(intent: Intent, *addresses: str) -> Intent:
    switch = replace(intent.switches[5001], translated=tuple(map(parse_address, addresses)))
    return intent.replace(switches={**intent.switches, 5001: switch})


def test_what_the_network_has_is_announced_within_a_tenth_of_a_second_and_withdrawn(agent, scene):
    far = scene[2]
    wait(lambda: far.up() and agent.edge.state.speaker is not None, "sessions")
    agent.becomes(translated(quiet(), "198.51.100.1", "2001:db8:1::1"))
    started = time.monotonic()
    wait(lambda: far.learned() == {"198.51.100.1/32", "2001:db8:1::1/128"}, "announced")
    assert time.monotonic() - started < 0.3  # a tenth where the machine does nothing else
    agent.becomes(quiet())
    wait(lambda: far.learned() == set(), "withdrawn")


def test_a_node_that_is_no_edge_any_more_ends_its_router_and_its_annotation(agent, scene):
    far = scene[2]
    wait(lambda: far.up() and agent.noted(), "sessions")
    agent.becomes(quiet().replace(tier0=replace(quiet().tier0, exit_node="node2")))
    wait(lambda: not any(each.up for each in far.daemons.peers()), "ended")
    wait(lambda: agent.noted() is None, "no annotation")


def test_the_next_agent_goes_on_with_the_session(agent, scene):
    kube, near, far = scene
    agent.becomes(translated(quiet(), "198.51.100.1"))
    wait(lambda: far.up() and far.learned() == {"198.51.100.1/32"}, "announced")
    agent.edge.stop()
    since = {each.address: each.seconds for each in far.daemons.peers()}
    follower = Agent(kube, near, None)  # which does not know the network yet
    try:
        assert far.learned() == {"198.51.100.1/32"}
        follower.becomes(translated(quiet(), "198.51.100.2"))
        wait(lambda: far.learned() == {"198.51.100.2/32"}, "goes on")
        assert all(each.up and each.seconds >= since[each.address] for each in far.daemons.peers())
    finally:
        follower.edge.stop()


def test_a_killed_daemon_is_started_again_and_counted(agent, scene):
    far = scene[2]
    agent.becomes(translated(quiet(), "198.51.100.1"))
    wait(lambda: far.learned() == {"198.51.100.1/32"}, "announced")
    os.kill(agent.edge._daemons.pid("bgpd"), signal.SIGKILL)
    wait(lambda: agent.edge.state.restarts == 1, "started again")
    wait(lambda: far.up() and far.learned() == {"198.51.100.1/32"}, "announced again")
    assert not agent.edge.state.fault


def test_a_lost_peer_is_told_on_the_node_and_in_events(agent, scene):
    far = scene[2]
    wait(lambda: agent.noted() and {each["state"] for each in agent.noted()["peers"]} == {"up"}, "told that it is up")
    wait(lambda: all(each.bfd == "up" for each in agent.edge.state.peers), "BFD")
    far.cut()
    wait(lambda: {each["state"] for each in agent.noted()["peers"]} == {"down"}, "told that it is down")
    assert "BFD" in agent.noted()["peers"][0]["reason"]
    wait(lambda: agent.events() >= {"BGP_PEER_UP", "BGP_PEER_DOWN"}, "events")


def test_a_peer_of_another_as_is_told_with_its_reason(scene):
    kube, near, _ = scene
    agent = Agent(kube, near, quiet(), SETTINGS.replace("65002", "65009"))
    try:
        wait(lambda: agent.noted() and "Bad Peer AS" in str(agent.noted()["peers"]), "told", 20)
    finally:
        agent.edge.stop()


def test_without_frr_the_node_says_what_to_install(scene, monkeypatch, tmp_path):
    kube, near, _ = scene
    monkeypatch.setattr("ncp.frr.daemons.PROGRAMS", tmp_path / "none")
    agent = Agent(kube, near, quiet())
    try:
        wait(lambda: agent.noted() and "install the package frr" in agent.noted().get("error", ""), "told")
        wait(lambda: "FRR_FAILED" in agent.events(), "event")
    finally:
        agent.edge.stop()
