"""Sanity of speed: an order of magnitude below what a free machine does, so that only a real fault fails."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator

import pytest

from sdn.openflow.pack import Encoded, encode
from sdn.openflow.session import Switch
from sdn.pipeline import flow as f
from tests.openflow.conftest import OWNER
from tests.openflow.strategies import ORIGIN
from tests.openflow.test_on_switch import changes

COUNT = 20_000


def typical(number: int) -> f.Flow:
    match = (
        ("reg0", number & 0xFFF, 0xFFF),
        ("reg1", 7, None),
        ("metadata", 5001, 0xFFFFFFFF),
        ("ct_state", 0x21, 0x21),
        ("ct_mark", 0, 1),
        ("eth_type", 0x0800, None),
        ("ip_proto", 6, None),
        ("ipv4_src", 0x0A000000 + number, None),
        ("ipv4_dst", 0x0A400000, 0xFFFF0000),
        ("tcp_dst", 80, None),
    )
    marks = (f.SetField("ct_mark", 1, 1), f.SetField("ct_label", number, 0xFFFFFFFF))
    commit = f.Ct(zone=f.FieldBits("reg5", 0, 16), table=50, commit=True, actions=marks)
    return f.Flow(number % 40, 100, match, (f.SetField("reg5", number & 0xFFFF), commit), ORIGIN)


@pytest.fixture
def encoded() -> Iterator[list[Encoded]]:
    gc.disable()
    try:
        flows = [typical(number) for number in range(COUNT)]
        since = time.process_time()
        done = [encode(flow, OWNER) for flow in flows]
        assert COUNT / (time.process_time() - since) > 20_000, "flows encoded per second of one core"
        yield done
    finally:
        gc.enable()


@pytest.mark.switch
def test_twenty_thousand_flows_go_in_and_come_back_quickly(switch: Switch, encoded: list[Encoded]) -> None:
    since = time.monotonic()
    switch.apply(changes(encoded))
    installed = time.monotonic()
    read = switch.flows()
    done = time.monotonic()
    assert len(read) == COUNT
    assert {flow.cookie for flow in read} == {flow.cookie for flow in encoded}
    assert installed - since < 5, "seconds to install"
    assert done - installed < 3, "seconds to read back"
