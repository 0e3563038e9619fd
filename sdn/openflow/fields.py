"""OpenFlow 1.5 match fields as Open vSwitch encodes them (ovs-fields(7)).

A field is named as os-ken names it; where the standard (OXM) and the older Nicira (NXM) encoding of the same
field both have a name, the second name is an alias of the first, because the switch stores one field only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

NXM_0, NXM_1 = 0x0000, 0x0001
ERICSSON = 0x1000
OPENFLOW_BASIC, PACKET_REGISTERS = 0x8000, 0x8001
EXPERIMENTER = 0xFFFF


class Field(NamedTuple):
    """How one field is written on the wire.

    ``bits`` are the meaningful low bits of a value of ``size`` bytes; ``order`` puts a field after those it
    depends on (a flow's TCP port after its IP protocol after its Ethernet type), in the switch's own sequence.
    """

    name: str
    oxm_class: int
    number: int
    size: int
    bits: int
    order: int
    maskable: bool = True

    @property
    def header(self) -> int:
        """The 32-bit header of an exact value."""
        return self.oxm_class << 16 | self.number << 9 | self.size

    @property
    def masked_header(self) -> int:
        """The 32-bit header of a value followed by its mask."""
        return self.oxm_class << 16 | self.number << 9 | 0x100 | self.size * 2

    @property
    def ones(self) -> int:
        """The mask that covers every meaningful bit."""
        return (1 << self.bits) - 1


# name, class, number, bits; a trailing "-" marks a field the switch does not let anyone mask. The sequence of the
# lines is the sequence in which Open vSwitch itself writes the fields of a match, so prerequisites come first.
_TABLE = """
conj_id          nx   37  32 -
in_port          of    0  32 -
in_port_nxm      nx0   0  16 -
eth_src          of    4  48
eth_dst          of    3  48
eth_type         of    5  16 -
vlan_vid         of    6  13
vlan_pcp         of    7   3 -
ipv4_src         of   11  32
ipv4_dst         of   12  32
ipv6_src         of   26 128
ipv6_dst         of   27 128
ip_frag          nx   26   2
ip_dscp          of    8   6 -
ip_ecn           of    9   2 -
nw_ttl           nx   29   8 -
ipv6_flabel      of   28  20
ip_proto         of   10   8 -
tcp_src          of   13  16
tcp_dst          of   14  16
tcp_flags        of   42  12
udp_src          of   15  16
udp_dst          of   16  16
sctp_src         of   17  16
sctp_dst         of   18  16
icmpv4_type      of   19   8 -
icmpv4_code      of   20   8 -
icmpv6_type      of   29   8 -
icmpv6_code      of   30   8 -
nd_reserved      eric  1  32 -
ipv6_nd_target   of   31 128
nd_options_type  eric  2   8 -
ipv6_nd_sll      of   32  48
ipv6_nd_tll      of   33  48
arp_op           of   21  16 -
arp_spa          of   22  32
arp_tpa          of   23  32
arp_sha          of   24  48
arp_tha          of   25  48
tunnel_id        of   38  64
tun_ipv4_src     nx   31  32
tun_ipv4_dst     nx   32  32
tun_ipv6_src     nx  109 128
tun_ipv6_dst     nx  110 128
tun_metadata{8}  nx   40  32
reg{16}          nx    0  32
xxreg{4}         nx  111 128
xreg{8}          reg   0  64
pkt_mark         nx   33  32
ct_state         nx  105   8
ct_zone          nx  106  16 -
ct_mark          nx  107  32
ct_label         nx  108 128
ct_nw_src        nx  120  32
ct_nw_dst        nx  121  32
ct_ipv6_src      nx  122 128
ct_ipv6_dst      nx  123 128
ct_nw_proto      nx  119   8 -
ct_tp_src        nx  124  16
ct_tp_dst        nx  125  16
metadata         of    2  64
"""

_CLASSES = {"nx0": NXM_0, "nx": NXM_1, "eric": ERICSSON, "of": OPENFLOW_BASIC, "reg": PACKET_REGISTERS}

ALIASES: Mapping[str, str] = {
    "nd_target": "ipv6_nd_target",
    "nd_sll": "ipv6_nd_sll",
    "nd_tll": "ipv6_nd_tll",
    "tun_id": "tunnel_id",
    "nw_frag": "ip_frag",
    "ip_ttl": "nw_ttl",
    "tun_src": "tun_ipv4_src",
    "tun_dst": "tun_ipv4_dst",
}


_WIDER = {"ct_state": 4, "ipv6_flabel": 4}  # bytes of fields that use less than their bytes


def _read(table: str) -> Iterator[Field]:
    order = 0
    for line in table.split("\n"):
        if not line:
            continue
        name, oxm_class, number, bits, *exact = line.split()
        stem, _, repeat = name.rstrip("}").partition("{")
        for index in range(int(repeat or 1)):
            size = _WIDER.get(stem) or (int(bits) + 7) // 8
            own = f"{stem}{index}" if repeat else stem
            yield Field(own, _CLASSES[oxm_class], int(number) + index, size, int(bits), order, not exact)
            order += 1


_BY_OWN_NAME = {one.name: one for one in _read(_TABLE)}
FIELDS: Mapping[str, Field] = {
    **_BY_OWN_NAME,
    **{alias: _BY_OWN_NAME[name] for alias, name in ALIASES.items()},
}
BY_HEADER: Mapping[int, Field] = {
    header: one for one in _BY_OWN_NAME.values() for header in (one.header, one.masked_header)
}


def field(name: str) -> Field:
    """Find a field by name; raises ValueError for a name the switch does not know."""
    try:
        return FIELDS[name]
    except KeyError:
        raise ValueError(f"no OpenFlow field is called {name!r}; known: {', '.join(FIELDS)}") from None
