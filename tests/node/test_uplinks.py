"""A node's uplinks on a real switch: made, told of when they lead nowhere, changed and gone."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipam.address import parse_address, parse_prefix
from ncp.node.uplinks import NodeUplinks, uplink_mac
from ncp.plumbing.uplink import UplinkDevices
from sdn.ovsdb.client import Ovsdb
from tests.support.netns import ip, namespace
from tests.support.ovs import PrivateOvs

pytestmark = pytest.mark.switch

CLUSTER = "uplinks"
OWN = (parse_address("192.168.50.21"), parse_address("fd50::21"))
BLOCKS = (parse_prefix("10.4.0.0/16"),)
UP = {"name": "up-a", "bridge": "br-ex", "vlan": 120, "addresses": ["192.0.2.2/24", "2001:db8::2/64"]}


def node(*uplinks):
    return {"metadata": {"name": "edge1", "uid": "u", "annotations": {"ncp/uplinks": json.dumps(uplinks)}}}


class Site:
    """A switch with a bridge whose wire, ``wire``, has its other end, ``far``, in the same namespace; and a node's uplinks on it."""

    def __init__(self, switch: PrivateOvs, netns: str) -> None:
        self.switch, self.netns = switch, netns
        self._news = threading.Condition()
        self.ovsdb = Ovsdb(switch.rundir / "db.sock", CLUSTER, on_carrier=lambda: self.uplinks.look())
        self.uplinks = NodeUplinks("edge1", self.ovsdb, UplinkDevices(netns), self._changed)

    def _changed(self) -> None:
        with self._news:
            self._news.notify_all()

    def keep(self, *wanted) -> None:
        self.uplinks.keep(node(*wanted), OWN, BLOCKS)

    def until_up(self, *names) -> None:
        with self._news:
            assert self._news.wait_for(lambda: self.uplinks.up() == set(names), 5), self.uplinks.problems()

    def reasons(self) -> list[str]:
        return [each.reason for each in self.uplinks.problems()]

    def port(self, column: str, name: str = "up-a") -> str:
        return self.switch.vsctl("get", "port", name, column).strip()

    def addresses(self, name: str = "up-a") -> set[str]:
        found = json.loads(ip("-j", "address", "show", "dev", name, netns=self.netns))[0]["addr_info"]
        return {f"{each['local']}/{each['prefixlen']}" for each in found if each["scope"] == "global"}

    def devices(self) -> set[str]:
        return {each["ifname"] for each in json.loads(ip("-j", "link", "show", netns=self.netns))}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with namespace() as netns, PrivateOvs(tmp_path, netns) as switch:
        ip("link", "set", "lo", "up", netns=netns)
        ip("link", "add", "wire", "mtu", "1400", "type", "veth", "peer", "name", "far", netns=netns)
        for name in ("wire", "far"):
            ip("link", "set", name, "up", netns=netns)
        switch.vsctl("add-br", "br-ex", "--", "set", "bridge", "br-ex", "datapath_type=netdev")
        switch.vsctl("add-port", "br-ex", "wire")
        found = Site(switch, netns)
        with found.ovsdb:
            found.ovsdb.wait_connected()
            try:
                yield found
            finally:
                found.uplinks.close()


def test_an_uplink_is_a_tagged_port_with_its_addresses_and_what_is_right_stays_untouched(site):
    site.keep(UP)
    assert site.port("tag") == "120"
    assert site.addresses() == {"192.0.2.2/24", "2001:db8::2/64"}
    link = ip("link", "show", "up-a", netns=site.netns)
    assert uplink_mac("edge1", "up-a") in link
    assert "mtu 1400" in link, "the switch gives it the MTU of the bridge's other devices"
    site.until_up("up-a")
    assert site.uplinks.problems() == ()
    before = site.port("_uuid")
    site.keep(UP)
    assert site.port("_uuid") == before


def test_changes_are_followed_and_what_nobody_wants_goes(site):
    site.keep(UP)
    site.keep(UP | {"vlan": 0, "addresses": ["192.0.2.9/24"]})
    assert site.port("tag") == "[]"
    assert site.addresses() == {"192.0.2.9/24"}
    site.switch.vsctl("add-br", "br-more", "--", "set", "bridge", "br-more", "datapath_type=netdev")
    site.keep(UP | {"bridge": "br-more"})
    assert site.switch.vsctl("port-to-br", "up-a").strip() == "br-more"
    assert site.addresses() == {"192.0.2.2/24", "2001:db8::2/64"}
    site.switch.vsctl("add-port", "br-ex", "theirs", "--", "set", "interface", "theirs", "type=internal")
    site.keep()
    assert not site.devices() & {"up-a"}
    assert {"theirs", "wire"} <= site.devices()


def test_a_wire_without_carrier_is_told_and_its_return_as_well(site):
    site.keep(UP)
    site.until_up("up-a")
    ip("link", "set", "far", "down", netns=site.netns)
    site.until_up()
    assert site.reasons() == ["UPLINK_DOWN"]
    assert "outside of bridge br-ex has a carrier" in site.uplinks.problems()[0].message
    ip("link", "set", "far", "up", netns=site.netns)
    site.until_up("up-a")
    assert site.reasons() == []


def test_a_bridge_without_a_way_out_leads_nowhere(site):
    site.keep(UP)
    site.until_up("up-a")
    site.switch.vsctl("del-port", "br-ex", "wire")
    site.until_up()
    assert site.reasons() == ["UPLINK_DOWN"]


def test_one_uplink_that_cannot_be_does_not_keep_the_others_from_being(site):
    site.switch.vsctl("add-port", "br-ex", "theirs", "--", "set", "interface", "theirs", "type=internal")
    nowhere = {"name": "up-b", "bridge": "br-none", "addresses": ["198.51.100.2/24"]}
    foreign = {"name": "theirs", "bridge": "br-ex", "vlan": 7, "addresses": ["203.0.113.2/24"]}
    near = {"name": "up-c", "bridge": "br-ex", "vlan": 8, "addresses": ["192.168.50.77/24"]}
    pods = {"name": "up-d", "bridge": "br-ex", "vlan": 9, "addresses": ["10.4.7.1/24"]}
    site.keep(UP, nowhere, foreign, near, pods)
    site.until_up("up-a")
    assert site.reasons() == ["UPLINK_INVALID"] * 4
    said = " ".join(each.message for each in site.uplinks.problems())
    for words in (
        "no bridge br-none for uplinks in Open vSwitch on this node; there are br-ex",
        "interface theirs belongs to no cluster",
        "network of 192.168.50.77/24 has the node's own address 192.168.50.21",
        "network of 10.4.7.1/24 has the block of pods' addresses 10.4.0.0/16",
    ):
        assert words in said
    assert site.port("tag", "theirs") == "[]"
    assert not site.devices() & {"up-b", "up-c", "up-d"}


def test_a_wrong_annotation_takes_nothing_away(site):
    site.keep(UP)
    site.keep(UP | {"vlan": 5000})
    assert site.reasons() == ["UPLINK_INVALID"]
    site.until_up("up-a")
    assert site.addresses() == {"192.0.2.2/24", "2001:db8::2/64"}
    site.keep(UP)
    assert site.reasons() == []


def test_a_switch_that_was_away_gets_its_devices_addresses_back(site):
    site.keep(UP)
    site.switch.restart_vswitchd()
    site.keep(UP)
    assert site.addresses() == {"192.0.2.2/24", "2001:db8::2/64"}
    site.until_up("up-a")
