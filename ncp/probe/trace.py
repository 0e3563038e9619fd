"""What the programmed flows say of probes: ``ofproto/trace`` at the sender's node and, past a tunnel, at the next.

Many probes are followed side by side, so that each switch is asked about all of them at once.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Mapping
from typing import Final, Protocol, TypeAlias

from firewall.rules import DIRECTIONS
from ncp.probe.model import Answer, Endpoint, Probe, Verdict
from ncp.translate.objects import format_mac
from sdn.compile.terms import REJECTED
from sdn.model import Origin
from sdn.pipeline.registers import GATEWAY_MAC, GENEVE_PORT
from sdn.pipeline.tables import PIPELINE


class Tracer(Protocol):
    """Asks switches: what packets meet, and who asked for a flow."""

    def traces(self, node: str, flows: list[str]) -> list[str]:
        """The traces of packets, in ovs-ofctl notation, at a node: a text for each."""

    def origin(self, node: str, cookie: str) -> Origin | None:
        """Who asked for the flow with that cookie; None where nobody we know did."""


Walk: TypeAlias = Generator[tuple[str, str], str, Verdict]
"""Yields (node, packet) and is sent the trace of it, until it has a verdict."""

_OUTPUT: Final = re.compile(r"output port is (\d+)|^\s*output:(\d+)|^\s*(IN_PORT)\b", re.MULTILINE)
_MET: Final = re.compile(r"^\s*(\d+)\. .*cookie (0x[0-9a-f]+)", re.MULTILINE)
_PROTOCOL: Final = {
    "tcp": ("tcp", "tcp6"),
    "udp": ("udp", "udp6"),
    "sctp": ("sctp", "sctp6"),
    "icmp": ("icmp", "icmp6"),
}
_RULE: Final = re.compile(r"(?:in|e)gress rule \d+")
_REJECTED: Final = re.compile(rf"userdata={REJECTED.hex()}\.")
_HOPS: Final = 2  # a packet crosses at most one tunnel
_PASSED: Final = "_count"
"""Ends the names of the tables that packets reach which a direction's rules let pass."""

_VNI: Final = re.compile(r"geneve\(vni=(0x[0-9a-f]+)")
_REWRITTEN: Final = {
    "dl_src": re.compile(r"set\(eth\(src=([0-9a-f:]{17})"),
    "dl_dst": re.compile(r"set\(eth\((?:src=[0-9a-f:]{17},)?dst=([0-9a-f:]{17})"),
    "nw_ttl": re.compile(r"set\((?:ipv4\(ttl|ipv6\(hlimit)=(\d+)"),
}


def traced_all(
    endpoints: Mapping[str, Endpoint],
    probes: Iterable[Probe],
    tracer: Tracer,
    progress: Callable[[int], None] = lambda done: None,
) -> list[Verdict]:
    """Follow probes through the flows of the nodes they cross; a verdict for each, in their order."""
    walks = [_walk(endpoints, probe, tracer) for probe in probes]
    found: dict[int, Verdict] = {}
    texts: dict[int, str | None] = dict.fromkeys(range(len(walks)))
    while texts:
        asked: dict[str, dict[int, str]] = defaultdict(dict)
        for number, text in texts.items():
            try:
                node, flow = next(walks[number]) if text is None else walks[number].send(text)
            except StopIteration as end:
                found[number] = end.value
            else:
                asked[node][number] = flow
        progress(len(found))
        texts = {}
        for node, flows in asked.items():
            texts.update(zip(flows, tracer.traces(node, list(flows.values())), strict=True))
    return [found[number] for number in range(len(walks))]


def _walk(endpoints: Mapping[str, Endpoint], probe: Probe, tracer: Tracer) -> Walk:
    source, destination = endpoints.get(probe.source), endpoints.get(probe.destination)
    if source is None or destination is None:
        return Verdict("unknown", "one end does not exist")
    if not source.ofport or source.address(probe.family) is None or destination.address(probe.family) is None:
        return Verdict("unknown", "not attached, or no address of that family")
    node, flow = source.node, start_flow(source, destination, probe)
    stages: tuple[str, ...] = ()
    for _ in range(_HOPS):
        text = yield node, flow
        port, cookie = last_output(text)
        stages += stages_of(node, text)
        if probe.protocol == "neighbour":
            return Verdict("yes" if port == "IN_PORT" else "no", f"at {node}, flow {cookie}")
        if any(
            table == "snat_done" for table, _ in met(text)
        ):  # a trace does not follow the translation, nor what comes after
            return Verdict("yes", f"at {node}, translated by flow {_met_in(text, 'snat')}", (), stages)
        if port == str(GENEVE_PORT) and node != destination.node:
            node, flow = destination.node, tunnelled(text, flow)
            continue
        if node == destination.node and port == str(destination.ofport):
            return Verdict("yes", f"at {node}, output {port}, flow {cookie}", (), stages)
        if port:
            return Verdict("no", f"at {node}, output {port}, flow {cookie}", (), stages)
        origin = tracer.origin(node, cookie)
        answer: Answer = "rejected" if _REJECTED.search(text) else "no"
        why = f"at {node}, dropped: {origin or 'flow ' + cookie}"
        return Verdict(answer, why, causes_of(origin) if origin else (), stages)
    return Verdict("no", "it crosses more than one tunnel", (), stages)


def met(text: str) -> list[tuple[str, str]]:
    """The tables a trace passes, in order, each with the cookie of the flow it meets there."""
    names = [table.name for table in PIPELINE.tables]
    return [(names[int(number)], cookie) for number, cookie in _MET.findall(text) if int(number) < len(names)]


def _met_in(text: str, table: str) -> str:
    return next((cookie for name, cookie in met(text) if name == table), "none")


def stages_of(node: str, text: str) -> tuple[str, ...]:
    """What each direction of the firewall that a trace passes says, and in which table."""
    passed = [table for table, _ in met(text)]
    found = []
    for direction in DIRECTIONS[::-1]:
        names = [name for name in passed if name.startswith(f"{direction}_")]
        if not names:
            continue
        if direction + _PASSED in names:
            found.append(f"{direction} at {node}: allow in {names[names.index(direction + _PASSED) - 1]}")
        else:
            verdict = "reject" if _REJECTED.search(text) else "drop"
            found.append(f"{direction} at {node}: {verdict} in {names[-1]}")
    return tuple(found)


def causes_of(origin: Origin) -> tuple[str, ...]:
    """The policies that a flow that turns packets away was asked for by, each with its rule; none for the fabric's own."""
    where = f"{origin.namespace}/" if origin.namespace else ""
    if rule := _RULE.match(origin.detail):
        return (f"{origin.kind} {where}{origin.name} {rule[0]}",)
    if origin.detail.startswith("isolates "):
        return tuple(f"{origin.kind} {where}{name} {origin.detail}" for name in origin.name.split(","))
    return ()


def start_flow(source: Endpoint, destination: Endpoint, probe: Probe) -> str:
    """The packet a pod sends, in ovs-ofctl notation."""
    here, there = source.address(probe.family), destination.address(probe.family)
    common = f"in_port={source.ofport},dl_src={format_mac(source.mac)}"
    if probe.protocol == "neighbour":
        if probe.family == 4:
            return f"{common},dl_dst=ff:ff:ff:ff:ff:ff,arp,arp_op=1,arp_spa={here},arp_tpa={there},arp_sha={format_mac(source.mac)}"
        return (
            f"{common},dl_dst=33:33:ff:00:00:01,icmp6,ipv6_src={here},ipv6_dst={there},nw_ttl=255,icmpv6_type=135,icmpv6_code=0,"
            f"nd_target={there},nd_sll={format_mac(source.mac)}"
        )
    mac = destination.mac if source.is_beside(destination) else GATEWAY_MAC
    name = _PROTOCOL[probe.protocol][probe.family == 6]
    prefix = "nw" if probe.family == 4 else "ipv6"
    flow = f"{common},dl_dst={format_mac(mac)},{name},{prefix}_src={here},{prefix}_dst={there},nw_ttl=64"
    if probe.protocol == "icmp":
        return f"{flow},icmp_type=8,icmp_code=0" if probe.family == 4 else f"{flow},icmpv6_type=128,icmpv6_code=0"
    flags = ",tcp_flags=syn" if probe.protocol == "tcp" else ""
    return f"{flow},{probe.protocol}_src=40000,{probe.protocol}_dst={probe.port}{flags}"


def last_output(text: str) -> tuple[str, str]:
    """The port a trace ends by (empty: it drops), and the cookie of the last flow it met."""
    found = [next(filter(None, groups)) for groups in _OUTPUT.findall(text)]
    cookies = [cookie for _, cookie in _MET.findall(text)]
    return (found[-1] if found else ""), (cookies[-1] if cookies else "none")


def tunnelled(text: str, flow: str) -> str:
    """The packet as the next node takes it out of the tunnel: what went in, as the datapath actions rewrite it."""
    actions = text.rsplit("Datapath actions:", 1)[-1]
    vni = _VNI.search(actions)
    rewritten = {name: found[-1] for name, pattern in _REWRITTEN.items() if (found := pattern.findall(actions))}
    kept = [part for part in flow.split(",") if part.split("=")[0] not in ("in_port", *rewritten)]
    changed = [f"{name}={value}" for name, value in rewritten.items()]
    return ",".join([f"in_port={GENEVE_PORT}", f"tun_id={vni[1] if vni else 0}", *kept, *changed])
