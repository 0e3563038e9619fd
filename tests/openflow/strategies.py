"""Random flows that a switch accepts, for tests that compare our bytes with other people's."""

from __future__ import annotations

from hypothesis import strategies as st

from sdn.model import Origin
from sdn.openflow.fields import field
from sdn.pipeline import flow as f

ORIGIN = Origin("Pod", "shop", "web-0", "0b3f", "random")
TCP, UDP, SCTP, ICMP, ICMP6 = 6, 17, 132, 1, 58
_TRACKED = (("ct_state", 0x21, 0x21),)

# Per kind of packet: the terms that make a match be about it, and the fields it may then name.
_ALWAYS = [
    "in_port", "eth_src", "eth_dst", "metadata", "tunnel_id", "tun_ipv4_src", "tun_ipv4_dst", "pkt_mark",
    "conj_id", "ct_state", "ct_zone", "ct_mark", "ct_label", "reg0", "reg3", "reg10", "reg11", "xreg2", "xxreg3",
]  # fmt: skip
_IP = ["ip_dscp", "ip_ecn", "nw_ttl", "ip_frag"]
_V4 = [*_IP, "ipv4_src", "ipv4_dst"]
_V6 = [*_IP, "ipv6_src", "ipv6_dst", "ipv6_flabel"]
_KINDS: list[tuple[tuple[f.Term, ...], list[str]]] = [
    ((), ["eth_type"]),
    ((("eth_type", 0x0800, None),), [*_V4, "ip_proto"]),
    ((("eth_type", 0x0800, None), ("ip_proto", TCP, None)), [*_V4, "tcp_src", "tcp_dst", "tcp_flags"]),
    ((("eth_type", 0x86DD, None), ("ip_proto", TCP, None)), [*_V6, "tcp_src", "tcp_dst", "tcp_flags"]),
    ((("eth_type", 0x0800, None), ("ip_proto", UDP, None)), [*_V4, "udp_src", "udp_dst"]),
    ((("eth_type", 0x86DD, None), ("ip_proto", UDP, None)), [*_V6, "udp_src", "udp_dst"]),
    ((("eth_type", 0x86DD, None), ("ip_proto", SCTP, None)), [*_V6, "sctp_src", "sctp_dst"]),
    ((("eth_type", 0x0800, None), ("ip_proto", ICMP, None)), [*_V4, "icmpv4_type", "icmpv4_code"]),
    (
        (("eth_type", 0x86DD, None), ("ip_proto", ICMP6, None), ("icmpv6_type", 135, None), ("icmpv6_code", 0, None)),
        [*_V6, "nd_target", "nd_sll"],
    ),
    (
        (("eth_type", 0x86DD, None), ("ip_proto", ICMP6, None), ("icmpv6_type", 136, None), ("icmpv6_code", 0, None)),
        [*_V6, "nd_target", "nd_tll", "nd_reserved", "nd_options_type"],
    ),
    ((("eth_type", 0x0806, None),), ["arp_op", "arp_spa", "arp_tpa", "arp_sha", "arp_tha"]),
    ((("vlan_vid", 0x1005, None),), ["vlan_pcp"]),
    (((*_TRACKED, ("eth_type", 0x0800, None))), [*_V4, "ct_nw_src", "ct_nw_dst", "ct_nw_proto"]),
    (((*_TRACKED, ("eth_type", 0x86DD, None))), [*_V6, "ct_ipv6_src", "ct_ipv6_dst", "ct_nw_proto"]),
    (
        ((*_TRACKED, ("eth_type", 0x0800, None), ("ct_nw_proto", TCP, None))),
        [*_V4, "ct_tp_src", "ct_tp_dst"],
    ),
]  # fmt: skip
# No Ethernet type is 0, and Open vSwitch 3.1 leaves a match on ct_nw_proto=0 out of what it gives back.
_NOT_ZERO = {"eth_type", "ct_nw_proto"}
# Values beyond these the switch refuses as nonsense.
_LIMITS = {"ip_frag": 1, "ct_state": 0x0F, "in_port": 0xFEFF, "arp_op": 0xFF, "eth_type": 0xFFFF}


@st.composite
def terms(draw: st.DrawFn, name: str) -> f.Term:
    """One term about a field: exact, or masked where the field can be."""
    known = field(name)
    top = _LIMITS.get(name, known.ones)
    value = draw(st.integers(1 if name in _NOT_ZERO else 0, top))
    if not known.maskable or draw(st.booleans()):
        return name, value, None
    mask = draw(st.integers(1, top))
    return name, value & mask, mask


@st.composite
def matches(draw: st.DrawFn) -> f.Match:
    """A match the switch accepts, its terms in random sequence."""
    base, more = draw(st.sampled_from(_KINDS))
    taken = {term[0] for term in base}
    names = draw(st.lists(st.sampled_from([*_ALWAYS, *more]), unique=True, max_size=12))
    chosen = [draw(terms(name)) for name in names if name not in taken]
    if any(name == "eth_type" and value < 0x600 for name, value, _ in chosen):
        chosen = [term for term in chosen if term[0] != "eth_type"]
    return tuple(draw(st.permutations([*base, *chosen])))


def _numbers(name: str) -> st.SearchStrategy[int]:
    return st.integers(0, field(name).ones)


@st.composite
def set_fields(draw: st.DrawFn, names: tuple[str, ...] = ("reg1", "xxreg0", "metadata", "eth_src")) -> f.SetField:
    """Write a field that needs nothing of the match."""
    name = draw(st.sampled_from(names))
    value = draw(_numbers(name))
    if draw(st.booleans()):
        return f.SetField(name, value)
    mask = draw(st.integers(1, field(name).ones))
    return f.SetField(name, value & mask, mask)


@st.composite
def copy_fields(draw: st.DrawFn) -> f.CopyField:
    """Copy some bits between registers and other fields."""
    source, target = draw(st.sampled_from([("reg3", "reg4"), ("eth_src", "eth_dst"), ("metadata", "tunnel_id")]))
    size = field(source).bits
    bits = draw(st.integers(1, size))
    places = st.integers(0, size - bits)
    return f.CopyField(source, target, bits, draw(places), draw(places))


def _nats(version: int) -> st.SearchStrategy[f.Nat]:
    top = 0xFFFFFF00 if version == 4 else 1 << 127
    one = st.builds(
        lambda source, address, port: f.Nat(source, version, address, 0, port, 0),
        st.booleans(),
        st.integers(1, top),
        st.sampled_from([0, 80, 20000]),
    )
    span = st.builds(
        lambda source, address, port: f.Nat(source, version, address, address + 5, port, port + 99),
        st.booleans(),
        st.integers(1, top),
        st.integers(1024, 60000),
    )
    return one | span


_zones = st.integers(0, 0xFFFF) | st.just(f.FieldBits("reg5", 0, 16)) | st.just(f.FieldBits("reg6", 16, 16))
_marks = set_fields(("ct_mark", "ct_label"))


def tracking(version: int) -> st.SearchStrategy[f.Action]:
    """Connection tracking of packets of IPv4 or IPv6."""
    committing = st.builds(
        f.Ct,
        zone=_zones,
        table=st.none() | st.integers(1, 253),
        commit=st.just(True),
        nat=st.none() | _nats(version),
        actions=st.lists(_marks, max_size=2).map(tuple),
        force=st.booleans(),
        translate=st.just(False),
    )
    looking = st.builds(
        lambda zone, table, translate: f.Ct(zone, table, translate=translate),
        _zones,
        st.integers(1, 253),
        st.booleans(),
    )
    return committing | looking | st.just(f.DecTtl())


_anywhere: st.SearchStrategy[f.Action] = st.one_of(
    set_fields(),
    copy_fields(),
    st.builds(f.Output, st.integers(1, 0xFEFF) | st.sampled_from([f.IN_PORT, f.LOCAL])),
    st.just(f.OutputField("reg7", 0, 16)) | st.just(f.OutputField("reg7", 4, 20)),
    st.builds(f.Controller, st.binary(max_size=20), st.sampled_from([0, 128, 65535])),
    st.builds(f.CheckPacketLarger, st.integers(1, 0xFFFF), st.just("reg0"), st.integers(0, 31)),
    st.builds(f.Resubmit, st.integers(0, 253)),
    st.just(f.CtClear()),
)


@st.composite
def action_lists(draw: st.DrawFn, eth_type: int = 0) -> tuple[f.Action, ...]:
    """A flow's actions: some, or a conjunction, perhaps with a Goto behind."""
    if draw(st.integers(0, 9)) == 0:
        clauses = draw(st.integers(2, 64))
        return (f.Conjunction(draw(st.integers(0, 1 << 31)), draw(st.integers(0, clauses - 1)), clauses),)
    version = {0x0800: 4, 0x86DD: 6}.get(eth_type)
    one = _anywhere | tracking(version) if version else _anywhere
    actions = draw(st.lists(one, max_size=5))
    if draw(st.booleans()):
        actions.append(f.Goto(draw(st.integers(201, 253))))
    return tuple(actions)


@st.composite
def flows(draw: st.DrawFn) -> f.Flow:
    """A flow the switch accepts."""
    match = draw(matches())
    actions = draw(action_lists(next((value for name, value, _ in match if name == "eth_type"), 0)))
    return f.Flow(draw(st.integers(0, 200)), draw(st.integers(0, 0xFFFF)), match, actions, ORIGIN)
