from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ipam.address import Address, parse_address, parse_prefix
from sdn.announce import Standing, Wish, announcers

NET = parse_prefix("192.0.2.0/24")
NET6 = parse_prefix("2001:db8::/64")
OTHER = parse_prefix("198.51.100.0/24")
VIP = parse_address("192.0.2.50")
NODES = {name: Standing(True, (NET, NET6)) for name in ("n1", "n2", "n3")}

names = st.sets(st.text("abcdefgh-0123456789", min_size=1, max_size=12), min_size=1, max_size=12)
vips = st.sets(st.integers(0, 255), max_size=40).map(lambda found: [Address(4, NET.value + each) for each in found])


def test_every_node_comes_to_the_same_answer_whatever_the_order() -> None:
    wishes = [Wish(Address(4, NET.value + each)) for each in range(100)]
    assert announcers(wishes, NODES) == announcers(wishes[::-1], dict(reversed(NODES.items())))


def test_addresses_are_spread_over_the_nodes() -> None:
    found = list(announcers([Wish(Address(6, NET6.value + each)) for each in range(300)], NODES).values())
    assert all(70 < found.count(name) < 130 for name in NODES)


@given(vips, names, st.data())
def test_only_the_addresses_of_a_node_that_goes_move(
    found: list[Address], nodes: set[str], data: st.DataObject
) -> None:
    gone = data.draw(st.sampled_from(sorted(nodes)))
    all_nodes = {name: Standing(True, (NET,)) for name in nodes}
    before = announcers(map(Wish, found), all_nodes)
    after = announcers(map(Wish, found), all_nodes | {gone: Standing(False, (NET,))})
    assert before.keys() == set(found)
    assert {address for address in found if before[address] != after.get(address)} == {
        address for address in found if before[address] == gone
    }
    assert gone not in after.values()


@given(vips, names, st.sets(st.integers(0, 11)))
def test_whoever_answers_is_ready_near_and_has_a_member(found: list[Address], nodes: set[str], picks: set[int]) -> None:
    standings = {name: Standing(at % 3 != 0, (NET,) if at % 4 else (OTHER,)) for at, name in enumerate(sorted(nodes))}
    only = frozenset(name for at, name in enumerate(sorted(nodes)) if at in picks)
    chosen = announcers([Wish(each, only) for each in found], standings)
    fit = {name for name in only if standings[name].ready and NET in standings[name].networks}
    assert set(chosen.values()) <= fit
    assert chosen.keys() == (set(found) if fit else set())


def test_nobody_answers_for_an_address_that_is_on_no_link() -> None:
    assert announcers([Wish(parse_address("203.0.113.1")), Wish(parse_address("2001:db8:1::1"))], NODES) == {}


def test_services_that_share_an_address_get_a_node_that_suits_all_of_them() -> None:
    wishes = [Wish(VIP), Wish(VIP, frozenset({"n1", "n2"})), Wish(VIP, frozenset({"n2", "n3"}))]
    assert announcers(wishes, NODES) == {VIP: "n2"}
    assert announcers([Wish(VIP, frozenset({"n1"})), Wish(VIP, frozenset())], NODES) == {VIP: "n1"}
