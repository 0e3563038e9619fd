"""FRR's configuration, and what turns one into another."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from ipam.address import parse_address, parse_prefix
from ncp.frr.model import Neighbor, Speaker
from ncp.frr.render import Statement, difference, render, statements

ONE, OTHER = (Neighbor(parse_address(each), 65100) for each in ("192.168.10.1", "fd00::1"))
ROUTER = ("router bgp 65000",)
FOUR = (*ROUTER, "address-family ipv4 unicast")


def speaker(**changes):
    return replace(Speaker(65000, parse_address("10.0.0.1"), (ONE, OTHER)), **changes)


def prefixes(*texts):
    return tuple(parse_prefix(each) for each in texts)


def test_a_prefix_that_comes_or_goes_is_one_line_of_its_family():
    before, after = (
        speaker(prefixes=prefixes(*each)) for each in (["10.0.0.0/24", "fd77::1/128"], ["10.0.0.9/32", "fd77::1/128"])
    )
    assert difference(render(before), render(after)) == (
        Statement(FOUR, "no network 10.0.0.0/24"),
        Statement(FOUR, "network 10.0.0.9/32"),
    )


def test_a_neighbor_of_another_as_is_made_anew_with_all_its_lines():
    after = speaker(neighbors=(replace(ONE, asn=65200), OTHER))
    lines = difference(render(speaker()), render(after))
    assert lines[0] == Statement(ROUTER, "no neighbor 192.168.10.1")
    assert Statement(ROUTER, "neighbor 192.168.10.1 remote-as 65200") == lines[1]
    assert Statement(FOUR, "neighbor 192.168.10.1 activate") in lines
    assert not any("fd00::1" in each.line for each in lines)


def test_a_neighbor_that_goes_takes_its_lines_with_it():
    assert difference(render(speaker()), render(speaker(neighbors=(OTHER,)))) == (
        Statement(ROUTER, "no neighbor 192.168.10.1"),
    )


def test_another_as_of_our_own_is_another_router():
    lines = difference(render(speaker()), render(speaker(asn=65001)))
    assert lines[0] == Statement((), "no router bgp 65000")
    assert [each for each in lines if each.line.startswith("no ") and each.above] == [
        Statement(("router bgp 65001",), "no bgp default ipv4-unicast"),
        Statement(("router bgp 65001",), "no bgp network import-check"),
    ]


def test_changed_timers_go_under_the_session():
    lines = difference(render(speaker()), render(speaker(neighbors=(replace(ONE, hold=9), OTHER))))
    assert lines == (
        Statement(ROUTER, "no neighbor 192.168.10.1 timers 1 3"),
        Statement(ROUTER, "neighbor 192.168.10.1 timers 1 9"),
    )


some = st.lists(st.sampled_from(prefixes("10.0.0.0/24", "10.0.0.9/32", "fd77::1/128", "192.0.2.0/24")), unique=True)
speakers = st.builds(
    Speaker,
    st.sampled_from([65000, 65001]),
    st.just(parse_address("10.0.0.1")),
    st.lists(st.sampled_from([ONE, OTHER, replace(OTHER, hold=9, bfd=False)]), unique_by=lambda each: each.address).map(
        tuple
    ),
    some.map(tuple),
    st.booleans(),
    some.map(tuple),
)


@given(speakers, speakers)
def test_old_and_difference_make_new(before, after):
    """As a daemon obeys: a line that goes takes what stands under it, and a neighbor all its lines."""
    held = set(statements(render(before)))
    for above, line in difference(render(before), render(after)):
        if line.startswith("no ") and Statement(above, line) not in statements(render(after)):
            gone = line.removeprefix("no ")
            if Statement(above, gone) in held:
                held = {
                    each for each in held if each != (above, gone) and (*above, gone) != each.above[: len(above) + 1]
                }
            else:
                assert gone.split()[:-1] == ["neighbor"], line
                held = {each for each in held if not each.line.startswith(f"{gone} ")}
        else:
            held.add(Statement(above, line))
    assert held == set(statements(render(after)))
