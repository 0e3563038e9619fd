"""Crafted frames are those scapy would make, and answers are read as scapy would read them."""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
)
from scapy.layers.l2 import ARP, Ether
from scapy.layers.sctp import SCTP, SCTPChunkAbort, SCTPChunkInit, SCTPChunkInitAck
from scapy.packet import Raw

from ipam.address import parse_address
from ncp.probe.answers import Question, identify
from ncp.probe.frames import build
from ncp.probe.model import Endpoint, Probe

A, B = (("10.4.0.7", "fd00:10:4::7"), ("10.4.1.9", "fd00:10:4:1::a0:9"))
GATEWAY = "02:50:56:56:44:52"


def end(name, addresses, mac, vni):
    return Endpoint(name, tuple(parse_address(each) for each in addresses), "", mac=mac, vni=vni)


HERE, THERE = end("x/a", A, 0x024E0A040007, 5001), end("y/b", B, 0x024E0A040109, 5002)
BESIDE = end("x/b", B, 0x024E0A040109, 5001)
MAC = {"x/a": "02:4e:0a:04:00:07", "y/b": "02:4e:0a:04:01:09"}


def transports(family, number, port):
    init = SCTPChunkInit(init_tag=number, a_rwnd=65536, n_out_streams=1, n_in_streams=1, init_tsn=number)
    return {
        "tcp": TCP(sport=number, dport=port, flags="S", seq=number, options=[("MSS", 1300)]),
        "udp": UDP(sport=number, dport=port) / Raw(b"who\n"),
        "sctp": SCTP(sport=number, dport=port, tag=0) / init,
        "icmp": ICMP(type=8, id=number, seq=1) if family == 4 else ICMPv6EchoRequest(id=number, seq=1),
    }


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("protocol", ["tcp", "udp", "sctp", "icmp"])
@pytest.mark.parametrize("destination", [THERE, BESIDE], ids=["routed", "beside"])
def test_a_frame_is_the_one_scapy_makes(family, protocol, destination):
    for number, port in ((33000, 80), (60999, 65535)):
        probe = Probe("x/a", destination.name, family, protocol, 0 if protocol == "icmp" else port)
        here, there = A[family == 6], B[family == 6]
        network = IP(src=here, dst=there, ttl=9) if family == 4 else IPv6(src=here, dst=there, hlim=9)
        ether = Ether(src=MAC["x/a"], dst=MAC["y/b"] if destination is BESIDE else GATEWAY)
        wanted = bytes(ether / network / transports(family, number, port)[protocol])
        assert build(HERE, destination, probe, number, ttl=9) == wanted


def test_a_question_about_a_neighbour_is_the_one_scapy_makes():
    ether = Ether(src=MAC["x/a"], dst="ff:ff:ff:ff:ff:ff")
    wanted = ether / ARP(op=1, hwsrc=MAC["x/a"], psrc=A[0], pdst=B[0])
    assert build(HERE, BESIDE, Probe("x/a", "x/b", 4, "neighbour"), 0) == bytes(wanted)
    solicitation = ICMPv6ND_NS(tgt=B[1]) / ICMPv6NDOptSrcLLAddr(lladdr=MAC["x/a"])
    ether = Ether(src=MAC["x/a"], dst="33:33:ff:a0:00:09")
    wanted = ether / IPv6(src=A[1], dst="ff02::1:ffa0:9", hlim=255) / solicitation
    assert build(HERE, BESIDE, Probe("x/a", "x/b", 6, "neighbour"), 0) == bytes(wanted)


def test_an_end_without_an_address_of_the_family_is_refused():
    alone = HERE._replace(addresses=HERE.addresses[:1])
    with pytest.raises(ValueError, match="no IPv6 address"):
        build(alone, THERE, Probe("x/a", "y/b", 6, "icmp"), 1)


def answer(family, transport):
    """From y/b, with nothing of the Ethernet header that matters."""
    here, there = A[family == 6], B[family == 6]
    network = IP(src=there, dst=here, ttl=61) if family == 4 else IPv6(src=there, dst=here, hlim=61)
    return bytes(Ether(dst=MAC["x/a"], src=GATEWAY) / network / transport)


def asked(family, protocol, number, port=0):
    return Question(protocol, family, number, THERE.address(family), port)


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize(
    ("protocol", "transport", "said"),
    [
        ("tcp", TCP(sport=80, dport=33001, flags="SA"), "yes"),
        ("tcp", TCP(sport=80, dport=33001, flags="RA"), "refused"),
        ("udp", UDP(sport=80, dport=33001) / Raw(b"b\n"), "yes"),
        ("sctp", SCTP(sport=80, dport=33001) / SCTPChunkInitAck(), "yes"),
        ("sctp", SCTP(sport=80, dport=33001) / SCTPChunkAbort(), "refused"),
    ],
)
def test_answers_are_told_apart(family, protocol, transport, said):
    question, verdict = identify(answer(family, transport))
    assert (question, verdict.answer) == (asked(family, protocol, 33001, 80), said)


def test_echo_replies_are_known_by_their_identifier_and_say_what_hops_are_left():
    question, verdict = identify(answer(4, ICMP(type=0, id=7, seq=1)))
    assert (question, verdict) == (asked(4, "icmp", 7), ("yes", "echo reply, TTL 61", (), ()))
    question, verdict = identify(answer(6, ICMPv6EchoReply(id=7, seq=1)))
    assert (question, verdict.why) == (asked(6, "icmp", 7), "echo reply, hop limit 61")


@pytest.mark.parametrize("protocol", ["tcp", "udp", "sctp", "icmp"])
@pytest.mark.parametrize(("code", "said"), [((3, 4), "refused"), ((13, 1), "rejected")])
def test_an_error_is_about_the_packet_it_quotes(protocol, code, said):
    for family in (4, 6):
        quoted = build(HERE, THERE, Probe("x/a", "y/b", family, protocol, 80 if protocol != "icmp" else 0), 33002)[14:]
        error = ICMP(type=3, code=code[0]) if family == 4 else ICMPv6DestUnreach(code=code[1])
        question, verdict = identify(answer(family, error / Raw(quoted)))
        assert question == asked(family, protocol, 33002, 80 if protocol != "icmp" else 0)
        assert verdict.answer == said


def test_neighbours_say_their_mac():
    frame = bytes(Ether() / ARP(op=2, hwsrc=MAC["y/b"], psrc=B[0], pdst=A[0]))
    assert identify(frame) == (asked(4, "neighbour", 0), ("yes", f"is at {MAC['y/b']}", (), ()))
    advertisement = ICMPv6ND_NA(tgt=B[1], S=1) / ICMPv6NDOptDstLLAddr(lladdr=MAC["y/b"])
    assert identify(answer(6, advertisement))[0] == asked(6, "neighbour", 0)


@pytest.mark.parametrize("family", [4, 6])
def test_what_answers_nothing_is_nothing(family):
    for transport in (TCP(flags="A"), TCP(flags="S"), SCTP() / SCTPChunkInit(), Raw(b"")):
        assert identify(answer(family, transport)) is None
    assert identify(b"") is None
    assert identify(bytes(60)) is None


def test_a_frame_that_is_cut_short_is_no_answer_and_no_error():
    for transport in (TCP(flags="SA"), UDP(), SCTP() / SCTPChunkInitAck(), ICMP(type=3) / IP() / UDP()):
        whole = answer(4, transport)
        for length in range(len(whole)):
            identify(whole[:length])


def test_a_question_to_our_own_port_is_no_answer_of_the_one_who_asks():
    """Two pods ask each other on a port that is the number of one of the probes."""
    probe = Probe("x/a", "y/b", 4, "udp", 33001)
    incoming = build(THERE, HERE, Probe("y/b", "x/a", 4, "udp", 33001), 40000)
    assert identify(incoming)[0] != Question("udp", 4, 33001, THERE.address(4), probe.port)
