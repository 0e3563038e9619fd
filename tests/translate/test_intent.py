from __future__ import annotations

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipam.address import parse_address, parse_interface
from ncp.settings import parse
from ncp.translate import objects
from ncp.translate.fabric import fabric_of
from ncp.translate.intent import Fabric, apply, apply_all, start

FABRIC = Fabric("lab", 5000, (parse_interface("100.64.0.1/16"),), 1500, False, "node1")


def namespace(name, vni=5001, domain=0, **annotations):
    decided = [{"vni": vni, "router": vni, "gateways": ["10.4.0.1/24", "fd00:10:4::1/64"], "snat": True}]
    if domain:
        decided[0] |= {"snat": False, "domain": domain}
    noted = {"ncp/cluster": "lab", "ncp/segments": orjson.dumps(decided).decode(), **annotations}
    return {"metadata": {"name": name, "uid": f"u-{name}", "annotations": noted}}


def pod(name, ns="red", node="node1", phase="Running", host=False, **annotations):
    decided = {"vni": 5001, "mac": "02:4e:0a:04:00:02", "addresses": ["10.4.0.2/24"], "gateways": ["10.4.0.1"]}
    noted = {"ncp/cluster": "lab", "ncp/port": orjson.dumps(decided).decode(), **annotations}
    meta = {"name": name, "namespace": ns, "uid": f"u-{name}", "annotations": noted}
    return {"metadata": meta, "spec": {"nodeName": node, "hostNetwork": host}, "status": {"phase": phase}}


def node(name, *addresses, **annotations):
    listed = [{"type": "Hostname", "address": name}, *({"type": "InternalIP", "address": a} for a in addresses)]
    return {"metadata": {"name": name, "annotations": annotations}, "status": {"addresses": listed}}


def test_a_namespace_becomes_a_switch_and_its_tier1():
    state, delta = apply(start(FABRIC), "Namespace", ("", "red"), namespace("red"))
    switch = state.intent.switches[5001]
    assert (switch.name, switch.router, [str(g) for g in switch.gateways]) == (
        "red/0", 5001, ["10.4.0.1/24", "fd00:10:4::1/64"],
    )  # fmt: skip
    assert delta.switches == {5001}
    gone, delta = apply(state, "Namespace", ("", "red"), None)
    assert not gone.intent.switches
    assert delta.switches == {5001}


def test_a_pod_becomes_a_port_only_while_it_runs_on_the_pod_network():
    for obj, has in ((pod("a"), True), (pod("a", phase="Succeeded"), False), (pod("a", host=True), False)):
        state, _ = apply(start(FABRIC), "Pod", ("red", "a"), obj)
        assert ("red/a" in state.intent.ports) is has


def test_a_nodes_tunnel_endpoint_is_its_first_internal_address_unless_told():
    state, _ = apply(start(FABRIC), "Node", ("", "n"), node("n", "192.168.50.11", "fd50::11"))
    assert state.intent.nodes["n"].tep == parse_address("192.168.50.11")
    state, _ = apply(state, "Node", ("", "n"), node("n", "192.168.50.11", **{"ncp/tep": "172.16.0.9"}))
    assert state.intent.nodes["n"].tep == parse_address("172.16.0.9")
    state, _ = apply(state, "Node", ("", "n"), node("n"))
    assert [p.reason for p in state.all_problems()] == ["NODE_WITHOUT_ADDRESS"]


def test_another_clusters_decisions_are_not_ours():
    state, delta = apply(start(FABRIC), "Pod", ("red", "a"), pod("a", **{"ncp/cluster": "other"}))
    assert not delta
    assert not state.intent.ports


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"vni": 0}', '{"vni": 5001, "mac": "zz", "addresses": []}',
     '{"vni": 5001, "mac": "02:4e:0a:04:00:02", "addresses": ["10.4.0.2"]}',
     '{"vni": 5001, "mac": "ff:ff:ff:ff:ff:ff", "addresses": ["10.4.0.2/24"]}',
     '{"vni": true, "mac": "02:4e:0a:04:00:02", "addresses": "10.4.0.2/24"}'],
)  # fmt: skip
def test_a_malformed_decision_is_a_problem_that_names_it_and_goes_away(text):
    state, _ = apply(start(FABRIC), "Pod", ("red", "a"), pod("a", **{"ncp/port": text}))
    (problem,) = state.all_problems()
    assert problem.reason == "MALFORMED_ANNOTATION"
    assert "ncp/port of Pod red/a" in problem.message
    mended, _ = apply(state, "Pod", ("red", "a"), pod("a"))
    assert mended.all_problems() == []


def test_two_namespaces_with_one_vni_the_same_one_keeps_it_whatever_came_first():
    red, blue = namespace("red"), namespace("blue")
    one, _ = apply_all(start(FABRIC), [("Namespace", ("", "red"), red), ("Namespace", ("", "blue"), blue)])
    other, _ = apply_all(start(FABRIC), [("Namespace", ("", "blue"), blue), ("Namespace", ("", "red"), red)])
    assert one.intent.switches == other.intent.switches
    assert [p.reason for p in one.all_problems()] == ["VNI_CONFLICT"]
    freed, _ = apply(one, "Namespace", ("", one.intent.switches[5001].origin.name), None)
    assert freed.all_problems() == []
    assert 5001 in freed.intent.switches


def binding(*shown, pod="a", name="b"):
    meta = {"name": name, "namespace": "red", "uid": f"u-{name}"}
    return {"metadata": meta, "spec": {"podName": pod}, "status": {"ipAddresses": list(shown)}}


@pytest.mark.parametrize(
    ("text", "external"),
    [
        ("172.20.0.160", ["172.20.0.160"]),
        ("172.20.0.160, fd00::a0", ["172.20.0.160", "fd00::a0"]),
        ("", None),
        ("172.20.0.160;fd00::a0", None),
        ("172.20.0.160,172.20.0.161", None),
    ],
)
def test_every_switch_of_a_namespace_is_translated_to_what_was_decided_or_to_nothing(text, external):
    obj = namespace("red", **{"ncp/snat_ip": text})
    decided = orjson.loads(obj["metadata"]["annotations"]["ncp/segments"])
    decided.append(decided[0] | {"vni": 5002, "gateways": ["10.4.1.1/24"]})
    obj["metadata"]["annotations"]["ncp/segments"] = orjson.dumps(decided).decode()
    state, _ = apply(start(FABRIC), "Namespace", ("", "red"), obj)
    assert [[str(each) for each in switch.translated] for _, switch in sorted(state.intent.switches.items())] == [
        external or []
    ] * 2
    problems = [(problem.reason, "ncp/snat_ip of Namespace red" in problem.message) for problem in state.all_problems()]
    assert problems == ([] if external else [("MALFORMED_ANNOTATION", True)])
    moved, delta = apply(state, "Namespace", ("", "red"), namespace("red", **{"ncp/snat_ip": "172.20.0.9"}))
    assert (delta.switches, moved.all_problems()) == ({5001, 5002}, [])


def test_a_binding_is_there_once_it_has_addresses():
    state, delta = apply(start(FABRIC), "AddressBinding", ("red", "b"), binding("172.20.0.7", "fd00::7"))
    found = state.intent.bindings["red/b"]
    assert (found.name, found.port, [str(each) for each in found.external]) == (
        "red/b", "red/a", ["172.20.0.7", "fd00::7"],
    )  # fmt: skip
    assert delta.bindings == {"red/b"}
    waiting, delta = apply(state, "AddressBinding", ("red", "b"), binding())
    assert (dict(waiting.intent.bindings), delta.bindings) == ({}, {"red/b"})
    for shown in (["?"], ["172.20.0.7", "172.20.0.8"], [7]):
        state, _ = apply(state, "AddressBinding", ("red", "b"), binding(*shown))
        assert [problem.reason for problem in state.all_problems()] == ["MALFORMED_STATUS"]
        assert not state.intent.bindings


@pytest.mark.parametrize(
    ("ini", "families"),
    [
        ("[nsx_v3]\nexternal_ip_pools = a=172.20.0.1, b=fd00::1", {4, 6}),
        ("[nsx_v3]\nexternal_ip_pools = 172.20.0.1", {4}),
        ("[nsx_v3]\nexternal_ip_pools = 172.20.0.1\n[coe]\nenable_snat = False", set()),
        ("", set()),
    ],
)
def test_families_that_pools_have_are_translated_while_snat_is_on(ini, families):
    assert start(fabric_of(parse(ini))).intent.snat_families == families


def service(name="s", address="10.96.0.9"):
    meta = {"name": name, "namespace": "red", "uid": f"u-{name}"}
    return {"metadata": meta, "spec": {"clusterIPs": [address], "ports": [{"port": 80}]}}


def test_what_a_namespace_in_a_routing_domain_asks_of_others_is_withheld_and_told():
    """Whatever comes first: virtual servers, host ports and bindings are the cluster's own."""
    hosted = pod("a")
    hosted["spec"]["containers"] = [{"name": "c", "ports": [{"containerPort": 80, "hostPort": 8080}]}]
    asked = [
        ("Service", ("red", "s"), service()),
        ("AddressBinding", ("red", "b"), binding("172.20.0.7")),
        ("Pod", ("red", "a"), hosted),
    ]
    apart = ("Namespace", ("", "red"), namespace("red", domain=7))
    for changes in ([apart, *asked], [*asked, apart]):
        state, _ = apply_all(start(FABRIC), changes)
        assert (dict(state.intent.services), dict(state.intent.bindings)) == ({}, {})
        assert state.intent.domain_of(state.intent.ports["red/a"]) == 7
        assert {(p.origin.kind, p.reason) for p in state.all_problems()} == {
            (kind, "ROUTING_DOMAIN_APART") for kind in ("Service", "AddressBinding", "Pod")
        }
    back, delta = apply(state, "Namespace", ("", "red"), namespace("red"))
    assert (set(back.intent.services), set(back.intent.bindings)) == ({"red/s", "red/a@host"}, {"red/b"})
    assert (delta.services, delta.bindings) == ({"red/s", "red/a@host"}, {"red/b"})
    assert back.all_problems() == []


@pytest.mark.parametrize("domain", [-1, 4096, "7"])
def test_a_routing_domain_that_cannot_be_is_malformed(domain):
    state, _ = apply(start(FABRIC), "Namespace", ("", "red"), namespace("red", domain=domain))
    assert [p.reason for p in state.all_problems()] == ["MALFORMED_ANNOTATION"]
    assert not state.intent.switches


OBJECTS = {
    ("Service", ("red", "s")): [None, service(), service(address="10.96.0.10")],
    ("AddressBinding", ("red", "b")): [
        None,
        binding(),
        binding("172.20.0.7"),
        binding("?"),
        binding("fd00::7", pod="c"),
    ],
    ("Namespace", ("", "red")): [
        None,
        namespace("red"),
        namespace("red", **{"ncp/snat_ip": "172.20.0.1"}),
        namespace("red", **{"ncp/snat_ip": "?"}),
        namespace("red", vni=5002),
        namespace("red", domain=7),
        namespace("red", vni=5002, domain=8),
        namespace("red", **{"ncp/segments": "x"}),
    ],
    ("Namespace", ("", "blue")): [None, namespace("blue", vni=5002)],
    ("Pod", ("red", "a")): [
        None,
        pod("a"),
        pod("a", node="node2"),
        pod("a", phase="Failed"),
        pod("a", **{"ncp/port": "x"}),
    ],
    ("Node", ("", "node1")): [None, node("node1", "192.168.50.11"), node("node1")],
}
events = st.lists(
    st.sampled_from(sorted(OBJECTS)).flatmap(lambda key: st.tuples(st.just(key), st.sampled_from(OBJECTS[key]))),
    max_size=15,
)


@given(events)
@settings(deadline=None)
def test_what_comes_out_depends_only_on_what_exists_at_the_end(sequence):
    state = start(FABRIC)
    last = {}
    for (kind, key), obj in sequence:
        state, _ = apply(state, kind, key, obj)
        last[kind, key] = obj
    fresh, _ = apply_all(
        start(FABRIC), ((kind, key, obj) for (kind, key), obj in sorted(last.items(), key=lambda i: i[0]))
    )
    assert state.intent == fresh.intent
    assert state.all_problems() == fresh.all_problems()


@given(events)
@settings(deadline=None)
def test_the_delta_names_everything_that_changed(sequence):
    state = start(FABRIC)
    for (kind, key), obj in sequence:
        after, delta = apply(state, kind, key, obj)
        for field in ("ports", "switches", "nodes", "bindings", "services"):
            old, new = getattr(state.intent, field), getattr(after.intent, field)
            changed = {k for k in {*old, *new} if old.get(k) != new.get(k)}
            assert changed == set(getattr(delta, field))
        state = after


def test_mac_addresses_are_written_as_they_are_read():
    assert objects.format_mac(objects.parse_mac("02:4e:0a:04:00:02")) == "02:4e:0a:04:00:02"
    assert objects.node_mac("node1") >> 32 == 0x024D
    assert objects.node_mac("node1") != objects.node_mac("node2")
