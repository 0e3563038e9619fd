"""The annotation that says which uplinks a node has."""

from __future__ import annotations

import json
import re

import pytest

from ipam.address import parse_interface
from ncp.translate.uplinks import Uplink, uplinks

GOOD = {"name": "up-a", "bridge": "br-ex", "vlan": 120, "addresses": ["192.0.2.2/24", "2001:db8::2/64"]}


def node(value):
    annotations = {} if value is None else {"ncp/uplinks": value if isinstance(value, str) else json.dumps(value)}
    return {"metadata": {"name": "edge1", "annotations": annotations}}


def test_an_uplink_is_read_and_one_without_vlan_is_untagged():
    untagged = {"name": "up-b", "bridge": "br-ex1", "addresses": ["198.51.100.2/31"]}
    found, problems = uplinks(node([GOOD, untagged]))
    assert problems == ()
    assert found == (
        Uplink("up-a", "br-ex", 120, (parse_interface("192.0.2.2/24"), parse_interface("2001:db8::2/64"))),
        Uplink("up-b", "br-ex1", 0, (parse_interface("198.51.100.2/31"),)),
    )


def test_no_annotation_is_no_uplinks_and_an_empty_list_as_well():
    assert uplinks(node(None)) == ((), ())
    assert uplinks(node([])) == ((), ())


@pytest.mark.parametrize("text", ["{", "7", '{"name": "up-a"}', "[1]", '["up-a"]'])
def test_what_is_no_list_of_objects_is_malformed(text):
    found, (problem,) = uplinks(node(text))
    assert found is None, "the former uplinks stay"
    assert (problem.reason, problem.origin.name) == ("MALFORMED_ANNOTATION", "edge1")
    assert "JSON list of objects" in problem.message


WRONG = {
    "unknown field": ({"mtu": 9000}, "'up-a': unknown field 'mtu'; allowed: name, bridge, vlan, addresses"),
    "no name": ({"name": None}, "name: None; wants a device's name"),
    "long name": ({"name": "u" * 16}, "wants a device's name: up to 15"),
    "a path": ({"name": "../x"}, "wants a device's name"),
    "no bridge": ({"bridge": 5}, "bridge: 5; wants a device's name"),
    "the bridge's name": ({"name": "br-ex"}, "name: is the bridge's"),
    "vlan as text": ({"vlan": "120"}, "vlan: '120'; wants a whole number of 1 to 4094"),
    "true is no vlan": ({"vlan": True}, "vlan: True"),
    "vlan too high": ({"vlan": 4095}, "vlan: 4095"),
    "no addresses": ({"addresses": []}, r"addresses: \[\]; wants a list of one or more"),
    "no length": ({"addresses": ["192.0.2.2"]}, "'192.0.2.2'"),
    "the network's own": ({"addresses": ["192.0.2.0/24"]}, "network's own or its broadcast"),
    "broadcast": ({"addresses": ["192.0.2.255/24"]}, "network's own or its broadcast"),
    "multicast": ({"addresses": ["224.0.0.5/24"]}, "no address that a device may have"),
    "multicast of IPv6": ({"addresses": ["ff02::1/64"]}, "no address that a device may have"),
    "unspecified": ({"addresses": ["::/64"]}, "no address that a device may have"),
    "twice the same": ({"addresses": ["192.0.2.2/24", "192.0.2.2/24"]}, "overlaps"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_entry_is_told_with_its_field_and_value_and_nothing_is_taken(case):
    change, message = WRONG[case]
    good = {"name": "up-b", "bridge": "br-ex1", "addresses": ["198.51.100.2/24"]}
    found, (problem,) = uplinks(node([good, GOOD | change]))
    assert found is None
    assert problem.reason == "UPLINK_INVALID"
    assert re.search(message, problem.message), problem.message


TWO = {
    "one name": ({"name": "up-a"}, "'up-a': name: used twice"),
    "one bridge and VLAN": ({"bridge": "br-ex", "vlan": 120}, "'up-b': 'up-a' is at bridge br-ex with VLAN 120, too"),
    "one network": ({"addresses": ["192.0.2.3/24"]}, "'up-b': addresses: 192.0.2.3/24 overlaps 192.0.2.2/24 of 'up-a'"),
}


@pytest.mark.parametrize("case", TWO)
def test_two_uplinks_that_cannot_be_both_are_told(case):
    change, message = TWO[case]
    other = {"name": "up-b", "bridge": "br-ex1", "vlan": 130, "addresses": ["198.51.100.2/24"]}
    assert uplinks(node([GOOD, other]))[1] == ()
    found, (problem,) = uplinks(node([GOOD, other | change]))
    assert found is None
    assert message in problem.message


def test_two_addresses_of_one_network_are_one_uplinks():
    found, problems = uplinks(node([GOOD | {"addresses": ["192.0.2.2/24", "192.0.2.3/24"]}]))
    assert problems == ()
    assert len(found[0].addresses) == 2
