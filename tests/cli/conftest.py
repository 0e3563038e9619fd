from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from labs.api.testing import EmbeddedApi
from ncp.__main__ import run
from ncp.kube.client import Kube
from ncp.kube.resources import NAMESPACES, NODES, PODS
from ncp.node.api import NodeApi

INI = "[nsx_v3]\ncontainer_ip_blocks = 10.4.0.0/16, fd00:10:4::/48\nno_snat_ip_blocks = 10.9.0.0/16\n"
INI += "external_ip_pools = out=172.20.0.0/30, out=172.20.1.0/31, out=fd00::/126, 172.21.0.1\n"
INI += "external_ip_pools_lb = lab=192.0.2.1-192.0.2.3\n[ncp]\nsnat_pool_namespaces = 172.21.0.1=blue red\n"


class Told(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> list[dict]:
        return json.loads(self.out)


@pytest.fixture
def ncp(capfd, monkeypatch, tmp_path) -> Callable[..., Told]:
    """Run the command line in this process, away from whatever cluster this machine has."""
    for name in ("KUBECONFIG", "NCP_LAB_STATE", "KUBERNETES_SERVICE_HOST", "NCP_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("ncp.cli.nodeapi.DEFAULT_STATE", tmp_path / "no-lab")
    monkeypatch.setattr("ncp.cli.nodeapi.DEFAULT_SOCKET", tmp_path / "no-socket")

    def tell(*arguments: object) -> Told:
        code = run([str(each) for each in arguments])
        said = capfd.readouterr()
        return Told(code, said.out, said.err)

    return tell


def annotated(name: str, annotations: dict, **more: object) -> dict:
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in annotations.items()}
    return {"metadata": {"name": name, "annotations": texts}, **more}


def pod(name: str, node: str, annotations: dict, **spec: object) -> dict:
    containers = [{"name": "c", "image": "none"}]
    found = annotated(name, annotations, spec={"containers": containers, **spec})
    return found | ({"spec": found["spec"] | {"nodeName": node}} if node else {})


SEGMENTS = {
    "blue": [
        {"vni": 5001, "router": 5001, "gateways": ["10.4.0.1/24", "fd00:10:4::1/64"], "snat": True},
        {"vni": 5003, "router": 5001, "gateways": ["10.4.2.1/24"], "snat": True},
    ],
    "red": [{"vni": 5002, "router": 5002, "gateways": ["10.9.0.1/24"], "snat": False}],
}
WEB = {"vni": 5001, "mac": "02:4e:0a:04:00:02", "addresses": ["10.4.0.2/24", "fd00:10:4::2/64"], "gateways": []}
DB = {"vni": 5002, "mac": "02:4e:0a:09:00:02", "addresses": ["10.9.0.2/24"], "gateways": []}


def _fill(kube: Kube) -> None:
    for name, segments in SEGMENTS.items():
        decided = {"ncp/cluster": "k8scluster", "ncp/segments": segments}
        if name == "blue":
            decided |= {"ncp/snat_ip": "172.20.1.1,fd00::2", "ncp/snat_ip_status": "QUOTA_EXCEEDED: 2 of 2"}
        if name == "red":
            decided |= {"ncp/resting": {"10.9.0.7": 1.0}, "ncp/error.subnets": "INVALID_SUBNETS: 10.9 is no prefix"}
        kube.create(NAMESPACES, annotated(name, decided))
    for number in (1, 2):
        node = annotated(f"n{number}", {})
        kube.create(NODES, node)
        status = {
            "addresses": [{"type": "InternalIP", "address": f"172.16.0.{number}"}],
            "conditions": [{"type": "Ready", "status": "True" if number == 1 else "False"}],
        }
        kube.patch(NODES, f"n{number}", body={"status": status}, subresource="status")
    own = {"ncp/cluster": "k8scluster"}
    kube.create(PODS, pod("web", "n1", own | {"ncp/port": WEB}), "blue")
    kube.create(PODS, pod("db", "n2", own | {"ncp/port": DB}), "red")
    kube.create(PODS, pod("host", "n1", {}, hostNetwork=True), "red")
    kube.create(PODS, pod("full", "", own | {"ncp/error.network": "IP_BLOCK_EXHAUSTED: no subnet is left"}), "red")


def origin(kind: str, namespace: str, name: str, detail: str = "") -> dict:
    return {"kind": kind, "namespace": namespace, "name": name, "uid": "u", "detail": detail}


def flow(table: int, name: str, priority: int, about: dict, state: str = "ok") -> dict:
    return {
        "table": table,
        "table_name": name,
        "priority": priority,
        "match": f"in_port={priority}",
        "actions": "output:1",
        "cookie": "0x1",
        "origin": about,
        "packets": 7,
        "bytes": 700,
        "state": state,
    }


STATUS = {
    "node": "n1",
    "cluster": "k8scluster",
    "connected": True,
    "in_step": True,
    "flows": 3,
    "ovs_version": "3.1.0",
    "ports": [{"name": "blue/web", "ofport": 16, "interface": "veth1", "state": "realised"}],
    "problems": [{"origin": origin("Pod", "blue", "web"), "reason": "NO_SEGMENT", "message": "VNI 9 is unknown"}],
    "drift": [
        {"at": 1767225600.0, "kind": "missing", "table": "classify", "flow": "in_port=16", "origin": "Pod blue/web"}
    ],
}
FLOWS = {
    "node": "n1",
    "flows": [
        flow(0, "classify", 100, origin("Pod", "blue", "web", "port")),
        flow(0, "classify", 200, origin("Fabric", "", "tunnel")),
        flow(5, "route", 50, origin("Namespace", "", "blue"), "missing"),
    ],
}


@pytest.fixture(scope="session")
def lab() -> Iterator[Path]:
    """A state directory as a lab has it: an API server with objects, one agent that answers and one that is dead."""
    directory = Path(tempfile.mkdtemp(prefix="ncp-cli-"))
    agent = NodeApi(
        directory / "nodes" / "n1" / "node.sock", {"/v1/status": lambda: STATUS, "/v1/flows": lambda: FLOWS}
    )
    agent.start()
    (directory / "ncp.ini").write_text(INI)
    try:
        with EmbeddedApi() as api:
            shutil.copy(api.kubeconfig, directory / "kubeconfig")
            _fill(Kube.connect(str(directory / "kubeconfig")))
            yield directory
    finally:
        agent.stop()
        shutil.rmtree(directory)


@pytest.fixture
def dead_agent(lab) -> Iterator[Path]:
    path = lab / "nodes" / "n2" / "node.sock"
    path.parent.mkdir()
    path.touch()
    yield path
    shutil.rmtree(path.parent)
