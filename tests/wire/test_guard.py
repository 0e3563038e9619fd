"""What a pod may not send: each forged field is dropped and counted under its own reason. And what is too big."""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptSrcLLAddr,
    ICMPv6PacketTooBig,
    IPv6,
)
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Raw

from ncp.probe.wire import Station
from sdn.pipeline.registers import GATEWAY_MAC

pytestmark = pytest.mark.lab
GATEWAY = GATEWAY_MAC.to_bytes(6, "big").hex(":")
FORGED = "02:4e:00:00:00:99"
COUNT = 7


def forged(wire, kind):
    """A frame of red/a with one field that is red/b's, or nobody's."""
    me, other, far = wire.end("red/a"), wire.end("red/b"), wire.end("blue/d")
    mac, other_mac = (end.mac.to_bytes(6, "big").hex(":") for end in (me, other))
    v4, v6 = (str(me.address(family)) for family in (4, 6))
    other_v4, other_v6 = (str(other.address(family)) for family in (4, 6))
    ether = Ether(src=mac, dst=GATEWAY)
    multicast = Ether(src=mac, dst="33:33:00:00:00:01")
    return {
        "MAC": Ether(src=FORGED, dst=GATEWAY) / IP(src=v4, dst=str(far.address(4))) / TCP(dport=8080, flags="S"),
        "IPv4": ether / IP(src=other_v4, dst=str(far.address(4))) / TCP(dport=8080, flags="S"),
        "IPv6": ether / IPv6(src=other_v6, dst=str(far.address(6))) / TCP(dport=8080, flags="S"),
        "ARP address": Ether(src=mac, dst="ff:ff:ff:ff:ff:ff") / ARP(op=2, hwsrc=mac, psrc=other_v4, pdst=v4),
        "ARP MAC": Ether(src=mac, dst="ff:ff:ff:ff:ff:ff") / ARP(op=1, hwsrc=other_mac, psrc=v4, pdst=other_v4),
        "ND advertisement": multicast
        / IPv6(src=v6, dst="ff02::1", hlim=255)
        / ICMPv6ND_NA(tgt=other_v6, O=1)
        / ICMPv6NDOptDstLLAddr(lladdr=mac),
        "ND solicitation": multicast
        / IPv6(src=v6, dst="ff02::1", hlim=255)
        / ICMPv6ND_NS(tgt=other_v6)
        / ICMPv6NDOptSrcLLAddr(lladdr=other_mac),
        "router advertisement": multicast / IPv6(src=v6, dst="ff02::1", hlim=255) / ICMPv6ND_RA(),
        "protocol": Ether(src=mac, dst=GATEWAY, type=0x88B5) / Raw(b"x" * 50),
    }[kind]


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("MAC", "spoof-mac"),
        ("IPv4", "spoof-ip"),
        ("IPv6", "spoof-ip"),
        ("ARP address", "spoof-arp"),
        ("ARP MAC", "spoof-arp"),
        ("ND advertisement", "spoof-nd"),
        ("ND solicitation", "spoof-nd"),
        ("router advertisement", "ra-guard"),
        ("protocol", "ethertype"),
    ],
)
def test_a_forged_field_is_dropped_and_counted_under_its_reason(wire, kind, reason):
    frame = bytes(forged(wire, kind))
    before = wire.dropped("node1")
    with Station(wire.end("red/a")) as station:
        for _ in range(COUNT):
            station.send(frame)
    wire.lab.wait(
        lambda: wire.dropped("node1").get(reason, 0) >= before.get(reason, 0) + COUNT,
        f"{COUNT} packets count as {reason}",
        5,
    )
    after = wire.dropped("node1")
    grown = {name: after[name] - before.get(name, 0) for name in after if after[name] != before.get(name, 0)}
    assert grown.pop(reason) == COUNT
    assert set(grown) <= {"multicast"}, "only the pods' own background noise may have grown elsewhere"


def raised_mtu(wire, pod):
    assert wire.lab.exec(pod, "ip", "link", "set", "eth0", "mtu", "1500").returncode == 0


def test_what_does_not_fit_the_tunnel_is_told_so_with_the_right_mtu(wire):
    me, far = wire.end("red/a"), wire.end("blue/d")
    mac = me.mac.to_bytes(6, "big").hex(":")
    raised_mtu(wire, "red/a")
    try:
        v4 = IP(src=str(me.address(4)), dst=str(far.address(4)), flags="DF") / UDP(sport=4000, dport=5353)
        v6 = IPv6(src=str(me.address(6)), dst=str(far.address(6))) / UDP(sport=4000, dport=5353)
        fits, too_big = v4 / Raw(b"x" * (1442 - 28)), v4 / Raw(b"x" * (1443 - 28))
        assert wire.exchange(
            "red/a", bytes(Ether(src=mac, dst=GATEWAY) / fits), lambda p: UDP in p and p[IP].src == str(far.address(4))
        )
        answer = wire.exchange("red/a", bytes(Ether(src=mac, dst=GATEWAY) / too_big), lambda p: ICMP in p)[-1]
        assert (answer[ICMP].type, answer[ICMP].code, answer[ICMP].nexthopmtu) == (3, 4, 1442)
        too_big = v6 / Raw(b"x" * (1443 - 48))
        answer = wire.exchange(
            "red/a", bytes(Ether(src=mac, dst=GATEWAY) / too_big), lambda p: ICMPv6PacketTooBig in p
        )[-1]
        assert answer[ICMPv6PacketTooBig].mtu == 1442
    finally:
        wire.lab.exec("red/a", "ip", "link", "set", "eth0", "mtu", "1442")


def test_what_may_be_fragmented_arrives_in_parts_and_is_answered(wire):
    raised_mtu(wire, "red/a")
    try:
        done = wire.lab.exec(
            "red/a", "ping", "-c", "2", "-W", "2", "-M", "dont", "-s", "1472", str(wire.end("blue/d").address(4))
        )
    finally:
        wire.lab.exec("red/a", "ip", "link", "set", "eth0", "mtu", "1442")
    assert " 0% packet loss" in done.stdout


def test_pods_have_the_mtu_that_fits(wire):
    assert "mtu 1442" in wire.lab.exec("red/a", "ip", "link", "show", "eth0").stdout
