"""Answers of logical routers, read by scapy: an implementation that is not ours."""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP, UDP, IPerror, UDPerror
from scapy.layers.inet6 import ICMPv6PacketTooBig, ICMPv6TimeExceeded, IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Raw
from scapy.plist import PacketList

from sdn import icmp
from sdn.compile.terms import TOO_BIG, TTL_EXCEEDED
from sdn.pipeline.registers import GATEWAY_MAC
from sdn.pipeline.tables import T
from tests.sdn.worlds import world

INTENT = world()
RED = {"reg2": 5001, "reg3": 5001}
POD_MAC = "02:4e:0a:04:00:02"
GATEWAY = GATEWAY_MAC.to_bytes(6, "big").hex(":")


def v4(payload=b"x" * 100, **fields):
    network = IP(**{"src": "10.4.0.2", "dst": "10.4.1.2", "ttl": 1, **fields})
    return bytes(Ether(src=POD_MAC, dst=GATEWAY) / network / UDP(sport=4000, dport=53) / Raw(payload))


def v6(payload=b"x" * 100, **fields):
    network = IPv6(**{"src": "fd00:10:4::2", "dst": "fd00:10:4:1::2", "hlim": 1, **fields})
    return bytes(Ether(src=POD_MAC, dst=GATEWAY) / network / UDP(sport=4000, dport=53) / Raw(payload))


def answer(userdata, table, frame, fields=RED):
    return [Ether(made) for made in icmp.answers(INTENT, userdata, T[table], fields, frame, 1442)]


@pytest.mark.parametrize(
    ("table", "router"), [("tier1_out", "10.4.0.1"), ("tier0", "100.64.0.1"), ("tier1_in", "10.4.1.1")]
)
def test_ttl_exceeded_comes_from_the_router_that_saw_it_with_correct_checksums(table, router):
    fields = {"reg2": 5001, "reg3": 5002 if table == "tier1_in" else 5001}
    (made,) = answer(TTL_EXCEEDED, table, v4(), fields)
    assert (made.dst, made.src) == (POD_MAC, GATEWAY)
    assert (made[IP].src, made[IP].dst, made[ICMP].type, made[ICMP].code) == (router, "10.4.0.2", 11, 0)
    assert made[IPerror].dst == "10.4.1.2"
    assert made[UDPerror].sport == 4000
    assert_checksums(made)


def test_hop_limit_exceeded_and_packet_too_big_over_ipv6():
    (made,) = answer(TTL_EXCEEDED, "tier1_out", v6())
    assert (made[IPv6].src, made[IPv6].dst) == ("fd00:10:4::1", "fd00:10:4::2")
    assert ICMPv6TimeExceeded in made
    assert_checksums(made)
    (made,) = answer(TOO_BIG, "mtu", v6(b"x" * 2000, hlim=64))
    assert made[ICMPv6PacketTooBig].mtu == 1442
    assert len(made[IPv6]) <= 1280
    assert_checksums(made)


def test_fragmentation_needed_tells_the_mtu():
    (made,) = answer(TOO_BIG, "mtu", v4(b"x" * 1500, flags="DF", ttl=64))
    assert (made[ICMP].type, made[ICMP].code, made[ICMP].nexthopmtu) == (3, 4, 1442)
    assert len(made[IP]) <= 576
    assert_checksums(made)


def test_a_packet_that_may_be_fragmented_is_and_comes_together_again():
    whole = v4(bytes(range(256)) * 12, ttl=64)
    parts = [Ether(part) for part in icmp.fragments(whole, 1442)]
    assert len(parts) == 3
    assert all(len(part[IP]) <= 1442 for part in parts)
    for part in parts:
        assert_checksums(part, transport=False)
    from scapy.layers.inet import defragment

    (joined,) = defragment(PacketList([part[IP] for part in parts]))
    assert bytes(joined[UDP].payload) == bytes(range(256)) * 12


@pytest.mark.parametrize(
    "frame",
    [
        v4(dst="224.0.0.5"),
        v4(src="0.0.0.0"),
        v4(frag=185),
        bytes(
            Ether(src=POD_MAC, dst=GATEWAY) / IP(src="10.4.0.2", dst="10.4.1.2", ttl=1) / ICMP(type=11) / Raw(b"x" * 28)
        ),
        v6(dst="ff02::5"),
        v6(src="::"),
        bytes(
            Ether(src=POD_MAC, dst=GATEWAY)
            / IPv6(src="fd00:10:4::2", dst="fd00:10:4:1::2", hlim=1)
            / ICMPv6TimeExceeded()
        ),
    ],
)
def test_no_error_is_sent_about_an_error_a_later_fragment_or_a_crowd(frame):
    assert answer(TTL_EXCEEDED, "tier1_out", frame) == []


def assert_checksums(made, *, transport=True):
    """Let scapy compute every checksum anew: nothing changes."""
    again = made.copy()
    if IP in again:
        del again[IP].chksum
    if transport and ICMP in again:
        del again[ICMP].chksum
    for layer in (ICMPv6TimeExceeded, ICMPv6PacketTooBig):
        if layer in again:
            del again[layer].cksum
    assert bytes(Ether(bytes(again))) == bytes(made)
