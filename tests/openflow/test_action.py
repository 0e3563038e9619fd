"""Actions: our bytes are os-ken's bytes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdn.openflow.action import pack_actions, pack_instructions
from sdn.openflow.message import pack_meter, pack_packet_out
from sdn.openflow.pack import pack_flow
from sdn.pipeline import flow as f
from tests.openflow.oracle import DATAPATH, actions_packed, of, os_ken_action, parse
from tests.openflow.strategies import ORIGIN, action_lists

AFFINITY = f.Learn(
    table=16,
    priority=100,
    cookie=0x1234567890ABCDEF,
    fields=(
        f.LearnField("eth_type", 16, value=0x0800),
        f.LearnField("ipv4_src", 32, source="ipv4_src"),
        f.LearnField("reg3", 12, source="reg4", source_offset=4, target_offset=8),
        f.LearnField("reg5", 16, value=77, load=True),
        f.LearnField("xxreg0", 128, value=1 << 100, load=True),
        f.LearnField("reg6", 32, source="reg7", load=True),
    ),
    idle_timeout=60,
    hard_timeout=10800,
)


@settings(max_examples=200)
@given(st.sampled_from([0x0800, 0x86DD]).flatmap(action_lists))
def test_os_ken_writes_the_same_bytes(actions: tuple[f.Action, ...]) -> None:
    known = tuple(one for one in actions if not isinstance(one, f.CheckPacketLarger | f.Goto))
    assert pack_actions(known) == actions_packed(known)


@pytest.mark.parametrize(
    "action", [f.Group(5), f.Meter(7), f.Conjunction(9, 1, 3), AFFINITY], ids=lambda one: type(one).__name__
)
def test_os_ken_writes_the_same_bytes_for_rare_actions(action: f.Action) -> None:
    assert pack_actions((action,)) == actions_packed((action,))


def test_a_goto_becomes_an_instruction_behind_the_actions() -> None:
    parsed = parse(pack_flow(f.Flow(1, 2, (), (f.Output(5), f.Goto(9)), ORIGIN), 3))
    apply, goto = parsed.instructions
    assert (apply.type, apply.actions[0].port, goto.type, goto.table_id) == (4, 5, 1, 9)


def test_no_actions_are_no_instructions() -> None:
    assert pack_instructions(()) == b""


def test_equal_tuples_of_different_kinds_are_not_confused() -> None:
    packed = {pack_actions((one,)) for one in (f.Output(5), f.Resubmit(5), f.Group(5), f.Meter(5))}
    assert len(packed) == 4


@pytest.mark.parametrize(
    ("action", "complaint"),
    [
        (f.SetField("reg0", 1 << 32), "must fit into 32 bits"),
        (f.SetField("reg99", 1), "no OpenFlow field is called 'reg99'"),
        (f.CopyField("reg0", "reg1", 20, source_offset=16), "reg0 has bits 0 to 31: not 20 bits from 16"),
        (f.Ct(commit=True, nat=f.Nat(True)), "names neither an address nor a port"),
        (f.Conjunction(1, 3, 3), "2 to 64 clauses"),
        (f.Learn(1, 2, 3, (f.LearnField("reg0", 40, value=1),)), "reg0 has 32 bits"),
    ],
)
def test_what_cannot_be_written_is_refused_by_name(action: f.Action, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        pack_actions((action,))


def test_a_goto_among_the_actions_is_refused() -> None:
    with pytest.raises(ValueError, match="may only be the last action"):
        pack_instructions((f.Goto(5), f.Output(1)))


@pytest.mark.parametrize("command", [0, 1, 2])
@pytest.mark.parametrize("meter", [f.MeterEntry(5, 1000), f.MeterEntry(0xFFFFFFFE, 100, 50, packets=True)], ids=str)
def test_os_ken_writes_the_same_meters(meter: f.MeterEntry, command: int) -> None:
    flags = (2 if meter.packets else 1) | (4 if meter.burst else 0)
    bands = [] if command == 2 else [of.OFPMeterBandDrop(meter.rate, meter.burst)]
    message = of.OFPMeterMod(DATAPATH, command, flags, meter.id, bands)
    message.set_xid(9)
    message.serialize()
    assert pack_meter(meter, command, 9) == bytes(message.buf)


def test_os_ken_writes_the_same_packets_out() -> None:
    actions = (f.SetField("reg2", 4), f.Group(9), f.Output(7))
    known = [os_ken_action(one) for one in actions]
    message = of.OFPPacketOut(DATAPATH, 0xFFFFFFFF, of.OFPMatch(in_port=5), known, b"frame")
    message.set_xid(9)
    message.serialize()
    assert pack_packet_out(b"frame", actions, 5, 9) == bytes(message.buf)
