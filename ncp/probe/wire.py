"""Crafted packets on the wire: sent from inside a pod's network namespace, and what comes back.

One packet socket is opened per source, inside its namespace; all probes of a round are sent at once and told apart by
their source port or identifier, so a table of hundreds costs one round trip. Silence is only believed after a second
packet went unanswered too.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from pyroute2.netns import setns
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
)
from scapy.layers.l2 import ARP, Ether
from scapy.layers.sctp import SCTP, SCTPChunkAbort, SCTPChunkInit, SCTPChunkInitAck
from scapy.packet import Packet, Raw
from scapy.utils6 import in6_getnsma, in6_getnsmac

from ipam.address import Address
from ncp.probe.model import EXTERNAL, Endpoint, Probe, Verdict
from ncp.translate.objects import format_mac
from sdn.pipeline.registers import GATEWAY_MAC

ETH_P_ALL: Final = 3
FIRST_PORT: Final = 33000
LAST_PORT: Final = 61000


def run_in(netns: str, work: Callable[[], Any]) -> Any:
    """Call ``work`` in a thread inside a network namespace (its name under /run/netns) and return its result.

    Raises:
        OSError: there is no such namespace.
    """
    outcome: list[Any] = []

    def body() -> None:
        try:
            setns(netns, flags=0)  # without flags it would make what is not there
            outcome.append((True, work()))
        except BaseException as error:  # carried to the caller's thread, raised there
            outcome.append((False, error))

    thread = threading.Thread(target=body, name=f"netns-{netns}")
    thread.start()
    thread.join()
    done, value = outcome[0]
    if not done:
        raise value
    return value


def packet_socket(netns: str, interface: str) -> socket.socket:
    """A packet socket on an interface inside a namespace, receiving everything that comes in.

    Raises:
        OSError: no such namespace or interface.
    """

    def make() -> socket.socket:
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        if interface:
            sock.bind((interface, ETH_P_ALL))
        sock.setblocking(False)
        return sock

    return run_in(netns, make)


class Station:
    """Where probes of one source leave and their answers arrive: a pod's interface, or a host that routes by itself.

    A source without an interface name is a host: its kernel chooses the next hop of packets that are handed to it.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.receiving = packet_socket(endpoint.netns, endpoint.interface)
        self._routed: dict[int, socket.socket] = {}
        if not endpoint.interface:
            self._routed = run_in(endpoint.netns, _raw_sockets)

    def __enter__(self) -> Station:
        return self

    def __exit__(self, *error: object) -> None:
        for sock in (self.receiving, *self._routed.values()):
            sock.close()

    def send(self, frame: bytes) -> None:
        """Put an Ethernet frame on the wire (a host: what is inside it, by the kernel's routes)."""
        if not self._routed:
            self.receiving.send(frame)
        elif frame[12:14] == b"\x08\x00":
            self._routed[4].sendto(frame[14:], (socket.inet_ntoa(frame[30:34]), 0))
        else:
            self._routed[6].sendto(frame[14:], (socket.inet_ntop(socket.AF_INET6, frame[38:54]), 0))


def _raw_sockets() -> dict[int, socket.socket]:
    """Sockets that take whole IP packets, by family."""
    header_included = 36  # IPV6_HDRINCL
    v6 = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW)
    v6.setsockopt(socket.IPPROTO_IPV6, header_included, 1)
    return {4: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW), 6: v6}


def build(source: Endpoint, destination: Endpoint, probe: Probe, number: int, *, ttl: int = 64) -> bytes:
    """The Ethernet frame of a probe. ``number`` is its source port or identifier."""
    here, there = source.address(probe.family), destination.address(probe.family)
    mac = format_mac(source.mac)
    if probe.protocol == "neighbour":
        return bytes(_neighbour(mac, str(here), str(there), probe.family))
    same = source.vni == destination.vni and source.vni != 0
    ether = Ether(src=mac, dst=format_mac(destination.mac if same else GATEWAY_MAC))
    network = (
        IP(src=str(here), dst=str(there), ttl=ttl)
        if probe.family == 4
        else IPv6(src=str(here), dst=str(there), hlim=ttl)
    )
    return bytes(ether / network / _transport(probe, number))


def _neighbour(mac: str, here: str, there: str, family: int) -> Packet:
    if family == 4:
        return Ether(src=mac, dst="ff:ff:ff:ff:ff:ff") / ARP(op=1, hwsrc=mac, psrc=here, pdst=there)
    group = in6_getnsma(socket.inet_pton(socket.AF_INET6, there))
    return (
        Ether(src=mac, dst=in6_getnsmac(group))
        / IPv6(src=here, dst=socket.inet_ntop(socket.AF_INET6, group), hlim=255)
        / ICMPv6ND_NS(tgt=there)
        / ICMPv6NDOptSrcLLAddr(lladdr=mac)
    )


def _transport(probe: Probe, number: int) -> Packet:
    match probe.protocol:
        case "tcp":
            return TCP(sport=number, dport=probe.port, flags="S", seq=number, options=[("MSS", 1300)])
        case "udp":
            return UDP(sport=number, dport=probe.port) / Raw(b"who\n")
        case "sctp":
            init = SCTPChunkInit(init_tag=number, a_rwnd=65536, n_out_streams=1, n_in_streams=1, init_tsn=number)
            return SCTP(sport=number, dport=probe.port, tag=0) / init
        case "icmp":
            return ICMP(type=8, id=number, seq=1) if probe.family == 4 else ICMPv6EchoRequest(id=number, seq=1)
    raise ValueError(f"{probe.protocol} has no transport packet")


def identify(frame: bytes) -> tuple[tuple[str, int, int, str], Verdict] | None:
    """What an incoming frame answers, as (protocol, family, number or 0, peer address), and how; None: nothing of ours."""
    kind = frame[12:14]
    if kind == b"\x08\x06" and frame[20:22] == b"\x00\x02":
        return ("neighbour", 4, 0, socket.inet_ntoa(frame[28:32])), Verdict("yes", f"is at {frame[22:28].hex(':')}")
    if kind == b"\x08\x00":
        return _identify_ip(frame[14:], 4)
    if kind == b"\x86\xdd":
        return _identify_ip(frame[14:], 6)
    return None


def _identify_ip(packet: bytes, family: int) -> tuple[tuple[str, int, int, str], Verdict] | None:
    parsed = IP(packet) if family == 4 else IPv6(packet)
    peer = str(parsed.src)
    if (ICMP in parsed and parsed[ICMP].type == 3) or ICMPv6DestUnreach in parsed:
        return _identify_unreachable(parsed, family)  # first: it quotes the packet it is about
    if TCP in parsed:
        flags = parsed[TCP].flags
        if "R" in flags:
            return ("tcp", family, parsed[TCP].dport, peer), Verdict("refused", "reset")
        if flags == "SA":
            return ("tcp", family, parsed[TCP].dport, peer), Verdict("yes", "SYN-ACK")
        return None
    if SCTPChunkInitAck in parsed:
        return ("sctp", family, parsed[SCTP].dport, peer), Verdict("yes", "INIT-ACK")
    if SCTPChunkAbort in parsed:
        return ("sctp", family, parsed[SCTP].dport, peer), Verdict("refused", "ABORT")
    return _identify_datagram(parsed, family, peer)


def _identify_datagram(parsed: Packet, family: int, peer: str) -> tuple[tuple[str, int, int, str], Verdict] | None:
    if ICMP in parsed and parsed[ICMP].type == 0:
        return ("icmp", 4, parsed[ICMP].id, peer), Verdict("yes", f"echo reply, TTL {parsed.ttl}")
    if ICMPv6EchoReply in parsed:
        return ("icmp", 6, parsed[ICMPv6EchoReply].id, peer), Verdict("yes", f"echo reply, hop limit {parsed.hlim}")
    if ICMPv6ND_NA in parsed:
        return ("neighbour", 6, 0, str(parsed[ICMPv6ND_NA].tgt)), Verdict(
            "yes", f"is at {parsed.payload.payload.lladdr}"
        )
    if UDP in parsed:
        return ("udp", family, parsed[UDP].dport, peer), Verdict("yes", f"{len(parsed[UDP].payload)} bytes")
    return None


def _identify_unreachable(parsed: Packet, family: int) -> tuple[tuple[str, int, int, str], Verdict] | None:
    quoted = bytes(parsed[ICMP].payload if family == 4 else parsed[ICMPv6DestUnreach].payload)
    header = (quoted[0] & 15) * 4 if family == 4 else 40
    protocol = {6: "tcp", 17: "udp", 132: "sctp", 1: "icmp", 58: "icmp"}.get(quoted[9] if family == 4 else quoted[6])
    if protocol is None or len(quoted) < header + 8:
        return None
    number = struct.unpack_from("!H", quoted, header + 4 if protocol == "icmp" else header)[0]
    raw = quoted[16:20] if family == 4 else quoted[24:40]
    peer = socket.inet_ntop(socket.AF_INET if family == 4 else socket.AF_INET6, raw)
    code = parsed[ICMP].code if family == 4 else parsed[ICMPv6DestUnreach].code
    if code == (13 if family == 4 else 1):
        return (protocol, family, number, peer), Verdict("rejected", "ICMP: administratively prohibited")
    return (protocol, family, number, peer), Verdict("refused", "ICMP unreachable")


def observe(
    endpoints: Mapping[str, Endpoint],
    probes: Iterable[Probe],
    *,
    wait: float = 0.4,
    attempts: int = 2,
    progress: Callable[[int], None] = lambda done: None,
) -> dict[Probe, Verdict]:
    """Send every probe and tell what came back.

    Args:
        endpoints: sources and destinations by name; a source without a namespace makes its probes ``unknown``.
        probes: what to send.
        wait: seconds to wait for the last answers of a round.
        attempts: rounds before silence is believed.
        progress: told how many answers are in.
    """
    found: dict[Probe, Verdict] = {}
    open_probes: list[Probe] = []
    for probe in probes:
        source, destination = endpoints.get(probe.source), endpoints.get(probe.destination)
        if source is None or not source.netns or destination is None:
            found[probe] = Verdict("unknown", f"nothing can be sent from {probe.source} here")
        elif source.address(probe.family) is None or destination.address(probe.family) is None:
            found[probe] = Verdict("no", f"no IPv{probe.family} address on one side")
        else:
            open_probes.append(probe)
    # Somewhere else each time: a connection that a switch still knows would be let pass without a question.
    numbers = itertools.count(random.randrange(LAST_PORT - FIRST_PORT))
    numbers = (FIRST_PORT + number % (LAST_PORT - FIRST_PORT) for number in numbers)
    with contextlib.ExitStack() as stack:
        stations = {n: stack.enter_context(Station(endpoints[n])) for n in {probe.source for probe in open_probes}}
        for _ in range(attempts):
            left = [probe for probe in open_probes if probe not in found]
            if not left:
                break
            for probe, verdict in _round(endpoints, stations, left, numbers, wait):
                found[probe] = verdict
                progress(len(found))
    return {**{probe: Verdict("no", "silence") for probe in open_probes}, **found}


def _round(
    endpoints: Mapping[str, Endpoint],
    stations: Mapping[str, Station],
    probes: list[Probe],
    numbers: Iterator[int],
    wait: float,
) -> Iterator[tuple[Probe, Verdict]]:
    waiting: dict[tuple[str, tuple[str, int, int, str]], Probe] = {}
    frames = []
    for probe in probes:
        number = 0 if probe.protocol == "neighbour" else next(numbers)
        destination = endpoints[probe.destination]
        peer = str(destination.address(probe.family))
        waiting[probe.source, (probe.protocol, probe.family, number, peer)] = probe
        frames.append((probe.source, build(endpoints[probe.source], destination, probe, number)))
    poll = select.poll()
    names = {}
    for name, station in stations.items():
        poll.register(station.receiving, select.POLLIN)
        names[station.receiving.fileno()] = name
    for index, (source, frame) in enumerate(frames):
        stations[source].send(frame)
        if index % 16 == 15:
            yield from _receive(poll, stations, names, waiting, 0)
    deadline = time.monotonic() + wait
    while waiting and (left := deadline - time.monotonic()) > 0:
        for answer in _receive(poll, stations, names, waiting, left):
            deadline = time.monotonic() + wait
            yield answer


def _receive(
    poll: select.poll,
    stations: Mapping[str, Station],
    names: Mapping[int, str],
    waiting: dict[tuple[str, tuple[str, int, int, str]], Probe],
    timeout: float,
) -> Iterator[tuple[Probe, Verdict]]:
    for fileno, _ in poll.poll(timeout * 1000):
        name = names[fileno]
        with contextlib.suppress(BlockingIOError):
            while True:
                frame, address = stations[name].receiving.recvfrom(65535)
                if address[2] == socket.PACKET_OUTGOING:
                    continue
                answer = identify(frame)
                if answer and (probe := waiting.pop((name, answer[0]), None)):
                    yield probe, answer[1]


def external_endpoint(netns: str, addresses: tuple[Address, ...]) -> Endpoint:
    """The host beyond tier-0, as a source or destination."""
    return Endpoint(EXTERNAL, addresses, netns, interface="")
