"""How many typical flows one core packs into OpenFlow 1.5 messages per second."""

from __future__ import annotations

import gc

from benchmarks.figures import Figure, timed
from sdn.model import Origin
from sdn.openflow.pack import encode, flow_mod
from sdn.pipeline.flow import Ct, Flow, Goto, SetField

COUNT = 50_000
ORIGIN = Origin("NetworkPolicy", "shop", "allow-web", "3f1c", "rule 0")


def typical(number: int) -> Flow:
    """Ten match terms, a register load and a conntrack commit: what a firewall rule of one member looks like."""
    match = (
        ("reg0", 1, 0x3), ("reg1", number & 0xFFFF, None), ("metadata", number, 0xFFFFFFFF), ("ct_state", 0x21, 0x21),
        ("ct_mark", 2, None), ("eth_type", 0x0800, None), ("ip_proto", 6, None), ("ipv4_src", 0x0A040000 + number, None),
        ("ipv4_dst", 0x0A050000 + number, None), ("tcp_dst", 1 + number % 65000, None),
    )  # fmt: skip
    actions = (SetField("reg3", number), Ct(commit=True, zone=5), Goto(11))
    return Flow(10, 100 + number % 1000, match, actions, ORIGIN)


def run() -> list[Figure]:
    """Flows per second, encoding and framing included."""
    flows = [typical(number) for number in range(COUNT)]
    gc.collect()
    seconds = timed(lambda: [flow_mod(encode(flow, 7)) for flow in flows])
    return [Figure("typical flows encoded on one core", COUNT / seconds, "flows/s", "at least 100,000")]
