from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipam.address import Prefix, parse_prefix
from ipam.block import BlockError, IpBlocks, SubnetTaken


def blocks(*texts: str, v4: int = 24, v6: int = 64, in_order: bool = False) -> IpBlocks:
    return IpBlocks.of(map(parse_prefix, texts), {4: v4, 6: v6}, in_order=in_order)


def cut_all(have: IpBlocks, family: int = 4) -> tuple[list[str], IpBlocks]:
    found = []
    while True:
        subnet, have = have.cut(family)
        if subnet is None:
            return found, have
        found.append(str(subnet))


def test_the_lowest_free_subnet_is_cut_and_comes_back_when_released():
    have = blocks("10.4.0.0/22")
    first, have = have.cut(4)
    second, have = have.cut(4)
    third, have = have.cut(4)
    assert [str(first), str(second), str(third)] == ["10.4.0.0/24", "10.4.1.0/24", "10.4.2.0/24"]
    again, have = have.release(second).cut(4)
    assert again == second


def test_both_families_are_cut_with_their_own_length():
    have = blocks("10.4.0.0/16", "fd00:10:4::/48")
    v4, have = have.cut(4)
    v6, have = have.cut(6)
    assert (str(v4), str(v6)) == ("10.4.0.0/24", "fd00:10:4::/64")
    assert have.families == (4, 6)


def test_a_used_up_family_gives_none_and_changes_nothing():
    found, have = cut_all(blocks("10.4.0.0/23"))
    assert found == ["10.4.0.0/24", "10.4.1.0/24"]
    assert have.cut(4) == (None, have)
    assert have.cut(6) == (None, have)


def test_blocks_in_order_are_used_up_one_after_the_other():
    found, _ = cut_all(blocks("10.9.0.0/23", "10.4.0.0/23", in_order=True))
    assert found == ["10.9.0.0/24", "10.9.1.0/24", "10.4.0.0/24", "10.4.1.0/24"]


def test_otherwise_the_least_used_block_by_share_is_next_and_the_first_named_at_a_tie():
    found, _ = cut_all(blocks("10.9.0.0/22", "10.4.0.0/23"))
    assert found == [
        "10.9.0.0/24", "10.4.0.0/24", "10.9.1.0/24", "10.9.2.0/24", "10.4.1.0/24", "10.9.3.0/24",
    ]  # fmt: skip


def test_a_cut_can_be_limited_to_some_blocks():
    have = blocks("10.9.0.0/24", "10.4.0.0/24")
    only = (parse_prefix("10.4.0.0/24"),)
    subnet, have = have.cut(4, only)
    assert str(subnet) == "10.4.0.0/24"
    assert have.cut(4, only)[0] is None


@pytest.mark.parametrize(
    ("texts", "named"),
    [
        (("10.4.0.0/16", "10.4.128.0/17"), ("10.4.0.0/16", "10.4.128.0/17")),
        (("fd00::/48", "10.0.0.0/8", "fd00:0:0:1::/64"), ("fd00::/48", "fd00:0:0:1::/64")),
        (("10.4.0.0/25",), ("10.4.0.0/25", "/24")),
        (("fd00::/65",), ("fd00::/65", "/64")),
    ],
)
def test_blocks_that_do_not_fit_are_refused_by_name(texts, named):
    with pytest.raises(BlockError) as refused:
        blocks(*texts)
    assert all(name in str(refused.value) for name in named)


@pytest.mark.parametrize("custom", ["10.4.0.0/20", "10.4.1.64/26", "10.4.1.0/24", "10.0.0.0/8"])
def test_a_custom_subnet_is_claimed_exactly_and_never_overlapped_by_a_cut(custom):
    claimed = parse_prefix(custom)
    found, have = cut_all(blocks("10.4.0.0/16").claim(claimed))
    assert not any(parse_prefix(text).overlaps(claimed) for text in found)
    free = 256 - len({n for n in range(256) if Prefix(4, 0x0A040000 + (n << 8), 24).overlaps(claimed)})
    assert len(found) == free
    assert claimed in have.given()


@pytest.mark.parametrize("custom", ["10.4.0.0/24", "10.4.0.128/25", "10.4.0.0/23", "10.0.0.0/8"])
def test_a_custom_subnet_over_a_given_one_is_refused_and_names_both(custom):
    _, have = blocks("10.4.0.0/16").cut(4)
    with pytest.raises(SubnetTaken, match=r"10\.4\.0\.0/24") as refused:
        have.claim(parse_prefix(custom))
    assert custom in str(refused.value)


def test_a_custom_subnet_outside_of_all_blocks_is_given_once():
    have = blocks("10.4.0.0/16").claim(parse_prefix("192.168.7.0/24"))
    with pytest.raises(SubnetTaken):
        have.claim(parse_prefix("192.168.7.0/25"))
    assert have.release(parse_prefix("192.168.7.0/24")) == blocks("10.4.0.0/16")


def test_a_huge_sparse_block_costs_nothing():
    have = blocks("fd00::/16").claim(parse_prefix("fd00:ffff:ffff:ffff::/64")).claim(parse_prefix("fd00::/40"))
    assert str(have.cut(6)[0]) == "fd00:0:100::/64"


subnets = st.builds(
    lambda value, length: Prefix(4, (value >> (32 - length)) << (32 - length), length),
    st.integers(0x0A040000 - 0x200, 0x0A041000),
    st.integers(20, 28),
)


@given(st.lists(st.one_of(st.just("cut"), subnets, st.integers(0, 30)), max_size=40), st.booleans())
def test_given_subnets_never_overlap_and_a_rebuild_from_them_is_the_same(steps, in_order):
    """Steps: cut, claim a subnet, or release the n-th given one."""
    fresh = blocks("10.4.0.0/21", "10.4.8.0/22", in_order=in_order)
    have = fresh
    for step in steps:
        if step == "cut":
            _, have = have.cut(4)
        elif isinstance(step, Prefix):
            taken = have.taken_by(step)
            if taken is None:
                have = have.claim(step)
            else:
                assert taken.overlaps(step)
                assert taken in have.given()
        elif have.given():
            have = have.release(have.given()[step % len(have.given())])
    given_now = have.given()
    assert all(not one.overlaps(other) for one, other in pairwise(given_now))
    rebuilt = fresh
    for subnet in reversed(given_now):
        rebuilt = rebuilt.claim(subnet)
    assert rebuilt == have
