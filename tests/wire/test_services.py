"""Packets to virtual servers reach members, from every node, and are answered as by the virtual server."""

from __future__ import annotations

import socket
from collections import Counter

import pytest

from ncp.cli.services import services
from ncp.cli.world import look
from ncp.kube.resources import SERVICES
from tests.wire.serving import policy, says, service
from tests.wire.talk import Talk

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
        for client in ("red/a", "blue/d"):
            wire.lab.wait(
                lambda client=client: says(wire, client, addresses[family]) == "refused", f"{client} is refused"
            )


def test_members_share_connections_evenly(wire, kube):
    for name in ("red/b", "red/c"):
        wire.lab.kubectl("label", "pod", "-n", "red", name.split("/")[1], "group=two", "--overwrite")
    with service(wire, kube, "two", members={"group": "two"}) as addresses:
        wire.lab.wait(lambda: says(wire, "blue/e", addresses[4]) == "c", "the second member is there")
        found = Counter(says(wire, "blue/e", addresses[4]) for _ in range(200))
        assert found.keys() == {"b", "c"}
        assert abs(found["b"] - 100) < 3 * 50**0.5, "within three sigma of even"


def to_b(port):
    return {"podSelector": {"matchLabels": {"app": "a"}}, "policyTypes": ["Egress"], "egress": [
        {"to": [{"podSelector": {"matchLabels": {"app": "b"}}}], "ports": [{"port": port}]}]}  # fmt: skip


@pytest.mark.parametrize("family", [4, 6])
def test_policies_see_the_member_and_the_clients_own_address(wire, kube, family):
    client = str(wire.end("red/a").address(family))
    at_b = {"podSelector": {"matchLabels": {"app": "b"}}, "ingress": [
        {"from": [{"ipBlock": {"cidr": f"{client}/{32 if family == 4 else 128}"}}], "ports": [{"port": 8080}]}]}  # fmt: skip
    with service(wire, kube, "seen", members={"app": "b"}) as addresses:
        with policy(wire, kube, "out", to_b(8080)), policy(wire, kube, "in", at_b):
            assert says(wire, "red/a", addresses[family]) == "b"
            assert says(wire, "blue/d", addresses[family]) == "silence"
        with policy(wire, kube, "not-to-the-virtual-port", to_b(80)):
            assert says(wire, "red/a", addresses[family]) == "silence"


def test_a_connection_through_a_virtual_server_is_judged_by_its_member(wire, kube):
    with service(wire, kube, "kept", members={"app": "b"}) as addresses, Talk(wire, "red/a", addresses[4], 80) as talk:
        assert talk.says() == "b"
        with policy(wire, kube, "allows", to_b(8080)):
            assert talk.says() == "b"
        with policy(wire, kube, "forbids", to_b(80)):
            assert talk.says() == "reset", "what is left of it belongs to no connection to a member"


def test_datagrams_leave_a_member_that_is_gone_at_once_and_connections_end_in_peace(wire, kube):
    ports = (
        {"name": "t", "port": 80, "targetPort": 8080},
        {"name": "u", "port": 53, "targetPort": 5353, "protocol": "UDP"},
    )
    with service(wire, kube, "moves", members={"app": "b"}, ports=ports) as addresses:
        with (
            Talk(wire, "red/a", addresses[4], 80) as stream,
            Talk(wire, "red/a", addresses[4], 53, socket.SOCK_DGRAM) as datagrams,
        ):
            assert (stream.says(), datagrams.says()) == ("b", "b")
            kube.patch(SERVICES, "moves", "red", body={"spec": {"selector": {"app": "c"}}})
            wire.lab.wait(lambda: says(wire, "red/a", addresses[4]) == "c", "new connections go to the new member")
            wire.lab.wait(lambda: datagrams.says() == "c", "so do datagrams", 2)
            assert stream.says() == "b"


def test_a_client_stays_with_its_member_where_the_service_asks_for_it(wire, kube):
    for name in ("red/b", "red/c"):
        wire.lab.kubectl("label", "pod", "-n", "red", name.split("/")[1], "group=two", "--overwrite")
    with service(wire, kube, "sticky", members={"group": "two"}, sessionAffinity="ClientIP") as addresses:
        for family in (4, 6):
            for client in ("red/a", "blue/d", "blue/e"):
                assert len({says(wire, client, addresses[family]) for _ in range(12)}) == 1


@pytest.mark.parametrize("family", [4, 6])
def test_a_pod_reaches_itself_through_its_service_whatever_isolates_it(wire, kube, family):
    ports = (
        {"name": "t", "port": 80, "targetPort": 8080},
        {"name": "u", "port": 53, "targetPort": 5353, "protocol": "UDP"},
    )
    with service(wire, kube, "mine", members={"app": "b"}, ports=ports) as addresses:
        nobody = {"podSelector": {"matchLabels": {"app": "b"}}, "policyTypes": ["Ingress", "Egress"]}
        with Talk(wire, "red/b", addresses[family], 80) as talk:
            assert [talk.says() for _ in range(3)] == ["b"] * 3
            assert says(wire, "red/b", addresses[family], 53, socket.SOCK_DGRAM) == "b"
            with policy(wire, kube, "nobody", nobody):
                assert talk.says() == "b"
                assert says(wire, "red/b", addresses[family]) == "b"
                assert says(wire, "red/a", addresses[family]) == "silence"


def test_connections_are_told_by_member_and_added_up_over_nodes(wire, kube):
    def told():
        rows = services(look(None, wire.lab.state.root))
        (row,) = (each for each in rows if each["name"] == "told")
        return (row["ready"], row["total"], row["connections"], [each["address"] for each in row["members"]])

    with service(wire, kube, "told", members={"app": "b"}, ipFamilyPolicy="SingleStack") as addresses:
        (member,) = told()[3]
        for client in CLIENTS:
            assert says(wire, client, addresses[4]) == "b"
        wire.lab.wait(lambda: told() == (1, 1, len(CLIENTS), [member]), "each connection is counted")
