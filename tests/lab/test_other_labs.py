"""Labs of other shapes: a routed underlay, and the real Kubernetes API server."""

import os

import pytest

from labs.realkube import BinariesMissingError, find_binaries
from labs.wish import REAL, Wish
from tests.support.lab import Lab

pytestmark = [pytest.mark.switch, pytest.mark.lab]


def test_pods_of_two_racks_reach_each_other_over_the_router(tmp_path):
    with Lab(tmp_path / "s", Wish(topology="two-racks")) as lab:
        zones = {
            node["metadata"]["name"]: node["metadata"]["labels"]["topology.kubernetes.io/zone"]
            for node in lab.get("nodes")["items"]
        }
        assert zones == {"node1": "rack-a", "node2": "rack-a", "node3": "rack-b", "node4": "rack-b"}
        pods = lab.web("racks", 8)
        nodes = {pod["spec"]["nodeName"] for pod in lab.get("pods", "-n", "racks")["items"]}
        assert {zones[node] for node in nodes} == {"rack-a", "rack-b"}
        (first, _), *others = pods.items()
        for _, addresses in others:
            assert all(lab.reaches(first, address) for address in addresses)
        assert all(lab.exec_external("ping", "-c1", "-W1", one).returncode == 0 for one in pods[first])
        hops = lab.exec_node("node1", "ip", "route", "get", "192.168.52.13").stdout
        assert "via 192.168.51.1 " in hops


@pytest.mark.kube
def test_the_same_lab_runs_on_a_real_api_server(tmp_path):
    try:
        find_binaries()
    except BinariesMissingError as missing:
        if os.environ.get("NCP_REQUIRE_KUBE"):
            pytest.fail(str(missing))
        pytest.skip(str(missing))
    with Lab(tmp_path / "s", Wish(kube=REAL)) as lab:
        pods = lab.web("real", 6)
        (first, _), *others = pods.items()
        for _, addresses in others:
            assert all(lab.reaches(first, address) for address in addresses)
        lab.restart("api")
        assert lab.running("real") == pods
        lab.kubectl("scale", "-n", "real", "deployment/web", "--replicas=7")
        lab.wait(lambda: len(lab.running("real")) == 7, "another pod runs after the API's restart")
        lab.kubectl("delete", "namespace", "real", "--wait=false")
        lab.wait(lambda: "real" not in lab.kubectl("get", "namespaces", "-o", "name"), "the namespace is gone")
