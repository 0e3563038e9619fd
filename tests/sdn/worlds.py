"""Generated intents, and edits to them, for property tests."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st
from immutables import Map

from firewall.rules import Identity
from ipam.address import Address, Interface
from ncp.translate.objects import node_mac
from sdn.model import Intent, LogicalPort, LogicalSwitch, Origin, Tier0, TransportNode

NODES = ("node1", "node2", "node3")
NAMESPACES = ("red", "blue", "green")
PODS = ("a", "b", "c")
TRANSIT = (Interface(4, 0x64400001, 16), Interface(6, (0xFD98 << 112) | 1, 64))


def node(name: str) -> TransportNode:
    index = NODES.index(name)
    addresses = (Address(4, 0xC0A8320B + index), Address(6, (0xFD50 << 112) | (0x11 + index)))
    return TransportNode(name, addresses[0], addresses, node_mac(name), Origin("Node", "", name))


def switch(namespace: str, *, single_tier: bool = False) -> LogicalSwitch:
    index = NAMESPACES.index(namespace)
    gateways = (
        Interface(4, 0x0A040001 + (index << 8), 24),
        Interface(6, (0xFD0000100004 << 80) | (index << 64) | 1, 64),
    )
    vni = 5001 + index
    return LogicalSwitch(f"{namespace}/0", vni, 1 if single_tier else vni, gateways, Origin("Namespace", "", namespace))


def port(
    namespace: str, pod: str, where: str, *, offset: int | None = None, families: tuple[int, ...] = (4, 6)
) -> LogicalPort:
    number = 2 + PODS.index(pod) if offset is None else offset
    v4, v6 = (gateway.value - 1 + number for gateway in switch(namespace).gateways)
    addresses = tuple(a for a in (Address(4, v4), Address(6, v6)) if a.family in families)
    origin = Origin("Pod", namespace, pod, f"uid-{namespace}-{pod}")
    mac, identity = 0x024E << 32 | v4, Identity(namespace, (("pod", pod),))
    return LogicalPort(f"{namespace}/{pod}", switch(namespace).vni, mac, addresses, where, origin, identity)


def world(single_tier: bool = False) -> Intent:
    """Every node, namespace and pod, pods spread over the nodes."""
    pods = [port(ns, pod, NODES[(i + j) % 3]) for i, ns in enumerate(NAMESPACES) for j, pod in enumerate(PODS)]
    switches = [switch(ns, single_tier=single_tier) for ns in NAMESPACES]
    return Intent(
        tier0=Tier0(5000, TRANSIT, "node1"),
        single_tier=single_tier,
        switches=Map({s.vni: s for s in switches}),
        nodes=Map({name: node(name) for name in NODES}),
        ports=Map({p.name: p for p in pods}),
        bindings=Map(),
    )


def attachments(intent: Intent, at: str) -> dict[str, int]:
    return {name: 16 + i for i, (name, p) in enumerate(sorted(intent.ports.items())) if p.node == at}


ports = st.builds(
    port,
    st.sampled_from(NAMESPACES),
    st.sampled_from(PODS),
    st.sampled_from((*NODES, "", "elsewhere")),
    offset=st.sampled_from((None, 2, 9)),
    families=st.sampled_from(((4, 6), (4,), (6,))),
)
"""Ports, some unscheduled, some on unknown nodes, some with an address that another port has."""


def replace_identity(held: LogicalPort, identity: Identity) -> LogicalPort:
    return replace(held, identity=identity)


def replace_node(held: LogicalPort, where: str) -> LogicalPort:
    return replace(held, node=where)


def rename(held: LogicalPort, name: str, identity: Identity) -> LogicalPort:
    namespace, pod = name.split("/")
    return replace(held, name=name, identity=identity, origin=Origin("Pod", namespace, pod, f"uid-{namespace}-{pod}"))
