"""Two hundred pods come and go, and leave nothing; a node leaves and comes back."""

from __future__ import annotations

import subprocess
import time

import pytest

from ncp.cli import nodeapi

pytestmark = pytest.mark.lab
SPACES = [f"crowd-{number}" for number in range(10)]


def pods_of(space):
    containers = [{"name": "main", "image": "lab/responder", "ports": [{"containerPort": 8080}]}]
    return [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": f"p{n}", "namespace": space},
            "spec": {"containers": containers},
        }
        for n in range(20)
    ]


def is_ready(pod):
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", ()))


def test_two_hundred_pods_come_up_and_disappear_without_a_trace_in_time(lab, record_property):
    def crowd():
        return [p for p in lab.get("pods", "-A")["items"] if p["metadata"]["namespace"] in SPACES]

    spaces = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": space}} for space in SPACES]
    started = time.monotonic()
    lab.apply(*spaces, *(pod for space in SPACES for pod in pods_of(space)))
    try:
        lab.wait(lambda: sum(map(is_ready, crowd())) == 200, "200 pods are ready", 60)
        came = time.monotonic() - started
        addresses = [p["status"]["podIP"] for p in crowd()]
        assert len(set(addresses)) == 200
        assert {p["spec"]["nodeName"] for p in crowd()} == {"node1", "node2", "node3"}
    finally:
        started = time.monotonic()
        lab.kubectl("delete", "namespace", *SPACES, "--timeout=90s")
    lab.wait(lambda: not traces(lab), "nothing of them is left", 30)
    gone = time.monotonic() - started
    record_property("seconds to come and to go", (round(came, 1), round(gone, 1)))
    assert came < 30
    assert gone < 30


def traces(lab):
    found = []
    for path in sorted((lab.state.root / "nodes").glob("*/node.sock")):
        flows, status = nodeapi.get(path, "/v1/flows")["flows"], nodeapi.get(path, "/v1/status")
        found += [f["origin"] for f in flows if f["origin"]["namespace"] in SPACES or f["origin"]["name"] in SPACES]
        found += [p["name"] for p in status["ports"] if p["name"].split("/")[0] in SPACES]
    alive = {f"ncp{lab.state.lab}-p-{p['metadata']['uid'][:8]}" for p in lab.get("pods", "-A")["items"]}
    spaces = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True).stdout.split()
    return found + [name for name in spaces if name.startswith(f"ncp{lab.state.lab}-p-") and name not in alive]


def test_a_node_that_leaves_takes_its_flows_along_and_one_that_joins_is_reached_in_time(lab):
    def flows_for(name):
        flows = nodeapi.get(lab.state.root / "nodes" / "node1" / "node.sock", "/v1/flows")["flows"]
        return [f for f in flows if f["origin"]["kind"] == "Node" and f["origin"]["name"] == name]

    lab.wait(lambda: flows_for("node3"), "node1 knows node3")
    lab.kubectl("delete", "node", "node3")
    lab.restart("kubelet")  # registers its nodes again, as a host that joins would
    started = time.monotonic()
    lab.wait(lambda: lab.kubectl("get", "node", "node3", check=False), "node3 registers", 30)
    lab.wait(lambda: flows_for("node3"), "node1 knows node3 again", 10)
    assert time.monotonic() - started < 10
    lab.kubectl("wait", "node", "node3", "--for=condition=Ready", "--timeout=20s")
