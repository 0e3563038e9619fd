"""Services for clients that are no pods: nodes, and whoever is outside; and the client's own address all the way."""

from __future__ import annotations

import contextlib
import socket
import threading
from contextlib import contextmanager
from functools import partial
from ipaddress import ip_network
from itertools import product

import pytest

from ncp.cli.services import services
from ncp.cli.world import look
from ncp.kube.resources import ENDPOINT_SLICES, SERVICES
from ncp.probe.wire import run_in
from tests.wire.conftest import PORTS as POD_PORTS
from tests.wire.conftest import configured, pod
from tests.wire.serving import (
    EXTERNAL,
    NODES,
    SCTP,
    TCP,
    UDP,
    answers_for,
    at,
    balanced,
    own_address,
    policy,
    says,
    seen,
)

PORTS = (
    {"name": "t", "port": 80, "targetPort": 8080},
    {"name": "u", "port": 53, "targetPort": 5353, "protocol": "UDP"},
    {"name": "s", "port": 9, "targetPort": 9091, "protocol": "SCTP"},
)
PROTOCOLS = (TCP, UDP, SCTP)
CLIENTS = ("red/a", "blue/d", "node1", "node2", EXTERNAL)
"""Of a member on node1: a pod there, one elsewhere, its own node, another one, and nobody of the cluster's."""


@pytest.mark.parametrize("family", [4, 6])
def test_every_client_reaches_members_by_every_address_and_is_seen_as_itself(wire, kube, family):
    with balanced(wire, kube, "all", members={"app": "b"}, ports=PORTS) as found:
        wrong = []
        for client in CLIENTS:
            own = own_address(wire, client, family)
            for protocol, port, number in zip(PROTOCOLS, PORTS, found.node_ports, strict=True):
                asked = [(found.virtual[family], port["port"])]
                if client != EXTERNAL:
                    asked.append((found.cluster[family], port["port"]))
                for node in ("node1", "node3"):
                    # The kernel's rules name ports, which a raw socket of this test has none of.
                    if not (protocol == SCTP and client == node):
                        asked.append((own_address(wire, node, family), number))
                for address, at_port in asked:
                    answer = (
                        says(wire, client, address, at_port, protocol),
                        seen(wire, client, address, at_port, protocol),
                    )
                    if answer != ("b", own):
                        wrong.append((client, protocol.name, address, at_port, answer))
        assert wrong == []


def test_only_a_node_with_a_member_takes_clients_from_outside_where_the_service_is_local(wire, kube):
    with balanced(wire, kube, "near", members={"app": "b"}, externalTrafficPolicy="Local") as found:
        inside, outside = (own_address(wire, node, 4) for node in ("node1", "node2"))
        (number,) = found.node_ports
        assert says(wire, EXTERNAL, inside, number) == "b"
        dropped = wire.dropped("node2").get("no-local-member", 0)
        assert says(wire, EXTERNAL, outside, number) == "silence"
        assert wire.dropped("node2")["no-local-member"] > dropped
        for client in ("blue/d", "red/c", "node2"):  # whoever belongs to the cluster is sent anywhere
            assert says(wire, client, found.virtual[4]) == "b"
        assert says(wire, "node2", outside, number) == "b"

        def health(node):
            address = own_address(wire, node, 4)
            check = kube.get(SERVICES, "near", "red")["spec"]["healthCheckNodePort"]
            return wire.lab.exec_external(
                "curl", "-s", "-m2", "-w", " %{http_code}", f"http://{address}:{check}/"
            ).stdout

        assert health("node1") == '{"service":{"namespace":"red","name":"near"},"localEndpoints":1} 200'
        assert health("node2").endswith('"localEndpoints":0} 503')
        assert [answers_for(wire, each) for each in found.virtual.values()] == ["node1"] * 2
        kube.patch(SERVICES, "near", "red", body={"spec": {"selector": {"app": "c"}}})
        for address in found.virtual.values():
            wire.lab.wait(lambda a=address: answers_for(wire, a) == "node2", "the node of the new member answers")
        wire.lab.wait(lambda: says(wire, EXTERNAL, found.virtual[4]) == "c", "and serves")


def test_what_is_sent_again_before_anybody_answered_reaches_the_member(wire, kube):
    """Nobody listens at the member's port, so that each datagram is refused by the pod itself."""
    ports = ({"name": "u", "port": 53, "targetPort": 9999, "protocol": "UDP"},)
    with balanced(wire, kube, "deaf", members={"app": "b"}, ports=ports) as found:

        def ask(sock):
            with contextlib.suppress(ConnectionRefusedError):
                sock.send(b"who")
                sock.recv(100)
                return "answered"
            return "refused"

        for family, kind in ((4, socket.AF_INET), (6, socket.AF_INET6)):
            with run_in(at(wire, EXTERNAL), lambda kind=kind: socket.socket(kind, socket.SOCK_DGRAM)) as sock:
                sock.settimeout(3)
                sock.connect((own_address(wire, "node2", family), found.node_ports[0]))
                assert [ask(sock) for _ in range(3)] == ["refused"] * 3


def test_who_is_not_within_a_load_balancers_ranges_is_dropped_there_and_counted(wire, kube):
    external = own_address(wire, EXTERNAL, 4)

    def dropped():
        (row,) = (each for each in services(look(None, wire.lab.state.root)) if each["name"] == "ranged")
        return row["out_of_range"]

    with balanced(
        wire, kube, "ranged", members={"app": "b"}, loadBalancerSourceRanges=["10.0.0.0/8", "fd00::/8"]
    ) as found:
        assert says(wire, EXTERNAL, found.virtual[4]) == "silence"
        assert dropped() > 0
        assert says(wire, EXTERNAL, own_address(wire, "node1", 4), found.node_ports[0]) == "b", (
            "node ports have no ranges"
        )
        assert [says(wire, "red/a", address) for address in found.virtual.values()] == ["b", "b"]
        kube.patch(SERVICES, "ranged", "red", body={"spec": {"loadBalancerSourceRanges": [f"{external}/32"]}})
        wire.lab.wait(lambda: says(wire, EXTERNAL, found.virtual[4]) == "b", "the external host is within them now")
        assert says(wire, "red/a", found.virtual[4]) == "silence", "and pods are not"


def test_nobody_there_is_told_at_once_to_nodes_and_those_outside(wire, kube):
    with balanced(wire, kube, "idle", members={"app": "b"}, ports=PORTS) as found:
        kube.patch(SERVICES, "idle", "red", body={"spec": {"selector": {"app": "nobody"}}})
        wire.lab.wait(lambda: says(wire, "node1", found.cluster[4]) == "refused", "nobody is there any more")
        for client in ("node1", EXTERNAL):
            for address in found.virtual.values():
                for protocol, port in zip(PROTOCOLS, PORTS, strict=True):
                    assert says(wire, client, address, port["port"], protocol) == "refused", (client, address, protocol)
                assert says(wire, client, address, 4711) == "refused", "no such port"
        assert says(wire, EXTERNAL, own_address(wire, "node2", 4), found.node_ports[0]) == "refused"


@pytest.mark.parametrize("family", [4, 6])
def test_policies_at_the_member_see_the_client_outside(wire, kube, family):
    own = own_address(wire, EXTERNAL, family)
    block = {"ipBlock": {"cidr": f"{own}/{32 if family == 4 else 128}"}}
    only = {"podSelector": {"matchLabels": {"app": "b"}}, "policyTypes": ["Ingress"], "ingress": [{"from": [block]}]}
    nobody = {"podSelector": {"matchLabels": {"app": "b"}}, "policyTypes": ["Ingress"]}
    with balanced(wire, kube, "judged", members={"app": "b"}) as found:
        way = own_address(wire, "node3", family), found.node_ports[0]
        with policy(wire, kube, "only-outside", only):
            assert says(wire, EXTERNAL, *way) == "b"
            assert says(wire, "red/a", found.virtual[family]) == "silence"
        with policy(wire, kube, "nobody", nobody):
            assert says(wire, EXTERNAL, *way) == "silence"


def test_a_pods_host_port_is_its_nodes_and_goes_with_it(wire, kube):
    ports = [{"containerPort": 8080, "hostPort": 8099}, {"containerPort": 5353, "hostPort": 8099, "protocol": "UDP"}]
    wire.lab.apply(pod("red/hosted", "node2", ports))
    wire.lab.kubectl("wait", "pod", "-n", "red", "hosted", "--for=condition=Ready", "--timeout=30s")
    try:
        for family in (4, 6):
            here, there = (own_address(wire, node, family) for node in ("node2", "node1"))
            for client in ("red/a", "red/c", "node1", "node2", EXTERNAL):
                for protocol in (TCP, UDP):
                    wire.lab.wait(lambda: says(wire, client, here, 8099, protocol) == "hosted", f"{client} reaches it")  # noqa: B023
            assert says(wire, EXTERNAL, there, 8099) == "refused", "the port is that node's alone"
        assert seen(wire, EXTERNAL, here, 8099) == own_address(wire, EXTERNAL, 6)
    finally:
        wire.lab.kubectl("delete", "pod", "-n", "red", "hosted")
    wire.lab.wait(lambda: says(wire, EXTERNAL, here, 8099) == "refused", "it is gone with the pod")


def test_who_comes_to_a_host_port_by_the_node_is_the_node_to_the_pod_where_that_is_asked_for(wire, kube):
    ports = [each | {"hostPort": 8099} for each in POD_PORTS]
    wire.lab.apply(pod("red/hosted", "node2", ports))
    wire.lab.kubectl("wait", "pod", "-n", "red", "hosted", "--for=condition=Ready", "--timeout=30s")

    def as_seen():
        """Who every client is to the pod, where that is neither itself nor the pod's node: said as it is."""
        found = {}
        for family, client, protocol in product((4, 6), ("red/c", "blue/d", "node1", EXTERNAL), PROTOCOLS):
            who = {own_address(wire, client, family): "itself", own_address(wire, "node2", family): "node"}
            here = own_address(wire, "node2", family)
            wire.lab.wait(lambda: says(wire, client, here, 8099, protocol) == "hosted", f"{client} reaches it")  # noqa: B023
            address = seen(wire, client, here, 8099, protocol)
            found.setdefault((client, protocol.name), set()).add(who.get(address, address))
        return found

    itself = {
        (client, protocol.name): {"itself"}
        for client in ("red/c", "blue/d", "node1", EXTERNAL)
        for protocol in PROTOCOLS
    }
    external = own_address(wire, EXTERNAL, 4)
    others = {"podSelector": {"matchLabels": {"app": "hosted"}}, "policyTypes": ["Ingress"]}
    others["ingress"] = [{"from": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": [f"{external}/32"]}}]}]
    try:
        assert as_seen() == itself
        with configured(wire, "k8s", "enable_hostport_snat = True"):
            # Pods do not come by the node, and SCTP is not tracked with its ports.
            by_node = {(client, protocol.name): {"node"} for client in ("node1", EXTERNAL) for protocol in (TCP, UDP)}
            assert as_seen() == itself | by_node
            wire.lab.kubectl("label", "pod", "-n", "red", "hosted", "app=hosted")
            here, member = own_address(wire, "node2", 4), own_address(wire.fresh(), "red/hosted", 4)
            assert seen(wire, "node2", member, 8080) == here, "the node's own connections are as they were"
            with policy(wire, kube, "others", others):
                assert says(wire, EXTERNAL, here, 8099) == "silence", "rules see the client"
                assert says(wire, "node1", here, 8099) == "hosted"
        assert as_seen() == itself
    finally:
        wire.lab.kubectl("delete", "pod", "-n", "red", "hosted")


def test_what_listens_on_a_node_itself_is_not_cut_off(wire, kube):
    place = at(wire, "node2")
    with open_socket(place) as listening:
        address = own_address(wire, "node2", 4)
        number = listening.getsockname()[1]
        for client in (EXTERNAL, "node1", "node2", "red/a"):
            assert says(wire, client, address, number) == f"the node, {own_address(wire, client, 4)}"


def test_what_is_for_no_service_does_not_go_round_in_circles(wire, kube):
    """By the default route it would leave by the exit node, whose kernel has a route for all cluster addresses."""
    with balanced(wire, kube, "some", members={"app": "b"}):
        routes = wire.lab.exec_node("node1", "ip", "-4", "-o", "route", "show", "dev", "ncp-node0").stdout.split()
        (prefix,) = (ip_network(each) for each in routes if each.startswith("10.96.") and "/" in each)
        taken = {each["spec"]["clusterIP"] for each in wire.lab.get("services", "-A")["items"]}
        free = next(str(each) for each in prefix.hosts() if str(each) not in taken)
        for client in ("blue/d", "node2", "node1"):
            before = {node: wire.dropped(node).get("no-route", 0) for node in NODES}
            assert says(wire, client, free, 4711, UDP) == "silence"
            after = {node: wire.dropped(node).get("no-route", 0) for node in NODES}
            assert sum(after.values()) - sum(before.values()) == 1, client


STAND_INS = {4: "169.254.0.252", 6: "fd4e:4350:ffff:ffff::fc"}


@pytest.mark.parametrize("family", [4, 6])
def test_a_member_on_a_nodes_own_network_serves_everybody_and_sees_pods_as_they_are(wire, kube, family):
    member = own_address(wire, "node2", family)
    families = {"ipFamilyPolicy": "SingleStack", "ipFamilies": [f"IPv{family}"]}
    slices = {
        "metadata": {
            "name": f"own{family}",
            "namespace": "red",
            "labels": {"kubernetes.io/service-name": f"own{family}"},
        },
        "addressType": f"IPv{family}",
        "ports": [{"name": "tcp", "port": 18080}],
        "endpoints": [{"addresses": [member], "nodeName": "node2", "conditions": {"ready": True}}],
    }
    with open_socket(at(wire, "node2"), 18080), balanced(wire, kube, f"own{family}", members=None, **families) as found:
        kube.create(ENDPOINT_SLICES, slices, "red")
        wire.lab.wait(lambda: says(wire, "red/a", found.cluster[family]) != "refused", "the member is known")
        for client in ("red/a", "red/c", "node1", "node2", EXTERNAL):
            peer = own_address(wire, client, family) if "/" in client else STAND_INS[family]
            ways = [
                (found.virtual[family], 80),
                (own_address(wire, "node3", family), found.node_ports[0]),
                (member, found.node_ports[0]),
            ]
            if client != EXTERNAL:
                ways.append((found.cluster[family], 80))
            for way in ways:
                told = partial(says, wire, client, *way)
                wire.lab.wait(lambda told=told, peer=peer: told() == f"the node, {peer}", f"{client} at {way}")


@contextmanager
def open_socket(netns, number=32700):
    """A server on a node, at a port of the node-port range that no service has; it says who asks."""

    def listen():
        return socket.create_server(("::", number), family=socket.AF_INET6, dualstack_ipv6=True)

    with run_in(netns, listen) as listening:
        listening.settimeout(10)

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    connection, peer = listening.accept()
                    with connection:
                        connection.recv(100)
                        connection.send(f"the node, {peer[0].removeprefix('::ffff:')}\n".encode())

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listening
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()
