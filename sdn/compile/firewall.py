"""The distributed firewall as flows, whatever the policies say: connection tracking, what the rules are asked, own nodes."""

from __future__ import annotations

from functools import partial
from typing import Final

from firewall.rules import DIRECTIONS, Direction
from ipam.address import Address, Prefix, parse_address
from sdn.compile.fabric import CLUSTERS_OWN, drop, fabric
from sdn.compile.levels import STRANGERS, own_node
from sdn.compile.terms import (
    ETH_IP,
    ETH_IPV4,
    ETH_IPV6,
    ICMPV4,
    ICMPV6,
    NEXT_HOPS,
    flow,
    from_address,
    goto,
    next_hop_within,
    to_address,
)
from sdn.model import FirewallSettings, Intent, TransportNode
from sdn.pipeline import flow as f
from sdn.pipeline.firewall import stage
from sdn.pipeline.registers import (
    DOMAIN,
    FIRST,
    FROM_NODE,
    GATEWAY_MAC,
    HAIRPIN,
    HAIRPIN_ZONE,
    KNOWN,
    NEXT_HOP_MAC,
    NEXT_HOP_V4,
    NEXT_HOP_V6,
    OUTPUT,
    OWNER,
    PEER,
    ROUTER,
    RULE,
    SERVICE,
    SOURCE,
    STRANGER,
    ZONE,
)
from sdn.pipeline.tables import T

NEW: Final[f.Term] = ("ct_state", 0x21, 0x21)
ESTABLISHED: Final[f.Term] = ("ct_state", 0x22, 0x22)
ASKING: Final[f.Term] = ("ct_state", 0x22, 0x2A)
"""Established, in the direction in which it began."""
RELATED: Final[f.Term] = ("ct_state", 0x24, 0x24)
INVALID: Final[f.Term] = ("ct_state", 0x30, 0x30)
RULE_BITS: Final = 32
"""Bits of the connection label, from the lowest, that hold the number of the rule that allowed the connection."""
UNCOMMITTED: Final[f.Term] = ("ct_label", 0, (1 << RULE_BITS) - 1)
"""Packets of no connection that a rule let begin."""
PENDING: Final = 1
"""The mark of a connection that is translated to a member already, and that no rule has let begin so far."""
NOT_ALLOWED: Final[f.Term] = ("ct_mark", PENDING, None)
HAIRPINNED: Final = 2
"""The mark of a pod's connection, through a virtual server, to itself."""
TO_ITSELF: Final[f.Term] = ("ct_mark", HAIRPINNED, None)
ITSELF: Final = (parse_address("169.254.0.252"), parse_address("fd4e:4350:ffff:ffff::fc"))
"""Whom a pod that reaches itself answers to: from its own address it would take nothing."""

ECHOES: Final = ((*ICMPV4, ("icmpv4_type", 8, None)), (*ICMPV6, ("icmpv6_type", 128, None)))
"""Echo requests are asked about one by one: so a change of policy needs no look at what ICMP is tracked."""
_PROTOCOLS: Final = (("tcp", 6), ("udp", 17), ("sctp", 132))
FIRST_FRAGMENT: Final[f.Term] = ("ip_frag", 1, 3)
_LATER_FRAGMENT: Final[f.Term] = ("ip_frag", 3, 3)
"""They have no ports: those of a new connection pass where its first fragment just did."""


def compile_firewall(intent: Intent, node: TransportNode) -> list[f.Flow]:
    """What is there whatever the policies say."""
    found: list[f.Flow] = []
    for direction in DIRECTIONS:
        found += _tracking(direction)
        found += _hairpins(direction)
        found += _asking(direction)
    for address in node.addresses:
        found += _own_node(address, intent.firewall)
    for domain, blocks in sorted({0: intent.blocks, **intent.domains}.items()):
        found += [_stranger(prefix, domain) for prefix in blocks]
    return found


def _tracking(direction: Direction) -> list[f.Flow]:
    at, then = partial(stage, direction), goto(_after(direction))
    known, ask = fabric("firewall", "known association or fragment"), (f.Resubmit(T["epoch"]), goto(at("concern")))
    begin = (f.Resubmit(T["epoch"]), goto("services")) if direction == "egress" else ask
    lookups = ("translations", "associations") if direction == "egress" else ("associations", "translations")
    found = [flow(at("concern"), 60, (KNOWN.match(1),), (goto(at("count")),), known)]
    for eth in (ETH_IPV4, ETH_IPV6):
        sctp = (eth, ("ip_proto", SCTP, None))
        look = f.Resubmit(T["associations"])
        stages = fabric("stage", at("state"))
        found += [
            flow(
                at("track"),
                110,
                sctp,
                (*_forget(direction), *(f.Resubmit(T[each]) for each in lookups), goto(at("state"))),
                stages,
            ),
            flow(
                at("track"),
                100,
                (eth,),
                (*_forget(direction), f.Ct(zone=_ZONE, table=T[at("state")], translate=True)),
                stages,
            ),
            flow(at("state"), 20, sctp, (FIRST.set(1), *begin), fabric("firewall", "new association")),
            flow(at("state"), 22, (*sctp, HAIRPIN.match(1)), (goto(at("count")),), fabric("firewall", "to itself")),
            flow(
                at("commit"),
                110,
                (*sctp, KNOWN.match(0)),
                (*associate(eth), then),
                fabric("firewall", "association noted"),
            ),
            flow(at("state"), 16, (NEW, eth, _LATER_FRAGMENT), (look, *ask), fabric("firewall", "later fragment")),
            flow(at("commit"), 100, (NEW, eth), (COMMIT, then), fabric("firewall", "connection committed")),
            flow(
                at("commit"),
                107,
                (NOT_ALLOWED, eth),
                (_ALLOW, then),
                fabric("firewall", "connection to a member allowed"),
            ),
            flow(
                at("commit"),
                105,
                (NEW, eth, FIRST_FRAGMENT),
                (COMMIT, let_fragments_pass(eth), then),
                fabric("firewall", "connection committed"),
            ),
        ]
    back = (_BACK,) if direction == "egress" else ()
    labelled = (f.CopyField("ct_label", RULE.register, RULE_BITS), *back, goto(at("count")))
    return [
        *found,
        flow(at("state"), 100, (INVALID,), (), drop("ct-invalid")),
        *(flow(at("state"), 95, (*echo, ASKING), ask, fabric("firewall", "echo request")) for echo in ECHOES),
        flow(at("state"), 94, (KNOWN.match(1),), (goto(at("count")),), fabric("firewall", "established association")),
        flow(
            at("state"),
            93,
            (ESTABLISHED, TO_ITSELF),
            (HAIRPIN.set(1), goto(at("count"))),
            fabric("firewall", "to itself"),
        ),
        flow(
            at("state"), 92, (ESTABLISHED, NOT_ALLOWED), (FIRST.set(1), *ask), fabric("firewall", "not allowed so far")
        ),
        flow(at("state"), 90, (ESTABLISHED,), labelled, fabric("firewall", "established connection")),
        flow(at("state"), 90, (RELATED,), (*back, goto(at("count"))), fabric("firewall", "related to a connection")),
        flow(at("state"), 16, (NEW, TO_ITSELF), (HAIRPIN.set(1), goto(at("count"))), fabric("firewall", "to itself")),
        flow(at("state"), 15, (NEW, UNCOMMITTED), (FIRST.set(1), *begin), fabric("firewall", "new connection")),
        flow(at("state"), 10, (NEW,), begin, fabric("firewall", "new connection")),
    ]


_ZONE: Final = f.FieldBits(ZONE.register, ZONE.low, ZONE.bits)
COMMIT: Final = f.Ct(zone=_ZONE, commit=True, actions=(f.CopyField(RULE.register, "ct_label", RULE_BITS),))
_ALLOW: Final = COMMIT._replace(actions=(*COMMIT.actions, f.SetField("ct_mark", 0)))
_BACK: Final = f.CopyField("ct_label", NEXT_HOP_MAC.register, 48, RULE_BITS, NEXT_HOP_MAC.low)
"""A connection that came by a node has that node's MAC address in its label, so that answers find their way back there."""


def _hairpins(direction: Direction) -> list[f.Flow]:
    """A pod's packets to itself are given another sender on their way in; what it answers there is given back its own way."""
    origin, found = fabric("firewall", "to itself"), []
    for address in ITSELF:
        if direction == "egress":
            back = (
                f.CopyField(ZONE.register, OUTPUT.register, OUTPUT.bits, ZONE.low, OUTPUT.low),
                f.CopyField("eth_src", "eth_dst", 48),
                f.SetField("eth_src", GATEWAY_MAC),
            )
            tracked = f.Ct(zone=HAIRPIN_ZONE, table=T["ingress_track"], translate=True)
            found.append(flow("egress_track", 120, to_address(address), (*back, tracked), origin))
            noted = (HAIRPIN.set(1), f.Resubmit(T["translations"]), goto("deliver"))
            match = (*to_address(address), ("ip_proto", SCTP, None))
            found.append(flow("egress_track", 121, match, (*back, *noted), origin))
        else:
            as_other = f.Nat(source=True, version=address.family, address=address.value)
            on = (f.Ct(zone=HAIRPIN_ZONE, table=T["deliver"], commit=True, nat=as_other),)
            match = (ETH_IP[address.family], HAIRPIN.match(1))
            found.append(flow("ingress_track", 120, match, on, origin))
            found.append(flow("ingress_track", 121, (*match, ("ip_proto", SCTP, None)), (goto("deliver"),), origin))
    return found


def _forget(direction: Direction) -> tuple[f.Action, ...]:
    """What the registers hold when a packet is tracked tells it apart from others afterwards: nothing of one connection.

    At the sender's port they hold nothing yet.
    """
    if direction == "egress":
        return ()
    held = (PEER, RULE, SERVICE, ROUTER, NEXT_HOP_V4, NEXT_HOP_V6, NEXT_HOP_MAC, OWNER, KNOWN, FIRST)
    return tuple(each.set(0) for each in held)


def associate(eth: f.Term, back: tuple[f.LearnField, ...] = ()) -> tuple[f.Action, ...]:
    """Note an association in both directions, until it has been silent for a while; ``back`` for what is answered."""
    found = []
    for priority, ends in ((FORWARD, ("src", "dst")), (BACKWARD, ("dst", "src"))):
        ports = (
            f.LearnField(f"sctp_{end}", 16, source=f"sctp_{of}") for end, of in zip(("src", "dst"), ends, strict=True)
        )
        what = (f.LearnField("ip_proto", 8, SCTP), *ports)
        found.append(_note(eth, priority, ends, (*what, *(back if priority == BACKWARD else ())), SILENCE))
    return tuple(found)


def let_fragments_pass(eth: f.Term) -> f.Learn:
    """Note, for a moment, that what follows between these two in later fragments belongs to a connection that may begin."""
    return _note(eth, FRAGMENTS, ("src", "dst"), (f.LearnField("ip_frag", 2, 3),), MOMENT)


def _note(
    eth: f.Term, priority: int, ends: tuple[str, str], what: tuple[f.LearnField, ...], idle_timeout: int
) -> f.Learn:
    """Note the packet's rule for packets in the same zone between the same addresses (``ends``: which is which)."""
    family, bits = (4, 32) if eth == ETH_IPV4 else (6, 128)
    zone = f.LearnField(ZONE.register, ZONE.bits, source=ZONE.register, source_offset=ZONE.low, target_offset=ZONE.low)
    addresses = (
        f.LearnField(f"ipv{family}_{end}", bits, source=f"ipv{family}_{of}")
        for end, of in zip(("src", "dst"), ends, strict=True)
    )
    fields = (
        zone,
        f.LearnField("eth_type", 16, eth[1]),
        *addresses,
        *what,
        f.LearnField(KNOWN.register, 1, 1, target_offset=KNOWN.low, load=True),
        f.LearnField(RULE.register, RULE.bits, source=RULE.register, load=True),
    )
    return f.Learn(T["associations"], priority, LEARNED, fields, idle_timeout=idle_timeout, delete_learned=False)


FORWARD, BACKWARD, FRAGMENTS = 100, 99, 98
"""Priorities of noted flows, by which they are told apart: an association the way it began, its answers, fragments."""
LEARNED: Final = 0x5C79
"""Cookie of the flows that switches note."""
SILENCE: Final = 300
"""Seconds without a packet after which an association is forgotten; SCTP sends heartbeats every 30 (RFC 9260 section 16)."""
MOMENT: Final = 2
"""Seconds without a later fragment after which none is expected any more."""
SCTP: Final = 132


def _after(direction: Direction) -> str:
    return "mtu" if direction == "egress" else "deliver"


def _asking(direction: Direction) -> list[f.Flow]:
    """Load who and what is asked about."""
    at = partial(stage, direction)
    origin, then = fabric("stage", at("admin")), goto(at("admin"))
    peer = "dst" if direction == "egress" else "src"
    found = []
    for family, eth in ETH_IP.items():
        who = (
            f.CopyField(f"ipv{family}_{peer}", NEXT_HOPS[family].register, NEXT_HOPS[family].bits),
            f.Resubmit(T["neighbour"]),
        )
        what = f.CopyField("ip_proto", SERVICE.register, 8, 0, 16)
        found.append(flow(at("ask"), 10, (eth,), (*who, what, then), origin))
        for name, number in _PROTOCOLS:
            protocol = (eth, ("ip_proto", number, None))
            port = f.CopyField(f"{name}_dst", SERVICE.register, 16)
            found.append(flow(at("ask"), 20, protocol, (*who, SERVICE.set(number << 16), port, then), origin))
    stranger = (PEER.match(STRANGER),)
    if direction == "ingress":
        found.append(flow(at("admin"), STRANGERS, stranger, (), drop("unknown-sender")))
    return found


def _own_node(address: Address, settings: FirewallSettings) -> list[f.Flow]:
    """A pod and the node it is on always reach each other: the node first of all, the pod unless an admin denies it."""
    origin = fabric("firewall", "own node")
    from_node = (SOURCE.match(FROM_NODE), *from_address(address))
    to_node = (CLUSTERS_OWN, *to_address(address))
    return [
        flow("ingress_state", 97, from_node, (goto("ingress_count"),), origin),
        flow("egress_application", own_node(settings.priorities), to_node, (goto("egress_count"),), origin),
    ]


def _stranger(prefix: Prefix, domain: int) -> f.Flow:
    match = (DOMAIN.match(domain), next_hop_within(prefix))
    return flow("neighbour", 10, match, (PEER.set(STRANGER),), fabric("firewall", "unknown pod"))
