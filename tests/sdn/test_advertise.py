"""What a node announces, by kind and by who is active."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ipam.address import parse_address
from sdn.advertise import KINDS, advertised
from sdn.model import Binding, Intent, Origin
from sdn.services import Endpoint, ServicePort, Slice, VirtualServer
from tests.sdn.worlds import world

VIP, SIX = parse_address("192.0.2.80"), parse_address("2001:db8::80")


def shop(**more) -> VirtualServer:
    return VirtualServer(
        "red/shop", Origin("Service", "red", "shop"), (ServicePort("", "tcp", 80),), balancers=(VIP, SIX), **more
    )


def serving(*endpoints: Endpoint, server: VirtualServer | None = None) -> Intent:
    slices = {"red/shop": {"s": Slice((("", "tcp", 8080),), endpoints)}}
    return world().replace(services={"red/shop": server or shop()}, slices=slices)


def end(node: str = "node2", address: str = "10.4.0.2", **more) -> Endpoint:
    return Endpoint(parse_address(address), node, **more)


def told(intent: Intent, *kinds: str, me: str = "node1", everywhere: bool = False) -> set[str]:
    return {str(each) for each in advertised(intent, me, kinds or KINDS, everywhere=everywhere)}


def translating() -> Intent:
    """Red is translated, blue is not, green is in one family alone."""
    before = world()
    red, blue, green = (before.switches[vni] for vni in (5001, 5002, 5003))
    changed = {
        5001: replace(red, translated=(parse_address("198.51.100.1"), parse_address("2001:db8:1::1"))),
        5002: replace(blue, snat=False),
        5003: replace(green, gateways=green.gateways[:1], translated=(parse_address("198.51.100.3"),)),
    }
    binding = Binding("red/a", Origin("AddressBinding", "red", "a"), "red/a", (parse_address("198.51.100.9"),))
    server = shop(translated=(parse_address("198.51.100.7"),))
    return before.replace(
        switches=changed,
        snat_families=frozenset({4, 6}),
        bindings={"red/a": binding},
        services={"red/shop": server},
    )


def test_an_address_of_a_load_balancer_is_announced_while_a_member_of_its_family_answers():
    assert told(serving(end())) >= {"192.0.2.80/32"}
    assert told(serving(end()), "vips") == {"192.0.2.80/32"}
    assert told(serving(end(), end(address="fd00:10:4::2")), "vips") == {"192.0.2.80/32", "2001:db8::80/128"}
    assert told(serving(), "vips") == set()
    assert told(serving(end(ready=False)), "vips") == set()


@pytest.mark.parametrize(
    ("member", "server", "announced"),
    [
        (end(ready=False, serving=True, terminating=True), shop(), True),  # all that is left, and it still serves
        (end(ready=False, serving=False, terminating=True), shop(), False),
        (end(ready=False, serving=False), shop(takes_unready=True), True),
        (end(node="node2"), shop(local=frozenset({"external"})), False),
        (end(node="node1"), shop(local=frozenset({"external"})), True),
        (end(node="node2"), shop(local=frozenset({"internal"})), True),
        (end(), replace(shop(), ports=(ServicePort("other", "tcp", 80),)), False),  # nobody behind its port
    ],
)
def test_who_counts_as_a_member_that_answers(member, server, announced):
    assert (told(serving(member, server=server), "vips") == {"192.0.2.80/32"}) is announced


def test_a_nodes_own_address_is_not_announced_for_a_service():
    own = world().nodes["node3"].addresses[0]
    assert told(serving(end(), server=replace(shop(), balancers=(own,))), "vips") == set()


def test_addresses_that_traffic_is_translated_to_are_announced_one_by_one():
    assert told(translating(), "snat") == {
        "198.51.100.1/32", "2001:db8:1::1/128", "198.51.100.3/32", "198.51.100.7/32", "198.51.100.9/32",
    }  # fmt: skip


def test_networks_of_pods_that_keep_their_addresses_are_announced():
    assert told(translating(), "no_snat") == {"10.4.1.0/24", "fd00:10:4:1::/64"}
    assert told(translating().replace(snat_families=frozenset({4})), "no_snat") == {
        "10.4.1.0/24", "fd00:10:4:1::/64", "fd00:10:4::/64",
    }  # fmt: skip
    assert len(told(world(), "no_snat")) == 6  # nothing to translate to: nobody is


def test_all_segments_are_announced_where_that_is_asked():
    assert told(translating(), "segments") == {
        "10.4.0.0/24", "10.4.1.0/24", "10.4.2.0/24", "fd00:10:4::/64", "fd00:10:4:1::/64",
    }  # fmt: skip


def test_only_the_active_node_announces_unless_all_are_active_and_then_not_what_it_translates_to():
    intent = translating()
    assert told(intent, me="node2") == set()
    assert told(intent, "snat", me="node2", everywhere=True) == set()
    assert told(intent, "no_snat", me="node2", everywhere=True) == told(intent, "no_snat")
    assert told(intent, "snat", everywhere=True) == told(intent, "snat")
