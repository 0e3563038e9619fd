"""StaticRoutes: what is routed, and what is said of each."""

from __future__ import annotations

import pytest

from ipam.address import parse_prefix
from ncp.translate.routes import static_routes

LINKS = tuple(map(parse_prefix, ("192.168.10.0/24", "192.168.11.0/24", "fd00:10::/64")))
TAKEN = {"of pods": (parse_prefix("10.4.0.0/16"),), "of a node": (parse_prefix("192.168.50.11/32"),), "here": LINKS}


def route(name="r", network="203.0.113.0/24", *hops, made="2026-01-01T00:00:00Z"):
    meta = {"name": name, "namespace": "kube-system", "creationTimestamp": made}
    return {"metadata": meta, "spec": {"network": network, "nextHops": [{"ipAddress": each} for each in hops]}}


def found(*objects):
    wanted, verdicts = static_routes(objects, TAKEN, LINKS, "node1")
    return {str(p): [str(hop) for hop in hops] for p, hops in wanted.items()}, {
        name: verdict for (_, name), verdict in verdicts.items()
    }


def test_a_network_is_routed_by_all_its_next_hops():
    wanted, said = found(
        route("r", "203.0.113.0/24", "192.168.11.1", "192.168.10.1"), route("s", "2001:db8::/32", "fd00:10::1")
    )
    assert wanted == {"203.0.113.0/24": ["192.168.10.1", "192.168.11.1"], "2001:db8::/32": ["fd00:10::1"]}
    assert all(each.ready for each in said.values())


def test_a_default_route_overlaps_nothing():
    wanted, said = found(route("r", "0.0.0.0/0", "192.168.10.1"), route("s", "::/0", "fd00:10::1"))
    assert set(wanted) == {"0.0.0.0/0", "::/0"}
    assert all(each.ready for each in said.values())


@pytest.mark.parametrize(
    ("obj", "reason", "words"),
    [
        (route("r", "203.0.113.1/24", "192.168.10.1"), "ROUTE_INVALID", "did you mean 203.0.113.0/24?"),
        (route("r", "203.0.113.0/24"), "ROUTE_INVALID", "spec.nextHops is empty"),
        (route("r", "203.0.113.0/24", "fd00:10::1"), "ROUTE_INVALID", "nextHops[0].ipAddress fd00:10::1 is not of the family"),
        (route("r", "203.0.113.0/24", "there"), "ROUTE_INVALID", "spec.nextHops[0].ipAddress: 'there'"),
        (route("r", "10.4.7.0/24", "192.168.10.1"), "NETWORK_OVERLAPS", "10.4.0.0/16 (of pods)"),
        (route("r", "10.0.0.0/8", "192.168.10.1"), "NETWORK_OVERLAPS", "10.4.0.0/16 (of pods)"),
        (route("r", "192.168.50.0/24", "192.168.10.1"), "NETWORK_OVERLAPS", "192.168.50.11 (of a node)"),
        (route("r", "192.168.10.128/25", "192.168.10.1"), "NETWORK_OVERLAPS", "192.168.10.0/24"),
        (route("r", "169.254.7.0/24", "192.168.10.1"), "NETWORK_OVERLAPS", "169.254.0.0/16"),
        (route("r", "fe80:1::/32", "fd00:10::1"), "NETWORK_OVERLAPS", "fe80::/10"),
        (route("r", "203.0.113.0/24", "192.168.99.1"), "NEXT_HOP_UNREACHABLE", "192.168.99.1 is on no link of node node1 that works"),
    ],
)  # fmt: skip
def test_what_cannot_be_routed_says_why(obj, reason, words):
    wanted, said = found(obj)
    assert not wanted
    assert (said["r"].ready, said["r"].reason) == (False, reason)
    assert words in said["r"].message


def test_of_several_next_hops_those_on_a_link_are_used_and_the_others_told():
    wanted, said = found(route("r", "203.0.113.0/24", "192.168.10.1", "192.168.99.1"))
    assert wanted == {"203.0.113.0/24": ["192.168.10.1"]}
    assert said["r"].reason == "NEXT_HOP_UNREACHABLE"
    assert "192.168.10.1 is used alone" in said["r"].message


def test_the_oldest_object_has_a_network_whatever_the_order():
    old, young = route("z", made="2026-01-01T00:00:00Z"), route("a", made="2026-02-01T00:00:00Z")
    for each in (old, young):
        each["spec"]["nextHops"] = [{"ipAddress": "192.168.10.1"}]
    for order in ((old, young), (young, old)):
        _, said = found(*order)
        assert said["z"].ready
        assert said["a"].reason == "ROUTE_CONFLICT"
        assert "kube-system/z" in said["a"].message
