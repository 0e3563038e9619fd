"""What a node's router is told to say, and how its state is written."""

from __future__ import annotations

from dataclasses import replace

import orjson

from ipam.address import parse_address, parse_prefix
from ncp.frr.model import Peer
from ncp.node.bgp import RouterState, annotation_of, is_edge, speaker_of, view_of
from ncp.settings import parse
from tests.sdn.worlds import world

PEERS = "192.168.10.1 as 65100, fd00::1 as 65100, 203.0.113.1 as 65200 multihop, 192.168.11.1 as 65300"
LINKS = tuple(map(parse_prefix, ("192.168.10.0/24", "fd00::/64")))


def speaker(more="", links=LINKS, me="node1"):
    return speaker_of(parse(f"[bgp]\nlocal_as = 65000\npeers = {PEERS}\n{more}"), world(), me, links)


def test_without_an_as_there_is_no_bgp():
    assert speaker_of(parse(""), world(), "node1", LINKS) is None


def test_a_node_peers_with_whom_it_has_on_its_links_and_with_those_that_may_be_farther():
    assert [(str(each.address), each.asn, each.multihop) for each in speaker().neighbors] == [
        ("192.168.10.1", 65100, False), ("fd00::1", 65100, False), ("203.0.113.1", 65200, True),
    ]  # fmt: skip
    assert [str(each.address) for each in speaker(links=()).neighbors] == ["203.0.113.1"]


def test_options_reach_the_neighbors():
    found = speaker("bfd = no\nkeepalive = 2\nhold = 9\npassword = sesame\nlearn = no\necmp = 2\nannounce = segments")
    assert {(each.bfd, each.keepalive, each.hold, each.password) for each in found.neighbors} == {
        (False, 2, 9, "sesame")
    }
    assert (found.learn, found.multipath, len(found.prefixes)) == (False, 2, 6)


def test_a_router_has_its_nodes_address_as_its_name_or_one_of_its_own():
    assert str(speaker().router_id) == "192.168.50.11"
    names = {str(speaker(me=each).router_id) for each in ("elsewhere", "nowhere")}
    assert len(names) == 2


def test_pods_networks_are_not_learned_from_outside():
    own = speaker_of(
        parse("[bgp]\nlocal_as = 65000"), world().replace(blocks=(parse_prefix("10.4.0.0/16"),)), "node1", LINKS
    ).own
    assert {str(each) for each in own} == {"10.4.0.0/16", "100.64.0.0/16", "fd98::/64"}


def test_an_edge_is_labelled_or_traffic_leaves_by_it():
    labelled = {"metadata": {"name": "node3", "labels": {"ncp/edge": "true"}}}
    assert is_edge(labelled, world(), "node3")
    assert is_edge(None, world(), "node1")
    assert not is_edge({"metadata": {"name": "node2", "labels": {"ncp/edge": "false"}}}, world(), "node2")


def state(*peers, **more):
    return RouterState(speaker(), peers, **more)


UP = Peer(parse_address("192.168.10.1"), 65100, "Established", "", 7, 2, 5, "up")
DOWN = replace(UP, state="Active", reason="OPEN Message Error/Bad Peer AS", received=0, sent=0, bfd="down")


def test_others_hear_of_sessions_and_reasons_not_of_counts():
    assert not state(UP).tells_other(state(replace(UP, received=9, seconds=70)))
    assert not state(DOWN).tells_other(state(replace(DOWN, state="Connect")))
    assert state(UP).tells_other(state(DOWN))
    assert state(DOWN).tells_other(state(replace(DOWN, reason="Cease/BFD Down")))
    assert state(UP).tells_other(state(replace(UP, bfd="down")))
    assert state(fault="zebra is not there").tells_other(state())
    assert state().tells_other(RouterState())


def test_the_annotation_says_of_a_peer_that_is_down_why():
    assert annotation_of(RouterState()) is None
    assert orjson.loads(annotation_of(state(UP, DOWN, fault="f")) or "") == {
        "as": 65000,
        "peers": [
            {"address": "192.168.10.1", "as": 65100, "state": "up", "bfd": "up", "received": 2, "sent": 5},
            {"address": "192.168.10.1", "as": 65100, "state": "down", "bfd": "down", "reason": DOWN.reason},
        ],
        "error": "f",
    }


def test_a_view_says_everything_but_passwords():
    said = view_of(RouterState(speaker("password = sesame"), (UP,)), "node1")
    assert said["peers"][0]["state"] == "Established"
    assert "sesame" not in str(said)
