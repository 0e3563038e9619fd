"""Reading the list of connections that a switch tracks, and judging each by what the policies say now."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firewall import networkpolicy, securitypolicy
from firewall.verdict import Connection, decide
from ipam.address import parse_address
from sdn.conntrack import Tracked, forbidden, parse
from sdn.model import Intent
from sdn.program import build
from sdn.reference import reference, workload
from tests.sdn import policies, worlds
from tests.sdn.test_firewall import EXTERNAL, OWNER, world

TCP = (
    "tcp,orig=(src=10.0.0.1,dst=10.0.0.2,sport=1000,dport=80),reply=(src=10.0.0.2,dst=10.0.0.1,sport=80,dport=1000),"
    "zone=5,labels=0x77,protoinfo=(state=ESTABLISHED)"
)
UDP6 = "udp,orig=(src=fd00::1,dst=fd00::2,sport=1000,dport=80),reply=(src=fd00::2,dst=fd00::1,sport=80,dport=1000),zone=65000"
NO_ZONE = "udp,orig=(src=10.0.0.1,dst=10.0.0.2,sport=53,dport=53),reply=(src=10.0.0.2,dst=10.0.0.1,sport=53,dport=53)"
TRANSLATED = (
    "tcp,orig=(src=10.0.0.1,dst=10.96.0.1,sport=1001,dport=80),reply=(src=10.0.0.2,dst=10.0.0.1,sport=8080,dport=1001),"
    "zone=6,protoinfo=(state=SYN_SENT)"
)
VERBOSE = (
    "tcp,orig=(src=10.0.0.1,dst=10.0.0.2,sport=1000,dport=80),reply=(src=10.0.0.2,dst=10.0.0.1,sport=80,dport=1000),id=7,"
    "zone=5,status=0,protoinfo=(state_orig=ESTABLISHED,state_reply=SYN_SENT,flags_orig=0,flags_reply=0)"
)
ICMP = "icmp,orig=(src=10.0.0.1,dst=10.0.0.2,id=0,type=8,code=0),reply=(src=10.0.0.2,dst=10.0.0.1,id=0,type=0,code=0),zone=5"
ICMP6 = "icmpv6,orig=(src=fd00::1,dst=fd00::2,id=0,type=128,code=0),reply=(src=fd00::2,dst=fd00::1,id=0,type=129,code=0),zone=5"
SCTP = "sctp,orig=(src=10.0.0.1,dst=10.0.0.2,sport=0,dport=0),reply=(src=10.0.0.2,dst=10.0.0.1,sport=0,dport=0),zone=5"
GRE = "47,orig=(src=10.0.0.1,dst=10.0.0.2,sport=0,dport=0),reply=(src=10.0.0.2,dst=10.0.0.1,sport=0,dport=0),zone=5"


def tracked(zone, protocol, source, sport, destination, dport, answers=None, answering_port=0):
    ends = parse_address(source), parse_address(destination)
    return Tracked(zone, protocol, *ends, sport, dport, parse_address(answers or destination), answering_port)


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        (TCP, tracked(5, "tcp", "10.0.0.1", 1000, "10.0.0.2", 80)),
        (UDP6, tracked(65000, "udp", "fd00::1", 1000, "fd00::2", 80)),
        (NO_ZONE, tracked(0, "udp", "10.0.0.1", 53, "10.0.0.2", 53)),
        (TRANSLATED, tracked(6, "tcp", "10.0.0.1", 1001, "10.96.0.1", 80, "10.0.0.2", 8080)),
        (VERBOSE, tracked(5, "tcp", "10.0.0.1", 1000, "10.0.0.2", 80)),
    ],
)
def test_a_line_is_a_connection_the_way_it_began(line, wanted):
    assert list(parse(line)) == [wanted]


@pytest.mark.parametrize("line", [ICMP, ICMP6, SCTP, GRE])
def test_what_is_not_judged_by_ports_is_passed_over(line):
    """The switch tracks no ports of SCTP: associations are flows of their own."""
    assert list(parse(f"{TCP}\n{line}\n{UDP6}\n")) == [*parse(TCP), *parse(UDP6)]


@pytest.mark.parametrize(
    "line",
    [
        "",
        "tcp",
        "2026-01-01T00:00:00Z|00001|dpctl|WARN|something",
        TCP[:60],
        TCP.replace("dport=80", "dport="),
        TCP.replace("sport=1000,", ""),
        TCP.replace("src=10.0.0.1,dst", "src=,dst"),
        TCP.replace("src=10.0.0.1,dst", "src=10.0.0,dst"),
        TCP.replace("src=10.0.0.1,dst", "src=somebody,dst"),
        TCP.replace("reply=(src=10.0.0.2", "reply=(src=10.0.0.256"),
        " " + TCP,
    ],
)
def test_a_line_that_cannot_be_read_does_not_hide_the_others(line):
    assert list(parse(f"{TCP}\n{line}\n{UDP6}")) == [*parse(TCP), *parse(UDP6)]


def test_no_connections():
    assert list(parse("")) == []


# -- judging ----------------------------------------------------------------------------------------------------------


def judged(intent: Intent, *connections: Tracked, node="node1"):
    """What is forbidden on a node, where the zone of a port is its OpenFlow port."""
    attached = worlds.attachments(intent, node)
    rules = build(intent, node, OWNER, attached).rules
    return list(forbidden(connections, intent, rules, {ofport: name for name, ofport in attached.items()}))


def network(name, spec, **annotations):
    meta = {"name": name, "namespace": "red", "annotations": annotations}
    return networkpolicy.section({"metadata": meta, "spec": spec})


def asking(mode):
    return {"ncp/established_connections": mode}


INTENT = world()
HERE = INTENT.ports["red/a"]  # on node1
ZONE = worlds.attachments(INTENT, "node1")["red/a"]
PEER = INTENT.ports["red/b"]
OUTSIDE = EXTERNAL[0]


def between(source, destination, port=80, zone=ZONE, protocol="tcp"):
    return Tracked(zone, protocol, source, destination, 40000, port, destination)


def comes_in(port=80, zone=ZONE):
    return between(PEER.addresses[0], HERE.addresses[0], port, zone)


DENY = {"podSelector": {}, "policyTypes": ["Ingress"]}
ON_80 = {"podSelector": {}, "ingress": [{"ports": [{"port": 80}]}]}


def test_without_policies_nothing_is_forbidden():
    assert judged(INTENT, comes_in()) == []


def test_what_isolation_does_not_allow_is_forbidden_and_says_why():
    (found,) = judged(world([network("deny", DENY)]), comes_in())
    assert (found.tracked, found.port, found.fate) == (comes_in(), "red/a", "recheck")
    assert found.verdict.why == "NetworkPolicy red/deny isolates ingress"


def test_of_two_that_differ_in_the_port_the_rule_keeps_one():
    found = judged(world([network("on-80", ON_80)]), comes_in(80), comes_in(81))
    assert [each.tracked for each in found] == [comes_in(81)]


def test_only_the_direction_it_began_in_is_asked():
    """Answers of a connection that a pod began are not asked about where others begin."""
    begun_here = between(HERE.addresses[0], PEER.addresses[0])
    intent = world([network("deny", DENY)])
    assert judged(intent, begun_here) == []
    intent = world([network("deny", {"podSelector": {}, "policyTypes": ["Egress"]})])
    assert [each.verdict.direction for each in judged(intent, begun_here, comes_in())] == ["egress"]


def test_each_end_is_judged_in_its_own_zone_and_zones_of_nobody_here_are_left_alone():
    intent = world([network("deny", DENY)])
    elsewhere = ZONE + 1000
    assert judged(intent, comes_in(zone=elsewhere)) == []
    assert len(judged(intent, comes_in(zone=elsewhere), comes_in())) == 1


def test_both_families_and_strangers_are_judged():
    intent = world([network("deny", DENY)])
    six = between(PEER.addresses[1], HERE.addresses[1], protocol="udp")
    outside = between(OUTSIDE, HERE.addresses[0], protocol="sctp")
    assert {each.tracked for each in judged(intent, six, outside)} == {six, outside}


def test_a_pod_that_talks_to_itself_is_left_alone():
    to_itself = between(HERE.addresses[0], HERE.addresses[0])
    assert judged(world([network("deny", DENY | {"policyTypes": ["Ingress", "Egress"]})]), to_itself) == []


def test_the_pods_own_node_is_let_in():
    node = INTENT.nodes["node1"].addresses[0]
    other = INTENT.nodes["node2"].addresses[0]
    found = judged(world([network("deny", DENY)]), between(node, HERE.addresses[0]), between(other, HERE.addresses[0]))
    assert [each.tracked.source for each in found] == [other]


@pytest.mark.parametrize(
    ("modes", "cluster", "fate"),
    [
        ((None,), "recheck", "recheck"),
        ((None,), "keep", "keep"),
        (("keep",), "cut", "keep"),
        (("cut",), "keep", "cut"),
        (("keep", "recheck"), "keep", "recheck"),
        (("cut", "keep"), "recheck", "cut"),
        ((None, "keep"), "cut", "cut"),
    ],
)
def test_of_several_policies_that_forbid_the_strictest_is_followed(modes, cluster, fate):
    sections = [network(f"p{n}", DENY, **(asking(mode) if mode else {})) for n, mode in enumerate(modes)]
    intent = world(sections)
    settings = intent.firewall.__class__(established=cluster)
    (found,) = judged(intent.replace(firewall=settings), comes_in())
    assert found.fate == fate


def test_what_the_deciding_rule_says_counts_and_not_what_others_would():
    rule = {"action": "Drop", "direction": "In"}
    meta = {"name": "first", "namespace": "red", "annotations": asking("keep")}
    first = securitypolicy.section({"metadata": meta, "spec": {"priority": 1, "rules": [rule]}})
    (found,) = judged(world([first, network("deny", DENY, **asking("cut"))]), comes_in())
    assert (found.fate, found.verdict.causes[0].source.name) == ("keep", "first")


others = st.sampled_from([a for p in INTENT.ports.values() for a in p.addresses] + list(EXTERNAL))


@st.composite
def connections(draw):
    """Of red/a with anybody, either way."""
    own = draw(st.sampled_from(HERE.addresses))
    other = draw(others.filter(lambda one: one.family == own.family and one != own))
    pair = draw(st.sampled_from([(own, other), (other, own)]))
    port = draw(st.sampled_from((53, 80, 81, 443, 8080)))
    return between(*pair, port, protocol=draw(st.sampled_from(("tcp", "udp", "sctp"))))


@given(st.lists(policies.sections, max_size=4), st.lists(connections(), min_size=1, max_size=8))
@settings(deadline=None, max_examples=40)
def test_it_forbids_what_the_oracle_would_not_let_begin_at_that_port(sections, asked):
    """Only the policies about a port are looked at, and that must be enough."""
    intent = world({each.key: each for each in sections}.values())
    own, where = intent.ports["red/a"], reference(intent)
    wanted = []
    for each in asked:
        began_here = each.source in own.addresses
        other = where.at(each.destination if began_here else each.source)
        question = Connection(each.source, each.destination, each.protocol, each.destination_port)
        verdict = decide(where, "egress" if began_here else "ingress", workload(own), other, question)
        if not verdict.allowed:
            wanted.append((each, verdict))
    assert [(each.tracked, each.verdict) for each in judged(intent, *asked)] == wanted
