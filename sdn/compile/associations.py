"""SCTP associations with virtual servers. Pure.

Open vSwitch's userspace connection tracking knows no ports of SCTP (RFC 9260) and could translate none. So the switch notes, with the
first packet of an association, two flows of table ``translations``: one gives what the client sends to the member, the other gives what
the member answers the virtual server's address and port. Ports of associations with the outside stay as they are.
"""

from __future__ import annotations

from typing import Final

from ipam.address import Address
from sdn.compile.firewall import BACKWARD, FORWARD, ITSELF, LEARNED, SCTP, SILENCE
from sdn.compile.terms import ETH_IP, goto
from sdn.pipeline.flow import Action, Learn, LearnField, SetField
from sdn.pipeline.registers import HAIRPIN, OUTSIDE, ZONE
from sdn.pipeline.tables import T
from sdn.services import Member

OUTWARD: Final = 97
"""Priority of what is noted about an association whose client is somebody else outside."""


def associate_member(member: Member, *, itself: bool) -> tuple[Action, ...]:
    """Note that this packet's association is with a member, and send the packet there. ``itself``: it is from the member; then it
    comes from another address, for from its own the member would take nothing."""
    family = member.address.family
    name, bits = (f"ipv{family}", 32 if family == 4 else 128)
    source, target = f"{name}_src", f"{name}_dst"
    other = next(each.value for each in ITSELF if each.family == family)
    seen = LearnField(target, bits, other) if itself else LearnField(target, bits, source=source)
    as_other = (LearnField(source, bits, other, load=True), _hairpin()) if itself else ()
    to_client = (LearnField(target, bits, source=source, load=True),) if itself else ()
    forward = (
        *of_association(family),
        LearnField(source, bits, source=source),
        LearnField(target, bits, source=target),
        LearnField("sctp_src", 16, source="sctp_src"),
        LearnField("sctp_dst", 16, source="sctp_dst"),
        LearnField(target, bits, member.address.value, load=True),
        LearnField("sctp_dst", 16, member.port, load=True),
        _let_in(),
        *as_other,
    )
    backward = (
        *of_association(family),
        LearnField(source, bits, member.address.value),
        seen,
        LearnField("sctp_src", 16, member.port),
        LearnField("sctp_dst", 16, source="sctp_src"),
        LearnField(source, bits, source=target, load=True),
        LearnField("sctp_src", 16, source="sctp_dst", load=True),
        *to_client,
    )
    return (
        _note(FORWARD, forward),
        _note(BACKWARD, backward),
        SetField(target, member.address.value),
        SetField("sctp_dst", member.port),
        *((SetField(source, other),) if itself else ()),
        goto("egress_count" if itself else "egress_concern"),
    )


def associate_bound(external: Address, inner: Address, then: str) -> tuple[Action, ...]:
    """Note that this packet's association with a bound address is with its pod, and send the packet there."""
    family = inner.family
    name, bits = (f"ipv{family}", 32 if family == 4 else 128)
    source, target = f"{name}_src", f"{name}_dst"
    ports = (LearnField("sctp_src", 16, source="sctp_src"), LearnField("sctp_dst", 16, source="sctp_dst"))
    turned = (LearnField("sctp_src", 16, source="sctp_dst"), LearnField("sctp_dst", 16, source="sctp_src"))
    forward = (
        *of_association(family),
        LearnField(source, bits, source=source),
        LearnField(target, bits, external.value),
        *ports,
        LearnField(target, bits, inner.value, load=True),
        _let_in(),
    )
    backward = (
        *of_association(family),
        LearnField(source, bits, inner.value),
        LearnField(target, bits, source=source),
        *turned,
        LearnField(source, bits, external.value, load=True),
    )
    return _note(FORWARD, forward), _note(BACKWARD, backward), SetField(target, inner.value), goto(then)


def associate_outside(address: Address, then: str) -> tuple[Action, ...]:
    """Send a packet as from the address its pod has outside, and note to whom its association's answers go."""
    name, bits = f"ipv{address.family}", 32 if address.family == 4 else 128
    fields = (
        *of_association(address.family),
        LearnField(f"{name}_src", bits, source=f"{name}_dst"),
        LearnField(f"{name}_dst", bits, address.value),
        LearnField("sctp_src", 16, source="sctp_dst"),
        LearnField("sctp_dst", 16, source="sctp_src"),
        LearnField(f"{name}_dst", bits, source=f"{name}_src", load=True),
        _let_in(),
    )
    return _note(OUTWARD, fields), SetField(f"{name}_src", address.value), goto(then)


def of_association(family: int) -> tuple[LearnField, ...]:
    """SCTP packets of a family in the zone of the one that is seen."""
    zone = LearnField(ZONE.register, ZONE.bits, source=ZONE.register, source_offset=ZONE.low, target_offset=ZONE.low)
    return zone, LearnField("eth_type", 16, ETH_IP[family][1]), LearnField("ip_proto", 8, SCTP)


def _let_in() -> LearnField:
    """What the packet is sent to does not stand on it: it is not asked again whether those outside may reach that."""
    return LearnField(OUTSIDE.register, 1, 0, target_offset=OUTSIDE.low, load=True)


def _hairpin() -> LearnField:
    return LearnField(HAIRPIN.register, 1, 1, target_offset=HAIRPIN.low, load=True)


def _note(priority: int, fields: tuple[LearnField, ...]) -> Learn:
    return Learn(T["translations"], priority, LEARNED, fields, idle_timeout=SILENCE, delete_learned=False)
