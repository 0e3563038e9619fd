"""A node's own port: what it sends to virtual servers, what is answered to it, and who sees it as whom. Pure.

What enters here keeps the node's MAC address as its sender all the way. At the receiver's port it goes into the label of the
connection; what is answered takes it from there as its next hop, and so comes back to the node that can translate it.
"""

from __future__ import annotations

from typing import Final

from ipam.address import Address
from sdn.compile.fabric import fabric
from sdn.compile.firewall import (
    COMMIT,
    ESTABLISHED,
    FIRST_FRAGMENT,
    INVALID,
    ITSELF,
    NEW,
    RULE_BITS,
    SCTP,
    associate,
    let_fragments_pass,
)
from sdn.compile.terms import ETH_IP, flow, from_address, goto, to_address
from sdn.model import Intent, TransportNode
from sdn.pipeline import flow as f
from sdn.pipeline.registers import (
    FROM_NODE,
    HAIRPIN_ZONE,
    HOST_PORT,
    KNOWN,
    NEXT_HOP_MAC,
    NODE_MAC,
    NODE_MAC_MASK,
    NODE_PORT,
    OUTPUT,
    RULE,
    SOURCE,
)
from sdn.pipeline.tables import T

_ENTRY: Final = f.CopyField("eth_src", "ct_label", 48, 0, RULE_BITS)
_ENTERED: Final = COMMIT._replace(actions=(*COMMIT.actions, _ENTRY))
_BACK_NOTED: Final = f.LearnField(
    NEXT_HOP_MAC.register, 48, source="eth_src", target_offset=NEXT_HOP_MAC.low, load=True
)
_BY_NODE: Final[f.Term] = ("eth_src", NODE_MAC, NODE_MAC_MASK)
_TO_NODE: Final = OUTPUT.match(NODE_PORT)
_BEGAN: Final[f.Term] = ("ct_state", 0, 0x08)
"""In the direction in which a connection began."""
_FROM_HERE: Final = SOURCE.match(FROM_NODE)
HOST_PORTS_FROM: Final = (1024, 32767)
"""First and last port that a pod sees clients of its host ports come from. What Linux gives the node's own connections is above
(``net.ipv4.ip_local_port_range``), so that the two do not look alike to the pod."""


def compile_node_port(intent: Intent, node: TransportNode) -> list[f.Flow]:
    """What is there whatever services, and other nodes, there are."""
    found: list[f.Flow] = []
    for family, eth in ETH_IP.items():
        found += [*_entered(eth), *_sent(eth), *_received(family, eth), _answered(family)]
        own = next((each for each in node.addresses if each.family == family), None)
        if intent.nat.host_ports and own is not None:
            found += _as_node(own)
    return found


def _as_node(own: Address) -> list[f.Flow]:
    """Who came to a host port by this node is the node to the pod.

    It is translated where its connection is entered, at the pod's port and after the rules, which see the client. So what the pod
    answers is given back in the same zone before anything else, and takes the way of every answer.
    """
    first, last = HOST_PORTS_FROM
    nat = f.Nat(source=True, version=own.family, address=own.value, port=first, port_to=last)
    entered = _ENTERED._replace(table=T["deliver"], nat=nat)
    counted = (f.CopyField("ct_label", RULE.register, RULE_BITS), goto("ingress_count"))
    began = fabric("node port", "the node, to the pod behind a host port")
    return [
        flow("ingress_commit", 108, (NEW, _FROM_HERE, HOST_PORT.match(1), ETH_IP[own.family]), (entered,), began),
        # Else it would pass as the node itself does, and no rule would count it.
        flow("ingress_state", 98, (ESTABLISHED, _FROM_HERE, *from_address(own)), counted, began.about("established")),
    ]


def _entered(eth: f.Term) -> list[f.Flow]:
    """At the receiver's port: by which node a connection came."""
    origin, then = fabric("firewall", "connection committed, with the node it came by"), goto("deliver")
    sctp = (eth, ("ip_proto", SCTP, None), KNOWN.match(0), _BY_NODE)
    new = (NEW, _BY_NODE, eth)
    return [
        flow("ingress_commit", 112, sctp, (*associate(eth, (_BACK_NOTED,)), then), origin),
        flow("ingress_commit", 106, (*new, FIRST_FRAGMENT), (_ENTERED, let_fragments_pass(eth), then), origin),
        flow("ingress_commit", 101, new, (_ENTERED, then), origin),
    ]


def _sent(eth: f.Term) -> list[f.Flow]:
    """What a node sends is tracked for the sake of virtual servers alone: nothing is asked, nothing else entered, nothing dropped."""
    origin = fabric("node port", "sent")
    return [
        flow("egress_state", 101, (_FROM_HERE, INVALID, eth), (goto("services"),), origin),
        flow("egress_commit", 106, (_FROM_HERE, NEW, eth), (goto("mtu"),), origin),
        flow("egress_commit", 111, (_FROM_HERE, eth, ("ip_proto", SCTP, None)), (goto("mtu"),), origin),
    ]


def _received(family: int, eth: f.Term) -> list[f.Flow]:
    """What virtual servers answer is given back. A node that was sent to one on its own network, by itself or by another node, sees
    another client: its answer would go past us."""
    as_other = f.Ct(
        zone=HAIRPIN_ZONE,
        table=T["deliver"],
        commit=True,
        nat=f.Nat(source=True, version=family, address=_stand_in(family).value),
        actions=(_ENTRY,),
    )
    track = f.Ct(zone=NODE_PORT, table=T["ingress_state"], translate=True)
    origin = fabric("node port", "received")
    sctp = (_TO_NODE, eth, ("ip_proto", SCTP, None))
    return [
        flow("ingress_track", 145, sctp, (f.Resubmit(T["translations"]), goto("deliver")), origin),
        flow("ingress_track", 140, (_TO_NODE, _FROM_HERE, INVALID, eth), (goto("deliver"),), origin),
        # Its own connection to itself is that of its port's zone still, in whose eyes it is established.
        flow("ingress_track", 135, (_TO_NODE, _FROM_HERE, _BEGAN, eth), (as_other,), origin),
        flow("ingress_track", 130, (_TO_NODE, eth), (track,), origin),
        flow("ingress_state", 130, (_TO_NODE, NEW, _BY_NODE, eth), (as_other,), origin),
        flow("ingress_state", 120, (_TO_NODE, eth), (goto("deliver"),), origin),
    ]


def _answered(family: int) -> f.Flow:
    """What such a node answers to the client that it saw."""
    translate = f.Ct(zone=HAIRPIN_ZONE, table=T["egress_state"], translate=True)
    match = (_FROM_HERE, *to_address(_stand_in(family)))
    return flow("egress_track", 125, match, (translate,), fabric("node port", "answered"))


def _stand_in(family: int) -> Address:
    return next(each for each in ITSELF if each.family == family)
