"""Crafted packets as bytes. scapy lays out one of each kind; a probe then only has its own addresses, numbers and checksums put in."""

from __future__ import annotations

import functools
import struct
from typing import Final

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, ICMPv6ND_NS, ICMPv6NDOptSrcLLAddr, IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.layers.sctp import SCTP, SCTPChunkInit
from scapy.packet import Packet, Raw

from ipam.address import Address, Family
from ncp.probe.model import Endpoint, Probe, Protocol
from sdn.icmp import checksum
from sdn.pipeline.registers import GATEWAY_MAC
from sdn.sctp import crc32c

_ETHERNET: Final = 14
_HEADER: Final[dict[int, int]] = {4: 20, 6: 40}
_NUMBERS: Final = {("tcp", 4): 6, ("tcp", 6): 6, ("udp", 4): 17, ("udp", 6): 17, ("icmp", 6): 58}
"""Protocols whose checksum covers the addresses, by their number."""
_BROADCAST: Final = b"\xff" * 6
_SOLICITED: Final = bytes.fromhex("ff0200000000000000000001ff")
"""What a solicited-node multicast address begins with (RFC 4291 section 2.7.1); the rest is the end of the address."""


def build(source: Endpoint, destination: Endpoint, probe: Probe, number: int, *, ttl: int = 64) -> bytes:
    """The Ethernet frame of a probe. ``number`` is its source port or identifier."""
    here, there = source.address(probe.family), destination.address(probe.family)
    if here is None or there is None:
        raise ValueError(f"{probe}: one end has no IPv{probe.family} address")
    mac = source.mac.to_bytes(6, "big")
    if probe.protocol == "neighbour":
        return _neighbour(mac, here, there)
    frame = bytearray(_template(probe.protocol, probe.family))
    frame[:6] = (destination.mac if source.is_beside(destination) else GATEWAY_MAC).to_bytes(6, "big")
    frame[6:12] = mac
    _address(frame, here, there, ttl)
    start = _ETHERNET + _HEADER[probe.family]
    _number(frame, start, probe, number)
    _sum(frame, start, probe)
    return bytes(frame)


@functools.cache
def _template(protocol: Protocol, family: Family) -> bytes:
    network = IP(src="0.0.0.0", dst="0.0.0.0") if family == 4 else IPv6(src="::", dst="::")
    return bytes(Ether(src="0:0:0:0:0:0", dst="0:0:0:0:0:0") / network / _transport(protocol, family))


def _transport(protocol: Protocol, family: Family) -> Packet:
    match protocol:
        case "tcp":
            return TCP(sport=0, dport=0, flags="S", seq=0, options=[("MSS", 1300)])
        case "udp":
            return UDP(sport=0, dport=0) / Raw(b"who\n")
        case "sctp":
            return SCTP(sport=0, dport=0, tag=0) / SCTPChunkInit(
                init_tag=0, a_rwnd=65536, n_out_streams=1, n_in_streams=1, init_tsn=0
            )
        case "icmp":
            return ICMP(type=8, id=0, seq=1) if family == 4 else ICMPv6EchoRequest(id=0, seq=1)
    raise ValueError(f"{protocol} has no transport packet")


def _address(frame: bytearray, here: Address, there: Address, ttl: int) -> None:
    if here.family == 4:
        frame[22] = ttl
        frame[24:26] = b"\0\0"
        struct.pack_into("!II", frame, 26, here.value, there.value)
        struct.pack_into("!H", frame, 24, checksum(bytes(frame[14:34])))
    else:
        frame[21] = ttl
        frame[22:54] = here.value.to_bytes(16, "big") + there.value.to_bytes(16, "big")


def _number(frame: bytearray, start: int, probe: Probe, number: int) -> None:
    """Put the number where answers bring it back, and into whatever else must differ between connections."""
    if probe.protocol == "icmp":
        struct.pack_into("!H", frame, start + 4, number)
        return
    struct.pack_into("!HH", frame, start, number, probe.port)
    if probe.protocol == "tcp":
        struct.pack_into("!I", frame, start + 4, number)
    elif probe.protocol == "sctp":  # common header 12, chunk header 4: the initiate tag; then 8 on: the first TSN
        struct.pack_into("!I", frame, start + 16, number)
        struct.pack_into("!I", frame, start + 28, number)


def _sum(frame: bytearray, start: int, probe: Probe) -> None:
    if probe.protocol == "sctp":
        frame[start + 8 : start + 12] = bytes(4)
        frame[start + 8 : start + 12] = crc32c(bytes(frame[start:])).to_bytes(4, "little")
        return
    at = start + {"tcp": 16, "udp": 6, "icmp": 2}[probe.protocol]
    frame[at : at + 2] = b"\0\0"
    body = bytes(frame[start:])
    number = _NUMBERS.get((probe.protocol, probe.family))
    if number is not None:
        ends = frame[26:34] if probe.family == 4 else frame[22:54]
        body = bytes(ends) + struct.pack("!II", len(body), number) + body
    found = checksum(body)
    struct.pack_into("!H", frame, at, 0xFFFF if probe.protocol == "udp" and not found else found)


def _neighbour(mac: bytes, here: Address, there: Address) -> bytes:
    frame = bytearray(_question(here.family))
    frame[6:12] = mac
    if here.family == 4:
        frame[:6] = _BROADCAST
        frame[22:28] = mac
        struct.pack_into("!I", frame, 28, here.value)
        struct.pack_into("!I", frame, 38, there.value)
        return bytes(frame)
    target = there.value.to_bytes(16, "big")
    group = _SOLICITED + target[13:]
    frame[:6] = b"\x33\x33" + group[12:]
    frame[22:54] = here.value.to_bytes(16, "big") + group
    frame[62:78] = target
    frame[80:86] = mac
    frame[56:58] = b"\0\0"
    body = bytes(frame[54:])
    total = checksum(bytes(frame[22:54]) + struct.pack("!II", len(body), 58) + body)
    struct.pack_into("!H", frame, 56, total)
    return bytes(frame)


@functools.cache
def _question(family: Family) -> bytes:
    nobody = "0:0:0:0:0:0"
    ether = Ether(src=nobody, dst=nobody)
    if family == 4:
        return bytes(ether / ARP(op=1, hwsrc=nobody, psrc="0.0.0.0", pdst="0.0.0.0"))
    solicitation = ICMPv6ND_NS(tgt="::") / ICMPv6NDOptSrcLLAddr(lladdr=nobody)
    return bytes(ether / IPv6(src="::", dst="::", hlim=255) / solicitation)
