"""Flows as text, in Open vSwitch's own notation, and the pipeline as Markdown."""

from __future__ import annotations

from collections.abc import Callable

import netaddr

from sdn.pipeline.flow import (
    IN_PORT,
    Action,
    CheckPacketLarger,
    Conjunction,
    Controller,
    CopyField,
    Ct,
    DecTtl,
    Flow,
    Goto,
    Output,
    OutputField,
    Resubmit,
    SetField,
    Term,
)
from sdn.pipeline.spec import Miss, Pipeline

_MAC = frozenset(
    {"eth_src", "eth_dst", "arp_sha", "arp_tha", "nd_sll", "nd_tll", "ipv6_nd_sll", "ipv6_nd_tll", "next_hop_mac"}
)
_IPV4 = frozenset({"ipv4_src", "ipv4_dst", "arp_spa", "arp_tpa", "tun_ipv4_src", "tun_ipv4_dst", "next_hop_v4"})
_IPV6 = frozenset(
    {"ipv6_src", "ipv6_dst", "nd_target", "ipv6_nd_target", "tun_ipv6_src", "tun_ipv6_dst", "next_hop_v6"}
)


_CT_STATE = ("new", "est", "rel", "rpl", "inv", "trk", "snat", "dnat")
_PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmp6", 132: "sctp"}


def value_text(name: str, value: int) -> str:
    """A field's value the way people write it."""
    if name in _MAC:
        return ":".join(f"{byte:02x}" for byte in value.to_bytes(6, "big"))
    if name in _IPV4:
        return str(netaddr.IPAddress(value, 4))
    if name in _IPV6:
        return str(netaddr.IPAddress(value, 6))
    if name == "ct_state":
        return "+".join(("", *(bit for number, bit in enumerate(_CT_STATE) if value >> number & 1))) or "0"
    if name == "service":
        return f"{_PROTOCOLS.get(value >> 16, value >> 16)}/{value & 0xFFFF}"
    if name == "eth_type":
        return {0x0800: "ipv4", 0x0806: "arp", 0x86DD: "ipv6"}.get(value, hex(value))
    return str(value)


def term_text(pipeline: Pipeline, term: Term) -> str:
    """One match term; register bits are named by the fields they belong to."""
    name, value, mask = term
    named = _register_text(pipeline, name, value, mask)
    if named:
        return named
    text = f"{name}={value_text(name, value)}"
    if mask is None:
        return text
    width = 32 if name in _IPV4 else 128 if name in _IPV6 else 48 if name in _MAC else 0
    length = mask.bit_count()
    if width and mask == ((1 << length) - 1) << (width - length) and name not in _MAC:
        return f"{text}/{length}"
    return f"{text}/{value_text(name, mask) if name in _MAC else hex(mask)}"


def _register_text(pipeline: Pipeline, name: str, value: int, mask: int | None) -> str:
    fields = [f for f in pipeline.fields if f.register == name and (mask is None or f.mask & mask)]
    return ",".join(f"{f.name}={value_text(f.name, (value & f.mask) >> f.low)}" for f in fields)


def action_text(pipeline: Pipeline, action: Action) -> str:
    """One action."""
    match action:
        case SetField(name, value, mask):
            return (
                _register_text(pipeline, name, value, mask).replace("=", ":=") or f"{name}:={value_text(name, value)}"
            )
        case CopyField(source, target, bits, source_offset, target_offset):
            return f"{_bits(target, target_offset, bits)}:={_bits(source, source_offset, bits)}"
        case Output(port):
            return "output:in_port" if port == IN_PORT else f"output:{port}"
        case OutputField(name, offset, bits):
            return f"output:{_bits(name, offset, bits)}"
        case DecTtl():
            return "dec_ttl"
        case Controller(userdata, _):
            return f"controller:{userdata.hex()}"
        case CheckPacketLarger(size, name, offset):
            return f"check_pkt_larger({size})->{name}[{offset}]"
        case Resubmit(table):
            return f"resubmit:{pipeline.tables[table].name}"
        case Goto(table):
            return f"goto:{pipeline.tables[table].name}"
        case Ct():
            return _ct_text(pipeline, action)
        case Conjunction(number, clause, clauses):
            return f"conjunction:{number:#x},{clause + 1}/{clauses}"
    return str(action)


def _ct_text(pipeline: Pipeline, ct: Ct) -> str:
    zone = ct.zone if isinstance(ct.zone, int) else _bits(ct.zone.field, ct.zone.offset, ct.zone.bits)
    parts = ["commit" if ct.commit else "", f"zone={zone}", *(action_text(pipeline, each) for each in ct.actions)]
    if ct.table is not None:
        parts.append(f"goto:{pipeline.tables[ct.table].name}")
    return f"ct({','.join(part for part in parts if part)})"


def _bits(name: str, offset: int, bits: int) -> str:
    return f"{name}[{offset}..{offset + bits - 1}]"


def match_text(pipeline: Pipeline, flow: Flow) -> str:
    """A flow's match, comma-separated; ``*`` where it matches everything."""
    return ",".join(term_text(pipeline, term) for term in flow.match) or "*"


def actions_text(pipeline: Pipeline, flow: Flow) -> str:
    """A flow's actions, comma-separated; ``drop`` where there are none."""
    return ",".join(action_text(pipeline, action) for action in flow.actions) or "drop"


def markdown(pipeline: Pipeline) -> str:
    """The pipeline as a document: fields, drop reasons, a diagram, and every table."""
    lines = [
        "# The pipeline",
        "",
        "Made from `sdn/pipeline/tables.py` by `make docs`; `make check` fails when it is out of step.",
        "Every packet enters at table 0 and only ever moves to a later table.",
        "",
        "```mermaid",
        "flowchart TD",
    ]
    for table in pipeline.tables:
        for target in table.goes_to:
            lines.append(f"  {table.name} --> {target}")
        if table.miss.table and table.miss.table not in table.goes_to:
            lines.append(f"  {table.name} -.-> {table.miss.table}")
    lines += ["```", "", "## Register fields", "", "| Field | Bits | Meaning |", "|---|---|---|"]
    lines += [f"| `{f.name}` | `{f.register}[{f.low}..{f.high}]` | {f.doc} |" for f in pipeline.fields]
    lines += ["", "## Drop reasons", "", "Each has a counter: the packets of the flows with origin `Fabric drop`.", ""]
    lines += ["| Reason | Meaning |", "|---|---|"]
    lines += [f"| `{reason}` | {meaning} |" for reason, meaning in pipeline.drops]
    lines += ["", "## Tables"]
    for number, table in enumerate(pipeline.tables):
        miss = _miss(table.miss)
        listed: Callable[[frozenset[str]], str] = lambda names: ", ".join(f"`{n}`" for n in sorted(names)) or "nothing"  # noqa: E731
        lines += [
            "",
            f"### {number} `{table.name}`",
            "",
            table.doc,
            "",
            f"- matches: {listed(table.matches)}",
            f"- writes: {listed(table.writes)}",
            f"- goes to: {', '.join(f'`{n}`' for n in table.goes_to) or 'nowhere: a packet ends here'}",
            f"- a miss: {miss}",
            f"- a traceflow sees: {table.observes}",
        ]
    return "\n".join(lines) + "\n"


def _miss(miss: Miss) -> str:
    if miss.back:
        return "back where it came from, nothing found"
    return f"on to `{miss.table}`" if miss.table else f"dropped as `{miss.reason}`"
