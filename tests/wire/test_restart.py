"""Parts die and come back: what packets notice."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import pytest

from labs.status import status
from ncp.kube.client import Kube
from ncp.kube.resources import NODES
from sdn.pipeline.tables import T

pytestmark = [pytest.mark.lab, pytest.mark.alone]


LAST: Final = 50
"""Echoes at the end that are not counted: ping waits for the last of them no longer than the others took, which is little."""


def ping(wire, source, destination, family, interval, count):
    """How many of so many echoes were not answered."""
    address = str(wire.end(destination).address(family))
    where = ("ip", "netns", "exec", wire.end(source).netns)
    command = (*where, "ping", "-n", "-i", str(interval), "-c", str(count + LAST), address)
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    answered = {int(number) for number in re.findall(r"icmp_seq=(\d+) ttl=", done.stdout)}
    assert answered, done.stdout + done.stderr
    return len(set(range(1, count + 1)) - answered)


def held(wire, node):
    """Every flow of a node's switch with its age, so that one installed anew is told from one left alone."""
    text = wire.lab.exec_node(node, "ovs-ofctl", "-O", "OpenFlow15", "dump-flows", "br-int").stdout
    lines = [line.strip() for line in text.splitlines() if "cookie=" in line]
    ages = {
        re.sub(r" duration=[^,]*,| (?:idle|hard)_age=\d+,| n_packets=\d+,| n_bytes=\d+,", "", line): line
        for line in lines
    }
    return {rule: float(re.search(r"duration=([\d.]+)s", line)[1]) for rule, line in ages.items()}


def under_pings(wire, act, *, interval=0.001, count=2500):
    """Losses of two pings that run while something happens."""
    with ThreadPoolExecutor(2) as pool:
        pings = [
            pool.submit(ping, wire, "red/a", "red/c", 4, interval, count),
            pool.submit(ping, wire, "red/b", "blue/d", 6, interval, count),
        ]
        act()
        return [one.result() for one in pings]


def test_an_agents_restart_loses_no_packet_and_touches_no_flow(wire):
    before = held(wire, "node1")
    lost = under_pings(wire, lambda: wire.lab.restart("node", "node1"))
    after = held(wire, "node1")
    assert lost == [0, 0]
    assert after.keys() == before.keys()
    assert all(after[rule] > before[rule] for rule in before), "a flow was installed anew"


def test_a_managers_restart_changes_no_address(wire):
    def decided():
        pods = wire.lab.get("pods", "-A")["items"]
        return {p["metadata"]["name"]: p["metadata"]["annotations"]["ncp/port"] for p in pods}

    before = decided()
    wire.lab.restart("manager")
    assert decided() == before


def test_a_switchs_restart_recovers_by_itself(wire, record_property):
    lost = under_pings(wire, lambda: wire.lab.restart("switch", "node1"), interval=0.01, count=300)
    record_property("packets lost of 300 at 10 ms", lost)
    assert all(loss < 150 for loss in lost)
    assert under_pings(wire, lambda: None, count=100) == [0, 0]
    wire.lab.wait(lambda: wire.status("node1")["in_step"], "node1 is in step")
    assert not [flow for flow in wire.flows("node1") if flow["state"] not in ("ok", "learned")]


def test_the_api_servers_restart_is_not_noticed_by_packets_and_work_goes_on_after_it(wire):
    assert under_pings(wire, lambda: wire.lab.restart("api")) == [0, 0]
    wire.lab.kubectl("label", "pod", "-n", "red", "a", "touched=yes", "--overwrite")
    wire.lab.kubectl("create", "namespace", "after-restart")
    try:
        wire.lab.wait(
            lambda: "ncp/segments" in wire.lab.get("namespace", "after-restart")["metadata"].get("annotations", {}),
            "the manager decides again",
        )
    finally:
        wire.lab.kubectl("delete", "namespace", "after-restart")


def test_flows_added_or_deleted_by_hand_are_repaired_and_reported_in_time(wire):
    before = held(wire, "node2").keys()
    wire.lab.exec_node("node2", "ovs-ofctl", "-O", "OpenFlow15", "del-flows", "br-int", f"table={T['neighbour']}")
    wire.lab.exec_node(
        "node2", "ovs-ofctl", "-O", "OpenFlow15", "add-flow", "br-int", "table=0,priority=9,actions=drop"
    )
    wire.lab.wait(lambda: held(wire, "node2").keys() == before, "the flows of node2 are repaired", 30)
    kinds = {drift["kind"] for drift in wire.status("node2")["drift"]}
    assert kinds == {"missing", "foreign"}


def test_a_namespace_leaves_nothing_behind(wire):
    wire.lab.kubectl("create", "namespace", "brief")
    wire.lab.kubectl("run", "guest", "-n", "brief", "--image=lab/responder")
    wire.lab.kubectl("wait", "pod", "guest", "-n", "brief", "--for=condition=Ready", "--timeout=30s")
    assert any(f["origin"]["namespace"] == "brief" for f in wire.flows("node3"))
    wire.lab.kubectl("delete", "namespace", "brief", "--timeout=30s")
    for node in ("node1", "node2", "node3"):

        def left(node=node):
            origins = [f["origin"] for f in wire.flows(node)]
            ports = [p["name"] for p in wire.status(node)["ports"]]
            return [o for o in origins if "brief" in (o["namespace"], o["name"])] + [
                p for p in ports if p.startswith("brief/")
            ]

        wire.lab.wait(lambda left=left: not left(), f"nothing of the namespace is on {node}")
    netns = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True).stdout
    assert netns.count(f"ncp{wire.lab.state.lab}-p-") == len(wire.lab.get("pods", "-A")["items"])


def test_a_node_without_its_switch_says_so_and_is_well_again_with_it(wire):
    def unavailable():
        conditions = wire.lab.get("node", "node3")["status"]["conditions"]
        return next((c for c in conditions if c["type"] == "NetworkUnavailable"), {}).get("status")

    def healthy():
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5) as answer:
                return answer.status == 200
        except urllib.error.HTTPError as error:
            if error.code != 503:
                raise
            return False

    processes = {each.name: each for each in status(wire.lab.state).processes}
    port = processes["node-node3"].port
    wire.lab.wait(lambda: unavailable() == "False" and healthy(), "node3 is well")
    os.kill(processes["switch-node3"].pid, signal.SIGKILL)
    try:
        wire.lab.wait(lambda: unavailable() == "True" and not healthy(), "node3 says that it has no network", 30)
    finally:
        wire.lab.restart("switch", "node3")
    wire.lab.wait(lambda: unavailable() == "False" and healthy(), "node3 is well again", 30)
    assert under_pings(wire, lambda: None, count=50) == [0, 0]


def test_a_condition_that_somebody_else_overwrote_is_put_right(wire):
    def unavailable():
        conditions = wire.lab.get("node", "node2")["status"]["conditions"]
        return next(each for each in conditions if each["type"] == "NetworkUnavailable")

    before = unavailable()
    stale = {**before, "status": "True", "message": "as it was a while ago", "lastTransitionTime": None}
    kube = Kube.connect(str(wire.lab.state.kubeconfig))
    kube.patch(NODES, "node2", body={"status": {"conditions": [stale]}}, kind="strategic", subresource="status")
    wire.lab.wait(lambda: unavailable()["status"] == "False", "the agent says again that node2 has a network", 5)
    assert unavailable()["message"] == before["message"]
