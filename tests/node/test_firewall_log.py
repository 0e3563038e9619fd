"""The firewall's log: who is named for which packet, how often the same is said, and what is said of what is not written."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from immutables import Map
from scapy.layers.inet import ICMP, TCP, UDP
from scapy.layers.l2 import ARP, Ether

from ncp.node.firewall_log import KEPT, REMEMBERED, SAME_AGAIN, FirewallLog
from ncp.settings import parse
from ncp.translate.fabric import firewall_of
from sdn.compile.membership import Membership
from sdn.compile.ruleset import Ruleset
from sdn.compile.terms import LOGGED, REJECTED
from sdn.openflow.values import PacketIn
from tests.node.rig import PODS, Rig, address, datagram, mac, network, only_from, policy

NOBODYS = Ruleset(Membership("node1"), concerned=Map())
PORTS = {f"red/{name}": port for name, port in PODS.items()}
DROPPED_IN, DROPPED_OUT = bytes((1, 0)) + bytes(4), bytes((1, 1)) + bytes(4)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log(clock: Clock) -> FirewallLog:
    return FirewallLog(clock)


def packet(number: int = 40000, mark: bytes = DROPPED_OUT, frame: Any = None) -> PacketIn:
    """From a to b, as a flow at the sender's port marks it."""
    frame = frame or Ether(src=mac("a"), dst=mac("b")) / network("a", "b", 4) / UDP(sport=number, dport=80)
    return PacketIn(0, 0, LOGGED + mark + b"\0", bytes(frame), 0, {"in_port": PODS["a"], "reg1": PODS["b"]})


def note(log: FirewallLog, *packets: PacketIn, epoch: float = 5.0) -> None:
    for each in packets:
        log.note(each, NOBODYS, PORTS.items(), epoch)


def test_the_same_tuple_is_said_once_a_minute(log: FirewallLog, clock: Clock):
    note(log, packet(), packet(), packet(40001))
    clock.now += SAME_AGAIN - 1
    note(log, packet())
    assert len(log.lines()) == 2
    clock.now += 2
    note(log, packet(), packet())
    assert len(log.lines()) == 3
    assert log.suppressed == 0, "what is the same again is not too much"


def test_each_end_and_each_verdict_is_said(log: FirewallLog):
    allowed_out = bytes((0, 1)) + bytes(4)
    note(log, packet(), packet(mark=DROPPED_IN), packet(mark=allowed_out))
    assert [(each["action"], each["direction"], each["port"]) for each in log.lines()] == [
        ("drop", "egress", "red/a"), ("drop", "ingress", "red/b"), ("allow", "egress", "red/a"),
    ]  # fmt: skip


def test_a_hundred_lines_a_second_and_then_how_many_were_not_written(
    log: FirewallLog, clock: Clock, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO, "ncp.firewall")
    note(log, *(packet(number) for number in range(1, 131)))
    assert len(log.lines()) == 100
    assert log.suppressed == 30
    assert {record.levelno for record in caplog.records} == {logging.INFO}
    ends = f"udp {address('a')}:1 -> {address('b')}:80"
    assert caplog.messages[0] == f"DROP egress red/a {ends} by Fabric unknown (no rule has this number)"
    clock.now += 0.1
    note(log, *(packet(number) for number in range(1001, 1016)))
    assert len(log.lines()) == 110, "ten in a tenth of a second"
    (said,) = (record.getMessage() for record in caplog.records if record.levelno == logging.WARNING)
    assert said == "30 lines were not written: more than 100 a second"
    assert log.suppressed == 5, "those after, not told yet"
    clock.now += 3600
    note(log, *(packet(number) for number in range(2001, 2131)))
    assert len(log.lines()) == 210, "an hour of silence saves nothing up"


def test_what_was_not_written_for_the_rate_is_written_when_it_comes_again(log: FirewallLog, clock: Clock):
    """It would otherwise be taken for said, and be missing for a minute: just what is tried again and again."""
    note(log, *(packet(number) for number in range(1, 101)), packet(40000))
    assert packet_of(log, 40000) == []
    clock.now += 1
    note(log, packet(40000), packet(40000))
    assert len(packet_of(log, 40000)) == 1


def packet_of(log: FirewallLog, number: int) -> list[dict[str, Any]]:
    return [each for each in log.lines() if f":{number} " in each["packet"]]


def test_a_bounded_number_of_lines_and_tuples_is_kept_the_latest(log: FirewallLog, clock: Clock):
    for number in range(1, REMEMBERED + 3):
        clock.now += 0.01
        note(log, packet(number), epoch=float(number))
    lines = log.lines()
    assert len(lines) == KEPT
    assert [each["at"] for each in lines] == [float(number) for number in range(REMEMBERED + 3 - KEPT, REMEMBERED + 3)]
    clock.now += 1
    note(log, packet(REMEMBERED), packet(1))
    assert len(packet_of(log, REMEMBERED)) == 1, "still known"
    assert len(packet_of(log, 1)) == 1, "forgotten, and so said again"


@pytest.mark.parametrize(
    "given",
    [
        packet(frame=Ether() / ARP()),
        packet(frame=b"\0" * 14),
        packet()._replace(userdata=LOGGED + b"\1"),
        packet()._replace(userdata=LOGGED),
    ],
    ids=["no IP packet", "cut short", "half a mark", "no mark"],
)
def test_what_cannot_be_said_of_anybody_is_passed_over(log: FirewallLog, given: PacketIn):
    note(log, given)
    assert log.lines() == []


def test_a_number_or_port_that_is_gone_by_now_is_said_so(log: FirewallLog):
    log.note(packet(mark=bytes((1, 1, 0, 0, 0, 9))), NOBODYS, (), 5.0)
    (line,) = log.lines()
    assert (line["rule"], line["port"]) == ("no rule has this number", "OpenFlow port 16")


@pytest.mark.parametrize(
    ("options", "logged"),
    [
        ("", set()),
        ("log_dropped_traffic = True", {"drop", "reject"}),
        ("log_firewall_traffic = DENY", {"drop", "reject"}),
        ("log_firewall_traffic = ALL", {"allow", "drop", "reject"}),
        ("log_firewall_traffic = ALL\nlog_dropped_traffic = True", {"allow", "drop", "reject"}),
    ],
)
def test_what_the_options_ask_for(options: str, logged: set[str]):
    assert firewall_of(parse(f"[nsx_v3]\n{options}\n")).logged == logged


# -- as a switch marks packets ----------------------------------------------------------------------------------------

DENY, ALL = frozenset({"drop", "reject"}), frozenset({"allow", "drop", "reject"})


LAST = datagram(9, 9)


def said(rig: Rig, *senders: str) -> list[str]:
    """What is written, in any order, of what some pods sent to b; each says something last that is dropped, and comes last."""
    log = FirewallLog()
    for sender in senders:
        rig.send(sender, "b", LAST)
    while sum(f":9 -> {address('b')}:9" in str(each) for each in log.lines()) < len(senders):
        each = rig.packets.get(timeout=8)
        if each.userdata[:1] == LOGGED or (each.userdata[:1] == REJECTED and each.userdata[7:8] == b"\1"):
            log.note(each, rig.loop.program.rules, PORTS.items(), 5.0)
    return sorted(
        f"{each['action']} {each['direction']} {each['port']} {each['packet']} by {each['policy']}: {each['rule']}"
        for each in log.lines()
        if f":9 -> {address('b')}:9" not in each["packet"]
    )


def security(*actions: tuple[str, str, int], name: str = "") -> dict[str, Any]:
    """Rules of a SecurityPolicy into b, for UDP: action, sender, port."""
    rules = [
        {
            "action": action,
            "direction": "In",
            "sources": [{"podSelector": {"matchLabels": {"app": sender}}}],
            "ports": [{"protocol": "UDP", "port": port}],
        }
        | ({"name": name} if name else {})
        for action, sender, port in actions
    ]
    target = [{"podSelector": {"matchLabels": {"app": "b"}}}]
    return policy("secure", {"priority": 5, "appliedTo": target, "rules": rules})


SOME = policy("some", only_from("c", ports=({"port": 80, "protocol": "UDP"},)))
OUT = policy("out", {"podSelector": {"matchLabels": {"app": "a"}}, "policyTypes": ["Egress"], "egress": [{}]})


@pytest.mark.switch
def test_a_drop_says_who_isolates_the_pod_and_from_whom(rig: Rig):
    rig.start(SOME, policy("too", only_from("d")), logged=DENY)
    rig.send("a", "b", datagram(80))
    rig.send("a", "b", datagram(80), 6)
    rig.send("a", "b", TCP(sport=40000, dport=443, flags="S"))
    rig.send("a", "b", ICMP(type=8, id=1))
    rig.send("c", "b", datagram(80))
    v4, v6 = (address("a"), address("b")), (address("a", 6), address("b", 6))
    by = "by NetworkPolicy red/some,too: isolates ingress"
    assert said(rig, "a", "c") == sorted([
        f"drop ingress red/b icmp {v4[0]} -> {v4[1]} {by}",
        f"drop ingress red/b tcp {v4[0]}:40000 -> {v4[1]}:443 {by}",
        f"drop ingress red/b udp {v4[0]}:40000 -> {v4[1]}:80 {by}",
        f"drop ingress red/b udp [{v6[0]}]:40000 -> [{v6[1]}]:80 {by}",
    ])  # fmt: skip


@pytest.mark.switch
def test_what_is_allowed_is_said_at_each_end_by_the_rule_that_allowed_it(rig: Rig):
    allow_a = policy("from-a", only_from("a", ports=({"port": 80, "protocol": "UDP"},)))
    rig.start(allow_a, OUT, logged=ALL)
    rig.send("a", "b", datagram(80))
    ends = f"udp {address('a')}:40000 -> {address('b')}:80"
    assert said(rig, "a") == [
        f"allow egress red/a {ends} by NetworkPolicy red/out: egress rule 0",
        f"allow ingress red/b {ends} by NetworkPolicy red/from-a: ingress rule 0",
    ]


@pytest.mark.switch
@pytest.mark.parametrize("logged", [DENY, ALL], ids=["deny", "all"])
def test_a_named_rule_that_drops_or_rejects_is_named(rig: Rig, logged: frozenset[Any]):
    rig.start(SOME, logged=logged)
    rules = security(("Drop", "a", 80), ("Reject", "a", 81), ("Allow", "a", 82), name="web")
    rig.apply(rules, kind="SecurityPolicy")
    for port in (80, 81, 82):
        rig.send("a", "b", datagram(port))
    start = f"ingress red/b udp {address('a')}:40000 -> {address('b')}"
    by = "by SecurityPolicy red/secure: ingress rule"
    allowed = [f"allow {start}:82 {by} 2 (web)"] if logged == ALL else []
    assert said(rig, "a") == [*allowed, f"drop {start}:80 {by} 0 (web)", f"reject {start}:81 {by} 1 (web)"]


@pytest.mark.switch
def test_where_nothing_is_to_be_logged_nothing_is_handed_over_for_that(rig: Rig):
    """Not even resets that are sent anyway: they say so in the packet."""
    rig.start(SOME)
    rig.apply(security(("Drop", "a", 80), ("Reject", "a", 81)), kind="SecurityPolicy")
    assert f"userdata={LOGGED.hex()}" not in rig.flows()
    rig.send("a", "b", datagram(81))
    turned_away = rig.packets.get(timeout=8)
    assert turned_away.userdata[:1] == REJECTED
    assert turned_away.userdata[7:8] == b"\0"


@pytest.mark.switch
def test_a_logged_packet_fares_as_one_that_is_not(rig: Rig):
    rig.start(SOME, logged=ALL)
    assert rig.passes("c", "b", datagram(80))
    assert not rig.passes("a", "b", datagram(80))
