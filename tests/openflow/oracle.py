"""os-ken's codec, taught the fields of Open vSwitch it does not know, as the oracle of our encodings."""

from __future__ import annotations

from typing import Any

import netaddr
from os_ken.lib import type_desc
from os_ken.ofproto import ofproto_parser, ofproto_protocol, ofproto_v1_5, ofproto_v1_5_parser, oxm_fields

import sdn.openflow.app  # noqa: F401  (imports os-ken in the one sequence that works)
from sdn.openflow.fields import ALIASES, field
from sdn.pipeline import flow as f


class Ericsson(oxm_fields._OxmClass):  # type: ignore[misc]
    """The class in which Open vSwitch keeps two fields of neighbour discovery."""

    _class = 0x1000


_NICIRA = [
    ("ct_nw_proto", 119, type_desc.Int1),
    ("ct_nw_src", 120, type_desc.IPv4Addr),
    ("ct_nw_dst", 121, type_desc.IPv4Addr),
    ("ct_ipv6_src", 122, type_desc.IPv6Addr),
    ("ct_ipv6_dst", 123, type_desc.IPv6Addr),
    ("ct_tp_src", 124, type_desc.Int2),
    ("ct_tp_dst", 125, type_desc.Int2),
]
ofproto_v1_5.oxm_types = [
    *ofproto_v1_5.oxm_types,
    *(oxm_fields.NiciraExtended1(name, number, kind) for name, number, kind in _NICIRA),
    Ericsson("nd_reserved", 1, type_desc.Int4),
    Ericsson("nd_options_type", 2, type_desc.Int1),
]
oxm_fields.generate(ofproto_v1_5.__name__)

DATAPATH = ofproto_protocol.ProtocolDesc(ofproto_v1_5.OFP_VERSION)
of = ofproto_v1_5_parser


def parse(message: bytes) -> Any:
    """The os-ken message of these bytes."""
    version, kind, length, xid = ofproto_parser.header(message)
    assert length == len(message)
    parsed = ofproto_parser.msg(DATAPATH, version, kind, length, xid, message)
    assert parsed is not None, "os-ken cannot read the message"
    return parsed


def actions_packed(actions: tuple[f.Action, ...]) -> bytes:
    """os-ken's bytes of these actions."""
    packed = bytearray()
    for action in actions:
        Padded(os_ken_action(action)).serialize(packed, len(packed))
    return bytes(packed)


class Padded:
    """An os-ken action with the padding that its length promises: os-ken leaves it out of Nicira's actions."""

    def __init__(self, action: Any) -> None:
        self._action = action

    def serialize(self, packed: bytearray, offset: int) -> None:
        """Append the action's bytes."""
        self._action.serialize(packed, offset)
        packed += bytes(-(len(packed) - offset) % 8)


def os_ken_action(action: f.Action) -> Any:
    """The os-ken action that means the same."""
    match action:
        case f.SetField(name, value, mask):
            shown = _user(name, value)
            whole = mask is None or mask == field(name).ones
            return of.OFPActionSetField(**{name: shown if whole else (shown, _user(name, mask))})
        case f.CopyField(source, target, bits, source_offset, target_offset):
            ids = [of.OFPOxmId(source), of.OFPOxmId(target)]
            return of.OFPActionCopyField(bits, source_offset, target_offset, ids)
        case f.Output(port):
            return of.OFPActionOutput(port, 0)
        case f.OutputField(name, offset, bits):
            return of.NXActionOutputReg(offset << 6 | bits - 1, name, 0xFFFF)
        case f.DecTtl():
            return of.OFPActionDecNwTtl()
        case f.Controller(userdata, max_len):
            given: dict[str, Any] = {} if max_len == 0xFFFF else {"max_len": max_len}
            return of.NXActionController2(**given, **({"userdata": userdata} if userdata else {}))
        case f.Resubmit(table):
            return of.NXActionResubmitTable(0xFFF8, table)
        case f.CtClear():
            return of.NXActionCTClear()
        case f.Conjunction(number, clause, clauses):
            return of.NXActionConjunction(clause, clauses, number)
        case f.Group(number):
            return of.OFPActionGroup(number)
        case f.Meter(number):
            return of.OFPActionMeter(number)
        case f.Ct():
            return _ct(action)
        case f.Learn():
            return _learn(action)
    raise AssertionError(f"os-ken has nothing like {action}")


def _ct(action: f.Ct) -> Any:
    source, zone = "", action.zone
    if isinstance(zone, f.FieldBits):
        source, zone = zone.field, zone.offset << 6 | zone.bits - 1
    nested = [_nat(action.nat)] if action.nat else [of.NXActionNAT(0)] if action.translate else []
    nested += [os_ken_action(one) for one in action.actions]
    table = 255 if action.table is None else action.table
    return of.NXActionCT(action.commit | action.force << 1, source, zone, table, 0, [Padded(one) for one in nested])


def _nat(nat: f.Nat) -> Any:
    given: dict[str, Any] = {}
    for end, address in (("min", nat.address), ("max", nat.address_to)):
        if address:
            given[f"range_ipv{nat.version}_{end}"] = str(netaddr.IPAddress(address, nat.version))
    for end, port in (("min", nat.port), ("max", nat.port_to)):
        if port:
            given[f"range_proto_{end}"] = port
    return of.NXActionNAT(1 if nat.source else 2, **given)


def _learn(action: f.Learn) -> Any:
    specs = []
    for one in action.fields:
        source: Any = (ALIASES.get(one.source, one.source), one.source_offset) if one.value is None else one.value
        kind = of.NXFlowSpecLoad if one.load else of.NXFlowSpecMatch
        specs.append(kind(src=source, dst=(one.target, one.target_offset), n_bits=one.bits))
    return of.NXActionLearn(
        table_id=action.table,
        specs=specs,
        idle_timeout=action.idle_timeout,
        hard_timeout=action.hard_timeout,
        priority=action.priority,
        cookie=action.cookie,
        flags=2 if action.delete_learned else 0,
    )


def _user(name: str, value: int) -> Any:
    """A value as os-ken wants to be told it."""
    if field(name).size == 6:
        return str(netaddr.EUI(value, dialect=netaddr.mac_unix_expanded))
    if name.startswith(("ipv4", "ipv6", "arp_spa", "arp_tpa", "tun_ipv")):
        return str(netaddr.IPAddress(value, 6 if "ipv6" in name else 4))
    return value
