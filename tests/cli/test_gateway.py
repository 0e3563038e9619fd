"""``ncp get gateway`` from objects in an API server, without agents."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress

import pytest

from ncp.kube.client import Kube
from ncp.kube.errors import NotFound
from ncp.kube.resources import EDGE_LEASE, LEASES, NODES

UPLINKS = [{"name": "up0", "bridge": "br-ex", "vlan": 120, "addresses": ["192.168.10.2/24"]}]


@pytest.fixture
def kube(lab) -> Iterator[Kube]:
    """The lab's API server, left as it was found."""
    found = Kube.connect(str(lab / "kubeconfig"))
    yield found
    with suppress(NotFound):
        found.delete(LEASES, EDGE_LEASE[1], EDGE_LEASE[0])
    gone = dict.fromkeys(("ncp/edge_ready", "ncp/uplinks"))
    for name in ("n1", "n2"):
        found.patch(NODES, name, body={"metadata": {"labels": {"ncp/edge": None}, "annotations": gone}})


def edge(kube, name: str, **annotations: str) -> None:
    meta = {"labels": {"ncp/edge": "true"}, "annotations": {f"ncp/{key}": text for key, text in annotations.items()}}
    kube.patch(NODES, name, body={"metadata": meta})


def test_edges_are_listed_with_the_active_one_first_and_why_it_is(ncp, lab, kube):
    edge(kube, "n1", edge_ready="no: no link at up0", uplinks=json.dumps(UPLINKS))
    edge(kube, "n2", edge_ready="yes")
    lease = {
        "metadata": {"name": EDGE_LEASE[1], "annotations": {"ncp/why": "n1: no link at up0"}},
        "spec": {"holderIdentity": "n2", "acquireTime": "2026-01-02T03:04:05.000006Z", "leaseTransitions": 3},
    }
    kube.create(LEASES, {"apiVersion": LEASES.api_version, "kind": "Lease", **lease}, EDGE_LEASE[0])
    active, other = ncp("get", "gateway", "--state", lab, "-o", "json").json
    assert (active["name"], active["role"], active["why"]) == ("n2", "active", "n1: no link at up0")
    assert (active["since"], active["failovers"]) == ("2026-01-02T03:04:05.000006Z", 3)
    assert (other["name"], other["role"], other["why"]) == ("n1", "not ready", "no link at up0")
    assert other["uplinks"] == ["up0 on br-ex VLAN 120: 192.168.10.2/24"]
    table = ncp("get", "edges", "--state", lab).out
    assert table.index("n2") < table.index("n1")


def test_without_edges_there_is_the_node_of_the_settings(ncp, lab):
    assert ncp("get", "gateway", "--state", lab, "-o", "json").json == []
    ini = lab / "ncp.ini"
    before = ini.read_text()
    ini.write_text(before.replace("[ncp]\n", "[ncp]\nexit_node = n1\n"))
    try:
        (only,) = ncp("get", "gateway", "--state", lab, "-o", "json").json
    finally:
        ini.write_text(before)
    assert (only["name"], only["role"], only["edge"]) == ("n1", "active", False)
