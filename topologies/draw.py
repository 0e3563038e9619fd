"""Topologies drawn with characters."""

from __future__ import annotations

from topologies.spec import Link, Topology


def draw(topology: Topology) -> str:
    """A picture: each network a line, what is plugged into it hanging below.

    ::

        underlay  192.168.50.0/24  fd50::/64  MTU 1500
          ├─ node1  192.168.50.11  fd50::11  (exit)
          └─ external host  192.168.50.250  fd50::250  → 203.0.113.1/24
    """
    lines = []
    for network in topology.networks:
        prefixes = "  ".join(str(prefix) for prefix in network.prefixes)
        tag = f"  VLAN {network.vlan}" if network.vlan else ""
        lines.append(f"{network.name}  {prefixes}  MTU {network.mtu}{tag}")
        plugged = _plugged(topology, network.name)
        for index, text in enumerate(plugged):
            lines.append(f"  {'└─' if index == len(plugged) - 1 else '├─'} {text}")
    return "\n".join(lines)


def _plugged(topology: Topology, network: str) -> list[str]:
    found = []
    for node in topology.nodes:
        if node.link.network == network:
            role = "  (exit)" if node is topology.exit_node else "  (edge)" if node in topology.edges else ""
            found.append(f"{node.name}  {_addresses(node.link)}{role}")
        for uplink in node.uplinks:
            if uplink.link.network == network:
                found.append(f"{node.name} {uplink.name}  {_addresses(uplink.link)}")
    for router in topology.routers:
        for link in router.links:
            if link.network == network:
                found.append(f"router {router.name}  {_addresses(link)}{_system(router.asn)}")
    external = topology.external
    if external.link.network == network:
        beyond = ", ".join(str(one) for one in external.upstream)
        system = _system(external.asn)
        found.append(f"external host  {_addresses(external.link)}{system}" + (f"  → {beyond}" if beyond else ""))
    return found


def _system(asn: int) -> str:
    return f"  AS {asn}" if asn else ""


def _addresses(link: Link) -> str:
    return "  ".join(str(one.address) for one in link.addresses)
