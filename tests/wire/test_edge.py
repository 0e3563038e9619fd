"""Two edges with two uplinks each, two routers upstream, and the host outside behind both: all that the physical network sees of pods.

Ways are learned by BGP alone; what routers have learned is asked of them.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from labs import execute, parts, processes
from labs.execute import of_external
from labs.kubelet.responder import Port, Responders
from labs.processes import Table
from labs.wish import Wish
from ncp.cli import nodeapi
from ncp.probe.wire import packet_socket, run_in
from tests.support.lab import Lab
from tests.wire.conftest import namespace, pod
from topologies import catalog
from topologies.build import set_wire

pytestmark = pytest.mark.lab
log = logging.getLogger(__name__)
FAR = {4: "203.0.113.1", 6: "2001:db8:113::1"}
PODS = [ip_network(text) for text in ("10.4.0.0/16", "fd00:10:4::/48")]
SERVED = 7000
GOAL = 3.0
EDGES = ("edge1", "edge2")


class Outside:
    """The lab, as somebody outside sees it."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.dead: set[str] = set()

    def active(self) -> str:
        lease = json.loads(
            self.lab.kubectl("get", "lease", "-n", "kube-system", "ncp-tier0", "-o", "json", check=False) or "{}"
        )
        return (lease.get("spec") or {}).get("holderIdentity") or ""

    def learned(self, router: str = "up1") -> dict[str, set[str]]:
        """What a router upstream has learned from edges: prefix → next hops."""
        found: dict[str, set[str]] = {}
        for family in ("ipv4", "ipv6"):
            place = execute.of_router(self.lab.state, router)
            line = execute.command_line(place, ("vtysh", "-c", f"show bgp {family} unicast json"))
            text = subprocess.run(
                line, env={**os.environ, **place.env}, capture_output=True, text=True, timeout=10
            ).stdout
            for prefix, paths in (json.loads(text or "{}").get("routes") or {}).items():
                ways = {
                    hop["ip"]
                    for path in paths
                    if str(path.get("path", "")).startswith("65000")
                    for hop in path["nexthops"]
                }
                if ways:
                    found[prefix] = ways
        return found

    def addresses(self, space: str) -> set[str]:
        """Host routes to what a namespace is outside."""
        said = (self.lab.get("namespace", space)["metadata"].get("annotations") or {}).get("ncp/snat_ip", "")
        return {f"{each}/{ip_address(each).max_prefixlen}" for each in said.split(",") if each}

    def subnets(self, space: str) -> set[str]:
        segments = json.loads(self.lab.get("namespace", space)["metadata"]["annotations"]["ncp/segments"])
        return {str(ip_network(each, strict=False)) for segment in segments for each in segment["gateways"]}

    def wanted(self, *more: str) -> set[str]:
        """Everything edges are to announce: every translated namespace's addresses and blue's own networks."""
        spaces = [each["metadata"]["name"] for each in self.lab.get("namespaces")["items"]]
        found = {prefix for space in spaces for prefix in self.addresses(space)}
        return found | self.subnets("blue") | set(more)

    def settled(self) -> str:
        """The active edge once both routers know all that is to be announced from it, and edges hear each other."""

        def well() -> bool:
            said = nodeapi.survey(self.lab.state.root)[0]
            edges = [said[name]["edge"] for name in EDGES if name not in self.dead and name in said]
            living = len(EDGES) - len(self.dead)
            heard = all(list(each["bfd"].values()).count("up") == living - 1 for each in edges)
            return len(edges) == living and heard and all(each["state"] == "well" for each in edges)

        self.lab.wait(well, "edges are well")
        self.lab.wait(
            lambda: all(set(self.learned(up)) == self.wanted() for up in ("up1", "up2")), "routers know the ways"
        )
        return self.active()

    def kill(self, node: str) -> None:
        """Everything of a node that runs, as if it had lost its power."""
        table = Table(self.lab.state)
        for name in (parts.agent(node), parts.switch(node)):
            processes.kill(table.get(name))
        for pid in self._daemons(node):
            os.kill(pid, signal.SIGKILL)
        self.dead.add(node)

    def revive(self, node: str) -> None:
        self.lab.restart("switch", node)
        if not Table(self.lab.state).get(parts.agent(node)).alive:
            self.lab.restart("node", node)
        self.dead.discard(node)

    def _daemons(self, node: str) -> list[int]:
        """FRR's on a node."""
        pids = subprocess.run(
            ("ip", "netns", "pids", execute.of_node(self.lab.state, node).netns),
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        names = {}
        for pid in pids:
            try:
                with open(f"/proc/{pid}/comm") as file:
                    names[int(pid)] = file.read().strip()
            except FileNotFoundError:
                continue
        return [pid for pid, name in names.items() if name in ("zebra", "bgpd", "bfdd", "mgmtd")]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab(tmp_path_factory.mktemp("edges") / "state", Wish(topology="edges")) as found:
        found.apply(
            namespace("red"), namespace("green"), namespace("blue", no_snat="true"),
            pod("red/a", "node1"), pod("red/b", "edge1"), pod("green/g", "node2"), pod("blue/d", "node2"),
        )  # fmt: skip
        for space in ("red", "green", "blue"):
            found.kubectl("wait", "pods", "-n", space, "--all", "--for=condition=Ready", "--timeout=30s")
        yield found


@pytest.fixture(scope="module")
def server(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Somebody outside who says whom they see."""
    responders = Responders()
    try:
        ports = [Port("outside", SERVED, protocol) for protocol in ("TCP", "UDP")]
        responders.serve("outside", of_external(lab.state).netns, "outside", ports, tmp_path_factory.mktemp("outside"))
        yield
    finally:
        responders.close()


@pytest.fixture
def outside(lab: Lab) -> Iterator[Outside]:
    found = Outside(lab)
    found.settled()
    topology = catalog.edges()
    try:
        yield found
    finally:
        for node in sorted(found.dead):
            found.revive(node)
        for node in EDGES:
            for network in ("uplink-a", "uplink-b"):
                set_wire(topology, lab.state.lab, node, network, up=True)


def asks(lab: Lab, client: str, address: str, port: int, line: bytes, seconds: float = 2.0) -> str:
    """What a client (a pod, or ``external``) is answered by TCP; empty where nobody answers."""
    place = of_external(lab.state) if client == "external" else execute.of_pod(lab.state, client)

    def ask() -> str:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family) as sock:
            sock.settimeout(seconds)
            try:
                sock.connect((address, port))
                sock.send(line + b"\n")
                return sock.recv(100).decode().strip()
            except OSError:
                return ""

    return run_in(place.netns, ask)


def host_of(answer: str) -> str:
    return answer.rpartition(":")[0].strip("[]")


@pytest.mark.parametrize("family", [4, 6])
def test_pods_get_out_under_the_address_of_their_namespace_and_answers_find_back_by_bgp(outside, server, family):
    with uplinks(outside) as senders:
        for name, space in (("red/a", "red"), ("red/b", "red"), ("green/g", "green")):
            own = next(
                each.split("/")[0]
                for each in outside.addresses(space)
                if ip_address(each.split("/")[0]).version == family
            )
            assert host_of(asks(outside.lab, name, FAR[family], SERVED, b"/clientip")) == own
        address = next(
            each["ip"]
            for each in outside.lab.get("pod", "-n", "blue", "d")["status"]["podIPs"]
            if (":" in each["ip"]) == (family == 6)
        )
        assert host_of(asks(outside.lab, "blue/d", FAR[family], SERVED, b"/clientip")) == address
        assert asks(outside.lab, "external", address, 8080, b"who") == "d", "and is reached there"
    assert [each for each in senders() if any(ip_address(each) in block for block in PODS)] == []


@contextmanager
def uplinks(outside: Outside) -> Iterator[Callable[[], list[str]]]:
    """A capture at the external host's link; gives the senders of what came in."""
    from scapy.layers.inet import IP
    from scapy.layers.inet6 import IPv6
    from scapy.layers.l2 import Ether

    sock, found = packet_socket(of_external(outside.lab.state).netns, "eth0"), []
    done = threading.Event()

    def read() -> None:
        while not done.wait(0.005):
            try:
                while True:
                    raw, address = sock.recvfrom(65535)
                    layer = Ether(raw).payload
                    if address[2] != 4 and isinstance(layer, IP | IPv6):
                        found.append(layer.src)
            except BlockingIOError:
                continue

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield lambda: list(found)
    finally:
        done.set()
        reader.join()
        sock.close()


def test_routers_learn_exactly_what_is_to_be_reached_and_lose_it_on_delete(outside):
    lab, active = outside.lab, outside.active()
    number = EDGES.index(active) + 11
    assert set(outside.learned()) == outside.wanted()
    hops = {hop for prefix, ways in outside.learned().items() for hop in ways if "." in prefix}
    assert hops <= {f"192.168.10.{number}", f"192.168.20.{number}"}, "from the active edge alone"
    spec = {
        "type": "LoadBalancer",
        "selector": {"app": "a"},
        "ports": [{"port": 80, "targetPort": 8080}],
        "ipFamilyPolicy": "RequireDualStack",
    }
    lab.kubectl("label", "pod", "-n", "red", "a", "app=a", "--overwrite")
    lab.apply({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "red"}, "spec": spec})
    try:

        def given() -> set[str] | None:
            ingress = lab.get("service", "-n", "red", "web")["status"].get("loadBalancer", {}).get("ingress") or []
            return (
                {f"{each['ip']}/{ip_address(each['ip']).max_prefixlen}" for each in ingress}
                if len(ingress) == 2
                else None
            )

        virtual = lab.wait(given, "web has virtual addresses")
        lab.wait(lambda: set(outside.learned()) == outside.wanted(*virtual), "they are announced")
        for each in [prefix.split("/")[0] for prefix in virtual]:
            lab.wait(lambda a=each: asks(lab, "external", a, 80, b"who") == "a", f"{each} answers")
        lab.kubectl("label", "pod", "-n", "red", "a", "app=nobody", "--overwrite")
        lab.wait(lambda: set(outside.learned()) == outside.wanted(), "without a member they are withdrawn")
        lab.kubectl("label", "pod", "-n", "red", "a", "app=a", "--overwrite")
        lab.wait(lambda: virtual <= set(outside.learned()), "and announced again")
    finally:
        lab.kubectl("delete", "service", "-n", "red", "web")
    lab.wait(lambda: set(outside.learned()) == outside.wanted(), "withdrawn with the service")
    lab.apply(namespace("short"), pod("short/s", "node1"))
    lab.wait(
        lambda: outside.addresses("short") and outside.addresses("short") <= set(outside.learned()), "a namespace comes"
    )
    gone = outside.addresses("short")
    lab.kubectl("delete", "namespace", "short")
    lab.wait(lambda: not gone & set(outside.learned()) and set(outside.learned()) == outside.wanted(), "and goes")


def test_two_uplinks_share_connections_and_one_carries_all_when_the_other_is_lost(outside, server):
    lab, active = outside.lab, outside.active()

    def sent() -> dict[str, int]:
        counts = {
            name: lab.exec_node(active, "cat", f"/sys/class/net/{name}/statistics/tx_packets").stdout
            for name in ("up-a", "up-b")
        }
        return {name: int(count) for name, count in counts.items()}

    lab.wait(
        lambda: lab.exec_node(active, "ip", "route", "show", "default").stdout.count("nexthop") == 2, "two next hops"
    )
    before = sent()
    for _ in range(60):
        assert asks(lab, "red/a", FAR[4], SERVED, b"who") == "outside"
    grown = {name: count - before[name] for name, count in sent().items()}
    assert min(grown.values()) > 60, f"both carry a good part of 60 connections of 5 packets each: {grown}"
    longest = _longest_silence(
        lab, "red/a", lambda: set_wire(catalog.edges(), lab.state.lab, active, "uplink-a", up=False)
    )
    log.info("an uplink lost: %.2f s without an answer", longest)
    assert longest < 1.5
    assert outside.active() == active


def _longest_silence(lab: Lab, client: str, fault: Callable[[], object], seconds: float = 5.0) -> float:
    """The longest time without an answer to a pod's echo requests to the host outside, sent every 20 ms, around a fault."""
    place = execute.of_pod(lab.state, client)
    line = execute.command_line(place, ("ping", "-n", "-D", "-i", "0.02", "-w", str(int(seconds) + 1), FAR[4]))
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as ping:
        time.sleep(1.0)  # the stream before the fault is part of what is measured
        fault()
        text = ping.communicate()[0]
    at = [
        float(part[1 : part.index("]")]) for part in text.splitlines() if part.startswith("[") and "bytes from" in part
    ]
    assert len(at) > 50, text[-500:]
    ends = [*at, at[0] + seconds]  # who fell silent for good is silent till the end
    return max(b - a for a, b in zip(at, ends[1:], strict=False))


def test_the_active_edge_dies_under_traffic_and_the_other_answers_for_everything(outside, server):
    lab, first = outside.lab, outside.active()
    second = next(each for each in EDGES if each != first)
    lab.kubectl("label", "pod", "-n", "red", "a", "app=a", "--overwrite")
    spec = {"type": "LoadBalancer", "selector": {"app": "a"}, "ports": [{"port": 80, "targetPort": 8080}]}
    lab.apply({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "vip", "namespace": "red"}, "spec": spec})
    try:

        def given() -> str:
            ingress = lab.get("service", "-n", "red", "vip")["status"].get("loadBalancer", {}).get("ingress") or [{}]
            return ingress[0].get("ip", "")

        address = lab.wait(given, "vip has an address")
        lab.wait(lambda: asks(lab, "external", address, 80, b"who") == "a", "it answers")
        outages: dict[str, float] = {}
        stop = threading.Event()

        def watch() -> None:
            last = time.monotonic()
            outages["vip"] = 0.0
            while not stop.wait(0.02):
                if asks(lab, "external", address, 80, b"who", 0.3) == "a":
                    outages["vip"] = max(outages["vip"], time.monotonic() - last)
                    last = time.monotonic()
            outages["vip"] = max(outages["vip"], time.monotonic() - last)

        watcher = threading.Thread(target=watch)
        with uplinks(outside) as senders:
            watcher.start()
            outages["snat"] = _longest_silence(lab, "red/a", lambda: outside.kill(first))
            stop.set()
            watcher.join()
        log.info(
            "the active edge killed: %.2f s for SNAT, %.2f s for a virtual address", outages["snat"], outages["vip"]
        )
        assert max(outages.values()) < GOAL, outages
        assert outside.active() == second
        assert [each for each in senders() if any(ip_address(each) in block for block in PODS)] == []
        outside.lab.wait(lambda: set(outside.learned()) == outside.wanted(f"{address}/32"), "all is announced")
        _audited(outside, [second, "node1", "node2"])
        red = next(each.split("/")[0] for each in outside.addresses("red") if "." in each)
        assert host_of(asks(lab, "red/a", FAR[4], SERVED, b"/clientip")) == red, "under the same address"
    finally:
        lab.kubectl("delete", "service", "-n", "red", "vip")


def _audited(outside: Outside, nodes: list[str]) -> None:
    """Every switch holds exactly what it should: no flow is missing, altered or somebody else's."""
    for node in nodes:
        flows = nodeapi.get(outside.lab.state.root / "nodes" / node / "node.sock", "/v1/flows")["flows"]
        assert [flow for flow in flows if flow["state"] not in ("ok", "learned")] == []


def test_both_edges_dead_and_back(outside, server):
    for node in EDGES:
        outside.kill(node)
    assert asks(outside.lab, "red/a", FAR[4], SERVED, b"who", 1.0) == ""
    for node in EDGES:
        outside.revive(node)
    outside.settled()
    outside.lab.wait(lambda: asks(outside.lab, "red/a", FAR[4], SERVED, b"who") == "outside", "red gets out again")


def test_a_routing_daemon_that_is_killed_is_back_and_announces_again(outside):
    lab, active = outside.lab, outside.active()
    pids = outside._daemons(active)
    assert pids
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    lab.wait(lambda: (now := outside._daemons(active)) and not set(now) & set(pids), "its daemons run again")
    outside.settled()


def test_a_peer_of_another_as_is_told_with_its_reason(outside):
    lab, active = outside.lab, outside.active()
    ini = lab.state.root / "ncp.ini"
    before = ini.read_text()
    ini.write_text(before.replace("192.168.20.1 as 65100", "192.168.20.1 as 65099"))
    try:
        lab.restart("node", active)

        def told() -> dict[str, Any] | None:
            said = json.loads(lab.get("node", active)["metadata"]["annotations"].get("ncp/bgp", "{}"))
            peer = next((each for each in said.get("peers", ()) if each["address"] == "192.168.20.1"), {})
            return peer if peer.get("state") != "up" and "AS" in peer.get("reason", "") else None

        lab.wait(told, "the node says why the peer is down")
        assert outside.wanted() == set(outside.learned("up1")), "the other router is told everything all the same"
    finally:
        ini.write_text(before)
        lab.restart("node", active)
    outside.settled()
