"""Matches: os-ken reads the same in our bytes, and what means the same is written the same."""

from __future__ import annotations

from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdn.openflow.fields import FIELDS
from sdn.openflow.match import canonical_match, pack_match, tlvs, unpack_match
from sdn.openflow.pack import pack_flow
from sdn.pipeline.flow import Flow, Match
from tests.openflow.meaning import meaning, os_ken_terms
from tests.openflow.oracle import parse
from tests.openflow.strategies import ORIGIN, matches


@given(matches())
def test_os_ken_reads_the_match_that_was_meant(match: Match) -> None:
    message = parse(pack_flow(Flow(3, 9, match, (), ORIGIN), 1))
    assert meaning(os_ken_terms(message.match)) == meaning(match)


@given(matches(), st.data())
def test_the_sequence_of_terms_makes_no_difference(match: Match, data: st.DataObject) -> None:
    shuffled = tuple(data.draw(st.permutations(match)))
    assert pack_match(shuffled) == pack_match(match)


@given(matches(), st.data())
def test_a_match_written_by_somebody_else_becomes_canonical(match: Match, data: st.DataObject) -> None:
    packed = pack_match(match)
    parts = [pack("!I", header) + body for header, body in tlvs(packed)]
    assert canonical_match(b"".join(data.draw(st.permutations(parts)))) == packed
    assert canonical_match(packed) == packed
    assert pack_match(unpack_match(packed)) == packed


def test_registers_written_singly_by_a_switch_become_pairs() -> None:
    single = pack("!II", 0x00010004, 7) + pack("!II", 0x00010204, 9)
    assert canonical_match(single) == pack_match((("xreg0", 7 << 32 | 9, None),))


def test_fields_nobody_here_knows_survive_at_the_end() -> None:
    unknown = pack("!IH", 0x00014C02, 5)  # tun_gbp_id
    known = pack_match((("reg0", 1, None),))
    assert canonical_match(unknown + known) == known + unknown


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((("nd_target", 5, None),), (("ipv6_nd_target", 5, None),)),
        ((("ipv4_src", 0x0A000000, 0xFFFFFFFF),), (("ipv4_src", 0x0A000000, None),)),
        ((("ipv4_src", 0, 0),), ()),
        ((("reg0", 0x10, 0xF0), ("reg0", 0x3, 0xF)), (("reg0", 0x13, 0xFF),)),
        ((("ct_mark", 1, 1), ("ct_mark", 0, 2)), (("ct_mark", 1, 3),)),
        ((("reg2", 1, None), ("reg3", 2, None)), (("xreg1", 1 << 32 | 2, None),)),
        ((("xxreg1", 7 << 96, 0xFFFFFFFF << 96),), (("reg4", 7, None),)),
        (
            (("xxreg0", 1 << 64 | 2, None), ("reg8", 5, None), ("xxreg1", 3 << 64 | 4, None)),
            (*((f"xreg{index}", index + 1, None) for index in range(4)), ("reg8", 5, None)),
        ),
        ((("xxreg1", 1 << 64 | 2, None), ("reg4", 0, None)), (("xxreg1", 1 << 64 | 2, None),)),
    ],
)
def test_different_words_for_one_match(one: Match, other: Match) -> None:
    assert pack_match(one) == pack_match(other)


@pytest.mark.parametrize(
    ("match", "complaint"),
    [
        ((("ipv5_src", 1, None),), "no OpenFlow field is called 'ipv5_src'"),
        ((("tcp_dst", 0x10000, None),), "tcp_dst: 0x10000 does not fit into 16 bits"),
        ((("ipv4_src", 0x0A000001, 0xFFFFFF00),), "ipv4_src: value 0xa000001 has bits outside its mask"),
        ((("ip_proto", 4, 6),), "ip_proto can only be matched exactly"),
        ((("reg0", 1, None), ("reg0", 2, None)), "contradict each other in reg0"),
        ((("ct_mark", 1, 3), ("ct_mark", 2, 2)), "contradict each other in ct_mark"),
        ((("reg0", 0x100000000, None),), "reg0: 0x100000000 does not fit into 32 bits"),
        ((("in_port_nxm", 1, None),), "match in_port instead"),
    ],
)
def test_what_no_switch_would_accept_is_refused_by_name(match: Match, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint.replace("(", r"\(")):
        pack_match(match)


def test_every_field_of_a_pipeline_has_a_name_here() -> None:
    needed = {"in_port", "in_port_nxm", "metadata", "nw_ttl", "ip_frag", "tun_metadata7", "ct_ipv6_dst", "conj_id"}
    assert needed | {f"reg{number}" for number in range(16)} | {"xreg7", "xxreg3"} <= set(FIELDS)
