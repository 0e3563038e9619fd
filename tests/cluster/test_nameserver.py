"""Names asked for inside pods, by the system's own resolver and message by message."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

import dns.message
import dns.query
import dns.rcode
import pytest

from labs.kubelet import netns
from labs.kubelet.names import NAMESERVER
from labs.kubelet.nameserver import NameServers
from labs.kubelet.responder import Responders
from ncp.kube.resources import PODS, SERVICES, STATEFUL_SETS
from tests.cluster.small_cluster import SmallCluster, eventually, pod, ready

Json = dict[str, Any]


def up(cluster: SmallCluster, space: str, name: str) -> str:
    """The network namespace of a pod, once it is ready."""
    eventually(lambda: ready(cluster.get(PODS, space, name) or {}), f"pod {name} is ready")
    return f"{cluster.prefix}-p-{cluster.kube.get(PODS, name, space)['metadata']['uid'][:8]}"


def resolve(place: str, name: str) -> set[str]:
    """The addresses the system's resolver finds."""
    line = ("ip", "netns", "exec", place, "getent", "ahosts", name)
    done = subprocess.run(line, capture_output=True, text=True, timeout=30)
    assert done.returncode in (0, 2), done.stderr  # 2: there is no such name
    return {each.split()[0] for each in done.stdout.splitlines()}


def ask(place: str, name: str, kind: str, *, tcp: bool = False) -> dns.message.Message:
    query = dns.message.make_query(name, kind)
    how = dns.query.tcp if tcp else dns.query.udp
    return netns.run_in(place, lambda: how(query, NAMESERVER, timeout=5))


def addresses_of(cluster: SmallCluster, space: str, name: str) -> set[str]:
    return {each["ip"] for each in cluster.kube.get(PODS, name, space)["status"]["podIPs"]}


def web(cluster: SmallCluster, space: str, name: str = "web", **spec: Any) -> Json:
    ports = [{"name": "http", "port": 80}]
    spec = {"selector": {"app": name}, "ports": ports, "ipFamilyPolicy": "PreferDualStack", **spec}
    return cluster.create(SERVICES, {"metadata": {"name": name, "namespace": space}, "spec": spec})


def test_a_service_is_found_by_all_its_names(cluster: SmallCluster, space: str) -> None:
    cluster.create(PODS, pod(space, "client"))
    addresses = set(web(cluster, space)["spec"]["clusterIPs"])
    assert {ip_address(each).version for each in addresses} == {4, 6}
    place = up(cluster, space, "client")
    eventually(lambda: resolve(place, "web") == addresses, "the service is known")
    for name in (
        f"web.{space}",
        f"web.{space}.svc",
        f"WEB.{space}.svc.Cluster.Local",
        f"web.{space}.svc.cluster.local.",
    ):
        assert resolve(place, name) == addresses, name
    for name in ("nobody", f"web.{space}x", "example.com"):
        assert resolve(place, name) == set(), name
    for tcp in (False, True):
        said = ask(place, f"_http._tcp.web.{space}.svc.cluster.local", "SRV", tcp=tcp)
        assert said.answer[0][0].to_text() == f"0 100 80 web.{space}.svc.cluster.local."

    cluster.kube.delete(SERVICES, "web", space)
    eventually(lambda: resolve(place, "web") == set(), "the name is gone with the service")


def test_another_namespaces_service_is_found_by_its_namespace(cluster: SmallCluster, space: str) -> None:
    other = cluster.namespace(f"{space}-other")
    try:
        cluster.create(PODS, pod(space, "client"))
        addresses = set(web(cluster, other)["spec"]["clusterIPs"])
        place = up(cluster, space, "client")
        eventually(lambda: resolve(place, f"web.{other}") == addresses, "the service is known")
        assert resolve(place, "web") == set()
    finally:
        cluster.empty(other)


def test_an_alias_leads_to_the_service_it_names(cluster: SmallCluster, space: str) -> None:
    cluster.create(PODS, pod(space, "client"))
    addresses = set(web(cluster, space)["spec"]["clusterIPs"])
    alias = {"type": "ExternalName", "externalName": f"web.{space}.svc.cluster.local"}
    cluster.create(SERVICES, {"metadata": {"name": "shop", "namespace": space}, "spec": alias})
    place = up(cluster, space, "client")
    eventually(lambda: resolve(place, "shop") == addresses, "the alias is followed")


def test_pods_of_a_stateful_set_have_names_of_their_own(cluster: SmallCluster, space: str) -> None:
    web(cluster, space, "db", clusterIP="None")
    container = {"name": "c", "image": "x", "ports": [{"containerPort": 80}]}
    template = {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [container]}}
    spec = {"serviceName": "db", "replicas": 2, "selector": {"matchLabels": {"app": "db"}}, "template": template}
    cluster.create(STATEFUL_SETS, {"metadata": {"name": "db", "namespace": space}, "spec": spec})
    place = up(cluster, space, "db-0")
    up(cluster, space, "db-1")
    first, second = (addresses_of(cluster, space, name) for name in ("db-0", "db-1"))
    eventually(lambda: resolve(place, "db") == first | second, "every ready pod is behind the name")
    assert resolve(place, "db-0.db") == first
    assert resolve(place, f"db-1.db.{space}.svc") == second
    assert resolve(place, "db-2.db") == set()


def test_a_pod_may_serve_the_same_port_itself(cluster: SmallCluster, space: str) -> None:
    ports = [{"containerPort": 53, "protocol": protocol} for protocol in ("TCP", "UDP")]
    cluster.create(PODS, pod(space, "own", container={"ports": ports}))
    addresses = set(web(cluster, space)["spec"]["clusterIPs"])
    place = up(cluster, space, "own")
    eventually(lambda: resolve(place, "web") == addresses, "the service is known")
    assert ask(place, f"web.{space}.svc.cluster.local", "A", tcp=True).rcode() == dns.rcode.NOERROR
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with netns.run_in(cluster.node_netns, lambda kind=kind: socket.socket(socket.AF_INET, kind)) as sock:
            sock.settimeout(5)
            sock.connect((min(addresses_of(cluster, space, "own"), key=lambda each: ":" in each), 53))
            sock.send(b"hello\n")
            assert sock.recv(100).strip() == b"own"


def test_names_are_known_again_after_the_kubelet_comes_back_and_their_files_go_with_the_pod(
    cluster: SmallCluster, space: str
) -> None:
    cluster.create(PODS, pod(space, "client"))
    addresses = set(web(cluster, space)["spec"]["clusterIPs"])
    place = up(cluster, space, "client")
    cluster.stop_kubelet()
    with pytest.raises(OSError, match="refused"):
        ask(place, f"web.{space}.svc.cluster.local", "A", tcp=True)
    cluster.start_kubelet()
    eventually(lambda: resolve(place, "web") == addresses, "the pod finds the service again")
    assert (netns.FILES / place).is_dir()
    cluster.kube.delete(PODS, "client", space)
    eventually(lambda: cluster.get(PODS, space, "client") is None, "the pod is gone")
    assert not (netns.FILES / place).exists()


class Nothing:
    """A cluster without a service."""

    def has(self, resource: object) -> bool:
        return False

    def get(self, resource: object, key: object) -> None:
        return None

    def within(self, resource: object, namespace: str) -> list[Json]:
        return []


def test_many_questions_on_one_connection_and_no_descriptor_left(new_netns: Callable[[], str]) -> None:
    place = new_netns()
    before = len(os.listdir("/proc/self/fd"))
    running = Responders()
    servers = NameServers(running.loop, Nothing)
    try:
        for _ in range(3):  # in place of what was there
            servers.serve("u1", place)
        with netns.run_in(place, lambda: socket.create_connection((NAMESERVER, 53), 5)) as sock:
            queries = [dns.message.make_query(f"n{number}.cluster.local", "A") for number in range(20)]
            wire = b"".join(query.to_wire(prepend_length=True) for query in queries)
            for at in range(0, len(wire), 7):  # in pieces that respect no boundary
                sock.sendall(wire[at : at + 7])
            for query in queries:
                said, _ = dns.query.receive_tcp(sock)
                assert query.is_response(said)
                assert said.rcode() == dns.rcode.NXDOMAIN
            servers.stop("u1")
            assert sock.recv(100) == b"", "the connection is still open"
        with pytest.raises(OSError, match="refused"):
            ask(place, "cluster.local", "A", tcp=True)
    finally:
        servers.close()
        running.close()
    assert len(os.listdir("/proc/self/fd")) == before
