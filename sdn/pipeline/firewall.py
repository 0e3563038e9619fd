"""The tables of the distributed firewall at a pod's port, once for what the pod sends and once for what it is sent."""

from __future__ import annotations

from functools import partial

from firewall.rules import Direction
from sdn.pipeline.spec import Miss, Table

_WHOSE = {"egress": "the sender's", "ingress": "the receiver's"}
_IP = {"eth_type", "ip_proto"}


def stage(direction: Direction, name: str) -> str:
    """The name of one of the tables of a direction, such as ``egress_state``."""
    return f"{direction}_{name}"


def firewall(direction: Direction, *, then: str) -> tuple[Table, ...]:
    """The tables of one direction; what they let pass goes on to ``then``.

    Established connections leave at ``state``, before anything asks who the peers are: packets of a connection share one
    entry of the switch's cache, however many rules there are.
    """
    at, whose = partial(stage, direction), _WHOSE[direction]
    address = {"ipv4_dst", "ipv6_dst"} if direction == "egress" else {"ipv4_src", "ipv6_src"}
    rules = frozenset({"domain", "own", "peer", "service", "conj_id", *_IP, "tcp_flags", *address})
    observes = f"{direction} firewall"
    return (
        Table(
            at("track"),
            f"Send IP packets through connection tracking, in the zone of {whose} port; look SCTP associations up, and what "
            "stands for whom in those with virtual servers.",
            matches=frozenset(
                {
                    *_IP,
                    *(
                        {"source", "ipv4_dst", "ipv6_dst"}
                        if direction == "egress"
                        else {"hairpin", "output", "source", "ct_state"}
                    ),
                }
            ),
            writes=frozenset(
                {
                    *({"output", "eth_src", "eth_dst"} if direction == "egress" else {"ct_label"}),
                    "peer",
                    "rule",
                    "service",
                    "router",
                    "next_hop_v4",
                    "next_hop_v6",
                    "next_hop_mac",
                    "owner",
                    "known",
                    "first",
                    "hairpin",
                }
            ),
            goes_to=(
                *(at("state"), "associations", "translations", "deliver"),
                *(("ingress_track",) if direction == "egress" else ("snat",)),
            ),
            miss=Miss(reason="ethertype"),
            observes="connection tracked",
        ),
        Table(
            at("state"),
            "Let established connections pass, and what a pod's own node sends; drop what fits no connection. Echo requests "
            "are asked about one by one.",
            matches=frozenset(
                {
                    "ct_state",
                    "ct_mark",
                    "ct_label",
                    "known",
                    "hairpin",
                    "source",
                    *(("output", "eth_src") if direction == "ingress" else ()),
                    *_IP,
                    "ip_frag",
                    "icmpv4_type",
                    "icmpv6_type",
                    *address,
                }
            ),
            writes=frozenset(
                {"rule", "first", "hairpin", *(("next_hop_mac",) if direction == "egress" else ("ct_label",))}
            ),
            goes_to=(
                *(("services",) if direction == "egress" else ("snat", "snat_done", "deliver")),
                at("concern"),
                at("count"),
                "associations",
                "epoch",
            ),
            miss=Miss(reason="ct-invalid"),
            observes=observes,
        ),
        Table(
            at("concern"),
            f"Ask the rules about new connections of pods that some policy is about in this direction ({direction}).",
            matches=frozenset({"own", "known"}),
            goes_to=(at("ask"), at("count")),
            miss=Miss(table=at("count")),
            observes=observes,
        ),
        Table(
            at("ask"),
            "Say what the rules are asked about: the identity of who is at the other end, the protocol and the port.",
            matches=frozenset(_IP),
            writes=frozenset({"next_hop_v4", "next_hop_v6", "service"}),
            goes_to=(at("admin"), "neighbour"),
            miss=Miss(reason="ethertype"),
            observes=observes,
        ),
        Table(
            at("admin"),
            "Rules of ClusterNetworkPolicies of tier Admin. Senders with a pod's address that no pod has end here.",
            matches=rules,
            writes=frozenset({"rule"}),
            goes_to=(at("application"), at("count")),
            miss=Miss(table=at("application")),
            observes=observes,
        ),
        Table(
            at("application"),
            "Rules of SecurityPolicies and NetworkPolicies, by priority; then the isolation of pods that a NetworkPolicy selects.",
            matches=rules,
            writes=frozenset({"rule"}),
            goes_to=(at("baseline"), at("count")),
            miss=Miss(table=at("baseline")),
            observes=observes,
        ),
        Table(
            at("baseline"),
            "Rules of ClusterNetworkPolicies of tier Baseline, the baseline policy, and SecurityPolicies below it.",
            matches=rules,
            writes=frozenset({"rule"}),
            goes_to=(at("count"),),
            miss=Miss(table=at("count")),
            observes=observes,
        ),
        Table(
            at("count"),
            "Count each rule's connections, packets and bytes.",
            matches=frozenset({"rule", "first"}),
            goes_to=(at("commit"),),
            miss=Miss(table=at("commit")),
            observes=observes,
        ),
        Table(
            at("commit"),
            "Enter new connections into connection tracking, and new SCTP associations into their table, with the rule that "
            "allowed them.",
            matches=frozenset({"source", "eth_src", "ct_state", "ct_mark", "known", "host_port", *_IP, "ip_frag"}),
            writes=frozenset({"ct_label", "ct_mark", *(() if direction == "egress" else ("ipv4_src", "ipv6_src"))}),
            goes_to=(then,),
            miss=Miss(table=then),
            observes="connection committed",
        ),
    )
