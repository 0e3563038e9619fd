"""Who pods are outside: sources translated where packets leave, one pod bound to an address both ways, and who is not reached. Pure.

A new connection to the outside is translated at the port of the node that lets it out, in the conntrack zone of that port, as are
connections from outside to virtual servers. A pod's own binding comes before its service's address, and that before its namespace's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from ipam.address import WIDTH, Address, Prefix
from sdn.compile.associations import associate_bound, associate_outside
from sdn.compile.fabric import drop, fabric
from sdn.compile.firewall import (
    ECHOES,
    ESTABLISHED,
    HAIRPINNED,
    INVALID,
    NEW,
    PENDING,
    RELATED,
    SCTP,
)
from sdn.compile.terms import (
    ETH_IP,
    SOURCE_TRANSLATED,
    flow,
    from_address,
    from_prefix,
    goto,
    route_priority,
    to_address,
    to_prefix,
)
from sdn.model import FREE_PORTS, Binding, Intent, LogicalPort, LogicalSwitch, Origin, TransportNode
from sdn.pipeline import flow as f
from sdn.pipeline.registers import FROM_NODE, FROM_POD, HAIRPIN, NODE_PORT, OUTPUT, OUTSIDE, SOURCE, ZONE
from sdn.pipeline.tables import T
from sdn.services import VirtualServer

OWN_NODE: Final = 500
BOUND: Final = 400
OF_SERVICE: Final = 350
"""Priorities in table snat; segments have those of their prefixes, from 100."""
EXHAUSTED: Final = "no port left"
"""What a flow is for that counts, and drops, what the translation found no port for."""
NO_ADDRESS: Final = "no-snat-address"
"""The reason why those are dropped who have no address outside."""
TO_OUTSIDE: Final = "SNAT to"
TO_POD: Final = "DNAT to"
"""What flows that translate are for; the address follows."""
_HEADERS: Final = 128
"""Bytes of a packet that the log needs."""
LEFT: Final = 4
"""The mark of a connection that is translated on its way out."""
OUTWARD: Final[f.Term] = ("ct_mark", LEFT, None)
_TO_NODE: Final = OUTPUT.match(NODE_PORT)
_UNTRANSLATED: Final[f.Term] = ("ct_state", 0, 0x80)
"""Not of a connection to a virtual server, or a binding: what nobody has answered yet has the member's address, and is new still."""


def lets_out(intent: Intent, node: TransportNode) -> bool:
    """Whether traffic to the outside may leave by a node: now, or when it takes over."""
    return node.edge or node.name == intent.tier0.exit_node


def compile_nat(intent: Intent, node: TransportNode) -> list[f.Flow]:
    """What is there on a node whatever is translated: nothing where no traffic leaves."""
    if not lets_out(intent, node) or not (intent.snat_families or intent.bindings):
        return []
    found: list[f.Flow] = []
    origin = fabric("nat", "what is not established may be translated")
    for eth in ETH_IP.values():
        known = fabric("nat", "established connection")
        found += [
            flow("ingress_state", 122, (_TO_NODE, state, eth), (goto("deliver"),), known)
            for state in (ESTABLISHED, RELATED)
        ]
        found.append(flow("ingress_state", 121, (_TO_NODE, eth), (f.Resubmit(T["epoch"]), goto("snat")), origin))
        sctp = (_TO_NODE, eth, ("ip_proto", SCTP, None))
        found.append(flow("ingress_track", 146, sctp, (f.Resubmit(T["translations"]), goto("snat")), origin))
    # Open vSwitch 3.1 takes no echoes out by their tuples, and does not survive it for ICMPv6. So what would go on as an earlier
    # address of its pod ends here.
    for echo in ECHOES:
        found.append(flow("ingress_state", 123, (_TO_NODE, ESTABLISHED, *echo), (goto("snat_done"),), origin))
        found.append(flow("snat_done", 20, (ESTABLISHED, echo[0]), (), drop(NO_ADDRESS)))
    if node.name != intent.tier0.exit_node:
        found += _standby()
    own = fabric("nat", "for the node itself")
    found += [flow("snat", OWN_NODE, to_address(each), (goto("deliver"),), own) for each in node.addresses]
    for block in intent.blocks:
        if block.family in intent.snat_families:
            found.append(flow("snat", 2, from_prefix(block), (), drop(NO_ADDRESS)))
    return found


def _standby() -> list[f.Flow]:
    """An edge that is not the active one, or not any more, and is sent to all the same: nobody has its address in two places."""
    found = [flow("snat_done", 600, (), (), drop("standby"))]
    for eth in ETH_IP.values():
        found.append(flow("ingress_state", 124, (_TO_NODE, ESTABLISHED, OUTWARD, eth), (), drop("standby")))
    return found


def compile_segment_nat(intent: Intent, switch: LogicalSwitch, node: TransportNode) -> list[f.Flow]:
    """A segment's way out by a node, and that it is not entered from outside where its pods are somebody else there."""
    found: list[f.Flow] = []
    if switch.domain:
        return found  # nothing of it gets here
    out = lets_out(intent, node)
    for subnet in (gateway.prefix for gateway in switch.gateways):
        if subnet.family not in intent.snat_families:
            continue
        priority = route_priority(subnet)
        if not switch.snat:
            if out:
                found.append(
                    flow("snat", priority, from_prefix(subnet), (goto("deliver"),), switch.origin.about("no SNAT"))
                )
            continue
        entering = (OUTSIDE.match(1), _UNTRANSLATED, *to_prefix(subnet))
        found.append(flow("services", 10, entering, (), drop("not-from-outside")))
        if out:
            found += _translated(intent, subnet, switch.translated, priority, switch.origin)
    return found


def compile_service_nat(intent: Intent, server: VirtualServer, node: TransportNode) -> list[f.Flow]:
    """The members of a service, as its own addresses outside."""
    if not lets_out(intent, node) or not server.translated:
        return []
    slices = intent.slices.get(server.name, {})
    members = sorted({each.address for part in slices.values() for each in part.endpoints})
    return [
        each
        for member in members
        if member.family in {address.family for address in server.translated}
        for each in _translated(
            intent,
            Prefix(member.family, member.value, WIDTH[member.family]),
            server.translated,
            OF_SERVICE,
            server.origin,
        )
    ]


def compile_binding(intent: Intent, binding: Binding, port: LogicalPort | None, node: TransportNode) -> list[f.Flow]:
    """A pod that has an address outside for itself: what is sent there is the pod's, whoever sends it, and it is that address outside.

    Which address rules at a sender's port see is ``nat_firewall_match``: the pod's, the one outside (then the packet takes the way
    through the edge), or none is asked.
    """
    if port is None:
        return []
    found: list[f.Flow] = []
    for external in binding.external:
        inner = next((each for each in port.addresses if each.family == external.family), None)
        if inner is None:
            continue
        alone = Prefix(inner.family, inner.value, WIDTH[inner.family])
        if lets_out(intent, node):
            found += _translated(intent, alone, (external,), BOUND, binding.origin)
        found += _bound(intent, external, inner, binding.origin)
    return found


def _translated(
    intent: Intent, source: Prefix, addresses: Iterable[Address], priority: int, about: Origin
) -> Iterator[f.Flow]:
    """New connections from a prefix, as one address. What begins none, and nobody knows, does not leave as it is."""
    address = next((each for each in addresses if each.family == source.family), None)
    sender = from_prefix(source)
    if address is None:
        yield flow("snat", priority, sender, (), drop(NO_ADDRESS))
        return
    first, last = intent.nat.ports if intent.nat.ports != FREE_PORTS else (0, 0)
    nat = f.Nat(source=True, version=source.family, address=address.value, port=first, port_to=last)
    commit = f.Ct(zone=NODE_PORT, table=T["snat_done"], commit=True, nat=nat, actions=(f.SetField("ct_mark", LEFT),))
    said = about.about(f"{TO_OUTSIDE} {address}")
    yield flow("snat", priority, (NEW, *sender), (*_logged(intent), commit), said)
    yield flow("snat", priority, (INVALID, *sender), (), drop("ct-invalid"))
    sctp = (*sender, ("ip_proto", SCTP, None))
    yield flow("snat", priority + 1, sctp, (*_logged(intent), *associate_outside(address, "snat_done")), said)
    yield flow("snat_done", priority, sender, (), about.about(EXHAUSTED))
    yield flow("snat_done", 30, from_address(address), (goto("deliver"),), about.about("outside"))


def _logged(intent: Intent) -> tuple[f.Action, ...]:
    return (f.Controller(SOURCE_TRANSLATED, _HEADERS),) if intent.nat.logging != "none" else ()


def _bound(intent: Intent, external: Address, inner: Address, origin: Origin) -> Iterator[f.Flow]:
    """What is sent to the address outside goes to the pod."""
    to = to_address(external)
    rule = intent.nat.firewall_match
    said = origin.about(f"{TO_POD} {inner}")
    sctp = ("ip_proto", SCTP, None)
    yield flow("services", 40, (SOURCE.match(FROM_NODE), *to), (_to_pod(inner, "egress_concern", PENDING),), said)
    yield flow(
        "services", 41, (SOURCE.match(FROM_NODE), *to, sctp), associate_bound(external, inner, "egress_concern"), said
    )
    if rule == "external":
        return
    asked = "egress_count" if rule == "bypass" else "egress_concern"
    yield flow("services", 40, (SOURCE.match(FROM_POD), *to), (_to_pod(inner, asked, PENDING),), said)
    yield flow("services", 41, (SOURCE.match(FROM_POD), *to, sctp), associate_bound(external, inner, asked), said)
    itself = (*to, from_address(inner)[1])
    hairpin = (HAIRPIN.set(1), _to_pod(inner, "egress_count", HAIRPINNED))
    yield flow("services", 42, (SOURCE.match(FROM_POD), *itself), hairpin, said)
    yield flow("services", 43, (SOURCE.match(FROM_POD), *itself, sctp), (), drop("ct-invalid"))


def _to_pod(inner: Address, then: str, mark: int) -> f.Ct:
    return f.Ct(
        zone=f.FieldBits(ZONE.register, ZONE.low, ZONE.bits),
        table=T[then],
        commit=True,
        nat=f.Nat(source=False, version=inner.family, address=inner.value),
        actions=(f.SetField("ct_mark", mark),),
    )
