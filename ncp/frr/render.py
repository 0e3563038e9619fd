"""FRR's configuration as text, and the lines that turn one configuration into another. Pure.

A neighbor is told everything that is announced and nothing that was learned: what comes in is marked not to be passed on
(community NO_ADVERTISE, RFC 1997), so that nodes are no way through for others' traffic.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ipam.address import Prefix
from ncp.frr.model import BFD_MULTIPLIER, Neighbor, Speaker

PROFILE = "NCP"
FAMILIES = {4: "ipv4", 6: "ipv6"}


class Statement(NamedTuple):
    """One line of a configuration, below the lines that it stands under."""

    above: tuple[str, ...]
    line: str


def render(speaker: Speaker) -> str:
    """The whole configuration, as one file for all daemons (``vtysh -f`` would read it)."""
    return "\n".join(
        (
            f"hostname {speaker.hostname}",
            # A neighbor across a router, and the next hops it names, may be reached by the default route.
            "ip nht resolve-via-default",
            "ipv6 nht resolve-via-default",
            "bfd",
            f" profile {PROFILE}",
            f"  detect-multiplier {BFD_MULTIPLIER}",
            f"  receive-interval {speaker.bfd_interval}",
            f"  transmit-interval {speaker.bfd_interval}",
            *_own(speaker.own),
            *_policies(speaker),
            f"router bgp {speaker.asn}",
            f" bgp router-id {speaker.router_id}",
            " no bgp default ipv4-unicast",
            " no bgp network import-check",
            # Paths by different neighbors of equal length are equal, whoever the neighbors are.
            " bgp bestpath as-path multipath-relax",
            # Announcements wait for others to be sent with; ours come together as it is.
            " coalesce-time 20",
            *(line for each in speaker.neighbors for line in _neighbor(each)),
            *(line for family in FAMILIES for line in _family(speaker, family)),
            "",
        )
    )


def statements(text: str) -> tuple[Statement, ...]:
    """A configuration as :func:`render` writes it, line by line: what stands under what is told by indentation."""
    found, above = [], list[str]()
    for line in text.splitlines():
        if bare := line.strip():
            del above[len(line) - len(line.lstrip()) :]
            found.append(Statement(tuple(above), bare))
            above.append(bare)
    return tuple(found)


def difference(old: str, new: str) -> tuple[Statement, ...]:
    """What to tell daemons that hold ``old`` (empty: nothing) so that they hold ``new``: first what goes, then what comes.

    A neighbor whose AS changes is made anew; other lines are changed under a session that goes on.
    """
    before, after = statements(old), statements(new)
    held, wanted = frozenset(before), frozenset(after)
    goes = [each for each in before if each not in wanted]
    renewed = {(each.above, peer) for each in goes if (peer := _peer_made(each.line))}
    removed = frozenset((*each.above, each.line) for each in goes)
    lines = []
    for each in goes:
        if any(each.above[:depth] in removed for depth in range(1, len(each.above) + 1)):
            continue  # goes with the line above it
        if (made := _peer_made(each.line)) or not _about(each, renewed):
            lines.append(Statement(each.above, f"no neighbor {made}" if made else _negated(each.line)))
    lines += [each for each in after if each not in held or _about(each, renewed)]
    return tuple(lines)


def opens(line: str) -> bool:
    """Whether lines may stand under this one."""
    return line.partition(" ")[0] in ("bfd", "profile", "route-map", "router", "address-family")


def is_policy(statement: Statement) -> bool:
    """Whether a line has a say in what is taken from neighbors: what they told already has to be looked at again."""
    top = (statement.above[0] if statement.above else statement.line).removeprefix("no ")
    return top.startswith(("route-map NCP-IN ", "ip prefix-list ", "ipv6 prefix-list "))


def _own(prefixes: Iterable[Prefix]) -> Iterable[str]:
    for family, word in FAMILIES.items():
        ours = sorted(each for each in prefixes if each.family == family)
        kind = "ip" if family == 4 else word
        yield from (
            f"{kind} prefix-list NCP-OWN seq {number} permit {each} le {32 if family == 4 else 128}"
            for number, each in enumerate(ours, 1)
        )


def _policies(speaker: Speaker) -> Iterable[str]:
    """FRR sends and takes nothing over external BGP without a policy (RFC 8212)."""
    yield "route-map NCP-OUT permit 10"
    yield "route-map NCP-IN deny 100"  # there with and without others: neighbors lose sight of a map that goes and comes back
    if not speaker.learn:
        return
    for number, (family, word) in enumerate(FAMILIES.items(), 10):
        if any(each.family == family for each in speaker.own):
            yield f"route-map NCP-IN deny {number}"
            yield f" match {'ip' if family == 4 else word} address prefix-list NCP-OWN"
    yield "route-map NCP-IN permit 30"
    yield " set community no-advertise additive"


def _neighbor(neighbor: Neighbor) -> Iterable[str]:
    name = f" neighbor {neighbor.address}"
    yield f"{name} remote-as {neighbor.asn}"
    yield f"{name} timers {neighbor.keepalive} {neighbor.hold}"
    yield f"{name} timers connect 1"
    yield f"{name} advertisement-interval 0"
    # A neighbor that keeps to routes of one that restarts keeps to those of a node that died, too.
    yield f"{name} graceful-restart-disable"
    if neighbor.source is not None:
        yield f"{name} update-source {neighbor.source}"
    if neighbor.multihop:
        yield f"{name} ebgp-multihop 16"
    if neighbor.password:
        yield f"{name} password {neighbor.password}"
    if neighbor.bfd:
        yield f"{name} bfd"
        yield f"{name} bfd profile {PROFILE}"


def _family(speaker: Speaker, family: int) -> Iterable[str]:
    yield f" address-family {FAMILIES[family]} unicast"
    yield f"  maximum-paths {speaker.multipath}"
    yield f"  maximum-paths ibgp {speaker.multipath}"
    yield from (f"  network {each}" for each in sorted(speaker.prefixes) if each.family == family)
    for each in speaker.neighbors:
        if each.address.family == family:
            yield f"  neighbor {each.address} activate"
            # What it told is kept as it was, so that another policy can be asked about it without asking the neighbor again.
            yield f"  neighbor {each.address} soft-reconfiguration inbound"
            yield f"  neighbor {each.address} route-map NCP-IN in"
            yield f"  neighbor {each.address} route-map NCP-OUT out"


def _peer_made(line: str) -> str:
    """The address of the neighbor that a line makes; empty: it makes none."""
    words = line.split()
    return words[1] if words[0] == "neighbor" and words[2] == "remote-as" else ""


def _about(statement: Statement, neighbors: Iterable[tuple[tuple[str, ...], str]]) -> bool:
    """Whether a line is about one of these neighbors, in the router itself or in one of its address families."""
    words = statement.line.split()
    return words[0] == "neighbor" and any(
        words[1] == address and statement.above[: len(above)] == above for above, address in neighbors
    )


def _negated(line: str) -> str:
    return line.removeprefix("no ") if line.startswith("no ") else f"no {line}"
