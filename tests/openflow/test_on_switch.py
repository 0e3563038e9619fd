"""A real switch accepts what we send, says in its own words that it means what we meant, and gives back the same bytes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from sdn.openflow.message import DeleteGroup, GroupChange, InsertBuckets, RemoveBucket, SetGroup, pack_group_change
from sdn.openflow.pack import Encoded, encode, installed_key_bytes, pack_instructions
from sdn.openflow.session import Switch
from sdn.openflow.values import InstalledFlow
from sdn.pipeline import flow as f
from tests.openflow.conftest import OWNER
from tests.openflow.oracle import parse
from tests.openflow.strategies import ORIGIN, flows
from tests.openflow.test_action import AFFINITY
from tests.support.ovs import PrivateOvs

pytestmark = pytest.mark.switch

IPV4: f.Match = (("eth_type", 0x0800, None),)
IPV6: f.Match = (("eth_type", 0x86DD, None),)
ND_ANSWER: f.Match = (*IPV6, ("ip_proto", 58, None), ("icmpv6_type", 136, None), ("icmpv6_code", 0, None))


def changes(add: Any = (), delete: Any = (), groups: Any = ()) -> SimpleNamespace:
    return SimpleNamespace(add=list(add), delete=list(delete), groups=list(groups))


def key(flow: InstalledFlow) -> tuple[int, int, bytes]:
    return flow.table, flow.priority, flow.match


def same(installed: InstalledFlow, sent: Encoded) -> bool:
    return (
        installed_key_bytes(installed.table, installed.priority, installed.match) == sent.key
        and installed.cookie == sent.cookie
        and installed.instructions == pack_instructions(sent.flow.actions)
    )


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(flow=flows())
def test_any_flow_comes_back_as_it_was_sent(switch: Switch, flow: f.Flow) -> None:
    sent = encode(flow, OWNER)
    switch.apply(changes(delete=[key(one) for one in switch.flows()]))
    switch.apply(changes([sent]))
    (installed,) = switch.flows()
    assert same(installed, sent)


CT = f.Ct(
    zone=f.FieldBits("reg5", 0, 16),
    table=7,
    commit=True,
    nat=f.Nat(source=False, address=0x0A000002, port=8080),
    actions=(f.SetField("ct_mark", 1, 1), f.SetField("ct_label", 5)),
)
SNAT6 = f.Ct(
    zone=65000,
    commit=True,
    force=True,
    nat=f.Nat(True, 6, 0xFD << 120 | 1, 0xFD << 120 | 9, 20000, 20100),
)


@pytest.mark.parametrize(
    ("match", "actions", "said"),
    [
        ((), (f.SetField("reg3", 5),), "set_field:0x5->reg3"),
        ((), (f.SetField("reg3", 0x50, 0xF0),), "set_field:0x50/0xf0->reg3"),
        (IPV4, (f.SetField("ipv4_dst", 0x0A000001),), "set_field:10.0.0.1->ip_dst"),
        ((), (f.SetField("in_port_nxm", 0), f.Output(3)), "set_field:0->in_port,output:3"),
        ((), (f.SetField("tunnel_id", 5001),), "set_field:0x1389->tun_id"),
        ((), (f.SetField("tun_ipv6_dst", 1),), "set_field:::1->tun_ipv6_dst"),
        (IPV4, (f.SetField("nw_ttl", 64),), "set_field:64->nw_ttl"),
        (ND_ANSWER, (f.SetField("nd_tll", 2),), "set_field:00:00:00:00:00:02->nd_tll"),
        (ND_ANSWER, (f.SetField("nd_reserved", 0xE0000000),), "set_field:3758096384->nd_reserved"),
        (ND_ANSWER, (f.SetField("nd_options_type", 2),), "set_field:2->nd_options_type"),
        ((), (f.CopyField("eth_src", "eth_dst", 48),), "move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[]"),
        ((), (f.CopyField("reg1", "reg2", 8, 4, 16),), "move:NXM_NX_REG1[4..11]->NXM_NX_REG2[16..23]"),
        ((), (f.Output(f.IN_PORT),), "IN_PORT"),
        ((), (f.OutputField("reg7", 0, 16),), "output:NXM_NX_REG7[0..15]"),
        (IPV4, (f.DecTtl(),), "dec_ttl"),
        ((), (f.Controller(b"\x01\x02", 128),), "controller(max_len=128,userdata=01.02)"),
        ((), (f.CheckPacketLarger(1464, "reg0", 3),), "check_pkt_larger(1464)->NXM_NX_REG0[3]"),
        ((), (f.Resubmit(40),), "resubmit(,40)"),
        ((), (f.Output(2), f.Goto(40)), "output:2,goto_table:40"),
        (IPV4, (CT,), "ct(commit,table=7,zone=NXM_NX_REG5[0..15],nat(dst=10.0.0.2:8080),exec("),
        (IPV4, (CT,), "exec(set_field:0x1/0x1->ct_mark,set_field:0x5->ct_label))"),
        (IPV6, (SNAT6,), "ct(commit,force,zone=65000,nat(src=[fd00::1]-[fd00::9]:20000-20100))"),
        (IPV4, (f.Ct(zone=9, table=5, translate=True),), "ct(table=5,zone=9,nat)"),
        ((), (f.CtClear(),), "ct_clear"),
        ((), (f.Conjunction(77, 1, 3),), "conjunction(77,2/3)"),
    ],
)  # fmt: skip
def test_the_switch_understands_every_kind_of_action(
    switch: Switch, shared_ovs: PrivateOvs, bridge: str, match: f.Match, actions: tuple[f.Action, ...], said: str
) -> None:
    sent = encode(f.Flow(3, 9, match, actions, ORIGIN), OWNER)
    switch.apply(changes([sent]))
    assert said in shared_ovs.ofctl("dump-flows", bridge)
    (installed,) = switch.flows()
    assert same(installed, sent)


@pytest.mark.parametrize(
    ("match", "said"),
    [
        ((*IPV4, ("nw_ttl", 1, None)), "ip,nw_ttl=1"),
        ((*IPV4, ("ip_frag", 1, 1)), "ip,nw_frag=yes"),
        ((*IPV4, ("ip_frag", 2, 2)), "ip,nw_frag=later"),
        ((("vlan_vid", 0, None),), "vlan_tci=0x0000"),
        ((("vlan_vid", 0x1000, 0x1000),), "vlan_tci=0x1000/0x1000"),
        ((("ct_state", 0x21, 0x29),), "ct_state=+new-rpl+trk"),
        ((*ND_ANSWER, ("nd_target", 1, None), ("nd_tll", 2, None)), "nd_target=::1,nd_tll=00:00:00:00:00:02"),
        ((("tun_ipv4_src", 0x0A000001, None),), "tun_src=10.0.0.1"),
        ((("conj_id", 7, None),), "conj_id=7"),
    ],
)
def test_the_switch_understands_rare_matches(
    switch: Switch, shared_ovs: PrivateOvs, bridge: str, match: f.Match, said: str
) -> None:
    sent = encode(f.Flow(3, 9, match, (), ORIGIN), OWNER)
    switch.apply(changes([sent]))
    assert said in shared_ovs.ofctl("dump-flows", bridge)
    assert same(switch.flows()[0], sent)


def test_a_learning_flow(switch: Switch, shared_ovs: PrivateOvs, bridge: str) -> None:
    switch.apply(changes([encode(f.Flow(3, 9, IPV4, (AFFINITY,), ORIGIN), OWNER)]))
    said = shared_ovs.ofctl("dump-flows", bridge)
    assert (
        "learn(table=16,idle_timeout=60,hard_timeout=10800,priority=100,delete_learned,cookie=0x1234567890abcdef"
        in said
    )
    assert "eth_type=0x800,NXM_OF_IP_SRC[],NXM_NX_REG3[8..19]=NXM_NX_REG4[4..15]" in said
    assert "load:0x4d->NXM_NX_REG5[0..15],load:0x10000000000000000000000000->NXM_NX_XXREG0[]" in said
    assert said.rstrip().endswith("load:NXM_NX_REG7[]->NXM_NX_REG6[])")


def test_tunnel_options_match_and_set(switch: Switch, shared_ovs: PrivateOvs, bridge: str) -> None:
    shared_ovs.ofctl("add-tlv-map", bridge, "{class=0x0102,type=0x80,len=4}->tun_metadata0")
    flow = f.Flow(3, 9, (("tun_metadata0", 5, 0xFF),), (f.CopyField("reg7", "tun_metadata0", 32),), ORIGIN)
    sent = encode(flow, OWNER)
    switch.apply(changes([sent]))
    assert same(switch.flows()[0], sent)


def test_meter_actions_name_meters(switch: Switch, shared_ovs: PrivateOvs, bridge: str) -> None:
    shared_ovs.ofctl("add-meter", bridge, "meter=5,kbps,band=type=drop,rate=1000")
    sent = encode(f.Flow(3, 9, (), (f.Meter(5), f.Output(2)), ORIGIN), OWNER)
    switch.apply(changes([sent]))
    assert "meter:5,output:2" in shared_ovs.ofctl("dump-flows", bridge)
    assert same(switch.flows()[0], sent)


MEMBERS = tuple(f.Bucket(number, (f.SetField("reg1", number), f.Resubmit(9)), 10 * number) for number in (1, 2, 3))
BALANCED = f.GroupEntry(5, "select", MEMBERS)
STICKY = f.GroupEntry(6, "select", MEMBERS[:2], "hash", ("ipv4_src",))
FLOOD = f.GroupEntry(7, "all", (f.Bucket(1, (f.Output(1),)), f.Bucket(2, (f.Output(2),))))


def test_groups_and_the_flow_that_uses_one_go_in_together(switch: Switch, shared_ovs: PrivateOvs, bridge: str) -> None:
    flow = encode(f.Flow(0, 1, (), (f.Group(5),), ORIGIN), OWNER)
    switch.apply(changes([flow], groups=[SetGroup(BALANCED), SetGroup(STICKY), SetGroup(FLOOD)]))
    said = shared_ovs.ofctl("dump-groups", bridge)
    assert "group_id=5,type=select,selection_method=dp_hash" in said
    assert "bucket=bucket_id:2,weight:20,actions=set_field:0x2->reg1,resubmit(,9)" in said
    assert "group_id=6,type=select,selection_method=hash,fields=ip_src" in said
    assert "group_id=7,type=all,bucket=bucket_id:1,actions=output:1" in said
    assert same(switch.flows()[0], flow)
    assert {group.id for group in switch.groups()} == {5, 6, 7}


def test_buckets_come_and_go_without_touching_the_others(switch: Switch, shared_ovs: PrivateOvs, bridge: str) -> None:
    switch.apply(changes(groups=[SetGroup(BALANCED)]))
    new = f.Bucket(9, (f.SetField("reg1", 9),), 40)
    switch.apply(changes(groups=[InsertBuckets(5, "select", (new,)), RemoveBucket(5, "select", 2)]))
    said = shared_ovs.ofctl("dump-groups", bridge)
    assert [number in said for number in ("bucket_id:1,", "bucket_id:2,", "bucket_id:3,", "bucket_id:9,")] == [
        True,
        False,
        True,
        True,
    ]
    switch.apply(changes(groups=[SetGroup(BALANCED)]))
    assert "bucket_id:2," in shared_ovs.ofctl("dump-groups", bridge)
    switch.apply(changes(groups=[DeleteGroup(5)]))
    assert switch.groups() == []


@pytest.mark.parametrize(
    "change", [SetGroup(BALANCED), SetGroup(STICKY), DeleteGroup(5), InsertBuckets(5, "select", MEMBERS)], ids=repr
)
def test_os_ken_reads_group_changes(change: GroupChange) -> None:
    parsed = parse(pack_group_change(change, 7))
    number = change.group.id if isinstance(change, SetGroup) else change.id
    assert parsed.group_id == number
    expected = change.group.buckets if isinstance(change, SetGroup) else getattr(change, "buckets", ())
    assert [(one.bucket_id, len(one.actions)) for one in parsed.buckets] == [(b.id, len(b.actions)) for b in expected]


def test_tables_tell_how_many_flows_they_hold(switch: Switch) -> None:
    switch.apply(changes([encode(f.Flow(4, p, (), (), ORIGIN), OWNER) for p in range(3)]))
    assert [(use.table, use.flows) for use in switch.tables()] == [(4, 3)]
