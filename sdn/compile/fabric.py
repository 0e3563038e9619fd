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
    answer_arp,
    answer_solicitation,
    flow,
    goto,
    link_local,
    to_address,
)
from sdn.model import Intent, Origin, TransportNode, pod_mtu
from sdn.pipeline.flow import (
    IN_PORT,
    CheckPacketLarger,
    Controller,
    CopyField,
    Flow,
    Output,
    OutputField,
    SetField,
    Term,
)
from sdn.pipeline.tables import (
    FROM_NODE,
    FROM_TUNNEL,
    GATEWAY_MAC,
    GENEVE_PORT,
    NODE_PORT,
    OUTPUT,
    PIPELINE,
    SEGMENT,
    SOURCE,
)
from sdn.pipeline.tables import TOO_BIG as TOO_BIG_BIT

ETHERNET_HEADER = 14


def fabric(name: str, detail: str = "") -> Origin:
    """The origin of something no Kubernetes object asked for."""
    return Origin("Fabric", "", name, "", detail)


def drop(reason: str) -> Origin:
    """The origin of a flow that drops for a declared reason; its counter is that reason's counter."""
    return fabric("drop", reason)


def check_larger(intent: Intent, node: TransportNode) -> CheckPacketLarger:
    """The action that notes whether a frame fits the tunnel."""
    largest = pod_mtu(intent.mtu, node.tep.family) + ETHERNET_HEADER
    return CheckPacketLarger(largest, TOO_BIG_BIT.register, TOO_BIG_BIT.low)


def compile_fabric(intent: Intent, node: TransportNode) -> tuple[Flow, ...]:
    """Every flow that depends on nothing but the fabric's settings."""
    return (
        *_misses(),
        *_entries(intent, node),
        *_guards(),
        *_too_big(),
        *_neighbour_discovery(),
        *_routers(),
        *_tier0(intent),
        *_delivery(),
    )


def _misses() -> list[Flow]:
    found = []
    for table in PIPELINE.tables:
        if table.miss.reason:
            found.append(flow(table.name, 0, (), (), drop(table.miss.reason)))
        else:
            found.append(flow(table.name, 0, (), (goto(table.miss.table),), fabric("stage", table.miss.table)))
    return found


def _entries(intent: Intent, node: TransportNode) -> list[Flow]:
    transit = SEGMENT.set(intent.tier0.transit_vni)
    return [
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
        flow(
            "classify",
            200,
            (("in_port", NODE_PORT, None),),
            (SOURCE.set(FROM_NODE), transit, check_larger(intent, node), goto("mtu")),
            fabric("node port", "received"),
        ),
    ]


def _guards() -> list[Flow]:
    solicit, advertise = ("icmpv6_type", 135, None), ("icmpv6_type", 136, None)
    unspecified = ("ipv6_src", 0, None)
    return [
        flow("spoof_guard", 10, (ETH_ARP,), (), drop("spoof-arp")),
        flow("spoof_guard", 10, (ETH_IPV4,), (), drop("spoof-ip")),
        flow("spoof_guard", 10, (ETH_IPV6,), (), drop("spoof-ip")),
        flow("spoof_guard", 100, (*ICMPV6, solicit, unspecified), (), drop("nd-consumed")),
        flow("nd_guard", 50, (*ICMPV6, solicit, ("nd_sll", 0, None)), (goto("mtu"),), fabric("stage", "mtu")),
        flow("nd_guard", 10, (*ICMPV6, solicit), (), drop("spoof-nd")),
        flow("nd_guard", 10, (*ICMPV6, advertise), (), drop("spoof-nd")),
        flow("nd_guard", 10, (*ICMPV6, ("icmpv6_type", 134, None)), (), drop("ra-guard")),
        flow("nd_guard", 10, (*ICMPV6, ("icmpv6_type", 137, None)), (), drop("ra-guard")),
    ]


def _too_big() -> list[Flow]:
    too_big = TOO_BIG_BIT.match(1)
    return [
        flow("mtu", 100, (too_big, eth), (Controller(TOO_BIG),), fabric("answer", "packet too big"))
        for eth in (ETH_IPV4, ETH_IPV6)
    ]


def _neighbour_discovery() -> list[Flow]:
    table = "neighbour_discovery"
    routed = ("eth_dst", GATEWAY_MAC, None)
    gateway = link_local(GATEWAY_MAC)
    return [
        flow(table, 50, (ETH_ARP,), (), drop("arp-unanswered")),
        flow(table, 50, (*ICMPV6, ("icmpv6_type", 135, None)), (), drop("nd-unanswered")),
        flow(table, 50, (*ICMPV6, ("icmpv6_type", 133, None)), (), drop("nd-unanswered")),
        flow(table, 40, (ETH_IPV4, routed), (goto("gateway"),), fabric("stage", "gateway")),
        flow(table, 40, (ETH_IPV6, routed), (goto("gateway"),), fabric("stage", "gateway")),
        flow(
            table,
            100,
            (*ICMPV6, ("icmpv6_type", 135, None), ("nd_target", gateway.value, None)),
            answer_solicitation(GATEWAY_MAC, gateway, router=True),
            fabric("answer", "neighbour solicitation for a gateway's link-local address"),
        ),
        flow(
            "nd_reply",
            100,
            (*ICMPV6, ("icmpv6_type", 136, None)),
            (CopyField("eth_src", "nd_tll", 48), Output(IN_PORT)),
            fabric("answer", "neighbour solicitation"),
        ),
    ]


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
        (ETH_IPV6, ("ipv6_dst", 0xFF << 120, 0xFF << 120)),
        (ETH_IPV4, ("ipv4_dst", 0xA9FE0000, 0xFFFF0000)),
        (ETH_IPV4, ("ipv4_dst", 0xE0000000, 0xF0000000)),
    ):
        found.append(flow("gateway", 50, match, (), drop("link-local")))
    for eth in (ETH_IPV4, ETH_IPV6):
        found.append(
            flow("gateway", 40, (SOURCE.match(FROM_NODE), eth), (goto("tier0"),), fabric("stage", "tier0"))
        )
        found.append(flow("tier1_out", 10, (eth,), (DEC_TTL, goto("tier0")), fabric("route", "default to tier-0")))
    return [*found, *answer_echo(link_local(GATEWAY_MAC), fabric("answer", "echo to a gateway's link-local address"))]


def _tier0(intent: Intent) -> list[Flow]:
    found = []
    segment = SEGMENT.match(intent.tier0.transit_vni)
    for interface in intent.tier0.gateways:
        address = interface.address
        found.extend(answer_for(segment, GATEWAY_MAC, address, fabric("tier-0", "gateway"), router=True))
        found.extend(answer_echo(address, fabric("tier-0", "echo")))
    exit_node = intent.nodes.get(intent.tier0.exit_node)
    if exit_node:
        out = (
            DEC_TTL,
            SEGMENT.set(intent.tier0.transit_vni),
            SetField("eth_src", GATEWAY_MAC),
            SetField("eth_dst", exit_node.mac),
            goto("l2_forward"),
        )
        for eth in (ETH_IPV4, ETH_IPV6):
            found.append(flow("tier0", 10, (eth,), out, fabric("route", "default by the exit node")))
    return found


def _delivery() -> list[Flow]:
    group_bit = ("eth_dst", 1 << 40, 1 << 40)
    deliver = (OutputField(OUTPUT.register, OUTPUT.low, OUTPUT.bits),)
    return [
        flow("l2_forward", 50, (group_bit,), (), drop("multicast")),
        flow("deliver", 1, (), deliver, fabric("stage", "output")),
        flow("deliver", 10, (OUTPUT.match(0),), (), drop("no-output")),
    ]


def answer_for(segment: Term, mac: int, address: Address, origin: Origin, *, router: bool) -> list[Flow]:
    """Answer ARP or neighbour solicitations on a segment for one address."""
    if address.family == 4:
        match = (segment, ETH_ARP, ("arp_op", 1, None), ("arp_tpa", address.value, None))
        return [flow("neighbour_discovery", 100, match, (*answer_arp(mac, address), Output(IN_PORT)), origin)]
    match = (segment, *ICMPV6, ("icmpv6_type", 135, None), ("nd_target", address.value, None))
    return [flow("neighbour_discovery", 100, match, answer_solicitation(mac, address, router=router), origin)]


def answer_echo(address: Address, origin: Origin) -> list[Flow]:
    """Answer echo requests sent to a logical router's own address; what else is sent there is dropped, counted."""
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
    match = (*icmp, (f"{name}_dst", address.value, None), (f"{kind}_type", request, None))
    return [
        flow("gateway", 100, match, answer, origin),
        flow("gateway", 90, to_address(address), (), drop("to-router")),
    ]

