"""From configuration and network to what a node's router says and is told to say. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from ipam.address import Address, Prefix
from ncp.frr.model import Learned, Neighbor, Peer, Speaker
from ncp.translate.objects import Object
from sdn.advertise import advertised
from sdn.model import Intent

EDGE: Final = "ncp/edge"
BGP: Final = "ncp/bgp"


@dataclass(frozen=True, slots=True)
class RouterState:
    """What a node's router last said of itself. ``fault``: why it cannot be told anything; empty: it can."""

    speaker: Speaker | None = None  # None: it speaks with nobody
    peers: tuple[Peer, ...] = ()
    learned: tuple[Learned, ...] = ()
    fault: str = ""
    restarts: int = 0  # of daemons that ended

    def tells_other(self, told: RouterState) -> bool:
        """Whether others should hear of it: sessions came up or broke down, or for another reason; counts alone do not matter."""
        return self._news() != told._news()

    def _news(self) -> tuple[object, ...]:
        asn = self.speaker.asn if self.speaker else None
        return (
            asn,
            self.fault,
            tuple((each.address, each.asn, each.up, each.bfd == "up", each.reason) for each in self.peers),
        )


def is_edge(node: Object | None, intent: Intent, me: str) -> bool:
    """Whether a node is where the network meets the physical one: it is labelled so, or traffic leaves by it."""
    labels = ((node or {}).get("metadata") or {}).get("labels") or {}
    return labels.get(EDGE) == "true" or intent.tier0.exit_node == me


def speaker_of(settings: Any, intent: Intent, me: str, links: Iterable[Prefix]) -> Speaker | None:
    """What node ``me`` is to speak, or None where there is no BGP.

    Args:
        settings: all of ``ncp.ini``.
        intent: the network.
        me: an edge node.
        links: networks on the node's links: it peers with whom it has there, and with those that may be farther away.
    """
    bgp = settings.bgp
    if bgp.local_as is None:
        return None
    near = tuple(links)
    here = intent.nodes.get(me)
    neighbors = tuple(
        Neighbor(
            peer.address,
            peer.asn,
            bfd=bgp.bfd,
            password=bgp.password,
            multihop=not linked,
            keepalive=bgp.keepalive,
            hold=bgp.hold,
        )
        for peer in bgp.peers
        if (linked := any(peer.address in network for network in near)) or peer.multihop
    )
    return Speaker(
        bgp.local_as,
        _router_id(me, here.addresses if here else ()),
        neighbors,
        advertised(intent, me, bgp.announce, everywhere=settings.ncp.ha_mode == "active-active"),
        learn=bgp.learn,
        own=(*intent.blocks, *(gateway.prefix for gateway in intent.tier0.gateways)),
        multipath=bgp.ecmp,
        hostname=me.partition(".")[0],
        bfd_interval=bgp.bfd_interval_ms,
    )


def annotation_of(state: RouterState) -> str | None:
    """What stands on the node's object; None where it speaks with nobody."""
    if state.speaker is None:
        return None
    peers = [
        {
            "address": str(each.address),
            "as": each.asn,
            "state": "up" if each.up else "down",
            **({"bfd": each.bfd} if each.bfd else {}),
            **({"received": each.received, "sent": each.sent} if each.up else {"reason": each.reason}),
        }
        for each in state.peers
    ]
    said = {"as": state.speaker.asn, "peers": peers, **({"error": state.fault} if state.fault else {})}
    return orjson.dumps(said).decode()


def view_of(state: RouterState, node: str) -> Mapping[str, Any]:
    """Everything, as plain JSON values."""
    speaker = state.speaker
    return {
        "node": node,
        "as": speaker.asn if speaker else None,
        "router_id": str(speaker.router_id) if speaker else None,
        "error": state.fault,
        "restarts": state.restarts,
        "peers": [
            {
                "address": str(each.address),
                "as": each.asn,
                "state": each.state,
                "reason": each.reason,
                "seconds": each.seconds,
                "received": each.received,
                "sent": each.sent,
                "bfd": each.bfd,
            }
            for each in state.peers
        ],
        "announced": [str(each) for each in speaker.prefixes] if speaker else [],
        "learned": [
            {"prefix": str(each.prefix), "next_hops": [str(hop) for hop in each.next_hops]} for each in state.learned
        ],
    }


def _router_id(me: str, addresses: Iterable[Address]) -> Address:
    """The node's first IPv4 address; without one, 32 bits that its name gives, as it needs no more than to be its own."""
    of_four = next((each for each in addresses if each.family == 4), None)
    return of_four or Address(4, int.from_bytes(hashlib.blake2b(me.encode(), digest_size=4).digest(), "big") or 1)
