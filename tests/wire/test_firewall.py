"""Policies as packets meet them: three nodes, real connections, every protocol, both families."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.l2 import Ether

from ncp.cli import nodeapi
from ncp.kube.client import Kube
from ncp.kube.resources import NETWORK_POLICIES, PODS, SECURITY_POLICIES
from ncp.probe.model import Probe
from ncp.probe.run import ask
from ncp.probe.wire import Station, build, packet_socket, run_in
from tests.wire.conftest import Wire
from tests.wire.serving import own_address
from tests.wire.talk import Talk

pytestmark = pytest.mark.lab
DENY = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


@pytest.fixture(scope="session")
def labelled(lab, pods) -> None:
    for name in ("red/a", "red/b", "red/c", "blue/d", "blue/e"):
        space, short = name.split("/")
        lab.kubectl("label", "pod", "-n", space, short, f"app={short}", "--overwrite")


class Policies:
    """Applies policies, waits until they are realised, and takes them away at the end."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self._kube = Kube.connect(str(wire.lab.state.kubeconfig))
        self._made = set()

    def apply(self, name, spec, space="red", resource=NETWORK_POLICIES, **annotations):
        meta = {"name": name, "namespace": space}
        if annotations:
            meta["annotations"] = {"ncp/established_connections": annotations["established"]}
        body = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": meta, "spec": spec}
        obj = self._kube.patch(resource, name, space, body=body, kind="apply", field_manager="test", force=True)
        self._made.add((resource, name, space))
        generation = obj["metadata"]["generation"]

        def realised():
            now = self._kube.get(resource, name, space)["metadata"]
            said = now.get("annotations", {})
            nodes = [value for key, value in said.items() if key.startswith("ncp/realised.")]
            return said.get("ncp/realisation", "").startswith("Realized") and set(nodes) <= {str(generation)}

        self.wire.lab.wait(realised, f"{resource.kind} {name} is realised", 10)

    def delete(self, name, space="red", resource=NETWORK_POLICIES):
        self._kube.delete(resource, name, space)
        self._made.remove((resource, name, space))
        self.gone(name)

    def gone(self, name):
        def left():
            return [
                r
                for node in ("node1", "node2", "node3")
                for r in self.rules(node)
                if name in r["origin"]["name"].split(",")
            ]

        self.wire.lab.wait(lambda: not left(), f"no flow of {name} is left", 10)

    def rules(self, node):
        return nodeapi.get(self.wire.lab.state.root / "nodes" / node / "node.sock", "/v1/rules")["rules"]

    def counted(self, node, name, rule):
        return next(r for r in self.rules(node) if r["origin"]["name"] == name and r["rule"] == rule)

    def clear(self):
        for resource, name, space in list(self._made):
            self.delete(name, space, resource)


@pytest.fixture
def policies(wire, labelled) -> Iterator[Policies]:
    found = Policies(wire)
    yield found
    found.clear()


def answers(wire, probes):
    """What the wire says, after all three have agreed."""
    results = ask(wire.site, probes, quiet=True)
    assert [r for r in results if not r.agrees] == []
    return [r.observed.answer for r in results]


def fresh(wire) -> None:
    """Look at the cluster again: policies are part of what is expected."""
    wire.site = Wire(wire.lab).site


def everything(source, destination):
    kinds = (("tcp", 8080), ("udp", 5353), ("sctp", 9091), ("icmp", 0))
    return [Probe(source, destination, family, kind, port) for family in (4, 6) for kind, port in kinds]


def test_a_default_deny_holds_for_every_protocol_and_family_and_names_itself(wire, policies):
    policies.apply("deny", {"podSelector": {"matchLabels": {"app": "c"}}, "policyTypes": ["Ingress"]})
    fresh(wire)
    assert answers(wire, everything("red/a", "red/c") + everything("blue/d", "red/c")) == ["no"] * 16
    assert answers(wire, everything("red/c", "red/a") + everything("red/a", "red/b")) == ["yes"] * 16


def test_rules_open_exactly_what_they_say(wire, policies):
    rule = {
        "from": [{"podSelector": {"matchLabels": {"app": "a"}}}],
        "ports": [{"port": 8080}, {"port": 9091, "protocol": "SCTP"}],
    }
    policies.apply("some", {"podSelector": {"matchLabels": {"app": "b"}}, "ingress": [rule]})
    fresh(wire)
    assert answers(wire, everything("red/a", "red/b")) == ["yes", "no", "yes", "no"] * 2
    assert answers(wire, everything("red/c", "red/b")) == ["no"] * 8


def test_both_ends_are_asked_also_on_one_node(wire, policies):
    policies.apply(
        "out",
        {
            "podSelector": {"matchLabels": {"app": "a"}},
            "egress": [{"to": [{"podSelector": {"matchLabels": {"app": "b"}}}]}],
            "policyTypes": ["Egress"],
        },
    )
    policies.apply(
        "in",
        {
            "podSelector": {"matchLabels": {"app": "b"}},
            "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "c"}}}]}],
        },
    )
    fresh(wire)
    assert answers(wire, everything("red/a", "red/b")) == ["no"] * 8
    policies.apply(
        "in",
        {
            "podSelector": {"matchLabels": {"app": "b"}},
            "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "a"}}}]}],
        },
    )
    fresh(wire)
    assert answers(wire, everything("red/a", "red/b")) == ["yes"] * 8
    assert answers(wire, everything("red/a", "red/c")) == ["no"] * 8


def test_reject_is_told_by_reset_abort_or_icmp_at_either_end(wire, policies):
    rules = [
        {"action": "Reject", "direction": "In", "sources": [{"podSelector": {"matchLabels": {"app": "a"}}}]},
        {"action": "Reject", "direction": "Out", "destinations": [{"podSelector": {"matchLabels": {"app": "b"}}}]},
    ]
    target = [{"podSelector": {"matchLabels": {"app": "c"}}}]
    policies.apply("turn-away", {"priority": 5, "appliedTo": target, "rules": rules}, resource=SECURITY_POLICIES)
    fresh(wire)
    told = ["refused", "rejected", "refused", "rejected"] * 2
    assert answers(wire, everything("red/a", "red/c")) == told, "at the receiver, on another node"
    assert answers(wire, everything("red/c", "red/b")) == told, "at the sender"
    assert answers(wire, everything("red/b", "red/c")) == ["yes"] * 8


def test_fifty_packets_raise_a_rules_counters_by_exactly_fifty(wire, policies):
    peers = {"from": [{"podSelector": {"matchLabels": {"app": "a"}}}]}
    policies.apply(
        "counted",
        {
            "podSelector": {"matchLabels": {"app": "c"}},
            "ingress": [{**peers, "ports": [{"port": 5353, "protocol": "UDP"}]}],
        },
    )
    source, destination = wire.end("red/a"), wire.end("red/c")
    allowed = build(source, destination, Probe("red/a", "red/c", 4, "udp", 5353), 40001)
    forbidden = build(source, destination, Probe("red/a", "red/c", 4, "udp", 5354), 40002)

    def seen(number):
        rules = ("ingress rule 0", "isolates ingress")
        wire.lab.wait(
            lambda: all(policies.counted("node2", "counted", r)["packets"] >= number for r in rules), "counted", 5
        )

    with Station(source) as station:
        station.send(allowed)  # alone, for what comes before the connection is known would be of a session of its own
        station.send(forbidden)
        seen(1)
        for _ in range(49):
            station.send(allowed)
            station.send(forbidden)
    seen(50)
    rule, drop = (
        policies.counted("node2", "counted", "ingress rule 0"),
        policies.counted("node2", "counted", "isolates ingress"),
    )
    assert (rule["packets"], rule["bytes"], rule["sessions"], rule["action"]) == (50, 50 * len(allowed), 1, "allow")
    assert (drop["hits"], drop["packets"], drop["bytes"], drop["sessions"]) == (50, 50, 50 * len(forbidden), 0)


def test_a_datagram_in_fragments_passes_by_the_rule_for_its_port(wire, policies):
    policies.apply(
        "big",
        {"podSelector": {"matchLabels": {"app": "c"}}, "ingress": [{"ports": [{"port": 5353, "protocol": "UDP"}]}]},
    )
    for family in (4, 6):
        address = str(wire.end("red/c").address(family))
        with run_in(wire.end("red/a").netns, lambda family=family: udp(family)) as sock:
            sock.settimeout(3)
            sock.sendto(b"x" * 3000 + b"\n", (address, 5353))
            assert sock.recv(2000).strip() == b"c"


def udp(family):
    return socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6, socket.SOCK_DGRAM)


def test_the_pods_own_node_reaches_it_again_and_again_and_others_do_not(wire, policies):
    policies.apply("deny", DENY)
    address = str(wire.end("red/c").address(4))
    assert wire.lab.exec_node("node2", "ping", "-n", "-c3", "-i0.2", "-W1", address).returncode == 0
    assert (
        wire.lab.exec_node("node2", "curl", "-s", "--max-time", "3", f"http://{address}:8080/hostname").stdout.strip()
        == "c"
    )
    assert wire.lab.exec_node("node1", "ping", "-n", "-c2", "-i0.2", "-W1", address).returncode == 1
    assert wire.lab.exec("red/c", "ping", "-n", "-c2", "-i0.2", "-W1", "192.168.50.12").returncode == 0


# -- connections that were there before ---------------------------------------------------------------------------


def talk(wire, source, destination, family=4):
    """From one pod to another's port 8080."""
    return Talk(wire, source, str(wire.end(destination).address(family)), 8080)


@pytest.mark.parametrize(("mode", "then"), [("keep", "c"), ("recheck", "silence"), ("cut", "reset")])
@pytest.mark.parametrize("family", [4, 6])
def test_a_connection_that_is_forbidden_later_fares_as_its_policy_says(wire, policies, mode, then, family):
    spec = {
        "podSelector": {"matchLabels": {"app": "c"}},
        "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "b"}}}]}],
    }
    with talk(wire, "red/a", "red/c", family) as forbidden, talk(wire, "red/b", "red/c", family) as allowed:
        assert (forbidden.says(), allowed.says()) == ("c", "c")
        policies.apply("later", spec, established=mode)
        assert forbidden.says() == then
        assert [allowed.says() for _ in range(3)] == ["c"] * 3
    with pytest.raises(OSError, match="timed out"):  # a new one, whatever the mode
        talk(wire, "red/a", "red/c", family)


def test_a_relabelled_peer_loses_its_connection(wire, policies):
    policies.apply(
        "for-a",
        {
            "podSelector": {"matchLabels": {"app": "c"}},
            "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "a"}}}]}],
        },
    )
    with talk(wire, "red/a", "red/c") as ended, talk(wire, "red/c", "red/b") as other:
        assert (ended.says(), other.says()) == ("c", "b")
        wire.lab.kubectl("label", "pod", "-n", "red", "a", "app=z", "--overwrite")
        try:
            wire.lab.wait(lambda: ended.says() == "silence", "the connection is cut off", 5)
            assert other.says() == "b"
        finally:
            wire.lab.kubectl("label", "pod", "-n", "red", "a", "app=a", "--overwrite")


def test_a_denying_rule_of_a_cut_policy_resets_what_it_ends(wire, policies):
    rule = {"action": "Drop", "direction": "In", "sources": [{"podSelector": {"matchLabels": {"app": "a"}}}]}
    target = [{"podSelector": {"matchLabels": {"app": "c"}}}]
    with talk(wire, "red/a", "red/c") as forbidden, talk(wire, "red/b", "red/c") as allowed:
        assert (forbidden.says(), allowed.says()) == ("c", "c")
        policies.apply(
            "ends", {"priority": 5, "appliedTo": target, "rules": [rule]}, resource=SECURITY_POLICIES, established="cut"
        )
        assert forbidden.says() == "reset"
        assert allowed.says() == "c"
        fresh(wire)
        assert answers(wire, [Probe("red/a", "red/c", 4, "tcp", 8080)]) == ["no"], "a new connection meets silence"


def new_entries(wire, node) -> set[str]:
    """The entries of a switch's cache for new connections, by their names; no rule is asked about those of the node itself."""
    lines = wire.lab.exec_node(node, "ovs-appctl", "dpctl/dump-flows", "-m").stdout.splitlines()
    unasked = ("actions:ncp-node0", *(f"(src={own_address(wire, node, family)}" for family in (4, 6)))
    new = (line for line in lines if "ct_state(0x21/" in line)
    return {line.partition(",")[0] for line in new if not any(each in line for each in unasked)}


def test_no_cached_entry_that_a_rule_was_asked_for_outlives_a_change_of_policies(wire, policies):
    """Else entries overlap, and a switch that amends the wrong one lets somebody go on for as long as he does not pause."""
    policies.apply("wide", {"podSelector": {"matchLabels": {"app": "c"}}, "ingress": [{"from": [{"podSelector": {}}]}]})
    fresh(wire)
    assert answers(wire, [Probe("red/a", "red/c", family, "udp", 5353) for family in (4, 6)]) == ["yes"] * 2
    before = new_entries(wire, "node2")
    assert before
    policies.delete("wide")
    wire.lab.wait(lambda: not before & new_entries(wire, "node2"), "the entries are given up", 2)


# -- from the first packet to the last ------------------------------------------------------------------------------


class Flood:
    """SYNs and datagrams from a pod to an address, as fast as they go, until the end of the block."""

    def __init__(self, wire, source, destination, kinds=(("tcp", 8080), ("udp", 5353), ("icmp", 0))):
        self.frames = [
            build(wire.end(source), destination, Probe(source, destination.name, 4, kind, port), 41000 + number)
            for number, (kind, port) in enumerate(kinds)
        ]
        self.station = Station(wire.end(source))
        self.sent = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self):
        while not self._over.is_set():
            for frame in self.frames:
                with contextlib.suppress(OSError):
                    self.station.send(frame)
                self.sent += 1
            self._over.wait(0.0005)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._over.set()
        self._thread.join()
        self.station.__exit__()


def from_outside(frames, source):
    return [f for f in frames if IP in f and f[IP].src == source and (TCP in f or UDP in f or ICMP in f)]


def taken(sock):
    found = []
    with contextlib.suppress(BlockingIOError):
        while True:
            raw, address = sock.recvfrom(65535)
            if address[2] != socket.PACKET_OUTGOING:
                found.append(Ether(raw))
    return found


def test_a_pod_under_default_deny_receives_nothing_forbidden_from_first_to_last(wire, policies):
    """Created, its agent restarted, its switch killed, its policy and labels changed, deleted: under a flood all the time."""
    policies.apply("deny", DENY)
    victim = "late"
    with capturing(wire, victim) as (target, seen), Flood(wire, "red/a", target) as flood:
        wire.lab.kubectl("wait", "pod", "-n", "red", victim, "--for=condition=Ready", "--timeout=30s")
        wire.lab.restart("node", "node2")
        policies.apply(
            "more", {"podSelector": {}, "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "b"}}}]}]}
        )
        wire.lab.kubectl("label", "pod", "-n", "red", victim, "app=other", "--overwrite")
        wire.lab.restart("switch", "node2")
        policies.delete("more")
        wire.lab.kubectl("delete", "pod", "-n", "red", victim, "--timeout=30s")
    assert flood.sent > 1000
    assert from_outside(seen, str(wire.end("red/a").address(4))) == []


@contextlib.contextmanager
def capturing(wire, name):
    """A pod that is only now created, as a target, and every frame its interface ever receives."""
    kube = Kube.connect(str(wire.lab.state.kubeconfig))
    spec = {"nodeName": "node2", "containers": [{"name": "m", "image": "x", "ports": [{"containerPort": 8080}]}]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "red"}, "spec": spec}
    made = kube.create(PODS, pod)
    netns = f"ncp{wire.lab.state.lab}-p-{made['metadata']['uid'][:8]}"
    frames, over = [], threading.Event()

    def watch():
        sock = None
        while not over.is_set():
            if sock is None:
                with contextlib.suppress(OSError):
                    sock = packet_socket(netns, "")
                continue
            frames.extend(taken(sock))
            time.sleep(0.001)
        if sock is not None:
            frames.extend(taken(sock))
            sock.close()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        target = wire.lab.wait(lambda: Wire(wire.lab).site.endpoints.get(f"red/{name}"), "the pod has an address")
        yield target, frames
    finally:
        over.set()
        thread.join()
        wire.lab.kubectl("delete", "pod", "-n", "red", name, "--ignore-not-found", "--timeout=30s")


def test_the_capture_can_fail(wire, policies):
    """Without a policy the same flood arrives: so silence above means something."""
    with capturing(wire, "open") as (target, seen), Flood(wire, "red/a", target):
        wire.lab.kubectl("wait", "pod", "-n", "red", "open", "--for=condition=Ready", "--timeout=30s")
        source = str(wire.end("red/a").address(4))
        wire.lab.wait(lambda: from_outside(list(seen), source), "the flood arrives", 10)


def test_an_address_that_no_known_pod_has_is_kept_from_policed_pods(wire, policies):
    """A node that has not heard of a pod yet cannot know its labels: it is nobody to be let in by mistake."""
    rule = {"action": "Drop", "direction": "In", "sources": [{"podSelector": {"matchLabels": {"app": "a"}}}]}
    policies.apply("not-a", {"priority": 5, "rules": [rule]}, resource=SECURITY_POLICIES)
    before = wire.dropped("node1").get("unknown-sender", 0)
    destination = wire.end("red/b")
    stranger = wire.end("red/a")._replace(
        addresses=tuple(a._replace(value=a.value + 90) for a in wire.end("red/a").addresses)
    )
    frame = build(stranger, destination, Probe("red/a", "red/b", 4, "udp", 5353), 42000)
    sent = wire.lab.exec_node(
        "node1", "ovs-ofctl", "-O", "OpenFlow15", "packet-out", "br-int",
        f"in_port=CONTROLLER,packet={frame.hex()},actions=load:1->NXM_NX_REG0[0..1],load:{destination.vni}->NXM_NX_REG2[],"
        "resubmit(,requests)",
    )  # fmt: skip
    assert sent.returncode == 0, sent.stderr
    wire.lab.wait(lambda: wire.dropped("node1").get("unknown-sender", 0) == before + 1, "it is dropped and counted", 5)
