"""Logical ports: where they may send from (on their own node), and how everybody reaches them (on every node)."""

from __future__ import annotations

from ipam.address import Address
from sdn.compile.fabric import neighbour
from sdn.compile.terms import (
    ETH_ARP,
    ICMPV6,
    flow,
    from_address,
    goto,
    link_local,
)
from sdn.model import LogicalPort, LogicalSwitch
from sdn.pipeline.flow import Action, Flow, SetField
from sdn.pipeline.registers import DOMAIN, FROM_POD, GENEVE_PORT, OUTPUT, OWN, ROUTER, SEGMENT, SOURCE, ZONE


def compile_local(port: LogicalPort, switch: LogicalSwitch, ofport: int, identity: int) -> tuple[Flow, ...]:
    """Flows of a port on this node's own switch: reachable through the firewall, and guarded.

    ``identity`` is the number of the pod's :class:`firewall.rules.Identity`. The port's conntrack zone is its number.
    """
    forward = (
        *_in_domain(switch),
        *(OUTPUT.set(ofport), ZONE.set(ofport), OWN.set(identity), goto("ingress_track")),
    )
    return (
        *_reachable(port, switch, forward, identity),
        *_classified(port, switch, ofport, identity),
        *_guarded(port, ofport),
    )


def compile_remote(port: LogicalPort, switch: LogicalSwitch, tep: Address, identity: int) -> tuple[Flow, ...]:
    """Flows of a port on another node: reachable through the tunnel."""
    return _reachable(port, switch, through_tunnel(port.vni, tep), identity)


def through_tunnel(vni: int, tep: Address) -> tuple[Action, ...]:
    """Send to the node with that tunnel endpoint, on a segment."""
    field = "tun_ipv4_dst" if tep.family == 4 else "tun_ipv6_dst"
    return (SetField(field, tep.value), SetField("tunnel_id", vni), OUTPUT.set(GENEVE_PORT), goto("deliver"))


def _in_domain(switch: LogicalSwitch) -> tuple[Action, ...]:
    """Nothing has to be said of the cluster's own: the register begins as 0, and no packet of another domain comes here."""
    return (DOMAIN.set(switch.domain),) if switch.domain else ()


def _reachable(
    port: LogicalPort, switch: LogicalSwitch, forward: tuple[Action, ...], identity: int
) -> tuple[Flow, ...]:
    segment = SEGMENT.match(port.vni)
    found = [
        flow("l2_forward", 100, (segment, ("eth_dst", port.mac, None)), forward, port.origin.about("forward")),
    ]
    about = port.origin.about("neighbour")
    addresses = (*port.addresses, *_link_local(port))
    found += [neighbour(port.vni, address, port.mac, about, identity, switch.domain) for address in addresses]
    return tuple(found)


def _link_local(port: LogicalPort) -> tuple[Address, ...]:
    return (link_local(port.mac),) if any(address.family == 6 for address in port.addresses) else ()


def _classified(port: LogicalPort, switch: LogicalSwitch, ofport: int, identity: int) -> tuple[Flow, ...]:
    actions = (
        SOURCE.set(FROM_POD),
        *_in_domain(switch),
        SEGMENT.set(port.vni),
        ROUTER.set(switch.router),
        ZONE.set(ofport),
        OWN.set(identity),
        goto("spoof_guard"),
    )
    match = (("in_port", ofport, None), ("eth_src", port.mac, None))
    return (flow("classify", 100, match, actions, port.origin.about("received")),)


def _guarded(port: LogicalPort, ofport: int) -> tuple[Flow, ...]:
    here = ("in_port", ofport, None)
    bound = port.origin.about("bound address")
    found = []
    for address in (*port.addresses, *_link_local(port)):
        onward = "egress_track" if address.family == 4 else "nd_guard"
        found.append(flow("spoof_guard", 50, (here, *from_address(address)), (goto(onward),), bound))
        if address.family == 4:
            arp = (here, ETH_ARP, ("arp_spa", address.value, None), ("arp_sha", port.mac, None))
            found.append(flow("spoof_guard", 50, arp, (goto("mtu"),), bound))
    if _link_local(port):
        own = (here, *ICMPV6, ("icmpv6_type", 135, None), ("nd_sll", port.mac, None))
        found.append(flow("nd_guard", 50, own, (goto("mtu"),), bound))
    return tuple(found)
