"""Virtual servers on a real switch: what it accepts, which connections reach whom and are counted, and that groups are kept."""

from __future__ import annotations

import queue
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from ncp.node.audit import key_of
from ncp.node.servicestats import service_statistics
from sdn.compile.balancing import names
from sdn.compile.groups import chunk_of
from sdn.compile.terms import UNSERVED
from sdn.pipeline.flow import Output
from sdn.pipeline.registers import GATEWAY_MAC
from sdn.pipeline.tables import T
from sdn.program import against
from tests.node.rig import PODS, Rig, address, mac, until
from tests.sdn.test_balancing import MEETING
from tests.translate.test_services import end, service, slice_for

pytestmark = pytest.mark.switch

PORTS = [{"name": each, "port": 80, "protocol": each.upper()} for each in ("tcp", "udp", "sctp")]
NUMBERS = [{"name": each, "port": 8080, "protocol": each.upper()} for each in ("tcp", "udp", "sctp")]
CLUSTER = "10.96.0.1"


def serve(rig: Rig, name: str, *ends: str, where: str = "", **spec: Any) -> None:
    """A service with endpoints of both families, by a slice for each."""
    obj = service(name, addresses=(CLUSTER, "fd00:96::1"), ports=PORTS, **spec)
    rig.change("Service", name, obj, wait=False)
    for kind, mark in (("IPv4", "."), ("IPv6", ":")):
        own = [end(each, nodeName=where) for each in ends if mark in each]
        rig.change(
            "EndpointSlice",
            f"{name}-{kind}",
            slice_for(name, *own, name=f"{name}-{kind}", ports=NUMBERS, kind=kind),
            wait=False,
        )
    rig.idle()


def groups(rig: Rig) -> set[str]:
    return {line.strip() for line in rig.ovs.ofctl("dump-groups", "br-int").splitlines() if "group_id" in line}


def lasting(rig: Rig) -> set[tuple[int, bytes, int]]:
    """Flows, but for those that say which change of the caches the switch is at."""
    return {(each.table, each.match, each.cookie) for each in rig.switch.flows() if each.table != T["epoch"]}


def many(count: int) -> list[str]:
    return [
        f"{base}{n:x}" if ":" in base else f"{base}{n >> 8}.{n & 255}"
        for base in ("10.5.", "fd00:5::")
        for n in range(1, count + 1)
    ]


@pytest.mark.parametrize("affinity", [{}, {"sessionAffinity": "ClientIP"}], ids=["any", "client"])
@pytest.mark.parametrize("size", [0, 1, 2, 3, 256, 257])
def test_a_switch_takes_pools_of_every_protocol_family_and_size(rig: Rig, size: int, affinity: dict[str, Any]):
    rig.start()
    serve(rig, "s", *many(size), **affinity)
    assert rig.loop.problems() == []
    wanted = {group.id for entries in rig.loop.program.groups.values() for group in entries}
    assert {group.id for group in rig.switch.groups()} == wanted
    assert len(rig.switch.flows(table=T["members"])) == 1 + 6 * size, "and what becomes of all others"
    before = groups(rig)
    serve(rig, "s", *many(size + 1), **affinity)
    serve(rig, "s", *many(size), **affinity)
    assert len(groups(rig)) == len(before)
    assert rig.loop.drift == []


def test_a_group_that_is_missing_or_nobodys_is_drift_and_is_repaired(rig: Rig):
    rig.start()
    serve(rig, "s", *many(3))
    whole, flows = groups(rig), lasting(rig)
    gone = min(group.id for group in rig.switch.groups())
    rig.ovs.ofctl("del-groups", "br-int", f"group_id={gone}")
    rig.ovs.ofctl("add-group", "br-int", "group_id=7,type=all,bucket=output:1")
    rig.idle()
    found = {(each.kind, each.flow): each.origin for each in rig.loop.drift if each.table == "groups"}
    assert found == {("missing", f"group {gone}"): "red/s", ("foreign", "group 7"): ""}
    assert groups(rig) == whole
    assert lasting(rig) == flows, "with the group went the flow that names it"
    known = len(rig.loop.drift)
    rig.idle()
    assert len(rig.loop.drift) == known, "one repair is enough"


def meddled(rig: Rig, *commands: tuple[str, str]) -> dict[str, str]:
    """The drift found, with its origin, after somebody else changed groups; and that it was repaired once and for all."""
    whole, flows = groups(rig), lasting(rig)
    known = len(rig.loop.drift)
    for command, what in commands:
        rig.ovs.ofctl(command, "br-int", what)
    assert groups(rig) != whole
    rig.idle()
    drift = rig.loop.drift[known:]
    assert {(each.kind, each.table) for each in drift} <= {("altered", "groups")}
    assert (groups(rig), lasting(rig)) == (whole, flows)
    rig.idle()
    assert len(rig.loop.drift) == known + len(drift), "one repair is enough"
    return {each.flow: each.origin for each in drift}


def test_a_group_that_says_something_else_is_drift_and_is_repaired(rig: Rig):
    rig.start()
    serve(rig, "s", *many(3)[:3])
    over, main = sorted(next(iter(rig.loop.program.groups.values()))[:2], key=lambda each: each.selection, reverse=True)
    mark = over.buckets[1]
    lacking = f"group_id={over.id},command_bucket_id={mark.id}"
    assert meddled(rig, ("remove-buckets", lacking)) == {f"group {over.id}: lacks buckets {mark.id}": "red/s"}
    more = f"group_id={main.id},command_bucket_id=last,bucket=bucket_id:9,weight:1,actions=drop"
    assert meddled(rig, ("insert-buckets", more)) == {f"group {main.id}: has of nobody's buckets 9": "red/s"}
    same = f"bucket_id:{mark.id},actions=set_field:{mark.id:#x}/0xffffffff->metadata,resubmit(,{T['members']})"
    chosen = f"group_id={over.id},type=select,selection_method=hash,fields(ip_src),bucket={same}"
    rest = ", ".join(str(each.id) for each in sorted(over.buckets) if each.id != mark.id)
    assert meddled(rig, ("mod-group", chosen)) == {f"group {over.id}: chooses otherwise; lacks buckets {rest}": "red/s"}
    heavier = f"bucket_id:{mark.id},weight:7,actions=drop"
    assert meddled(
        rig,
        ("remove-buckets", lacking),
        ("insert-buckets", f"group_id={over.id},command_bucket_id=last,bucket={heavier}"),
    ) == {f"group {over.id}: has altered buckets {mark.id}": "red/s"}


@pytest.mark.parametrize("size", [3, 300, 1100])
def test_groups_that_are_right_are_left_alone_when_an_agent_comes_back(rig: Rig, size: int):
    rig.start()
    rig.change("Service", "s", service("s", addresses=(CLUSTER,), ports=UDP_PORT), wait=False)
    ends = [end(each) for each in many(size + 1)[: size + 1]]
    for those in (ends[:-1], ends):
        rig.change("EndpointSlice", "s", slice_for("s", *those, name="s", ports=UDP_NUMBER))
    held = rig.switch.groups()
    installed = {key_of(flow): flow.cookie for flow in rig.switch.flows() if flow.table != T["epoch"]}
    assert not against(rig.loop.program, installed, held)
    (missing,) = against(rig.loop.program, installed, held[1:]).groups
    assert missing.group.id == held[0].id
    epoch = rig.switch.flows(table=T["epoch"])
    rig.loop.connected()
    rig.idle()
    assert rig.switch.flows(table=T["epoch"]) == epoch, "any change of a group would have begun another"
    assert rig.loop.drift == []


def test_a_service_that_takes_anothers_number_keeps_its_group_and_flows(rig: Rig):
    rig.start()
    first, second = (name.partition("/")[2] for name in MEETING)
    serve(rig, second, *many(2))
    alone = groups(rig)
    serve(rig, first, *many(2))
    assert len(groups(rig)) == 2 * len(alone)
    rig.change("Service", first, None)
    assert groups(rig) == alone
    assert rig.loop.drift == []


FROM_THE_FIRST_TABLE = 0xFFFFFFF9
"""OFPP_TABLE: a packet of ours goes the way of one that came in."""
UDP_PORT, UDP_NUMBER = [[each[1]] for each in (PORTS, NUMBERS)]


def even(counts: list[int], weights: list[int]) -> bool:
    """Whether counts are in proportion to weights, as chance would have it: by chi-square, within four standard deviations."""
    each = sum(counts) / sum(weights)
    found = sum((count - each * weight) ** 2 / (each * weight) for count, weight in zip(counts, weights, strict=True))
    degrees = len(counts) - 1
    return abs(found - degrees) < 4 * (2 * degrees) ** 0.5


def test_two_thousand_members_get_as_many_connections_each(rig: Rig):
    """And one more or less of them touches no other: the switch says what it was told."""
    rig.start()
    count, connections = 2000, 20_000
    ends = [end(f"10.5.{n >> 8}.{n & 255}") for n in range(1, count + 2)]
    rig.change("Service", "s", service("s", addresses=(CLUSTER,), ports=UDP_PORT), wait=False)
    rig.change("EndpointSlice", "s", slice_for("s", *ends[:count], name="s", ports=UDP_NUMBER))
    assert rig.loop.problems() == []
    wanted = [group for entries in rig.loop.program.groups.values() for group in entries]
    assert len(wanted) > 2
    assert {group.id for group in rig.switch.groups()} == {group.id for group in wanted}
    what = IP(src=address("a"), dst=CLUSTER) / UDP(sport=0, dport=80) / Raw(b"word")
    frame = bytearray(bytes(Ether(src=mac("a"), dst=GATEWAY_MAC.to_bytes(6, "big").hex(":")) / what))
    frame[40:42] = bytes(2)  # no checksum (RFC 768): the source port changes
    for number in range(connections):
        frame[34:36] = (20_000 + number).to_bytes(2, "big")
        rig.switch.packet_out(bytes(frame), (Output(FROM_THE_FIRST_TABLE),), PODS["a"])
    rig.switch.barrier()
    until(lambda: sum(statistics(rig).values()) == connections)
    found = statistics(rig)
    assert len(found) == count
    assert even(list(found.values()), [1] * count)
    (pool,) = rig.loop.program.balancing.pools["red/s"]
    chunks = len(names(pool)) - 1
    sizes, got = [0] * chunks, [0] * chunks
    for member, mark in pool.members.items():
        sizes[chunk_of(mark, chunks)] += 1
        got[chunk_of(mark, chunks)] += found[str(member.address)]
    assert chunks > 1
    assert even(got, sizes)
    dumped = len(groups(rig))
    rig.change("EndpointSlice", "s", slice_for("s", *ends, name="s", ports=UDP_NUMBER))
    assert len(groups(rig)) == dumped
    assert len(statistics(rig)) == count + 1
    assert rig.loop.drift == []


def statistics(rig: Rig) -> dict[str, int]:
    """Connections over UDP by member."""
    rig.ovs_call("revalidator/wait")
    rows = service_statistics(rig.loop.program, rig.switch.flows())
    return {row["address"]: row["connections"] for row in rows if row["protocol"] == "udp" and "." in row["address"]}


def say(rig: Rig, source: str, number: int) -> None:
    what = IP(src=address(source), dst=CLUSTER) / UDP(sport=number, dport=80) / Raw(b"word")
    frame = Ether(src=mac(source), dst=GATEWAY_MAC.to_bytes(6, "big").hex(":")) / what
    rig.ovs_call("netdev-dummy/receive", f"p{PODS[source]}", bytes(frame).hex())


def test_connections_reach_members_and_each_is_counted_once(rig: Rig):
    rig.start()
    serve(rig, "s", address("b"), address("c"))
    assert statistics(rig) == {address("b"): 0, address("c"): 0}
    for number in range(30):
        say(rig, "a", 40000 + number)
        say(rig, "a", 40000 + number)
    reached = {name: [Ether(each) for each in rig.settled("a", name)] for name in ("b", "c")}
    ports = {name: [each[UDP].sport for each in frames if UDP in each] for name, frames in reached.items()}
    assert {each[UDP].dport for frames in reached.values() for each in frames if UDP in each} == {8080}
    assert sorted(ports["b"] + ports["c"]) == sorted(2 * [*range(40000, 40030)])
    assert all(ports.values()), "both have some of thirty"
    assert not set(ports["b"]) & set(ports["c"]), "a connection stays with its member"
    until(lambda: statistics(rig) == {address(name): len(set(found)) for name, found in ports.items()})


def test_datagrams_to_a_member_that_goes_are_forgotten_without_reading_what_is_tracked(rig: Rig):
    rig.start()
    serve(rig, "s", address("b"), address("c"))
    for number in range(30):
        say(rig, "a", 40000 + number)

    def to_members() -> Counter[str]:
        asked = (each for each in rig.connections("a") if str(each.destination) == CLUSTER)
        return Counter(str(each.answers) for each in asked)

    until(lambda: to_members().total() == 30)
    before, dumps = to_members(), rig.dumps
    serve(rig, "s", address("c"))
    assert before[address("b")] > 0, "there was something to forget"
    assert to_members() == {address("c"): before[address("c")]}
    assert rig.dumps == dumps, "on a busy node there is too much to read for each member that goes"


@pytest.mark.parametrize("resets", [False, True], ids=["drain", "reset"])
def test_a_connection_to_a_member_that_goes_is_let_end_or_reset(rig: Rig, resets: bool):
    def from_client(flags: str, number: int = 40000) -> None:
        word = IP(src=address("a"), dst=CLUSTER) / TCP(sport=number, dport=80, flags=flags, seq=101, ack=301)
        frame = Ether(src=mac("a"), dst=GATEWAY_MAC.to_bytes(6, "big").hex(":")) / word
        rig.ovs_call("netdev-dummy/receive", f"p{PODS['a']}", bytes(frame).hex())

    def heard(name: str) -> list[str]:
        return [str(each[TCP].flags) for raw in rig.settled("a", name) if TCP in (each := Ether(raw))]

    rig.start(resets=resets)
    serve(rig, "s", address("b"))
    from_client("S")
    assert heard("b") == ["S"]
    rig.send("b", "a", TCP(sport=8080, dport=40000, flags="SA", seq=300, ack=102))
    from_client("A")
    assert heard("b") == ["A"]
    serve(rig, "s", address("c"))
    from_client("PA")
    assert heard("b") == ([] if resets else ["PA"])
    assert heard("c") == [], "another member knows nothing of it"
    handed = [packet.userdata for packet in iter_queue(rig.packets)]
    assert handed == ([UNSERVED] if resets else []), "only what is reset is handed over to be answered"
    from_client("S", 40001)
    assert heard("c") == ["S"], "new connections are served by the new one"


def iter_queue(some: queue.Queue[Any]) -> Iterator[Any]:
    with suppress(queue.Empty):
        while True:
            yield some.get(timeout=0.2)


def test_a_member_is_counted_once_with_what_it_sends_to_itself(rig: Rig):
    rig.start()
    serve(rig, "s", address("a"), where="node1")
    for source in ("a", "b"):
        say(rig, source, 40000)
    until(lambda: statistics(rig) == {address("a"): 2})


def test_statistics_name_the_port_the_member_and_the_service(rig: Rig):
    rig.start()
    serve(rig, "s", address("b"), address("b", 6), where="node1")
    rows = service_statistics(rig.loop.program, rig.switch.flows())
    of = {"namespace": "red", "name": "s", "port": 80, "target": 8080, "connections": 0}
    wanted = [
        of | {"protocol": p, "address": address("b", family)} for p in ("sctp", "tcp", "udp") for family in (4, 6)
    ]
    assert sorted(rows, key=str) == sorted(({key: each[key] for key in rows[0]} for each in wanted), key=str)
