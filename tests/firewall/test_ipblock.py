from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firewall.reading import Unreadable, cidr, ip_block
from firewall.rules import IpBlock
from tests.firewall.cast import address, prefix


@pytest.mark.parametrize(
    ("block", "within", "beyond"),
    [
        ({"cidr": "10.1.0.0/16"}, ["10.1.0.0", "10.1.255.255"], ["10.0.255.255", "10.2.0.0"]),
        (
            {"cidr": "10.1.0.0/16", "except": ["10.1.8.0/24"]},
            ["10.1.0.0", "10.1.7.255", "10.1.9.0", "10.1.255.255"],
            ["10.0.255.255", "10.1.8.0", "10.1.8.255", "10.2.0.0"],
        ),
        (
            {"cidr": "10.1.0.0/16", "except": ["10.1.0.0/32", "10.1.255.255/32"]},
            ["10.1.0.1", "10.1.255.254"],
            ["10.1.0.0", "10.1.255.255"],
        ),
        (
            {"cidr": "10.1.0.0/16", "except": ["10.1.8.0/24", "10.1.8.0/23"]},
            ["10.1.7.255", "10.1.10.0"],
            ["10.1.8.0", "10.1.8.255", "10.1.9.0", "10.1.9.255"],
        ),
        ({"cidr": "10.1.2.3/32"}, ["10.1.2.3"], ["10.1.2.2", "10.1.2.4"]),
        ({"cidr": "0.0.0.0/0"}, ["0.0.0.0", "255.255.255.255"], ["::", "::ffff:10.0.0.1"]),
        ({"cidr": "0.0.0.0/0", "except": ["128.0.0.0/1"]}, ["0.0.0.0", "127.255.255.255"], ["128.0.0.0"]),
        ({"cidr": "fd00::/16"}, ["fd00::", "fd00:ffff:ffff:ffff:ffff:ffff:ffff:ffff"], ["fcff:ffff::", "fd01::"]),
        (
            {"cidr": "fd00::/16", "except": ["fd00:8::/32"]},
            ["fd00::", "fd00:7:ffff:ffff:ffff:ffff:ffff:ffff", "fd00:9::"],
            ["fd00:8::", "fd00:8:ffff:ffff:ffff:ffff:ffff:ffff", "fd01::"],
        ),
        ({"cidr": "::/0"}, ["::", "::a00:1", "ffff::"], ["0.0.0.0", "10.0.0.1"]),
        ({"cidr": "10.1.200.7/16"}, ["10.1.0.0", "10.1.255.255"], ["10.0.255.255", "10.2.0.0"]),
    ],
)
def test_a_block_is_its_prefix_to_both_ends_less_its_exceptions_to_both_ends(block, within, beyond):
    read = ip_block(block, "b")
    assert {each: read.contains(address(each)) for each in within + beyond} == {
        **dict.fromkeys(within, True),
        **dict.fromkeys(beyond, False),
    }


def test_the_order_of_exceptions_does_not_matter():
    one = ip_block({"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16", "10.2.0.0/16"]}, "b")
    assert one == ip_block({"cidr": "10.0.0.0/8", "except": ["10.2.0.0/16", "10.1.0.0/16"]}, "b")


@pytest.mark.parametrize(
    ("block", "covered"),
    [
        ({"cidr": "10.0.0.0/8"}, ["10.0.0.0/8"]),
        ({"cidr": "10.0.0.0/30", "except": ["10.0.0.1/32"]}, ["10.0.0.0/32", "10.0.0.2/31"]),
        ({"cidr": "10.0.0.0/30", "except": ["10.0.0.0/31", "10.0.0.2/31"]}, []),
        ({"cidr": "::/0", "except": ["8000::/1", "::/2"]}, ["4000::/2"]),
    ],
)
def test_a_block_is_covered_by_the_fewest_prefixes(block, covered):
    assert ip_block(block, "b").prefixes() == tuple(map(prefix, covered))


@pytest.mark.parametrize(
    "text",
    ["", "10.0.0.0", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/8/8", "10.0/16", "10.0.0.256/24",
     "fd00::/129", "fd00::g/64", "fe80::1%eth0/64", "any", "web.example/24", None, 10, ["10.0.0.0/8"]],
)  # fmt: skip
def test_what_is_no_prefix_is_refused_by_field_and_value(text):
    with pytest.raises(Unreadable) as refused:
        cidr(text, "b.cidr")
    assert str(refused.value).startswith(f"b.cidr: {text!r} is not a prefix")


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ({"cidr": "10.0.0.0/8", "except": ["11.0.0.0/24"]}, r"b\.except\[0\]: '11\.0\.0\.0/24' is not within 10\.0"),
        ({"cidr": "10.0.0.0/8", "except": ["10.0.0.0/9", "10.0.0.0/7"]}, r"b\.except\[1\]: '10\.0\.0\.0/7'"),
        ({"cidr": "10.0.0.0/8", "except": ["fd00::/16"]}, r"b\.except\[0\]: 'fd00::/16'"),
        ({"cidr": "::/0", "except": ["10.0.0.0/8"]}, r"b\.except\[0\]: '10\.0\.0\.0/8'"),
        ({"cidr": "10.0.0.0/8", "except": ["ten"]}, r"b\.except\[0\]: 'ten' is not a prefix"),
        ({"cidr": "10.0.0.0/8", "except": "10.1.0.0/16"}, r"b\.except: '10\.1\.0\.0/16' is not a list"),
        ({"except": ["10.1.0.0/16"]}, r"b\.cidr: None is not a prefix"),
        ("10.0.0.0/8", r"b: '10\.0\.0\.0/8' is not an object"),
    ],
)
def test_a_block_that_makes_no_sense_is_refused_by_field_and_value(block, said):
    with pytest.raises(Unreadable, match=said):
        ip_block(block, "b")


@st.composite
def blocks(draw):
    """Prefixes with up to four exceptions within them, often small ones at their edges."""
    family = draw(st.sampled_from((4, 6)))
    bits = 32 if family == 4 else 128
    length = draw(st.integers(0, bits))
    room = bits - length
    first = draw(st.integers(0, 2**length - 1)) << room
    excepts = []
    for _ in range(draw(st.integers(0, 4))):
        longer = draw(st.integers(0, room))
        offset = draw(st.one_of(st.just(0), st.just(2**longer - 1), st.integers(0, 2**longer - 1)))
        excepts.append((family, first | offset << (room - longer), length + longer))
    return IpBlock((family, first, length), tuple(excepts))


def network(cidr):
    family, value, length = cidr
    kind = ipaddress.IPv4Network if family == 4 else ipaddress.IPv6Network
    return kind((value, length))


@given(blocks())
@settings(deadline=None)
def test_the_prefixes_cover_exactly_the_addresses_of_the_block_each_once(block):
    covering = [network(each) for each in block.prefixes()]
    outer, holes = network(block.cidr), [network(each) for each in block.excepts]
    for each in (outer, *holes, *covering):
        for value in (int(each[0]) - 1, int(each[0]), int(each[-1]), int(each[-1]) + 1):
            if not 0 <= value < 2**outer.max_prefixlen:
                continue
            at = type(outer[0])(value)
            expected = at in outer and not any(at in hole for hole in holes)
            assert block.contains((outer.version, value)) is expected
            assert sum(at in one for one in covering) == expected
    assert all(not one.overlaps(other) for n, one in enumerate(covering) for other in covering[:n])
    assert sorted(ipaddress.collapse_addresses(covering)) == sorted(covering)
