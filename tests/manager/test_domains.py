"""Namespaces in routing domains, with addresses that others have, and on routers that people made."""

from __future__ import annotations

import random

import pytest

from ncp.manager.rebuild import rebuild
from ncp.manager.routers import RouterRecord, numbered
from ncp.manager.supply import Failure
from ncp.settings_types import RoutingDomain
from tests.manager.world import World, layout

DOMAINS = {"ann": ("10.4.0.0/16", "fd00:10:4::/48"), "bob": ("10.4.0.0/16",)}
ANN, BOB = (RoutingDomain(name, ()).number for name in ("ann", "bob"))


def world(**options) -> World:
    return World(layout("10.4.0.0/16", "fd00:10:4::/48", domains=options.pop("domains", DOMAINS), **options))


def test_each_domain_is_cut_from_its_own_blocks_and_may_give_what_others_have():
    w = world()
    w.namespace("red")
    w.namespace("a", ncp__routing_domain="ann")
    w.namespace("b", ncp__routing_domain="bob")
    w.namespace("a2", ncp__routing_domain="ann")
    for name in w.namespaces:
        w.pod(name, "p")
    w.settle()
    shown = {name: w.segments(name)[0] for name in w.namespaces}
    assert shown["red"]["gateways"] == shown["a"]["gateways"] == ["10.4.0.1/24", "fd00:10:4::1/64"]
    assert shown["b"]["gateways"] == ["10.4.0.1/24"], "it has the families that its domain has"
    assert shown["a2"]["gateways"] == ["10.4.1.1/24", "fd00:10:4:1::1/64"], "and within one domain they differ"
    assert [shown[name].get("domain") for name in ("red", "a", "b", "a2")] == [None, ANN, BOB, ANN]
    assert [shown[name]["snat"] for name in ("red", "a", "b", "a2")] == [True, False, False, False]
    assert len({each["vni"] for each in shown.values()}) == 4
    assert w.addresses("red", "p") == w.addresses("a", "p") == ["10.4.0.2/24", "fd00:10:4::2/64"]


def test_books_made_anew_are_the_same():
    w = world(in_order=True)
    for n in range(6):
        w.namespace(f"n{n}", **({"ncp__routing_domain": ("ann", "bob")[n % 2]} if n % 3 else {}))
        w.pod(f"n{n}", "p")
    w.settle()
    before, given = w.writes, {0: w.books.accounts.supply.blocks, **w.books.accounts.supply.domains}
    w.restart(random.Random(1))
    assert w.settle() == []
    assert w.writes == before
    after = {0: w.books.accounts.supply.blocks, **w.books.accounts.supply.domains}
    assert {n: each.given() for n, each in after.items()} == {n: each.given() for n, each in given.items()}


def test_a_lost_segment_is_recovered_in_its_domain():
    w = world()
    w.namespace("a", ncp__routing_domain="ann")
    w.pod("a", "p")
    w.settle()
    before = w.segments("a")
    del w.namespaces["a"]["metadata"]["annotations"]["ncp/segments"]
    w.restart()
    w.settle()
    assert w.segments("a") == before


def test_a_name_that_no_domain_has_waits_and_says_so():
    w = world()
    w.namespace("a", ncp__routing_domain="eve")
    w.pod("a", "p")
    w.settle()
    said = w.annotations("a")["ncp/error.routing_domain"]
    assert said.startswith("ROUTING_DOMAIN_NOT_FOUND: ")
    assert "'eve'" in said
    assert "allowed: ann, bob" in said
    assert w.annotations("a", "p")["ncp/error.network"].startswith("ROUTING_DOMAIN_NOT_FOUND")
    assert "ncp/segments" not in w.annotations("a")
    w.annotate(w.namespaces["a"], ncp__routing_domain="bob")
    w.settle()
    assert w.segments("a")[0]["domain"] == BOB
    assert not [name for name in (*w.annotations("a"), *w.annotations("a", "p")) if name.startswith("ncp/error")]


@pytest.mark.parametrize(("first", "then"), [("ann", "bob"), ("ann", None), (None, "ann")])
def test_a_domain_on_an_existing_namespace_is_an_error_on_it_and_changes_nothing(first, then):
    w = world()
    w.namespace("a", **({"ncp__routing_domain": first} if first else {}))
    w.settle()
    before = w.segments("a")
    w.annotate(w.namespaces["a"], ncp__routing_domain=then)
    w.settle()
    code = "ROUTING_DOMAIN_ON_EXISTING_NAMESPACE_NOT_SUPPORTED"
    assert w.annotations("a")["ncp/error.routing_domain"].startswith(code)
    assert w.segments("a") == before
    w.annotate(w.namespaces["a"], ncp__routing_domain=first)
    w.settle()
    assert "ncp/error.routing_domain" not in w.annotations("a")


def test_a_further_segment_is_of_the_same_domain():
    w = world(lengths=((4, 29), (6, 64)), domains={"bob": ("10.4.0.0/24",)})
    w.namespace("a", ncp__routing_domain="bob")
    for n in range(6):
        w.pod("a", f"p{n}")
    w.settle()
    assert [each["domain"] for each in w.segments("a")] == [RoutingDomain("bob", ()).number] * 2
    assert len({each["router"] for each in w.segments("a")}) == 1


def test_an_exhausted_domain_is_its_own_matter():
    w = world(domains={"bob": ("10.4.0.0/24",)})
    w.namespace("a", ncp__routing_domain="bob")
    w.namespace("b", ncp__routing_domain="bob")
    w.namespace("red")
    w.settle()
    said = w.annotations("b")["ncp/error.network"]
    assert said.startswith("IP_BLOCK_EXHAUSTED: every IPv4 subnet of [ncp] routing_domains is in use")
    assert w.segments("red")
    w.delete_namespace("a")
    w.settle(100)
    assert w.segments("b")[0]["gateways"] == ["10.4.0.1/24"]


def test_addresses_rest_in_their_own_domain():
    w = world(domains={"ann": ("10.4.0.0/24",), "bob": ("10.4.0.0/24",)})
    w.namespace("a", ncp__routing_domain="ann")
    w.pod("a", "p")
    w.settle()
    (address,) = w.addresses("a", "p")
    w.delete_namespace("a")
    w.namespace("b", ncp__routing_domain="bob")
    w.namespace("a2", ncp__routing_domain="ann")
    w.settle()
    bare = address.partition("/")[0]
    assert bare in w.resting("a2")
    assert w.resting("b") == {}


def test_a_domain_that_the_settings_name_no_more_stays_taken():
    """What runs goes on; the numbers and subnets are nobody else's."""
    w = world()
    w.namespace("a", ncp__routing_domain="ann")
    w.pod("a", "p")
    w.settle()
    before = w.segments("a"), w.addresses("a", "p")
    w.settings = layout("10.4.0.0/16", "fd00:10:4::/48", domains={})
    w.books = rebuild(w.settings, [], [], w.now)
    w.restart()
    w.pod("a", "q")
    w.settle()
    assert (w.segments("a"), w.addresses("a", "p")) == before
    assert w.addresses("a", "q")
    w.delete_namespace("a")
    w.settle()
    assert list(w.books.accounts.supply.of_domain(ANN).given()) == []


def test_own_subnets_may_be_what_others_have_in_other_domains():
    w = world(namespace_subnets=True)
    w.namespace("a", ncp__routing_domain="ann", ncp__subnets="10.9.0.0/24")
    w.namespace("b", ncp__routing_domain="bob", ncp__subnets="10.9.0.0/24")
    w.namespace("c", ncp__routing_domain="bob", ncp__subnets="10.9.0.0/25")
    w.settle()
    assert [w.segments(name)[0]["domain"] for name in "ab"] == [ANN, BOB]
    assert w.annotations("c")["ncp/error.subnets"].startswith("INVALID_SUBNETS")


# -- routers ----------------------------------------------------------------------------------------------------------


def routers(w: World) -> dict[str, int]:
    return {name: w.segments(name)[0]["router"] for name in w.namespaces if "ncp/segments" in w.annotations(name)}


def test_namespaces_that_name_a_router_hang_off_it_and_others_do_not():
    w = world(lengths=((4, 29), (6, 64)))
    w.router("shared")
    w.router("fixed", 100)
    w.namespace("a", ncp__router="shared")
    w.namespace("b", ncp__router="shared")
    w.namespace("c", ncp__router="fixed", ncp__routing_domain="ann")
    w.namespace("d")
    for n in range(7):
        w.pod("a", f"p{n}")
    w.settle()
    found = routers(w)
    assert found["a"] == found["b"] != found["d"] == w.segments("d")[0]["vni"]
    assert found["c"] == 100
    assert {each["router"] for each in w.segments("a")} == {found["a"]}, "its further segments, too"
    w.restart()
    assert w.settle() == []


def test_all_hang_off_the_router_of_the_settings_unless_they_name_another():
    w = world(top_router="top")
    w.namespace("a")
    w.settle()
    assert w.annotations("a")["ncp/error.router"].startswith("ROUTER_NOT_FOUND: [nsx_v3] top_tier_router 'top'")
    w.router("top", 7)
    w.router("other", 8)
    w.namespace("b", ncp__router="other")
    w.settle()
    assert routers(w) == {"a": 7, "b": 8}
    assert "ncp/error.router" not in w.annotations("a")


def test_a_router_that_is_not_there_is_waited_for():
    w = world()
    w.namespace("a", ncp__router="shared")
    w.pod("a", "p")
    w.settle()
    assert w.annotations("a")["ncp/error.router"].startswith("ROUTER_NOT_FOUND: annotation ncp/router 'shared'")
    assert w.annotations("a", "p")["ncp/error.network"].startswith("ROUTER_NOT_FOUND")
    w.restart()
    assert w.settle() == []
    w.router("shared")
    w.settle()
    assert w.addresses("a", "p")
    assert not [name for name in (*w.annotations("a"), *w.annotations("a", "p")) if name.startswith("ncp/error")]


@pytest.mark.parametrize("then", ["fixed", "nobody"])
def test_another_router_for_an_existing_namespace_is_an_error_if_there_is_one(then):
    w = world()
    w.router("shared")
    w.namespace("a", ncp__router="shared")
    w.settle()
    before = w.segments("a")
    w.annotate(w.namespaces["a"], ncp__router=then)
    w.settle()
    w.router("fixed", 9)
    w.settle()
    said = w.annotations("a").get("ncp/error.router", "")
    assert said.startswith("ROUTER_ON_EXISTING_NAMESPACE_NOT_SUPPORTED" if then == "fixed" else "")
    assert w.segments("a") == before


def test_namespaces_outlive_a_router_and_one_of_its_name_is_the_same_again():
    w = world()
    w.router("shared")
    w.namespace("a", ncp__router="shared")
    w.settle()
    before = routers(w)
    w.delete_router("shared")
    w.pod("a", "p")
    w.settle()
    assert routers(w) == before
    w.router("shared")
    w.namespace("b", ncp__router="shared")
    w.settle()
    assert routers(w)["b"] == before["a"]


@pytest.mark.parametrize(
    ("tier", "number", "says"),
    [
        (0, None, "spec.tier 0; allowed: 1"),
        (1, 1, "spec.number 1; allowed: 2 to 16777215"),
        (1, 5001, "none of [ncp] vni_range 5001-75000"),
        (1, 2**24, "spec.number 16777216"),
        (1, "7", "spec.number '7'"),
    ],
)
def test_a_router_that_cannot_be_is_told_where_it_is_named(tier, number, says):
    w = world()
    w.router("odd", number, tier=tier)
    w.namespace("a", ncp__router="odd")
    w.settle()
    said = w.annotations("a")["ncp/error.router"]
    assert said.startswith("ROUTER_INVALID: ")
    assert says in said


def test_of_two_routers_with_one_number_the_older_has_it():
    w = world()
    w.router("one", 7)
    w.router("two", 7)
    w.namespace("a", ncp__router="two")
    w.namespace("b", ncp__router="one")
    w.settle()
    assert w.annotations("a")["ncp/error.router"].startswith("ROUTER_INVALID: Router two has number 7, as Router one")
    assert routers(w) == {"b": 7}
    w.delete_router("one")
    w.settle()
    assert routers(w) == {"a": 7, "b": 7}


@pytest.mark.parametrize("vnis", [(5001, 75000), (1, 100), (2, 2**24 - 2), (2**24 - 100, 2**24 - 1)])
def test_numbers_from_names_are_beside_those_of_segments(vnis):
    records = [RouterRecord(f"r{n}", "", "", 1) for n in range(300)]
    found = [each for each in numbered(records, vnis).values() if not isinstance(each, Failure)]
    assert len(set(found)) == len(found) > 0
    assert all(1 < each < 2**24 and not vnis[0] <= each <= vnis[1] for each in found)
