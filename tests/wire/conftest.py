"""Five pods in two namespaces on three nodes, and packets to and from them."""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from scapy.layers.l2 import Ether

from labs.status import status
from ncp.cli import nodeapi
from ncp.kube.client import Kube
from ncp.probe import run
from ncp.probe.model import Endpoint
from ncp.probe.wire import Station, packet_socket
from tests.support.lab import Lab

PODS = {"red/a": "node1", "red/b": "node1", "red/c": "node2", "blue/d": "node3", "blue/e": "node1"}
LABELS = {"red/a": "a", "red/b": "b", "red/c": "c", "blue/d": "d"}
PORTS = [
    {"containerPort": 8080},
    {"containerPort": 5353, "protocol": "UDP"},
    {"containerPort": 9091, "protocol": "SCTP"},
]


def namespace(name, **annotations):
    """``no_snat="true"`` is the annotation ncp/no_snat."""
    said = {f"ncp/{key}": value for key, value in annotations.items()}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "annotations": said}}


def pod(name, node="", ports=PORTS):
    space, short = name.split("/")
    spec = {"containers": [{"name": "main", "image": "lab/responder", "ports": ports}], "nodeName": node}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": short, "namespace": space}, "spec": spec}


class Wire:
    """The five pods, by name."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.site = run.site(None, lab.state.root)

    def fresh(self) -> Wire:
        """The same, looked at now."""
        return Wire(self.lab)

    def end(self, name: str) -> Endpoint:
        return self.site.endpoints[name]

    def status(self, node: str):
        return nodeapi.statuses(self.lab.state.root)[node]

    def flows(self, node: str):
        return nodeapi.get(self.lab.state.root / "nodes" / node / "node.sock", "/v1/flows")["flows"]

    def dropped(self, node: str) -> dict[str, int]:
        """Packets dropped on a node, by reason."""
        found: dict[str, int] = {}
        for flow in self.flows(node):
            if flow["origin"]["kind"] == "Fabric" and flow["origin"]["name"] == "drop":
                reason = flow["origin"]["detail"]
                found[reason] = found.get(reason, 0) + flow["packets"]
        return found

    @contextmanager
    def planted(self, node: str, flow: str) -> Iterator[Callable[[], bool]]:
        """A flow added by hand, obeyed by what the switch has cached too; yields whether it is still there."""
        ofctl = ("ovs-ofctl", "-O", "OpenFlow15")
        match = flow.partition(",actions=")[0]
        table = match.partition(",")[0]  # the switch has flows without a cookie of its own in other tables
        assert table.startswith("table="), flow

        def run(*command: str) -> str:
            done = self.lab.exec_node(node, *command)
            assert done.returncode == 0, done.stderr
            return done.stdout

        run(*ofctl, "add-flow", "br-int", flow)
        try:
            run("ovs-appctl", "revalidator/wait")
            yield lambda: "cookie=0x0," in run(*ofctl, "dump-flows", "br-int", f"{table},cookie=0/-1")
        finally:
            run(*ofctl, "--strict", "del-flows", "br-int", match)
            run("ovs-appctl", "revalidator/wait")

    def exchange(self, name: str, frame: bytes, wanted: Callable[[Ether], bool], seconds: float = 2.0) -> list[Ether]:
        """Send a frame from a pod; the frames that came back up to the first that is wanted (none: silence)."""
        with Station(self.end(name)) as station:
            station.send(frame)
            return receive(station.receiving, wanted, seconds)


@contextmanager
def configured(wire: Wire, section: str, *lines: str) -> Iterator[None]:
    """Every node's agent with these lines in its configuration."""
    ini = wire.lab.state.root / "ncp.ini"
    before = ini.read_text()
    named = before if f"[{section}]\n" in before else f"{before}\n[{section}]\n"
    ini.write_text(named.replace(f"[{section}]\n", f"[{section}]\n" + "".join(f"{line}\n" for line in lines)))
    try:
        for node in ("node1", "node2", "node3"):
            wire.lab.restart("node", node)
        yield
    finally:
        ini.write_text(before)
        for node in ("node1", "node2", "node3"):
            wire.lab.restart("node", node)


def receive(sock, wanted, seconds):
    found = []
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        if not select.select([sock], [], [], left)[0]:
            break
        raw, address = sock.recvfrom(65535)
        if address[2] == 4:  # PACKET_OUTGOING
            continue
        found.append(Ether(raw))
        if wanted(found[-1]):
            return found
    return []


@pytest.fixture(scope="session")
def pods(lab: Lab) -> Iterator[None]:
    lab.apply(namespace("red"), namespace("blue", no_snat="true"), *(pod(name, node) for name, node in PODS.items()))
    yield
    lab.kubectl("delete", "namespace", "red", "blue", "--wait=false")


@pytest.fixture(scope="module")
def kube(lab, pods):
    for name, label in LABELS.items():
        space, short = name.split("/")
        lab.kubectl("label", "pod", "-n", space, short, f"app={label}", "--overwrite")
    connected = Kube.connect(str(lab.state.kubeconfig))
    yield connected
    connected.close()


@pytest.fixture
def wire(lab: Lab, pods: None) -> Wire:
    """The five pods as they are attached now: a test before this one may have killed switches, or all of the lab."""
    for space in ("red", "blue"):
        lab.kubectl("wait", "pods", "-n", space, "--all", "--for=condition=Ready", "--timeout=60s")
    lab.wait(lambda: not status(lab.state).down, "the lab is well")
    return Wire(lab)


@pytest.fixture
def capture():
    """``capture(netns, interface)``: a packet socket, closed at the end of the test."""
    opened = []

    def start(netns, interface):
        opened.append(packet_socket(netns, interface))
        return opened[-1]

    yield start
    for sock in opened:
        sock.close()
