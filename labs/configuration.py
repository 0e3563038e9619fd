"""The lab's ``ncp.ini``: the project's defaults, with what a lab's network needs."""

from __future__ import annotations

import configparser
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

from ipam.address import Prefix
from ipam.pool import AddressRange
from labs.errors import UsageError
from labs.state import State
from topologies import bgp
from topologies.spec import EDGE_ASN, Node, Topology

CONTAINER_BLOCKS = "10.4.0.0/16, fd00:10:4::/48"
NO_SNAT_BLOCKS = "10.5.0.0/16, fd00:10:5::/48"
POOL = "lab"
"""Name of the pool of virtual addresses."""
POOL_HOSTS = {4: (200, 239), 6: (0x200, 0x23F)}
"""Its first and last host in the network of the node that pods' traffic leaves by: .200 to .239, ::200 to ::23f."""
SNAT_POOL = "snat"
"""Name of the pool of addresses that namespaces have outside."""
SNAT_HOSTS = {4: (100, 199), 6: (0x100, 0x1FF)}
"""Its first and last host in the same network: .100 to .199, ::100 to ::1ff."""

SNAT_ADDRESSES = f"{SNAT_POOL}=172.31.0.1-172.31.0.254, {SNAT_POOL}=fd00:172:31::1-fd00:172:31::fe"
VIRTUAL_ADDRESSES = f"{POOL}=172.31.1.1-172.31.1.254, {POOL}=fd00:172:31:1::1-fd00:172:31:1::fe"
"""The same where there are edges, and whom namespaces are outside: in networks of nobody's."""


def render(state: State, topology: Topology) -> dict[str, dict[str, str]]:
    """Sections and options of a lab's configuration."""
    return {
        "coe": {"cluster": f"lab-{state.lab}"},
        "nsx_v3": {
            "container_ip_blocks": CONTAINER_BLOCKS,
            "no_snat_ip_blocks": NO_SNAT_BLOCKS,
            **_pools(topology),
        },
        "nsx_node_agent": {
            "mtu": str(min(network.mtu for network in topology.networks)),
            "enable_ipv6": "True",
        },
        **_way_out(topology),
    }


def _pools(topology: Topology) -> dict[str, str]:
    """Pools of addresses outside: where there are edges, those on no link, which BGP says the way to."""
    if topology.exit_node is None:
        return {"external_ip_pools": SNAT_ADDRESSES, "external_ip_pools_lb": VIRTUAL_ADDRESSES}
    pools = (("external_ip_pools", SNAT_POOL, SNAT_HOSTS), ("external_ip_pools_lb", POOL, POOL_HOSTS))
    return {
        option: ", ".join(f"{name}={span}" for span in free_hosts(topology, topology.exit_node, hosts))
        for option, name, hosts in pools
    }


def _way_out(topology: Topology) -> dict[str, dict[str, str]]:
    if topology.exit_node is not None:
        return {"ncp": {"exit_node": topology.exit_node.name}}
    peers = ", ".join(f"{peer.address} as {peer.asn}" for peer in bgp.edge_peers(topology))
    if not peers:
        return {}
    return {"bgp": {"local_as": str(EDGE_ASN), "peers": peers}}


def free_hosts(topology: Topology, exit_node: Node, hosts: Mapping[int, tuple[int, int]]) -> list[AddressRange]:
    """Of some hosts (first and last by family) those that the exit node's network has and that no host or router holds."""
    network = topology.network(exit_node.link.network)
    held = [link for links in topology.links().values() for link in links]
    taken = {each.address for link in held for each in (*link.addresses, *topology.external.upstream)}
    found: list[AddressRange] = []
    for prefix in network.prefixes:
        first, last = (prefix.value + host for host in hosts[prefix.family])
        last = min(last, prefix.last - 1)  # the last one of an IPv4 network is for broadcasts
        inside = sorted(each.value for each in taken if each.family == prefix.family and first <= each.value <= last)
        for start, end in pairwise((first - 1, *inside, last + 1)):
            if start + 1 < end:
                found.append(AddressRange(prefix.family, start + 1, end - 1))
    return found


def write(state: State, topology: Topology, given: Path | None) -> None:
    """Put the configuration in place: the given file's content, else the lab's own.

    Raises:
        UsageError: the given file cannot be read.
    """
    if given is not None:
        try:
            state.ini.write_bytes(given.read_bytes())
        except OSError as error:
            raise UsageError(f"--config {given}: {error.strerror}") from error
        return
    ini = configparser.ConfigParser(interpolation=None)
    ini.read_dict(render(state, topology))
    with state.ini.open("w") as file:
        ini.write(file)


def blocks(state: State) -> tuple[Prefix, ...]:
    """Where pods have their addresses, by the configuration in place.

    Raises:
        UsageError: the configuration is wrong; the message names section, option and value.
    """
    from ncp.settings import SettingsError, load
    from ncp.translate.fabric import pod_blocks

    try:
        return pod_blocks(load(state.ini))
    except SettingsError as error:
        raise UsageError(str(error)) from error
