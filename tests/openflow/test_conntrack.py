"""Connections forgotten one by one: the bytes are those of ovs-ofctl, and a real switch forgets these and no others."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipam.address import Address, parse_address
from sdn.conntrack import NUMBERS, Tracked, parse
from sdn.openflow.conntrack import Flush, pack_flush
from sdn.openflow.session import Switch
from tests.kube.conftest import eventually
from tests.support.ovs import PrivateOvs

HELLO, BARRIER_REQUEST, BARRIER_REPLY, EXPERIMENTER = 0, 20, 21, 4


class Listener:
    """Where a switch would listen: keeps the messages of one client, and answers what it must for that client to go on."""

    def __init__(self, path: Path) -> None:
        self.messages: list[bytes] = []
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        self._socket.listen(1)
        self._socket.settimeout(10)
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Listener:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        client, _ = self._socket.accept()
        client.settimeout(10)
        with client, client.makefile("rb") as stream:
            client.sendall(_message(HELLO, 1))
            while head := stream.read(8):
                self.messages.append(head + stream.read(int.from_bytes(head[2:4], "big") - 8))
                if head[1] == BARRIER_REQUEST:
                    client.sendall(_message(BARRIER_REPLY, int.from_bytes(head[4:], "big")))


def _message(kind: int, xid: int) -> bytes:
    return bytes((6, kind)) + (8).to_bytes(2, "big") + xid.to_bytes(4, "big")


def flush(zone: int, protocol: str, source: str, destination: str, *ports: int) -> Flush:
    return Flush(zone, NUMBERS[protocol], parse_address(source), parse_address(destination), *ports)


def to(destination: str, port: int, answers: str, answering_port: int) -> Flush:
    """Datagrams to a virtual server, in whatever zone, that a member answers."""
    ends = {"destination": parse_address(destination), "answers": parse_address(answers)}
    return Flush(None, NUMBERS["udp"], **ends, destination_port=port, answering_port=answering_port)


def tuple_text(protocol: int, **parts: Address | int | None) -> str:
    """Part of a connection as ovs-ofctl takes it."""
    said = [f"ct_nw_proto={protocol}"]
    for name, value in parts.items():
        if isinstance(value, Address):
            said.append(f"ct_{'nw' if value.family == 4 else 'ipv6'}_{name}={value}")
        elif value:
            said.append(f"ct_tp_{name.removesuffix('_port')}={value}")
    return ",".join(said)


def arguments(one: Flush) -> list[str]:
    """The same for ovs-ofctl."""
    said = [] if one.zone is None else [f"zone={one.zone}"]
    ends = {"src": one.source, "dst": one.destination, "src_port": one.source_port, "dst_port": one.destination_port}
    if one.protocol:
        said.append(tuple_text(one.protocol, **ends))
    if one.answers:
        said.append(tuple_text(one.protocol, src=one.answers, src_port=one.answering_port))
    return said


@pytest.mark.switch
@pytest.mark.parametrize(
    "one",
    [
        Flush(0),
        Flush(5),
        Flush(65535),
        flush(0, "tcp", "10.0.0.1", "10.0.0.2", 1, 65535),
        flush(17, "udp", "0.0.0.1", "255.255.255.254", 40000, 53),
        flush(17, "sctp", "10.0.0.1", "10.0.0.2", 9091, 9092),
        flush(65000, "tcp", "fd00:10:4::1", "2001:db8:ffff:ffff:ffff:ffff:ffff:fffe", 1024, 443),
        flush(16, "udp", "::1", "fe80::1", 5353, 5353),
        flush(16, "sctp", "fd00::1", "fd00::2", 1, 2),
        to("10.96.0.10", 53, "10.4.0.2", 5353),
        to("fd00:96::1", 53, "fd00:10:4::2", 53),
        Flush(7, NUMBERS["tcp"], source=parse_address("10.4.0.2")),
    ],
    ids=lambda one: " ".join(arguments(one)),
)
def test_the_message_is_that_of_ovs_ofctl(one: Flush, tmp_path: Path) -> None:
    tool = shutil.which("ovs-ofctl")
    assert tool
    place = tmp_path / "mgmt"
    with Listener(place) as listener:
        command = [tool, "-O", "OpenFlow15", "--timeout=10", "ct-flush", f"unix:{place}", *arguments(one)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stderr
    (sent,) = [each for each in listener.messages if each[1] == EXPERIMENTER]
    assert pack_flush(one, int.from_bytes(sent[4:8], "big")) == sent


def tracked(zone: int, protocol: str, source: str, sport: int, destination: str, dport: int) -> Tracked:
    there = parse_address(destination)
    return Tracked(zone, protocol, parse_address(source), there, sport, dport, there)


class Table:
    """The connections that a switch tracks; frames that come in at port N are of zone N."""

    def __init__(self, ovs: PrivateOvs, bridge: str, switch: Switch) -> None:
        self.ovs, self.bridge, self.switch = ovs, bridge, switch
        ovs.appctl("dpctl/flush-conntrack")
        for zone in (5, 6):
            ovs.add_dummy_port(f"{bridge}p{zone}", zone, bridge)
            ovs.ofctl("add-flow", bridge, f"in_port={zone},ip,actions=ct(commit,zone={zone})")
            ovs.ofctl("add-flow", bridge, f"in_port={zone},ipv6,actions=ct(commit,zone={zone})")

    def begin(self, *connections: Tracked) -> None:
        for each in connections:
            version, eth = ("ipv4", "0x0800") if each.source.family == 4 else ("ipv6", "0x86dd")
            ttl = "ttl=64,tos=0" if version == "ipv4" else "hlimit=64,tclass=0,label=0"
            of = f"{version}(src={each.source},dst={each.destination},proto={NUMBERS[each.protocol]},{ttl},frag=no)"
            ports = f"{each.protocol}(src={each.source_port},dst={each.destination_port})"
            flags = ",tcp_flags(0x002)" if each.protocol == "tcp" else ""
            frame = (
                f"in_port({each.zone}),eth(src=02:00:00:00:00:01,dst=02:00:00:00:00:02),eth_type({eth}),{of},{ports}"
            )
            self.ovs.appctl("netdev-dummy/receive", f"{self.bridge}p{each.zone}", frame + flags)
        self.holds(*connections)

    def now(self) -> set[Tracked]:
        return set(parse(self.ovs.appctl("dpctl/dump-conntrack")))

    def holds(self, *connections: Tracked) -> None:
        eventually(lambda: self.now() >= set(connections))


@pytest.fixture
def table(shared_ovs: PrivateOvs, bridge: str, switch: Switch) -> Iterator[Table]:
    yield Table(shared_ovs, bridge, switch)
    shared_ovs.appctl("dpctl/flush-conntrack")


def of(one: Tracked) -> Flush:
    ports = (one.source_port, one.destination_port)
    return Flush(one.zone, NUMBERS[one.protocol], one.source, one.destination, *ports)


@pytest.mark.switch
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
@pytest.mark.parametrize(
    "hosts", [("10.0.0.1", "10.0.0.2", "10.0.0.3"), ("fd00::1", "fd00::2", "fd00::3")], ids=["v4", "v6"]
)
def test_exactly_that_connection_goes_and_its_neighbours_stay(
    table: Table, protocol: str, hosts: tuple[str, str, str]
) -> None:
    here, there, elsewhere = hosts
    other = {"tcp": "udp", "udp": "tcp"}[protocol]
    it = tracked(5, protocol, here, 1000, there, 80)
    neighbours = {
        tracked(6, protocol, here, 1000, there, 80),
        tracked(5, other, here, 1000, there, 80),
        tracked(5, protocol, here, 1001, there, 80),
        tracked(5, protocol, here, 1000, there, 81),
        tracked(5, protocol, here, 1000, elsewhere, 80),
        tracked(5, protocol, elsewhere, 1000, there, 80),
        tracked(5, protocol, there, 1000, here, 80),  # the other way round, and not its answers
    }
    table.begin(it, *neighbours)
    table.switch.flush([of(it)])
    assert table.now() == neighbours, "the switch has done it when the call returns"


@pytest.mark.switch
@pytest.mark.parametrize("nth", ["10.0.0.{}", "fd00::{}"], ids=["v4", "v6"])
def test_what_one_member_answers_goes_from_every_zone_and_nothing_else(table: Table, nth: str) -> None:
    virtual, member, other = (nth.format(number) for number in (100, 2, 3))

    def translated(zone: int, client: int, port: int, to: str, to_port: int, protocol: str = "udp") -> Tracked:
        ends = [parse_address(each) for each in (nth.format(client), virtual)]
        table.ovs.ofctl("add-flow", table.bridge, _translating(zone, virtual, protocol, to, to_port))
        begun = Tracked(zone, protocol, *ends, 1000 + client, port, parse_address(to), to_port)
        table.begin(begun)
        return begun

    gone = [translated(zone, client, 53, member, 5353) for zone, client in ((5, 4), (5, 5), (6, 6))]
    kept = {
        translated(5, 7, 53, other, 5353),
        translated(5, 8, 53, member, 5354),
        translated(5, 9, 54, member, 5353),
        translated(6, 9, 53, member, 5353, "tcp"),
        tracked(6, "udp", nth.format(4), 1004, member, 5353),
    }
    table.begin(*(each for each in kept if each.destination == each.answers))
    table.switch.flush([to(virtual, 53, member, 5353)])
    assert table.now() == kept
    assert not kept & {*gone}


def _translating(zone: int, virtual: str, protocol: str, member: str, port: int) -> str:
    """The flow that sends what comes in there to a member."""
    kind, place = ("6", f"[{member}]") if ":" in member else ("", member)
    match = f"priority=40000,in_port={zone},{protocol}{kind},ipv6_dst={virtual}" if kind else ""
    match = match or f"priority=40000,in_port={zone},{protocol},nw_dst={virtual}"
    return f"{match},actions=ct(commit,zone={zone},nat(dst={place}:{port}))"


@pytest.mark.switch
def test_a_whole_zone_goes_and_no_other(table: Table) -> None:
    mine = [tracked(5, "tcp", "10.0.0.1", port, "10.0.0.2", 80) for port in range(1000, 1005)]
    mine.append(tracked(5, "udp", "fd00::1", 53, "fd00::2", 53))
    theirs = tracked(6, "udp", "fd00::1", 53, "fd00::2", 53)
    table.begin(*mine, theirs)
    table.switch.flush([Flush(5)])
    assert table.now() == {theirs}


@pytest.mark.switch
def test_many_at_once_and_some_that_are_not_there(table: Table) -> None:
    every = [tracked(5, "tcp", "10.0.0.1", port, "10.0.0.2", 80) for port in range(1000, 1040)]
    table.begin(*every)
    gone = every[::2]
    unknown = tracked(5, "tcp", "10.9.9.9", 1, "10.9.9.8", 2)
    table.switch.flush([of(unknown), *map(of, gone), of(unknown), *map(of, gone)])
    assert table.now() == {*every} - {*gone}
    assert table.switch.connected, "it was no error to the switch"


@pytest.mark.switch
def test_nothing_to_forget_forgets_nothing(table: Table) -> None:
    it = tracked(5, "tcp", "10.0.0.1", 1000, "10.0.0.2", 80)
    table.begin(it)
    table.switch.flush([])
    assert table.now() == {it}
