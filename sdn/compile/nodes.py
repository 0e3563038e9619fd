"""Transport nodes: how every node's own addresses are reached over the transit segment."""

from __future__ import annotations

from sdn.compile.fabric import CLUSTERS_OWN, neighbour
from sdn.compile.ports import through_tunnel
from sdn.compile.services import NODE_ADDRESS
from sdn.compile.terms import DEC_TTL, TO_DESTINATION, flow, goto, to_address
from sdn.model import Tier0, TransportNode
from sdn.pipeline.flow import Flow
from sdn.pipeline.registers import NODE_PORT, OUTPUT, SEGMENT, ZONE


def compile_node(node: TransportNode, tier0: Tier0, *, local: bool) -> tuple[Flow, ...]:
    """A route at tier-0 to each of the node's addresses, and the way to its port on the transit segment."""
    vni = tier0.transit_vni
    segment = SEGMENT.match(vni)
    forward = (
        (OUTPUT.set(NODE_PORT), ZONE.set(NODE_PORT), goto("ingress_track")) if local else through_tunnel(vni, node.tep)
    )
    found = [flow("l2_forward", 100, (segment, ("eth_dst", node.mac, None)), forward, node.origin.about("forward"))]
    for address in node.addresses:
        found.append(neighbour(vni, address, node.mac, node.origin.about("next hop")))
        onto_transit = (DEC_TTL, SEGMENT.set(vni), TO_DESTINATION[address.family], goto("next_hop"))
        found.append(
            flow("tier0", 300, (CLUSTERS_OWN, *to_address(address)), onto_transit, node.origin.about("tier-0 route"))
        )
        ports = node.origin.about("node ports")
        found.append(flow("services", NODE_ADDRESS, to_address(address), (goto("node_ports"),), ports))
    return tuple(found)
