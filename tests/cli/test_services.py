"""``ncp get services``: virtual servers, who stands behind them in which condition, and how many connections each got."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from labs.api.testing import EmbeddedApi
from ncp.kube.client import Kube
from ncp.kube.resources import ENDPOINT_SLICES, NAMESPACES, SERVICES
from ncp.node.api import NodeApi
from tests.cli.conftest import annotated

WEB, DNS = {"name": "web", "port": 80, "targetPort": 8080}, {"name": "dns", "port": 53, "protocol": "UDP"}
CONDITIONS = {
    "10.4.0.2": ("n1", {"ready": True}),
    "10.4.0.3": ("n2", {"ready": False}),
    "10.4.0.4": ("n2", {"ready": False, "serving": True, "terminating": True}),
}


def got(protocol: str, port: int, address: str, target: int, connections: int, name: str = "web") -> dict:
    of = {"namespace": "red", "name": name, "protocol": protocol, "port": port, "address": address}
    return of | {"target": target, "connections": connections}


MEMBERS = {
    "n1": [got("tcp", 80, "10.4.0.2", 8080, 5), got("udp", 53, "10.4.0.2", 5353, 1)],
    "n2": [
        got("tcp", 80, "10.4.0.2", 8080, 7),
        got("tcp", 80, "10.4.0.99", 8080, 1000),
        got("tcp", 80, "10.4.0.2", 8080, 500, "other"),
    ],
}


def _service(kube: Kube, space: str, name: str, address: str, *ports: dict, **spec: object) -> None:
    body = annotated(name, {}, spec={"clusterIP": address, "ports": list(ports), **spec})
    kube.create(SERVICES, body, space)


def _fill(kube: Kube) -> None:
    for space in ("red", "blue"):
        kube.create(NAMESPACES, annotated(space, {}))
    _service(kube, "red", "web", "10.96.0.10", WEB, DNS, sessionAffinity="ClientIP", internalTrafficPolicy="Local")
    _service(kube, "blue", "idle", "10.96.0.11", WEB, type="NodePort")
    _service(kube, "blue", "hidden", "None", WEB)
    ends = [{"addresses": [a], "nodeName": node, "conditions": c} for a, (node, c) in CONDITIONS.items()]
    numbers = [{"name": "web", "port": 8080, "protocol": "TCP"}, {"name": "dns", "port": 5353, "protocol": "UDP"}]
    held = {"addressType": "IPv4", "endpoints": ends, "ports": numbers}
    piece = annotated("web-1", {}, **held)
    piece["metadata"]["labels"] = {"kubernetes.io/service-name": "web"}
    kube.create(ENDPOINT_SLICES, piece, "red")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Path]:
    """A kubeconfig of a cluster with three services."""
    with EmbeddedApi() as api:
        kube = Kube.connect(str(api.kubeconfig))
        _fill(kube)
        kube.close()
        yield api.kubeconfig


@pytest.fixture(scope="module")
def state(cluster: Path) -> Iterator[Path]:
    """A lab of that cluster with two agents."""
    directory = Path(tempfile.mkdtemp(prefix="ncp-cli-"))
    agents = [
        NodeApi(
            directory / "nodes" / node / "node.sock",
            {
                "/v1/services": lambda node=node: {"node": node, "members": MEMBERS[node]},
                "/v1/status": lambda node=node: {"node": node, "ports": [], "problems": [], "drift": []},
            },
        )
        for node in MEMBERS
    ]
    for each in agents:
        each.start()
    shutil.copy(cluster, directory / "kubeconfig")
    try:
        yield directory
    finally:
        for each in agents:
            each.stop()
        shutil.rmtree(directory)


def test_virtual_servers_are_listed_and_services_without_an_address_are_not(ncp, state):
    rows = ncp("get", "services", "--state", state, "-o", "json").json
    assert [(row["namespace"], row["name"]) for row in rows] == [
        ("blue", "idle"), ("default", "kubernetes"), ("red", "web"),
    ]  # fmt: skip
    said = [{key: row[key] for key in row if key not in ("members", "errors")} for row in rows]
    assert said[::2] == [
        {
            "namespace": "blue", "name": "idle", "type": "NodePort", "addresses": ["10.96.0.11"], "ports": ["80:30000/tcp"],
            "ready": 0, "total": 0, "affinity": None, "local": [], "connections": 0,
                "sources": [], "out_of_range": None,
        },
        {
            "namespace": "red", "name": "web", "type": "ClusterIP", "addresses": ["10.96.0.10"],
            "ports": ["80/tcp", "53/udp"], "ready": 1, "total": 3, "affinity": 10800, "local": ["internal"],
            "connections": 13, "sources": [], "out_of_range": None,
        },
    ]  # fmt: skip


def test_every_member_of_every_port_says_how_it_is_and_what_nodes_counted_together(ncp, state):
    (row,) = ncp("get", "services", "--state", state, "-o", "json", "red/web").json
    found = {(each["port"], each["address"]): each for each in row["members"]}
    assert len(found) == len(row["members"]) == 6
    assert found["80/tcp", "10.4.0.2"] == {
        "port": "80/tcp", "address": "10.4.0.2", "target": 8080, "node": "n1",
        "ready": True, "serving": True, "terminating": False, "connections": 12,
    }  # fmt: skip
    assert (found["53/udp", "10.4.0.2"]["connections"], found["53/udp", "10.4.0.2"]["target"]) == (1, 5353)
    states = {key: tuple(each[name] for name in ("ready", "serving", "terminating")) for key, each in found.items()}
    assert states["80/tcp", "10.4.0.3"] == (False, False, False)
    assert states["80/tcp", "10.4.0.4"] == (False, True, True)
    assert found["80/tcp", "10.4.0.4"]["connections"] == 0


def test_a_table_counts_members_and_wide_names_them(ncp, state):
    head, idle, _, web = ncp("get", "svc", "--state", state).out.splitlines()
    assert head.split() == ["NAMESPACE", "NAME", "TYPE", "ADDRESSES", "PORTS", "MEMBERS", "CONNECTIONS"]
    assert idle.split() == ["blue", "idle", "NodePort", "10.96.0.11", "80:30000/tcp", "0/0", "0"]
    assert web.split() == ["red", "web", "ClusterIP", "10.96.0.10", "80/tcp,", "53/udp", "1/3", "13"]
    wide = ncp("get", "services", "--state", state, "-o", "wide", "web").out
    for text in (
        "80/tcp -> 10.4.0.2:8080 (n1, ready, 12 connections)",
        "80/tcp -> 10.4.0.3:8080 (n2, not ready, 0 connections)",
        "53/udp -> 10.4.0.4:5353 (n2, terminating, serving, 0 connections)",
    ):
        assert text in wide


def test_where_no_agent_can_be_asked_nothing_is_said_of_connections(ncp, cluster):
    rows = ncp("get", "services", "--kubeconfig", cluster, "-o", "json").json
    assert {row["connections"] for row in rows} == {None}
    assert {each["connections"] for row in rows for each in row["members"]} == {None}
    told = ncp("get", "services", "--kubeconfig", cluster, "-o", "wide", "web").out
    assert "80/tcp -> 10.4.0.2:8080 (n1, ready)" in told


def test_services_by_namespace_and_name(ncp, state):
    rows = ncp("get", "service", "--state", state, "-o", "json", "-n", "blue").json
    assert [row["name"] for row in rows] == ["idle"]
    told = ncp("get", "services", "--state", state, "hidden")
    assert (told.code, told.out) == (1, "")
    assert told.err.endswith("no services named hidden\n")
    assert ncp("get", "services", "--state", state, "-n", "empty").err == "no services\n"
