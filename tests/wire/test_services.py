"""Packets to virtual servers reach members, from every node, and are answered as by the virtual server."""

from __future__ import annotations

import socket
from collections import Counter
from contextlib import contextmanager

import pytest

from ncp.cli import nodeapi
from ncp.kube.client import Kube
from ncp.kube.resources import SERVICES
from ncp.probe.wire import run_in

NODES = ("node1", "node2", "node3")
LABELS = {"red/a": "a", "red/b": "b", "red/c": "c", "blue/d": "d"}


@pytest.fixture(scope="module")
def kube(lab, pods):
    for name, label in LABELS.items():
        space, short = name.split("/")
        lab.kubectl("label", "pod", "-n", space, short, f"app={label}", "--overwrite")
    connected = Kube.connect(str(lab.state.kubeconfig))
    yield connected
    connected.close()


@contextmanager
def service(wire, kube, name, *, members, ports=({"name": "tcp", "port": 80, "targetPort": 8080},), **spec):
    """A service in red before the pods with the label app=``members``; yields its addresses by family."""
    body = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "red"},
        "spec": {"selector": members, "ports": list(ports), "ipFamilyPolicy": "RequireDualStack", **spec},
    }
    made = kube.create(SERVICES, body)
    addresses = {6 if ":" in each else 4: each for each in made["spec"]["clusterIPs"]}

    def flows():
        return [
            flow
            for node in NODES
            for flow in nodeapi.get(wire.lab.state.root / "nodes" / node / "node.sock", "/v1/flows")["flows"]
            if flow["origin"]["kind"] == "Service" and flow["origin"]["name"] == name and flow["state"] == "ok"
        ]

    try:
        wire.lab.wait(
            lambda: (
                len({flow["origin"]["detail"] for flow in flows() if "member" in flow["origin"]["detail"]}) > 0
                and len(flows()) % len(NODES) == 0
            ),
            f"service {name} is programmed",
        )
        yield addresses
    finally:
        kube.delete(SERVICES, name, "red")
        wire.lab.wait(lambda: not flows(), f"nothing is left of service {name}")


def says(wire, client, address, port=80, protocol=socket.SOCK_STREAM):
    """Who answers a client; ``refused`` or ``silence`` where nobody does."""

    def ask():
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, protocol) as sock:
            sock.settimeout(2)
            try:
                sock.connect((address, port))
                sock.send(b"who\n")
                return sock.recv(100).decode().strip()
            except TimeoutError:
                return "silence"
            except ConnectionRefusedError:
                return "refused"

    return run_in(wire.end(client).netns, ask)


CLIENTS = ("red/a", "red/c", "blue/d", "blue/e")


@pytest.mark.parametrize("family", [4, 6])
def test_a_cluster_address_leads_every_pod_to_its_members(wire, kube, family):
    ports = (
        {"name": "t", "port": 80, "targetPort": 8080},
        {"name": "u", "port": 53, "targetPort": 5353, "protocol": "UDP"},
    )
    with service(wire, kube, "one", members={"app": "b"}, ports=ports) as addresses:
        assert [says(wire, each, addresses[family]) for each in CLIENTS] == ["b"] * 4
        assert [says(wire, each, addresses[family], 53, socket.SOCK_DGRAM) for each in CLIENTS] == ["b"] * 4
        assert says(wire, "blue/e", addresses[family], 81) == "refused", "the address has no such port"


@pytest.mark.parametrize("family", [4, 6])
def test_nobody_behind_a_service_is_told_at_once(wire, kube, family):
    with service(wire, kube, "some", members={"app": "b"}) as addresses:
        kube.patch(SERVICES, "some", "red", body={"spec": {"selector": {"app": "nobody"}}})
        wire.lab.wait(lambda: says(wire, "red/a", addresses[family]) == "refused", "the client is refused")
        assert says(wire, "blue/d", addresses[family]) == "refused"


def test_members_share_connections_evenly(wire, kube):
    for name in ("red/b", "red/c"):
        wire.lab.kubectl("label", "pod", "-n", "red", name.split("/")[1], "group=two", "--overwrite")
    with service(wire, kube, "two", members={"group": "two"}) as addresses:
        wire.lab.wait(lambda: says(wire, "blue/e", addresses[4]) == "c", "the second member is there")
        found = Counter(says(wire, "blue/e", addresses[4]) for _ in range(200))
        assert found.keys() == {"b", "c"}
        assert abs(found["b"] - 100) < 3 * 50**0.5, "within three sigma of even"
