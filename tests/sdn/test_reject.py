"""Rejections as scapy reads them."""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPerror
from scapy.layers.inet6 import ICMPv6DestUnreach, ICMPv6EchoRequest, ICMPv6PacketTooBig, IPerror6, IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.layers.sctp import SCTP, SCTPChunkAbort, SCTPChunkData, SCTPChunkInit
from scapy.packet import Raw

from sdn.reject import rejection

FOUR = IP(src="10.4.0.2", dst="10.4.1.3")
SIX = IPv6(src="fd00::2", dst="fd00:1::3")
ETHER = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")


def answered(packet):
    raw = rejection(bytes(ETHER / packet))
    if raw is None:
        return None
    answer = Ether(raw)
    assert (answer.src, answer.dst) == (ETHER.dst, ETHER.src)
    layer = answer.payload
    assert (layer.src, layer.dst) == (packet.dst, packet.src)
    assert bytes(rebuilt(layer)) == bytes(layer), "checksums and lengths are right"
    return answer


def rebuilt(layer):
    again = layer.copy()
    for name in ("chksum", "len", "plen"):
        for part in (again, again.payload):
            if name in part.fields:
                del part.fields[name]
    if "cksum" in again.payload.fields:
        del again.payload.fields["cksum"]
    return again


@pytest.mark.parametrize("network", [FOUR, SIX])
def test_a_syn_is_reset_as_if_the_port_were_closed(network):
    answer = answered(network / TCP(sport=4000, dport=80, flags="S", seq=77))
    tcp = answer[TCP]
    assert (tcp.sport, tcp.dport, str(tcp.flags), tcp.seq, tcp.ack) == (80, 4000, "RA", 0, 78)


@pytest.mark.parametrize("network", [FOUR, SIX])
def test_a_packet_in_mid_connection_is_reset_at_the_sequence_its_sender_expects(network):
    answer = answered(network / TCP(sport=4000, dport=80, flags="PA", seq=77, ack=5005) / Raw(b"hello"))
    assert (str(answer[TCP].flags), answer[TCP].seq) == ("R", 5005)


def test_a_segment_without_ack_is_acknowledged_to_its_end():
    answer = answered(FOUR / TCP(sport=4000, dport=80, flags="F", seq=0xFFFFFFFE) / Raw(b"abc"))
    assert (str(answer[TCP].flags), answer[TCP].ack) == ("RA", 2)


@pytest.mark.parametrize("network", [FOUR, SIX])
def test_a_reset_is_never_answered(network):
    assert answered(network / TCP(flags="R")) is None


@pytest.mark.parametrize("network", [FOUR, SIX])
def test_an_association_is_aborted_with_the_tag_its_sender_expects(network):
    init = SCTPChunkInit(init_tag=99, a_rwnd=65536, n_out_streams=1, n_in_streams=1, init_tsn=5)
    answer = answered(network / SCTP(sport=4000, dport=9091, tag=0) / init)
    sctp = answer[SCTP]
    assert (sctp.sport, sctp.dport, sctp.tag, sctp[SCTPChunkAbort].TCB) == (9091, 4000, 99, 0)
    answer = answered(network / SCTP(sport=4000, dport=9091, tag=7) / SCTPChunkData(data=b"hello"))
    assert (answer[SCTP].tag, answer[SCTPChunkAbort].TCB) == (7, 1)
    assert answered(network / SCTP(sport=4000, dport=9091, tag=7) / SCTPChunkAbort()) is None


def test_anything_else_is_administratively_prohibited():
    answer = answered(FOUR / UDP(sport=9, dport=53) / Raw(b"who"))
    assert (answer[ICMP].type, answer[ICMP].code, answer[IPerror].dst) == (3, 13, "10.4.1.3")
    answer = answered(SIX / UDP(sport=9, dport=53) / Raw(b"who"))
    assert (answer[ICMPv6DestUnreach].code, answer[IPerror6].dst) == (1, "fd00:1::3")
    assert answered(FOUR / ICMP(type=8))[ICMP].code == 13
    assert answered(SIX / ICMPv6EchoRequest())[ICMPv6DestUnreach].code == 1


@pytest.mark.parametrize(
    "packet",
    [
        FOUR / ICMP(type=3, code=3) / Raw(bytes(28)),
        SIX / ICMPv6PacketTooBig() / Raw(bytes(40)),
        IP(src="10.4.0.2", dst="10.4.1.3", frag=5, proto=6) / Raw(bytes(40)),
        IP(src="10.4.0.2", dst="224.0.0.9") / UDP(),
        FOUR / Raw(b""),
    ],
)  # fmt: skip
def test_errors_later_fragments_and_multicast_are_not_answered(packet):
    raw = rejection(bytes(ETHER / packet))
    assert raw is None or packet.payload.name == "Raw"


@pytest.mark.parametrize(
    "frame", [b"", bytes(20), bytes(ETHER / ARP()), bytes(ETHER / FOUR)[:30], bytes(ETHER / SIX)[:50]]
)
def test_what_is_no_whole_packet_is_not_answered(frame):
    assert rejection(frame) is None
