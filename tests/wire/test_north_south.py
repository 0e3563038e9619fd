"""Pods and the world outside: who they are there, who reaches them from there, and that nothing leaves under a wrong address.

What is said is said by the host outside, and by a capture of everything that arrives at its link.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import ICMPv6DestUnreach, ICMPv6TimeExceeded, IPv6
from scapy.layers.l2 import Ether

from labs.execute import of_external
from labs.kubelet.responder import Port, Responders
from ncp.cli import nodeapi
from ncp.cli.nat import nat
from ncp.probe.model import Probe
from ncp.probe.run import ask
from ncp.probe.wire import packet_socket
from tests.support.lab import Lab
from tests.wire.conftest import Wire, configured
from tests.wire.serving import EXTERNAL, SCTP, TCP, at, own_address, policy, says, seen
from tests.wire.serving import UDP as DATAGRAM

SERVED = 7000
PODS = [ip_network(text) for text in ("10.4.0.0/16", "10.5.0.0/16", "fd00:10:4::/48", "fd00:10:5::/48")]


@pytest.fixture(scope="module")
def server(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Somebody outside who says whom they see, by TCP, UDP and SCTP."""
    responders = Responders()
    try:
        ports = [Port("outside", SERVED, protocol) for protocol in ("TCP", "UDP", "SCTP")]
        responders.serve("outside", of_external(lab.state).netns, "outside", ports, tmp_path_factory.mktemp("outside"))
        yield
    finally:
        responders.close()


def outside(wire: Wire, space: str) -> dict[int, str]:
    """Whom a namespace is outside, by family, once it is decided."""

    def decided() -> dict[int, str] | None:
        said = (wire.lab.get("namespace", space)["metadata"].get("annotations") or {}).get("ncp/snat_ip", "")
        return {ip_address(each).version: each for each in said.split(",") if each} or None

    return wire.lab.wait(decided, f"{space} has addresses outside")


@contextmanager
def uplink(wire: Wire) -> Iterator[list[str]]:
    """The senders of all IP packets that come to the host outside while the block lasts, in their order."""
    sock, found = packet_socket(at(wire, EXTERNAL), "eth0"), []
    try:
        yield found
        while True:
            try:
                raw, address = sock.recvfrom(65535)
            except BlockingIOError:
                break
            layer = Ether(raw).payload
            if address[2] != 4 and isinstance(layer, IP | IPv6):
                found.append(layer.src)
    finally:
        sock.close()


def of_pods(senders: list[str]) -> set[str]:
    """Those that are addresses of pods."""
    return {
        each
        for each in senders
        if any(ip_address(each) in block for block in PODS if block.version == ip_address(each).version)
    }


@pytest.mark.parametrize("family", [4, 6])
def test_a_namespace_is_one_address_outside_and_one_without_snat_is_itself(wire, server, family):
    external, red = own_address(wire, EXTERNAL, family), outside(wire, "red")[family]
    with uplink(wire) as senders:
        for protocol in (TCP, DATAGRAM, SCTP):
            for pod in ("red/a", "red/c"):  # on the node that lets out, and elsewhere
                assert says(wire, pod, external, SERVED, protocol) == "outside", (pod, protocol)
                assert seen(wire, pod, external, SERVED, protocol) == red, (pod, protocol)
            blue = own_address(wire, "blue/d", family)
            assert seen(wire, "blue/d", external, SERVED, protocol) == blue, protocol
        for pod in ("red/a", "red/c", "blue/d"):
            assert wire.lab.exec(pod, "ping", "-c1", "-W2", external).returncode == 0
    assert red in senders
    assert of_pods(senders) == {blue}


def test_intent_flows_and_wire_agree_on_who_gets_out_and_in(wire):
    pods = ("red/a", "red/c", "blue/d", "blue/e")
    probes = [
        Probe(*ends, family, protocol, port)
        for pod in pods
        for family in (4, 6)
        for ends, protocol, port in (
            ((pod, EXTERNAL), "icmp", 0),
            ((pod, EXTERNAL), "tcp", 81),
            ((EXTERNAL, pod), "icmp", 0),
            ((EXTERNAL, pod), "tcp", 8080),
            ((EXTERNAL, pod), "udp", 5353),
            ((EXTERNAL, pod), "sctp", 9091),
        )
    ]
    results = ask(wire.site, probes, quiet=True)
    assert [each for each in results if not each.agrees] == []
    entered = {
        each.probe.destination for each in results if each.probe.source == EXTERNAL and each.observed.answer != "no"
    }
    assert entered == {"blue/d", "blue/e"}
    left = {
        each.probe.source for each in results if each.probe.destination == EXTERNAL and each.observed.answer != "no"
    }
    assert left == set(pods)
    assert wire.dropped("node1")["not-from-outside"] > 0


def test_a_path_outside_shows_each_router_once(wire):
    far = {4: "203.0.113.1", 6: "2001:db8:113::1"}
    for pod, gateway in (("red/c", "red"), ("blue/d", "blue")):
        gateways = json.loads(wire.lab.get("namespace", gateway)["metadata"]["annotations"]["ncp/segments"])[0][
            "gateways"
        ]
        for family in (4, 6):
            tier1 = next(each.split("/")[0] for each in gateways if ip_address(each.split("/")[0]).version == family)
            tier0 = {4: "100.64.0.1", 6: "fd98::1"}[family]
            assert _path(wire, pod, far[family]) == [tier1, tier0, far[family]]


def _path(wire: Wire, pod: str, address: str) -> list[str]:
    """Who answers datagrams of a pod that live for one hop, two, and so on."""
    found = []
    for ttl in range(1, 6):
        layer = IP(dst=address, ttl=ttl) if "." in address else IPv6(dst=address, hlim=ttl)
        layer.src = own_address(wire, pod, 4 if "." in address else 6)
        mac = "02:50:56:56:44:52"
        frame = (
            Ether(src=wire.end(pod).mac.to_bytes(6, "big").hex(":"), dst=mac)
            / layer
            / UDP(sport=33000 + ttl, dport=33434)
            / b"who"
        )
        answer = wire.exchange(
            pod, bytes(frame), lambda p: any(kind in p for kind in (ICMP, ICMPv6TimeExceeded, ICMPv6DestUnreach))
        )
        found.append((answer[-1][IP] if IP in answer[-1] else answer[-1][IPv6]).src)
        if found[-1] == address:
            break
    return found


def test_who_is_too_big_further_on_is_told_so_through_the_translation(wire):
    """A link behind the edge that takes less: its router's error is about the address outside, and reaches the pod."""
    link = ("203.0.113.0/24", "via", "192.168.50.250", "dev", "br-ul")
    wire.lab.exec_node("node1", "ip", "route", "replace", *link, "mtu", "lock", "1300")
    try:
        for pod in ("red/a", "red/c", "blue/d"):
            done = wire.lab.exec(pod, "ping", "-c2", "-W1", "-Mdo", "-s1300", "203.0.113.1")
            assert "mtu=1300" in done.stdout + done.stderr or "mtu = 1300" in done.stdout + done.stderr, done.stdout
            wire.lab.exec(pod, "ip", "route", "flush", "cache")
    finally:
        wire.lab.exec_node("node1", "ip", "route", "del", *link)


def test_what_comes_in_too_big_for_the_overlay_is_refused_or_cut_up(wire, server):
    address = own_address(wire, "blue/d", 4)
    wire.lab.exec_external("ip", "route", "flush", "cache")
    told = wire.lab.exec_external("ping", "-c1", "-W1", "-Mdo", "-s1460", address)
    assert "mtu = 1442" in told.stdout
    wire.lab.exec_external("ip", "route", "flush", "cache")
    assert wire.lab.exec_external("ping", "-c1", "-W2", "-Mdont", "-s1460", address).returncode == 0
    for family in (4, 6):  # fragments both ways, through the translation
        assert (
            wire.lab.exec("red/c", "ping", "-c2", "-W2", "-s3000", own_address(wire, EXTERNAL, family)).returncode == 0
        )


def test_a_chosen_address_is_taken_in_the_midst_and_nothing_leaves_under_another(wire, server):
    lab, external = wire.lab, own_address(wire, EXTERNAL, 4)
    before = outside(wire, "red")
    chosen = "192.168.50.177"
    with uplink(wire) as senders:
        lab.kubectl("annotate", "namespace", "red", f"ncp/static_snat_ip={chosen}", "--overwrite")
        try:
            moved = lab.wait(lambda: seen(wire, "red/c", external, SERVED, DATAGRAM) == chosen, "red is the other")
            assert moved
            said = lab.get("namespace", "red")["metadata"]["annotations"]
            assert said["ncp/snat_ip_status"] == "IP_ALLOCATED_SUCCESSFULLY"
            assert seen(wire, "red/a", external, SERVED) == chosen
        finally:
            lab.kubectl("annotate", "namespace", "red", "ncp/static_snat_ip-")
            lab.wait(lambda: seen(wire, "red/c", external, SERVED, DATAGRAM) not in (chosen, ""), "red has left it")
    assert of_pods(senders) == set()
    assert {each for each in senders if each.startswith("192.168.50.1")} - {chosen, before[4]} <= _nodes(wire) | set(
        outside(wire, "red").values()
    )


def _nodes(wire: Wire) -> set[str]:
    return {each["address"] for node in wire.lab.get("nodes")["items"] for each in node["status"]["addresses"]}


@contextmanager
def binding(wire: Wire, pod: str, **spec: Any) -> Iterator[dict[int, str]]:
    """An AddressBinding of a pod; its addresses by family, once somebody outside gets an answer there."""
    space, name = pod.split("/")
    body = {
        "apiVersion": "crd.nsx.vmware.com/v1alpha1",
        "kind": "AddressBinding",
        "metadata": {"name": name, "namespace": space},
        "spec": {"podName": name, **spec},
    }
    wire.lab.apply(body)
    try:

        def ready() -> dict[int, str] | None:
            status = wire.lab.get("addressbinding", "-n", space, name).get("status") or {}
            return {ip_address(each).version: each for each in status.get("ipAddresses", ())} or None

        found = wire.lab.wait(ready, f"{pod} is bound")
        for address in found.values():
            wire.lab.wait(lambda a=address: says(wire, EXTERNAL, a, 8080) == name, f"{address} answers")
        yield found
    finally:
        wire.lab.kubectl("delete", "addressbinding", "-n", space, name)
        wire.lab.wait(lambda: not any(_of_binding(wire, node) for node in ("node1", "node3")), "nothing is left of it")


def _of_binding(wire: Wire, node: str) -> list[Any]:
    found = nodeapi.get(wire.lab.state.root / "nodes" / node / "node.sock", "/v1/flows")["flows"]
    return [flow for flow in found if flow["origin"]["kind"] == "AddressBinding" and flow["state"] == "ok"]


def test_a_bound_pod_has_an_address_of_its_own_both_ways(wire, server):
    with binding(wire, "red/c") as found:
        assert set(found) == {4, 6}
        for family, address in found.items():
            external = own_address(wire, EXTERNAL, family)
            for protocol, port in ((TCP, 8080), (DATAGRAM, 5353), (SCTP, 9091)):
                assert says(wire, EXTERNAL, address, port, protocol) == "c", (address, protocol)
                assert seen(wire, EXTERNAL, address, port, protocol) == external, "the client is not translated"
                assert seen(wire, "red/c", external, SERVED, protocol) == address
                assert says(wire, "blue/d", address, port, protocol) == "c", "pods reach it there, too"
            assert wire.lab.exec_external("ping", "-c1", "-W2", address).returncode == 0
            assert seen(wire, "red/a", external, SERVED) == outside(wire, "red")[family], "its neighbours are not it"
            assert says(wire, "red/c", address, 8080) == "c", "nor is it closed to itself"
    assert says(wire, EXTERNAL, found[4], 8080) == "silence"


def test_a_services_members_leave_from_its_own_pool(wire, server):
    lab, external = wire.lab, own_address(wire, EXTERNAL, 4)
    lab.kubectl("label", "pod", "-n", "red", "c", "egress=own", "--overwrite")
    spec = {"selector": {"egress": "own"}, "ports": [{"port": 80, "targetPort": 8080}]}
    meta = {"name": "own", "namespace": "red", "annotations": {"ncp/snat_pool": "snat"}}
    lab.apply({"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": spec})
    try:

        def given() -> str | None:
            said = lab.get("service", "-n", "red", "own")["metadata"]["annotations"].get("ncp/snat_ip", "")
            return next((each for each in said.split(",") if "." in each), None)

        address = lab.wait(given, "the service has an address outside")
        assert address != outside(wire, "red")[4]
        lab.wait(lambda: seen(wire, "red/c", external, SERVED) == address, "its member leaves from there")
        assert seen(wire, "red/a", external, SERVED) == outside(wire, "red")[4]
    finally:
        lab.kubectl("delete", "service", "-n", "red", "own")
        lab.kubectl("label", "pod", "-n", "red", "c", "egress-")
    lab.wait(
        lambda: seen(wire, "red/c", external, SERVED) == outside(wire, "red")[4], "it leaves as its namespace again"
    )


def test_rules_at_a_sender_see_the_address_that_is_asked_for(wire, kube, server):
    """A pod that may send to one address outside alone, to somebody bound to that address."""
    with binding(wire, "red/c") as found:
        only = {"to": [{"ipBlock": {"cidr": f"{found[4]}/32"}}]}
        spec = {"podSelector": {"matchLabels": {"app": "a"}}, "policyTypes": ["Egress"], "egress": [only]}
        with policy(wire, kube, "only-outside", spec):
            assert says(wire, "red/a", found[4], 8080) == "silence", "rules see the pod"
            with configured(wire, "nsx_v3", "natfirewallmatch = MATCH_EXTERNAL_ADDRESS"):
                wire.lab.wait(lambda: says(wire, "red/a", found[4], 8080) == "c", "rules see the address outside")
                assert seen(wire, "red/a", found[4], 8080) == outside(wire, "red")[4], "it came by the edge"
                assert says(wire, "red/a", own_address(wire, "red/c", 4), 8080) == "silence"
            with configured(wire, "nsx_v3", "natfirewallmatch = BYPASS"):
                wire.lab.wait(lambda: says(wire, "red/a", found[4], 8080) == "c", "no rule is asked")
                assert seen(wire, "red/a", found[4], 8080) == own_address(wire, "red/a", 4)


def test_what_no_port_is_left_for_is_dropped_and_counted(wire, server):
    external, red = own_address(wire, EXTERNAL, 4), outside(wire, "red")[4]

    def exhausted() -> int:
        flows = (flow for flow in wire.flows("node1") if flow["table_name"] == "snat_done")
        return sum(flow["packets"] for flow in flows if flow["origin"]["detail"] == "no port left")

    def said() -> str:
        notes = wire.lab.get("namespace", "red")["metadata"]["annotations"]
        assert not [name for name in ("node2", "node3") if f"ncp/error.{name}" in notes], "others have nothing to say"
        return notes.get("ncp/error.node1", "")

    with configured(wire, "ncp", "snat_ports = 2000-2003", "audit_interval = 2"), uplink(wire) as senders:
        before = exhausted()
        answers = [says(wire, "red/c", external, SERVED, DATAGRAM) for _ in range(6)]
        assert answers == ["outside"] * 4 + ["silence"] * 2
        wire.lab.wait(lambda: exhausted() > before, "it is counted")
        told = wire.lab.wait(said, "the namespace is told")
        assert re.match(r"SNAT_PORTS_EXHAUSTED: Namespace red: [1-9]\d* packets to the outside were dropped", told)
        lost = sum(row["no_port"] for row in nat(wire.lab.state.root, "node1", "red"))
        assert lost == exhausted() > 0
        wire.lab.wait(lambda: not said(), "it is taken back once an audit finds no more")
    assert of_pods(senders) == set()
    assert red in senders


def test_each_new_connection_is_a_hit_of_its_translation(wire, server):
    external, red = own_address(wire, EXTERNAL, 4), outside(wire, "red")[4]

    def hits() -> int:
        assert (
            wire.lab.exec_node("node1", "ovs-appctl", "revalidator/wait").returncode == 0
        )  # what is cached is counted
        (row,) = (each for each in nat(wire.lab.state.root, "node1", "red") if each["outside"] == red)
        assert (row["kind"], row["active"]) == ("SNAT", True)
        return int(row["hits"])

    wire.lab.wait(lambda: says(wire, "red/c", external, SERVED) == "outside", "its address is answered for")
    before = hits()
    for _ in range(10):
        assert says(wire, "red/c", external, SERVED) == "outside"
    assert hits() - before == 10
    assert nat(wire.lab.state.root, "node2", "red") == [], "only the node that lets out translates"


def test_who_is_whom_is_logged_where_it_is_asked_for(wire, server):
    external, red = own_address(wire, EXTERNAL, 4), outside(wire, "red")[4]
    with configured(wire, "nsx_v3", "snat_rule_logging = extended"):
        assert says(wire, "red/c", external, SERVED) == "outside"

        def lines() -> list[dict[str, Any]]:
            found = nodeapi.get(wire.lab.state.root / "nodes" / "node1" / "node.sock", "/v1/firewall-log")["lines"]
            return [line for line in found if line["action"] == "snat" and line["port"] == "red/c"]

        (line,) = wire.lab.wait(lines, "it is logged")
        assert (line["policy"], line["rule"]) == ("Namespace red", f"SNAT to {red}")
        assert line["packet"].startswith("tcp ")
        assert line["packet"].endswith(f"-> {external}:{SERVED}")


def test_new_connections_wait_for_no_clock(wire, server):
    """A hundred connections one after another: a translation costs a packet no trip to the agent."""
    external, started = own_address(wire, EXTERNAL, 4), time.monotonic()
    for _ in range(100):
        assert says(wire, "red/c", external, SERVED) == "outside"
    assert time.monotonic() - started < 5
