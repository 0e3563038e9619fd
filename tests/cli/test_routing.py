"""``ncp get bgp`` and ``ncp get routes``, told by agents."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from ncp.node.api import NodeApi

UP = {"address": "192.168.10.1", "as": 65100, "state": "Established", "reason": "", "seconds": 7, "received": 2}
UP |= {"sent": 5, "bfd": "up"}
DOWN = UP | {"address": "fd00::1", "state": "Active", "reason": "OPEN Message Error/Bad Peer AS", "bfd": ""}
BGP = {
    "node": "n1",
    "as": 65000,
    "router_id": "172.16.0.1",
    "error": "",
    "restarts": 0,
    "peers": [UP, DOWN],
    "announced": ["192.0.2.80/32"],
    "learned": [{"prefix": "0.0.0.0/0", "next_hops": ["192.168.10.1"]}],
}
NONE = BGP | {"node": "n2", "as": None, "peers": [], "announced": [], "learned": []}
CONNECTED = {"family": 4, "prefix": "192.168.10.0/24", "origin": "connected", "metric": 0}
CONNECTED |= {"next_hops": [{"address": "", "device": "up0"}]}
STATIC = CONNECTED | {"prefix": "203.0.113.0/24", "origin": "static", "metric": 10}
STATIC |= {"next_hops": [{"address": f"192.168.1{n}.1", "device": f"up{n}"} for n in (0, 1)]}
ROUTES = {
    "n1": {"node": "n1", "edge": True, "routes": [CONNECTED, STATIC]},
    "n2": {"node": "n2", "edge": False, "routes": [CONNECTED]},
}


@contextlib.contextmanager
def agents(directory: Path, **bgp: dict) -> Iterator[Path]:
    running = []
    try:
        for node, said in bgp.items():
            views = {"/v1/bgp": lambda said=said: said, "/v1/routes": lambda node=node: ROUTES[node]}
            running.append(NodeApi(directory / "nodes" / node / "node.sock", views))
            running[-1].start()
        yield directory
    finally:
        for each in running:
            each.stop()


@pytest.fixture
def state(tmp_path) -> Iterator[Path]:
    with agents(tmp_path, n1=BGP, n2=NONE) as found:
        yield found


def test_a_row_for_each_peer_with_its_reason(ncp, state):
    told = ncp("get", "bgp", "--state", state)
    rows = told.out.splitlines()
    assert "Established" in rows[1]
    assert "7s" in rows[1]
    assert "Bad Peer AS" in rows[2]
    assert "n2" not in told.out


def test_json_has_what_is_announced_and_learned(ncp, state):
    assert ncp("get", "bgp", "--state", state, "--output", "json").json == [BGP]


def test_a_node_whose_frr_is_not_there_says_so(ncp, tmp_path):
    broken = BGP | {"peers": [], "error": "zebra is not there; install the package frr"}
    with agents(tmp_path, n1=broken) as state:
        assert "install the package frr" in ncp("get", "bgp", "--state", state).out.replace("\n", " ")


def test_without_bgp_it_says_what_is_missing(ncp, tmp_path):
    with agents(tmp_path, n2=NONE) as state:
        assert "[bgp] local_as is not set" in ncp("get", "bgp", "--state", state).err


def test_routes_of_edges_alone_unless_a_node_is_named(ncp, state):
    assert ncp("get", "routes", "--state", state, "--output", "json").json == [
        {"node": "n1", **CONNECTED},
        {"node": "n1", **STATIC},
    ]
    assert [row["node"] for row in ncp("get", "routes", "--node", "n2", "--state", state, "--output", "json").json] == [
        "n2"
    ]
    shown = ncp("get", "routes", "--origin", "static", "--state", state).out
    assert "203.0.113.0/24" in shown
    assert "192.168.10.0/24" not in shown


def test_a_table_has_all_next_hops(ncp, state):
    shown = " ".join(ncp("get", "routes", "--origin", "static", "--state", state).out.split())
    assert "192.168.10.1 dev up0" in shown
    assert "192.168.11.1 dev up1" in shown
