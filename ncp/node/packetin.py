"""Packets a flow sent to the controller: answered through ``sdn.icmp``, sent back where they came from."""

from __future__ import annotations

from sdn import icmp
from sdn.compile.terms import TOO_BIG
from sdn.model import Intent
from sdn.openflow.session import Switch
from sdn.openflow.values import PacketIn
from sdn.pipeline.flow import Output

TABLE = 0xFFFFFFF9
"""OFPP_TABLE: through the pipeline from its start."""


def answer(switch: Switch, packet: PacketIn, intent: Intent, mtu: int) -> None:
    """Send what is due for one packet."""
    in_port = packet.metadata["in_port"]
    if packet.userdata[:1] == TOO_BIG and icmp.is_fragmentable(packet.data):
        for fragment in icmp.fragments(packet.data, mtu):
            switch.packet_out(fragment, (Output(TABLE),), in_port=in_port)
        return
    for frame in icmp.answers(intent, packet.userdata, packet.table, dict(packet.metadata), packet.data, mtu):
        switch.packet_out(frame, (Output(in_port),))
