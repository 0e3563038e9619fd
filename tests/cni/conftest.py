from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ipam.address import parse_address, parse_interface
from ncp.cni.realise import NotDecided, NotRealised, PodRealiser, UnknownPod
from ncp.cni.result import PortConfig
from ncp.cni.server import CniServer
from ncp.plumbing.pods import PodPlumber
from sdn.ovsdb.client import Ovsdb
from sdn.ovsdb.rows import Attachment, node_rows
from tests.support.netns import ip, namespace
from tests.support.ovs import PrivateOvs

CLUSTER = "test-cluster"
MTU = 1442


class Outcome(NamedTuple):
    """What one run of the plugin printed and returned."""

    code: int
    output: dict[str, Any]
    stderr: str


def run_plugin(stdin: str, **environment: str) -> Outcome:
    """Run ``ncp-cni`` as a container runtime does."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("CNI_")}
    done = subprocess.run(
        (sys.executable, "-m", "ncp.cni"),
        input=stdin,
        env={**env, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    return Outcome(done.returncode, json.loads(done.stdout) if done.stdout.strip() else {}, done.stderr)


class PodNetwork:
    """A control plane of one's own: decides when told to, and installs flows in a set."""

    def __init__(self) -> None:
        self.decided: dict[str, PortConfig] = {}
        self.flows: dict[str, tuple[str, int]] = {}
        self.refuse = False
        self.known: set[str] = set()
        self.waiting = threading.Event()
        self._news = threading.Condition()

    def decide(self, iface_id: str, port: PortConfig) -> None:
        with self._news:
            self.known.add(iface_id)
            self.decided[iface_id] = port
            self._news.notify_all()

    def wanted(self, namespace: str, pod: str, uid: str, deadline: float) -> PortConfig:
        name = f"{namespace}/{pod}"
        if name not in self.known:
            raise UnknownPod(f"there is no pod {name}")
        self.waiting.set()
        with self._news:
            if not self._news.wait_for(lambda: name in self.decided, deadline - time.monotonic()):
                raise NotDecided(f"pod {name} has no annotation ncp/port yet")
            return self.decided[name]

    def realise(self, iface_id: str, attachment: Attachment, deadline: float) -> None:
        if self.refuse:
            raise NotRealised(f"flows of {iface_id} were refused")
        self.flows[iface_id] = attachment.sandbox, attachment.ofport

    def withdraw(self, iface_id: str, sandbox: str, deadline: float) -> None:
        self.flows.pop(iface_id, None)

    def installed(self, iface_id: str, attachment: Attachment) -> str | None:
        expected = attachment.sandbox, attachment.ofport
        return None if self.flows.get(iface_id) == expected else f"flows of {iface_id} are missing"


class Node:
    """A node as ``ncp node`` makes it, but for the control plane."""

    def __init__(self, switch: PrivateOvs, netns: str, socket: Path, stack: contextlib.ExitStack) -> None:
        self.switch = switch
        self.netns = netns
        self.socket = socket
        self.network = PodNetwork()
        self.changes: list[tuple[str, Attachment | None]] = []
        self.changed = threading.Condition()
        self._stack = stack
        self.ovsdb = stack.enter_context(Ovsdb(switch.rundir / "db.sock", CLUSTER, on_change=self._on_change))
        self.ovsdb.ensure_node(node_rows(CLUSTER, node_mac="02:4d:00:00:00:01", mtu=MTU, tables={}))
        self.plumber = PodPlumber(netns)
        stack.callback(self.plumber.close)
        self.realiser = PodRealiser(self.network, self.ovsdb, self.plumber)
        stack.enter_context(CniServer(socket, self.realiser))

    def pod(self, number: int, *, container: str = "", decide: bool = True) -> Pod:
        """A pod with a namespace of its own, decided unless told otherwise."""
        netns = self._stack.enter_context(namespace("np"))
        pod = Pod(self, number, container or f"box-{number}", f"/run/netns/{netns}", netns)
        self.network.known.add(pod.name)
        if decide:
            self.network.decide(pod.name, pod.port)
        return pod

    def cables(self) -> list[str]:
        """The switch ends in the node's namespace."""
        lines = ip("-o", "link", "show", "type", "veth", netns=self.netns).splitlines()
        return sorted(line.split()[1].rstrip(":").partition("@")[0] for line in lines)

    def ports(self) -> list[str]:
        """The pods' ports in the switch's database, as its own tools see them."""
        return sorted(set(self.switch.vsctl("list-ports", "br-int").split()) - {"gnv0", "ncp-node0"})

    def _on_change(self, name: str, old: Attachment | None, new: Attachment | None) -> None:
        with self.changed:
            self.changes.append((name, new))
            self.changed.notify_all()


class Pod(NamedTuple):
    """A pod and how its runtime calls the plugin for it."""

    node: Node
    number: int
    container: str
    path: str
    netns: str
    version: str = "1.0.0"

    @property
    def name(self) -> str:
        return f"shop/web-{self.number}"

    @property
    def v4(self) -> str:
        return f"10.4.0.{self.number}"

    @property
    def v6(self) -> str:
        return f"fd00:10:4::{self.number:x}"

    @property
    def port(self) -> PortConfig:
        return PortConfig(
            vni=5001,
            mac=f"02:4e:0a:04:00:{self.number:02x}",
            addresses=(parse_interface(f"{self.v4}/24"), parse_interface(f"{self.v6}/64")),
            gateways=(parse_address("10.4.0.1"), parse_address("fd00:10:4::1")),
            mtu=MTU,
        )

    def cni(self, command: str, *, timeout: float = 20, **config: object) -> Outcome:
        network = {"cniVersion": self.version, "name": "ncp", "type": "ncp-cni", "timeout": timeout}
        return run_plugin(
            json.dumps({**network, "socket": str(self.node.socket), **config}),
            CNI_COMMAND=command,
            CNI_CONTAINERID=self.container,
            CNI_NETNS=self.path,
            CNI_IFNAME="eth0",
            CNI_ARGS=f"IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-{self.number};K8S_POD_UID=u{self.number}",
        )


@pytest.fixture(scope="module")
def _daemons(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateOvs]:
    with namespace() as name, PrivateOvs(tmp_path_factory.mktemp("switch"), name) as switch:
        yield switch


@pytest.fixture
def node(_daemons: PrivateOvs, tmp_path: Path) -> Iterator[Node]:
    with contextlib.ExitStack() as stack:
        assert _daemons.netns is not None
        yield Node(_daemons, _daemons.netns, tmp_path / "cni.sock", stack)
    _daemons.vsctl("del-br", "br-int")
    for line in ip("-o", "link", "show", "type", "veth", netns=_daemons.netns).splitlines():
        ip("link", "del", line.split()[1].rstrip(":").partition("@")[0], netns=_daemons.netns)
