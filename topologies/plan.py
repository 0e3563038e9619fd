"""What to do on the machine to build an underlay, as values: namespaces, and `ip` commands to run in each.

Everything a lab makes lives in network namespaces named after the lab, so removing those removes all of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple

from ipam.address import Interface, Prefix
from topologies.routing import routes
from topologies.spec import Link, Node, Topology

UPLINK = "ul0"
"""The underlay link of a node, inside its namespace; wires of its uplinks are ul1, ul2, …"""
EXTERNAL_LINK = "eth0"
"""The underlay link of the external host."""
UNDERLAY_BRIDGE = "br-ul"
"""The node's own switch on its underlay link; its internal port holds the node's addresses."""
UPLINK_BRIDGE = "br-ex"
"""The node's switch on the wire of its first uplink; those of further ones have a number at the end."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Commands for one namespace: `ip -batch` lines, and sysctls set before them (where the kernel has them)."""

    namespace: str
    sysctls: tuple[tuple[str, str], ...]
    commands: tuple[str, ...]
    plain: tuple[str, ...] = ()  # links whose checksums must be computed by the sender


def namespace(lab: str, owner: str) -> str:
    """Name of the network namespace of a node, a router, the external host (``ext``) or the underlay (``ul``)."""
    return f"ncp{lab}-{owner}"


def namespaces(topology: Topology, lab: str) -> tuple[str, ...]:
    """Every namespace of the underlay."""
    return tuple(namespace(lab, owner) for owner in ("ul", *topology.links()))


def mac(owner: str, network: str) -> str:
    """The Ethernet address of a host or router on a network: the same in every run, so neighbours can be told."""
    return "02:55:" + blake2b(f"{owner}@{network}".encode(), digest_size=4).digest().hex(":")


def plan(topology: Topology, lab: str, blocks: Iterable[Prefix] = ()) -> tuple[Batch, ...]:
    """The batches that build an underlay; run in order.

    Nodes get their link and sysctls only: their addresses and routes need the bridge that their switch makes
    (:func:`node_commands`).
    """
    blocks = tuple(blocks)
    external = topology.external
    upstream = [f"address add {_text(one)} dev lo" for one in external.upstream]
    return (
        _underlay(topology, lab),
        *(
            Batch(
                namespace(lab, node.name),
                (*_sysctls(forward=True), *((f"net/ipv6/conf/{device}/disable_ipv6", "1") for device in wires(node))),
                tuple(line for device, link in wires(node).items() for line in _wire_commands(topology, device, link)),
                tuple(wires(node)),
            )
            for node in topology.nodes
        ),
        *(_router(topology, lab, name, blocks) for name in (router.name for router in topology.routers)),
        Batch(
            namespace(lab, "ext"),
            (*_sysctls(forward=True), *_HASHING),
            (
                *_up(EXTERNAL_LINK, topology, external.link),
                *_addresses(EXTERNAL_LINK, external.link),
                *upstream,
                *_routes(topology, "ext", {external.link.network: EXTERNAL_LINK}, blocks),
            ),
            (EXTERNAL_LINK,),
        ),
    )


def node_commands(topology: Topology, name: str) -> tuple[str, ...]:
    """The `ip` commands that give a node its addresses and routes once its underlay bridge exists."""
    link = topology.node(name).link
    mtu = topology.network(link.network).mtu
    return (
        f"link set {UNDERLAY_BRIDGE} mtu {mtu} up",
        *_addresses(UNDERLAY_BRIDGE, link),
        *_routes(topology, name, {link.network: UNDERLAY_BRIDGE}, ()),
    )


def neighbours(topology: Topology, name: str) -> tuple[tuple[str, str], ...]:
    """Address and Ethernet address of every neighbour a node may send tunnelled packets to.

    Open vSwitch drops the first packet of a tunnel while it asks for the neighbour's address; telling it beforehand
    loses none.
    """
    network = topology.node(name).link.network
    return tuple(
        (str(one.address), mac(owner, network))
        for owner, links in topology.links().items()
        if owner != name
        for link in links
        if link.network == network
        for one in link.addresses
    )


def wires(node: Node) -> dict[str, Link]:
    """A node's links by the name of the device inside its namespace: its underlay link, then its uplinks'."""
    return {f"ul{index}": link for index, link in enumerate((node.link, *(each.link for each in node.uplinks)))}


def uplink_bridge(index: int) -> str:
    """The bridge on a node that an uplink's wire is a port of, by the uplink's place among the node's."""
    return f"{UPLINK_BRIDGE}{index or ''}"


def physical_bridge(topology: Topology, network: str) -> str:
    """The bridge that a network is, in the namespace of the underlay.

    The kernel's where frames have no tags. Where they have, it is Open vSwitch's, which the lab makes: the kernel may have no VLANs.
    """
    return f"br{[one.name for one in topology.networks].index(network)}"


class Plug(NamedTuple):
    """One wire: whose, its device inside the owner's namespace, the other end in the namespace of the underlay, and where it leads."""

    owner: str
    device: str
    port: str
    link: Link


def plugs(topology: Topology) -> tuple[Plug, ...]:
    """Every wire of the underlay."""
    ends = [
        (owner, EXTERNAL_LINK if owner == "ext" else f"ul{index}", link)
        for owner, links in topology.links().items()
        for index, link in enumerate(links)
    ]
    return tuple(Plug(owner, device, f"p{number}", link) for number, (owner, device, link) in enumerate(ends))


def _underlay(topology: Topology, lab: str) -> Batch:
    nodes = {node.name for node in topology.nodes}
    commands = ["link set lo up"]
    for network in topology.networks:
        bridge = physical_bridge(topology, network.name)
        if not network.vlan:
            commands.append(f"link add {bridge} mtu {network.mtu} type bridge stp_state 0 mcast_snooping 0")
            commands.append(f"link set {bridge} up addrgenmode none")
        for owner, device, port, link in plugs(topology):
            if link.network != network.name:
                continue
            ethernet = mac(f"{owner}'s wire" if owner in nodes else owner, network.name)
            peer = f"name {device} netns {namespace(lab, owner)} mtu {network.mtu} address {ethernet}"
            commands.append(f"link add {port} mtu {network.mtu} type veth peer {peer}")
            master = "arp off" if network.vlan else f"master {bridge}"
            commands.append(f"link set {port} {master} up addrgenmode none")
    return Batch(namespace(lab, "ul"), _sysctls(forward=False), tuple(commands))


def _router(topology: Topology, lab: str, name: str, blocks: tuple[Prefix, ...]) -> Batch:
    links = topology.links()[name]
    devices = {link.network: f"ul{index}" for index, link in enumerate(links)}
    commands: list[str] = []
    for link in links:
        commands += _up(devices[link.network], topology, link)
        commands += _addresses(devices[link.network], link)
    commands += _routes(topology, name, devices, blocks)
    return Batch(namespace(lab, name), (*_sysctls(forward=True), *_HASHING), tuple(commands), tuple(devices.values()))


def _up(device: str, topology: Topology, link: Link) -> tuple[str, ...]:
    return ("link set lo up", f"link set {device} mtu {topology.network(link.network).mtu} up")


def _wire_commands(topology: Topology, device: str, link: Link) -> tuple[str, ...]:
    """Bring a node's link up as a mere wire of its switch.

    A userspace switch gets a copy of what arrives there; the kernel would answer the original as well, for any address
    of the node. So the link speaks no ARP and no IPv6, and has an Ethernet address that nobody sends to.
    """
    return (*_up(device, topology, link), f"link set {device} arp off")


def _addresses(device: str, link: Link) -> tuple[str, ...]:
    return tuple(f"address replace {_text(one)} dev {device}" for one in link.addresses)


def _text(interface: Interface) -> str:
    return f"{interface} nodad" if interface.family == 6 else str(interface)


def _routes(topology: Topology, owner: str, devices: dict[str, str], blocks: tuple[Prefix, ...]) -> tuple[str, ...]:
    return tuple(
        f"route replace {route.prefix} via {route.via} dev {devices[route.network]}"
        for route in routes(topology, owner, blocks)
    )


_HASHING = (
    # Of several ways that are as good, all packets of a connection take one, by their ports as well.
    ("net/ipv4/fib_multipath_hash_policy", "1"),
    ("net/ipv6/fib_multipath_hash_policy", "1"),
)


def _sysctls(*, forward: bool) -> tuple[tuple[str, str], ...]:
    both = (
        ("net/ipv4/ip_forward", "1" if forward else "0"),
        ("net/ipv6/conf/all/forwarding", "1" if forward else "0"),
    )
    return (
        *both,
        # Pods' packets come in by the overlay and leave by the underlay: not every path is the reverse of another.
        ("net/ipv4/conf/all/rp_filter", "0"),
        ("net/ipv4/conf/default/rp_filter", "0"),
        # An address in doubt cannot be used for a second; nobody else holds these.
        ("net/ipv6/conf/all/accept_dad", "0"),
        ("net/ipv6/conf/default/accept_dad", "0"),
        ("net/ipv6/conf/default/accept_ra", "0"),
        # A bridge of the underlay is a wire: the host's packet filter has no say in it.
        ("net/bridge/bridge-nf-call-iptables", "0"),
        ("net/bridge/bridge-nf-call-ip6tables", "0"),
        ("net/bridge/bridge-nf-call-arptables", "0"),
    )
