"""Logical switches and the tier-1 routers they hang off: gateways that answer, and routes that lead to subnets."""

from __future__ import annotations

from typing import Final

from sdn.compile.fabric import answer_echo, neighbour, on_segment
from sdn.compile.terms import DEC_TTL, TO_DESTINATION, flow, goto, route_priority, to_prefix
from sdn.model import LogicalSwitch
from sdn.pipeline.flow import Flow
from sdn.pipeline.registers import DOMAIN, GATEWAY_MAC, ROUTER, SEGMENT

NO_SERVICES: Final = 1000
"""Priority in table services of what no virtual server is for, before all of them."""


def compile_switch(switch: LogicalSwitch) -> tuple[Flow, ...]:
    """A segment's gateways (ARP, ND, echo) and the routes to its subnets: from its own tier-1, and from tier-0.

    Each holds in the segment's routing domain alone.
    """
    domain = DOMAIN.match(switch.domain)
    found: list[Flow] = [on_segment(switch.vni, switch.origin.about("next hop"))]
    if switch.domain:
        aside = switch.origin.about("no virtual servers in its routing domain")
        found.append(flow("services", NO_SERVICES, (SEGMENT.match(switch.vni),), (goto("egress_concern"),), aside))
    for gateway in switch.gateways:
        found.append(
            neighbour(switch.vni, gateway.address, GATEWAY_MAC, switch.origin.about("gateway"), domain=switch.domain)
        )
        found.extend(answer_echo(gateway.address, switch.origin.about("gateway echo"), domain))
        subnet = gateway.prefix
        match, priority = to_prefix(subnet), route_priority(subnet)
        connected = (DEC_TTL, SEGMENT.set(switch.vni), TO_DESTINATION[subnet.family], goto("next_hop"))
        at_router = (domain, ROUTER.match(switch.router), *match)
        origin = switch.origin.about("tier-1 connected route")
        found.append(flow("tier1_out", priority, at_router, connected, origin))
        found.append(flow("tier1_in", priority, at_router, connected, origin))
        down = (DEC_TTL, ROUTER.set(switch.router), goto("tier1_in"))
        found.append(flow("tier0", priority, (domain, *match), down, switch.origin.about("tier-0 route")))
    return tuple(found)
