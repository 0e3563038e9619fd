"""Flows that are there whatever the cluster holds: stage order, misses, guards and generic answers."""

from __future__ import annotations

from ipam.address import Address
from sdn.compile.terms import (
    DEC_TTL,
    ETH_ARP,
    ETH_IP,
    ETH_IPV4,
    ETH_IPV6,
    ICMPV4,
    ICMPV6,
    TOO_BIG,
    TTL_EXCEEDED,
    flow,
    from_address,
    goto,
    link_local,
    next_hop,
    to_address,
)
from sdn.model import Intent, Origin, TransportNode, pod_mtu
from sdn.pipeline.flow import (
    IN_PORT,
    Action,
    CheckPacketLarger,
    Controller,
    CopyField,
    Flow,
    Output,
    OutputField,
    Resubmit,
    SetField,
    Term,
)
from sdn.pipeline.registers import (
    DOMAIN,
    FROM_NODE,
    FROM_TUNNEL,
    GATEWAY_MAC,
    GENEVE_PORT,
    HAIRPIN,
    NEXT_HOP_MAC,
    NEXT_HOP_V4,
    NEXT_HOP_V6,
    NODE_MAC,
    NODE_MAC_MASK,
    NODE_PORT,
    OUTPUT,
    OUTSIDE,
    OWNER,
    PEER,
    SEGMENT,
    SOURCE,
    ZONE,
)
from sdn.pipeline.registers import TOO_BIG as TOO_BIG_BIT
from sdn.pipeline.spec import RegField
from sdn.pipeline.tables import PIPELINE, T

ETHERNET_HEADER = 14
CLUSTERS_OWN: Term = DOMAIN.match(0)
"""Packets of the routing domain that has nodes, virtual servers and a way out."""
MULTICAST_V4: Term = ("ipv4_dst", 0xE0000000, 0xF0000000)
MULTICAST_V6: Term = ("ipv6_dst", 0xFF << 120, 0xFF << 120)


def fabric(name: str, detail: str = "") -> Origin:
    """The origin of something no Kubernetes object asked for."""
    return Origin("Fabric", "", name, "", detail)


def drop(reason: str) -> Origin:
    """The origin of a flow that drops for a declared reason; its counter is that reason's counter."""
    return fabric("drop", reason)


def compile_fabric(intent: Intent, node: TransportNode) -> tuple[Flow, ...]:
    """Every flow that depends on nothing but the fabric's settings."""
    return (
        *_misses(),
        *_entries(intent, node),
        *_guards(),
        *_mtu(pod_mtu(intent.mtu, node.tep.family)),
        *_requests(),
        *_routers(),
        *_tier0(intent),
        *_next_hop(intent.tier0.transit_vni),
        *_resolved(node),
        *_delivery(),
    )


def _misses() -> list[Flow]:
    found = []
    for table in PIPELINE.tables:
        if table.miss.reason:
            found.append(flow(table.name, 0, (), (), drop(table.miss.reason)))
        elif table.miss.table:
            found.append(flow(table.name, 0, (), (goto(table.miss.table),), fabric("stage", table.miss.table)))
    return found


def _entries(intent: Intent, node: TransportNode) -> list[Flow]:
    came = (SOURCE.set(FROM_NODE), SEGMENT.set(intent.tier0.transit_vni), ZONE.set(NODE_PORT))
    tracked, here = goto("egress_track"), ("in_port", NODE_PORT, None)
    origin = fabric("node port", "received")
    return [
        *(flow("classify", 210, (here, eth), (*came, OUTSIDE.set(1), tracked), origin) for eth in ETH_IP.values()),
        *(flow("classify", 220, (here, *from_address(each)), (*came, tracked), origin) for each in node.addresses),
        flow("classify", 200, (here,), (*came, goto("mtu")), origin),
        flow(
            "classify",
            200,
            (("in_port", GENEVE_PORT, None),),
            (
                SOURCE.set(FROM_TUNNEL),
                CopyField("tunnel_id", SEGMENT.register, SEGMENT.bits, 0, SEGMENT.low),
                goto("l2_forward"),
            ),
            fabric("tunnel", "received"),
        ),
    ]


def _guards() -> list[Flow]:
    solicit, advertise = ("icmpv6_type", 135, None), ("icmpv6_type", 136, None)
    unspecified = ("ipv6_src", 0, None)
    return [
        flow("spoof_guard", 10, (ETH_ARP,), (), drop("spoof-arp")),
        flow("spoof_guard", 10, (ETH_IPV4,), (), drop("spoof-ip")),
        flow("spoof_guard", 10, (ETH_IPV6,), (), drop("spoof-ip")),
        flow("spoof_guard", 100, (*ICMPV6, solicit, unspecified), (), drop("dad-probe")),
        flow("nd_guard", 50, (*ICMPV6, solicit, ("nd_sll", 0, None)), (goto("mtu"),), fabric("stage", "mtu")),
        flow("nd_guard", 10, (*ICMPV6, solicit), (), drop("spoof-nd")),
        flow("nd_guard", 10, (*ICMPV6, ("icmpv6_type", 133, None)), (goto("mtu"),), fabric("stage", "mtu")),
        flow("nd_guard", 5, (ETH_IPV6, MULTICAST_V6), (goto("mtu"),), fabric("stage", "mtu")),
        flow("nd_guard", 10, (*ICMPV6, advertise), (), drop("spoof-nd")),
        flow("nd_guard", 10, (*ICMPV6, ("icmpv6_type", 134, None)), (), drop("ra-guard")),
        flow("nd_guard", 10, (*ICMPV6, ("icmpv6_type", 137, None)), (), drop("ra-guard")),
    ]


def _mtu(largest: int) -> list[Flow]:
    measure = CheckPacketLarger(largest + ETHERNET_HEADER, TOO_BIG_BIT.register, TOO_BIG_BIT.low)
    found = []
    for eth in (ETH_IPV4, ETH_IPV6):
        found.append(flow("mtu", 100, (eth,), (measure, goto("too_big")), fabric("stage", "too_big")))
        answer = (TOO_BIG_BIT.match(1), eth)
        found.append(flow("too_big", 100, answer, (Controller(TOO_BIG),), fabric("answer", "packet too big")))
    return found


def _requests() -> list[Flow]:
    """ARP requests and solicitations look up their answer; packets for the gateway's MAC address are routed."""
    routed = ("eth_dst", GATEWAY_MAC, None)
    asks_arp, asks_nd = (ETH_ARP, ("arp_op", 1, None)), (*ICMPV6, ("icmpv6_type", 135, None))
    from_arp = (CopyField("arp_tpa", NEXT_HOP_V4.register, 32), goto("next_hop"))
    from_nd = (CopyField("nd_target", NEXT_HOP_V6.register, 128), goto("next_hop"))
    return [
        flow("requests", 60, asks_arp, from_arp, fabric("stage", "next_hop")),
        flow("requests", 60, asks_nd, from_nd, fabric("stage", "next_hop")),
        flow("requests", 50, (ETH_ARP,), (), drop("arp-unanswered")),
        flow("requests", 50, (*ICMPV6, ("icmpv6_type", 133, None)), (), drop("nd-unanswered")),
        flow("requests", 40, (ETH_IPV4, routed), (goto("gateway"),), fabric("stage", "gateway")),
        flow("requests", 40, (ETH_IPV6, routed), (goto("gateway"),), fabric("stage", "gateway")),
    ]


def _next_hop(transit_vni: int) -> list[Flow]:
    """Ask who has the next hop, and take the answer from the packet's own segment only."""
    asks_nd = (*ICMPV6, ("icmpv6_type", 135, None))
    ask = (NEXT_HOP_MAC.set(0), OWNER.set(0), Resubmit(T["neighbour"]), goto("on_segment"))
    return [
        flow(
            "next_hop",
            50,
            (next_hop(link_local(GATEWAY_MAC)),),
            (NEXT_HOP_MAC.set(GATEWAY_MAC), goto("resolved")),
            fabric("gateway", "link-local address"),
        ),
        flow("next_hop", 10, (), ask, fabric("stage", "on_segment")),
        on_segment(transit_vni, fabric("tier-0", "next hop")),
        flow("on_segment", 10, (ETH_ARP,), (), drop("arp-unanswered")),
        flow("on_segment", 10, asks_nd, (), drop("nd-unanswered")),
    ]


def on_segment(vni: int, origin: Origin) -> Flow:
    """Next hops of a segment are taken from that segment."""
    return flow("on_segment", 100, (SEGMENT.match(vni), OWNER.match(vni)), (goto("resolved"),), origin)


def _resolved(node: TransportNode) -> list[Flow]:
    """What is done with the MAC address that was found. What comes by a node keeps the node's own as its sender: answers go there."""
    asks_nd = (*ICMPV6, ("icmpv6_type", 135, None))
    to_next_hop = (CopyField(NEXT_HOP_MAC.register, "eth_dst", 48), goto("l2_forward"))
    stage = fabric("stage", "l2_forward")
    answered = fabric("answer", "ARP request or neighbour solicitation")
    return [
        flow("resolved", 20, (ETH_ARP, ("arp_op", 1, None)), _arp_reply(), answered),
        flow("resolved", 30, (*asks_nd, NEXT_HOP_MAC.match(GATEWAY_MAC)), _advertisement(router=True), answered),
        flow("resolved", 20, asks_nd, _advertisement(router=False), answered),
        *(
            flow("resolved", priority, (*match, eth), (SetField("eth_src", sender), *to_next_hop), stage)
            for priority, match, sender in ((10, (), GATEWAY_MAC), (15, (SOURCE.match(FROM_NODE),), node.mac))
            for eth in ETH_IP.values()
        ),
        flow(
            "nd_reply",
            100,
            (*ICMPV6, ("icmpv6_type", 136, None)),
            (CopyField("eth_src", "nd_tll", 48), Output(IN_PORT)),
            answered,
        ),
    ]


def _arp_reply() -> tuple[Action, ...]:
    """Turn an ARP request into its reply (RFC 826)."""
    return (
        CopyField("eth_src", "eth_dst", 48),
        CopyField(NEXT_HOP_MAC.register, "eth_src", 48),
        SetField("arp_op", 2),
        CopyField("arp_sha", "arp_tha", 48),
        CopyField(NEXT_HOP_MAC.register, "arp_sha", 48),
        CopyField("arp_spa", "arp_tpa", 32),
        CopyField(NEXT_HOP_V4.register, "arp_spa", 32),
        Output(IN_PORT),
    )


def _advertisement(*, router: bool) -> tuple[Action, ...]:
    """Turn a neighbour solicitation into its advertisement, finished in table nd_reply (RFC 4861 section 4.4)."""
    flags = 0xE0000000 if router else 0x60000000  # R, S, O
    return (
        CopyField("eth_src", "eth_dst", 48),
        CopyField(NEXT_HOP_MAC.register, "eth_src", 48),
        CopyField("ipv6_src", "ipv6_dst", 128),
        CopyField(NEXT_HOP_V6.register, "ipv6_src", 128),
        SetField("nd_options_type", 2),  # the source link-layer option becomes the target's
        SetField("nd_reserved", flags),
        SetField("icmpv6_type", 136),
        goto("nd_reply"),
    )


def _routers() -> list[Flow]:
    exceeded = fabric("answer", "TTL exceeded")
    found = [
        flow(table, 2000, (ETH_IP[family], ("nw_ttl", ttl, None)), (Controller(TTL_EXCEEDED),), exceeded)
        for table in ("tier1_out", "tier0", "tier1_in")
        for family in (4, 6)
        for ttl in (0, 1)
    ]
    for match in (
        (ETH_IPV6, ("ipv6_dst", 0xFE80 << 112, 0xFFC0 << 112)),
        (ETH_IPV6, MULTICAST_V6),
        (ETH_IPV4, ("ipv4_dst", 0xA9FE0000, 0xFFFF0000)),
        (ETH_IPV4, MULTICAST_V4),
    ):
        found.append(flow("gateway", 50, match, (), drop("link-local")))
    for eth in (ETH_IPV4, ETH_IPV6):
        found.append(flow("gateway", 40, (SOURCE.match(FROM_NODE), eth), (goto("tier0"),), fabric("stage", "tier0")))
        found.append(flow("tier1_out", 10, (eth,), (DEC_TTL, goto("tier0")), fabric("route", "default to tier-0")))
    return [*found, *answer_echo(link_local(GATEWAY_MAC), fabric("answer", "echo to a gateway's link-local address"))]


def _tier0(intent: Intent) -> list[Flow]:
    vni = intent.tier0.transit_vni
    # What the kernel sends here is for somebody of ours: by the default route it would come back to a kernel, and so on.
    found = [flow("tier0", 11, (SOURCE.match(FROM_NODE), eth), (), drop("no-route")) for eth in ETH_IP.values()]
    back = (DEC_TTL, SEGMENT.set(vni), goto("resolved"))
    origin = fabric("route", "back by the node it came by")
    found += [flow("tier0", 350, (CLUSTERS_OWN, by_node(NEXT_HOP_MAC), eth), back, origin) for eth in ETH_IP.values()]
    for interface in intent.tier0.gateways:
        address = interface.address
        found.append(neighbour(vni, address, GATEWAY_MAC, fabric("tier-0", "gateway")))
        found.extend(answer_echo(address, fabric("tier-0", "echo"), CLUSTERS_OWN))
    exit_node = intent.nodes.get(intent.tier0.exit_node)
    if exit_node:
        # TTL falls where the packet leaves tier-0: the node's kernel is the other half of this router.
        out = (SEGMENT.set(vni), NEXT_HOP_MAC.set(exit_node.mac), goto("resolved"))
        for eth in (ETH_IPV4, ETH_IPV6):
            found.append(flow("tier0", 10, (CLUSTERS_OWN, eth), out, fabric("route", "default by the exit node")))
    return found


def _delivery() -> list[Flow]:
    group_bit = ("eth_dst", 1 << 40, 1 << 40)
    deliver = (OutputField(OUTPUT.register, OUTPUT.low, OUTPUT.bits),)
    return [
        flow("l2_forward", 50, (group_bit,), (), drop("multicast")),
        flow("deliver", 1, (), deliver, fabric("stage", "output")),
        flow("deliver", 10, (OUTPUT.match(0),), (), drop("no-output")),
        *(
            flow("deliver", 9, (match,), (SetField("in_port_nxm", 0), *deliver), fabric("stage", "to itself"))
            for match in (HAIRPIN.match(1), OUTPUT.match(NODE_PORT))
        ),
    ]


def by_node(register: RegField) -> Term:
    """Packets in whose register stands the MAC address of a node's own port."""
    return register.register, NODE_MAC << register.low, NODE_MAC_MASK << register.low


def neighbour(vni: int, address: Address, mac: int, origin: Origin, identity: int = 0, domain: int = 0) -> Flow:
    """An entry of the neighbour table: who has an address of a routing domain. ``identity`` 0: none the firewall knows."""
    who = (PEER.set(identity),) if identity else ()
    match = (DOMAIN.match(domain), next_hop(address))
    return flow("neighbour", 100, match, (NEXT_HOP_MAC.set(mac), OWNER.set(vni), *who), origin)


def answer_echo(address: Address, origin: Origin, *among: Term) -> list[Flow]:
    """Answer echo requests (``among``: those of a routing domain) sent to a logical router's own address; what else is sent there
    is dropped, counted."""
    kind, request, reply = ("icmpv4", 8, 0) if address.family == 4 else ("icmpv6", 128, 129)
    name = f"ipv{address.family}"
    icmp = ICMPV4 if address.family == 4 else ICMPV6
    bits = 32 if address.family == 4 else 128
    answer = (
        CopyField("eth_src", "eth_dst", 48),
        SetField("eth_src", GATEWAY_MAC),
        CopyField(f"{name}_src", f"{name}_dst", bits),
        SetField(f"{name}_src", address.value),
        SetField(f"{kind}_type", reply),
        SetField("nw_ttl", 64),
        Output(IN_PORT),
    )
    match = (*among, *icmp, (f"{name}_dst", address.value, None), (f"{kind}_type", request, None))
    return [
        flow("gateway", 100, match, answer, origin),
        flow("gateway", 90, (*among, *to_address(address)), (), drop("to-router")),
    ]
