"""Topologies as values: what is refused, and what follows from a valid one."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from ipam.address import parse_interface, parse_prefix
from labs.configuration import POOL_HOSTS, free_hosts, render
from labs.parts import kubelet_config
from labs.state import State
from labs.switches import UNDERLAY, bridges, has_switch
from ncp.settings import parse
from topologies import bgp, catalog, document, draw
from topologies.plan import mac, neighbours, plan, plugs
from topologies.routing import routes
from topologies.spec import External, Link, Network, Node, Router, Topology, TopologyError, Uplink

BLOCKS = (parse_prefix("10.4.0.0/16"), parse_prefix("fd00:10:4::/48"))


def told(topology, owner, blocks=BLOCKS):
    return {str(route.prefix): str(route.via) for route in routes(topology, owner, blocks)}


@pytest.mark.parametrize("name", catalog.CATALOG)
def test_a_topology_survives_being_written_and_read(name, tmp_path):
    topology = catalog.named(name)
    path = tmp_path / "topology.json"
    path.write_text(json.dumps(document.render(topology)))
    assert document.load(path) == topology


def test_a_yaml_file_is_read(tmp_path):
    path = tmp_path / "pair.yaml"
    path.write_text(
        """
        name: pair
        networks: [{name: lan, prefixes: [192.168.50.0/24], mtu: 9000}]
        nodes:
          - {name: a, link: {network: lan, addresses: [192.168.50.11/24]}}
          - {name: b, link: {network: lan, addresses: [192.168.50.12/24]}, labels: {disk: ssd}, roles: [exit]}
        external: {link: {network: lan, addresses: [192.168.50.250/24]}, upstream: [203.0.113.1/24]}
        """
    )
    topology = document.load(path)
    assert topology.exit_node.name == "b"
    assert topology.node("b").labels == {"disk": "ssd"}
    assert topology.network("lan").mtu == 9000


def test_three_nodes_scales():
    topology = catalog.named("three-nodes", 7)
    assert [node.name for node in topology.nodes] == [f"node{number}" for number in range(1, 8)]
    assert len({one.address for node in topology.nodes for one in node.link.addresses}) == 14


def test_the_first_node_is_the_exit_unless_another_has_the_role():
    topology = catalog.two_racks()
    assert topology.exit_node.name == "node1"
    moved = tuple(replace(node, roles=("exit",) if node.name == "node3" else ()) for node in topology.nodes)
    assert replace(topology, nodes=moved).exit_node.name == "node3"
    none = tuple(replace(node, roles=()) for node in topology.nodes)
    assert replace(topology, nodes=none).exit_node.name == "node1"


def changed(**changes):
    return lambda: replace(catalog.three_nodes(), **changes)


def node(name="node9", network="underlay", addresses=("192.168.50.99/24", "fd50::99/64"), **more):
    return Node(name, Link(network, tuple(parse_interface(one) for one in addresses)), **more)


def edge1(**changes):
    topology = catalog.edge()
    return replace(topology, nodes=(topology.nodes[0], replace(topology.edges[0], **changes)))


def uplink_network(**changes):
    topology = catalog.edge()
    return replace(topology, networks=tuple(replace(one, **changes) if one.vlan else one for one in topology.networks))


WRONG = {
    "no nodes": (changed(nodes=()), r"nodes: empty"),
    "a name with capitals": (lambda: changed(nodes=(node("Node"),))(), r"'Node': name: wants"),
    "a reserved name": (lambda: changed(nodes=(node("ext"),))(), r"node or router ext: name: .*reserved"),
    "a name twice": (lambda: changed(nodes=(node(), node()))(), r"node9: name: used twice"),
    "an unknown network": (
        lambda: changed(nodes=(node(network="lan"),))(),
        r"node9: link: no network 'lan'; there are",
    ),
    "a missing family": (
        lambda: changed(nodes=(node(addresses=("192.168.50.9/24",)),))(),
        r"node9: addresses: .*one in each",
    ),
    "an address elsewhere": (
        lambda: changed(nodes=(node(addresses=("10.0.0.9/24", "fd50::9/64")),))(),
        r"node9: addresses: 10.0.0.9/24 is not in 192.168.50.0/24",
    ),
    "a wrong length": (
        lambda: changed(nodes=(node(addresses=("192.168.50.9/25", "fd50::9/64")),))(),
        r"192.168.50.9/25 is not in 192.168.50.0/24",
    ),
    "the broadcast address": (
        lambda: changed(nodes=(node(addresses=("192.168.50.255/24", "fd50::9/64")),))(),
        r"network's own or its broadcast",
    ),
    "an address twice": (
        lambda: changed(nodes=(node(addresses=("192.168.50.250/24", "fd50::9/64")),))(),
        r"192.168.50.250 is already node9's",
    ),
    "a small MTU": (
        lambda: changed(networks=(replace(catalog.three_nodes().networks[0], mtu=1200),))(),
        r"network underlay: mtu: 1200; wants 1280 to 9000",
    ),
    "an upstream inside the underlay": (
        lambda: changed(
            external=External(catalog.three_nodes().external.link, (parse_interface("192.168.50.1/25"),))
        )(),
        r"external host: 192.168.50.0/25 overlaps 192.168.50.0/24 of network underlay",
    ),
    "two exits": (
        lambda: replace(
            catalog.three_nodes(), nodes=tuple(replace(one, roles=("exit",)) for one in catalog.three_nodes().nodes)
        ),
        r"only one may be 'exit'",
    ),
    "an unknown role": (
        lambda: changed(nodes=(node(roles=("core",)),))(),
        r"node node9: roles: 'core'; allowed: exit, edge",
    ),
    "a router to nowhere": (
        lambda: changed(routers=(Router("r", (catalog.three_nodes().nodes[0].link,)),))(),
        r"192.168.50.11 is already node1's|router r: links",
    ),
    "unreachable racks": (lambda: replace(catalog.two_racks(), routers=()), r"no router joins network rack-a"),
    "too many nodes": (lambda: catalog.named("three-nodes", 33), r"nodes: 33; wants 1 to 32"),
    "a VLAN out of range": (lambda: uplink_network(vlan=4095), r"network uplink-a: vlan: 4095; wants 1 to 4094, or 0"),
    "a node on a VLAN": (
        lambda: changed(networks=(replace(catalog.three_nodes().networks[0], vlan=7),))(),
        r"node node1: link: network underlay has VLAN 7; only uplinks take tags",
    ),
    "uplinks of a node that is no edge": (
        lambda: edge1(roles=()),
        r"node edge1: uplinks: only a node of role 'edge' has some; its roles: \[\]",
    ),
    "an uplink with a name that is taken": (
        lambda: edge1(uplinks=(replace(catalog.edge().edges[0].uplinks[0], name="ul1"),)),
        r"node edge1: uplink ul1: name: wants",
    ),
    "an uplink in the underlay": (
        lambda: edge1(uplinks=(Uplink("up-a", node(addresses=("192.168.50.98/24", "fd50::98/64")).link),)),
        r"uplink up-a: link: the node is on network underlay already",
    ),
    "an uplink to nowhere": (
        lambda: replace(catalog.edges(), routers=catalog.edges().routers[:1]),
        r"node edge1: uplink up-b: no router joins network uplink-b to the external host's",
    ),
    "an edge beside an exit": (
        lambda: replace(catalog.edge(), nodes=(node("node1", roles=("exit",)), catalog.edge().edges[0])),
        r"node node1: roles: 'exit' beside edges \(edge1\)",
    ),
    "a router in the edges' system": (
        lambda: replace(catalog.edge(), routers=(replace(catalog.edge().routers[0], asn=65000),)),
        r"router up1: asn: 65000; wants 1 to 4294967294 but 65000, which is the edges'",
    ),
    "an external host with nobody to speak to": (
        lambda: changed(external=replace(catalog.three_nodes().external, asn=65200))(),
        r"external host: asn: no router on its network underlay has an asn",
    ),
    "scaling what does not scale": (lambda: catalog.named("two-racks", 3), r"only three-nodes scales"),
    "an unknown name": (lambda: catalog.named("four-racks"), r"no topology 'four-racks'; there are one-node"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_fit_together_is_refused(case):
    make, message = WRONG[case]
    with pytest.raises(TopologyError, match=message):
        make()


LINK = {"network": "lan", "addresses": []}
DOCUMENTS = {
    "not a mapping": ([], r"topology: \[\]; wants a mapping"),
    "a missing field": ({"name": "x", "nodes": [], "external": {}}, r"field 'networks' is missing"),
    "an unknown field": (
        {"name": "x", "networks": [], "nodes": [], "external": {}, "node": []},
        r"topology: unknown field 'node'; allowed: external, name",
    ),
    "a bad prefix": (
        {"name": "x", "networks": [{"name": "lan", "prefixes": ["192.168.50.1/24"]}], "nodes": [], "external": {}},
        r"network lan: prefixes: '192.168.50.1/24' has bits set below its length; did you mean 192.168.50.0/24",
    ),
    "a bad mtu": (
        {"name": "x", "networks": [{"name": "lan", "prefixes": [], "mtu": "big"}], "nodes": [], "external": {}},
        r"network lan: mtu: 'big'; wants a whole number",
    ),
    "a VLAN that is no number": (
        {"name": "x", "networks": [{"name": "lan", "prefixes": [], "vlan": "120"}], "nodes": [], "external": {}},
        r"network lan: vlan: '120'; wants a whole number",
    ),
    "an uplink without a link": (
        {
            "name": "x",
            "networks": [],
            "nodes": [{"name": "a", "link": LINK, "uplinks": [{"name": "up"}]}],
            "external": {},
        },
        r"node a: uplink: field 'link' is missing",
    ),
    "labels that are no texts": (
        {"name": "x", "networks": [], "nodes": [{"name": "a", "link": {}, "labels": {"a": 1}}], "external": {}},
        r"node a: labels: \{'a': 1\}; wants texts",
    ),
}


@pytest.mark.parametrize("case", DOCUMENTS)
def test_a_wrong_document_is_refused(case):
    value, message = DOCUMENTS[case]
    with pytest.raises(TopologyError, match=message):
        document.parse(value)


def test_a_file_that_is_not_there_is_an_error_with_its_path(tmp_path):
    with pytest.raises(TopologyError, match=r"gone\.yaml"):
        document.load(tmp_path / "gone.yaml")


def test_routes_on_one_segment():
    topology = catalog.three_nodes()
    assert told(topology, "node2") == {"0.0.0.0/0": "192.168.50.250", "::/0": "fd50::250"}
    assert told(topology, "ext") == {"10.4.0.0/16": "192.168.50.11", "fd00:10:4::/48": "fd50::11"}


def test_routes_between_racks():
    topology = catalog.two_racks()
    assert told(topology, "node3") == {
        "192.168.51.0/24": "192.168.52.1",
        "fd51::/64": "fd52::1",
        "192.168.59.0/24": "192.168.52.1",
        "fd59::/64": "fd52::1",
        "0.0.0.0/0": "192.168.52.1",
        "::/0": "fd52::1",
    }
    router = told(topology, "r")
    assert router["10.4.0.0/16"] == "192.168.51.11"
    assert router["0.0.0.0/0"] == "192.168.59.250"
    assert told(topology, "ext")["10.4.0.0/16"] == "192.168.59.1"


def test_every_node_knows_the_neighbours_its_tunnels_need():
    topology = catalog.two_racks()
    known = dict(neighbours(topology, "node1"))
    assert known["192.168.51.12"] == mac("node2", "rack-a")
    assert known["fd51::1"] == mac("r", "rack-a")
    assert "192.168.52.13" not in known, "a node of the other rack is behind the router"


def test_everything_a_plan_makes_carries_the_lab_in_its_namespace():
    batches = plan(catalog.two_racks(), "abcd", BLOCKS)
    assert {batch.namespace for batch in batches} == {
        f"ncpabcd-{name}" for name in ("ul", "node1", "node2", "node3", "node4", "r", "ext")
    }


def test_the_picture_shows_every_host_and_network():
    topology = catalog.two_racks()
    picture = draw.draw(topology)
    for name in ("rack-a", "rack-b", "uplink", "node4", "router r", "external host", "192.168.52.14", "203.0.113.1"):
        assert name in picture


@pytest.mark.parametrize(
    ("name", "pool"),
    [
        ("one-node", "192.168.50.200-192.168.50.239, fd50::200-fd50::23f"),
        ("three-nodes", "192.168.50.200-192.168.50.239, fd50::200-fd50::23f"),
        ("two-racks", "192.168.51.200-192.168.51.239, fd51::200-fd51::23f"),
    ],
)
def test_a_labs_load_balancers_have_addresses_where_its_exit_node_is(name, pool):
    topology = catalog.named(name)
    assert ", ".join(map(str, free_hosts(topology, topology.exit_node, POOL_HOSTS))) == pool
    options = render(State(Path("/nowhere/x")), topology)["nsx_v3"]
    (found,) = parse(f"[nsx_v3]\nexternal_ip_pools_lb = {options['external_ip_pools_lb']}").nsx_v3.external_ip_pools_lb
    assert (found.name, ", ".join(map(str, found.ranges))) == ("lab", pool)


def test_what_hosts_hold_is_no_virtual_address_and_a_small_network_has_fewer():
    network = Network("lan", (parse_prefix("192.168.7.0/24"), parse_prefix("fd07::/120")))
    small = Network("small", (parse_prefix("192.168.8.0/25"),))

    def place(*hosts):
        return Link("lan", tuple(map(parse_interface, hosts)))

    node = Node("node1", place("192.168.7.200/24", "fd07::1/120"))
    router = Router(
        "r", (place("192.168.7.239/24", "fd07::3/120"), Link("small", (parse_interface("192.168.8.1/25"),)))
    )
    outside = External(place("192.168.7.210/24", "fd07::2/120"))
    topology = Topology("t", (network, small), (node,), outside, (router,))
    assert list(map(str, free_hosts(topology, topology.exit_node, POOL_HOSTS))) == [
        "192.168.7.201-192.168.7.209",
        "192.168.7.211-192.168.7.238",
    ]


@pytest.mark.parametrize("name", ["edge", "edges"])
def test_where_there_are_edges_no_node_is_the_exit_and_nothing_says_the_way_but_bgp(name):
    topology = catalog.named(name)
    assert topology.exit_node is None
    assert [node.name for node in topology.edges] == [n.name for n in topology.nodes if n.name.startswith("edge")]
    assert {node.name: told(topology, node.name) for node in topology.nodes} == {
        node.name: {} for node in topology.nodes
    }
    options = render(State(Path("/nowhere/x")), topology)
    assert "ncp" not in options
    pools = parse(f"[nsx_v3]\nexternal_ip_pools_lb = {options['nsx_v3']['external_ip_pools_lb']}").nsx_v3
    links = [prefix for network in topology.networks for prefix in network.prefixes]
    (found,) = pools.external_ip_pools_lb
    assert {span.family for span in found.ranges} == {4, 6}
    assert not [prefix for span in found.ranges for prefix in links if prefix.value <= span.first <= prefix.last]


def test_an_external_host_that_speaks_no_bgp_gives_everything_to_the_router_that_does():
    assert told(catalog.edge(), "ext") == {
        "192.168.10.0/24": "192.168.90.1",
        "fd00:192:168:10::/64": "fd90::1",
        "0.0.0.0/0": "192.168.90.1",
        "::/0": "fd90::1",
    }
    assert told(catalog.edge(), "up1") == {"0.0.0.0/0": "192.168.90.250", "::/0": "fd90::250"}
    assert {who: told(catalog.edges(), who) for who in bgp.speakers(catalog.edges())} == {
        "up1": {},
        "up2": {},
        "ext": {},
    }


def test_the_kubelet_registers_edges_with_their_label_and_uplinks():
    nodes = {one["name"]: one for one in kubelet_config(State(Path("/nowhere/x")), catalog.edges())["nodes"]}
    assert (nodes["node1"]["labels"], nodes["node1"]["annotations"]) == ({}, {})
    assert nodes["edge2"]["labels"] == {"ncp/edge": "true"}
    assert json.loads(nodes["edge2"]["annotations"]["ncp/uplinks"]) == [
        {"name": "up-a", "bridge": "br-ex", "vlan": 120, "addresses": ["192.168.10.12/24", "fd00:192:168:10::12/64"]},
        {"name": "up-b", "bridge": "br-ex1", "vlan": 130, "addresses": ["192.168.20.12/24", "fd00:192:168:20::12/64"]},
    ]


def test_a_network_with_a_vlan_is_a_bridge_with_tagged_wires_to_nodes_and_access_ports_for_others():
    topology = catalog.edges()
    owner = {each.port: each.owner for each in plugs(topology)}
    assert [each.name for each in bridges(topology, UNDERLAY)] == ["br1", "br2"]
    assert {owner[wire.device]: dict(wire.columns) for wire in bridges(topology, UNDERLAY)[1].wires} == {
        "edge1": {"vlan_mode": "trunk", "trunks": 130},
        "edge2": {"vlan_mode": "trunk", "trunks": 130},
        "up2": {"tag": 130},
    }
    assert [(one.name, [wire.device for wire in one.wires]) for one in bridges(topology, "edge1")] == [
        ("br-ul", ["ul0"]),
        ("br-ex", ["ul1"]),
        ("br-ex1", ["ul2"]),
    ]
    assert [one.name for one in bridges(topology, "node1")] == ["br-ul"]
    assert not has_switch(catalog.two_racks())


def test_a_router_peers_with_edges_and_with_an_external_host_that_speaks_too():
    text = bgp.configuration(catalog.edges(), "up1")["bgpd"]
    for line in (
        "router bgp 65100",
        " bgp router-id 192.168.90.1",
        " neighbor edges4 remote-as 65000",
        " bgp listen range 192.168.10.0/24 peer-group edges4",
        " bgp listen range fd00:192:168:10::/64 peer-group edges6",
        " neighbor fd00:192:168:10::12 peer-group edges6",
        " neighbor 192.168.90.250 remote-as 65200",
        "  network 192.168.90.0/24",
    ):
        assert line in text.splitlines()
    assert "192.168.20." not in text, "the other router's network"
    assert "192.168.50." not in text, "the underlay"
    assert "default-originate" not in text, (
        "a default route that the external host tells is passed on, and goes with it"
    )
    alone = bgp.configuration(catalog.edge(), "up1")["bgpd"].splitlines()
    assert "  neighbor edges4 default-originate" in alone
    assert "  neighbor edges6 default-originate" in alone
    outside = bgp.configuration(catalog.edges(), "ext")["bgpd"].splitlines()
    assert {
        " neighbor 192.168.90.2 remote-as 65100",
        "  network 203.0.113.0/24",
        "  neighbor fd90::1 default-originate",
    } <= set(outside)


def test_edges_are_to_peer_with_every_router_on_their_networks():
    assert [f"{peer.address} as {peer.asn}" for peer in bgp.edge_peers(catalog.edges())] == [
        "192.168.10.1 as 65100",
        "fd00:192:168:10::1 as 65100",
        "192.168.20.1 as 65100",
        "fd00:192:168:20::1 as 65100",
    ]
