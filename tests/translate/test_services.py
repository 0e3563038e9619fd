"""What Services and EndpointSlices ask of the network, and that the order in which they come is nothing."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipam.address import parse_address
from ncp.translate.intent import apply, apply_all, start
from ncp.translate.services import slice_of, slices_of_endpoints, virtual_server
from sdn.compile.delta import Delta
from sdn.services import Endpoint, ServicePort, Slice
from tests.translate.test_intent import FABRIC

TCP = {"port": 80}


def service(name="s", addresses=("10.96.0.1",), ports=(TCP,), status=None, **spec):
    meta = {"name": name, "namespace": "red", "uid": f"u-{name}"}
    asked = {
        "clusterIP": (*addresses, None)[0],
        "clusterIPs": list(addresses),
        "ports": list(ports),
        "type": "ClusterIP",
    }
    return {"metadata": meta, "spec": asked | spec, "status": status or {}}


def balanced(*ingress, **spec):
    return service(type="LoadBalancer", status={"loadBalancer": {"ingress": list(ingress)}}, **spec)


def end(*addresses, **more):
    return {"addresses": list(addresses), **more}


def slice_for(service="s", *ends, name="s-1", ports=({"name": "", "port": 8080, "protocol": "TCP"},), kind="IPv4"):
    labels = {"kubernetes.io/service-name": service} if service else {}
    meta = {"name": name, "namespace": "red", "labels": labels}
    return {"metadata": meta, "addressType": kind, "ports": list(ports), "endpoints": list(ends)}


def server(obj):
    """What a Service asks for, which has nothing wrong."""
    found, problems = virtual_server(obj)
    assert problems == ()
    return found


def addresses(*texts):
    return tuple(parse_address(each) for each in texts)


# -- Service ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "obj",
    [
        service(addresses=("None",)),
        service(addresses=()),
        service(type="ExternalName", externalName="example.org", externalIPs=["192.0.2.1"]),
        service(addresses=("None",), ports=()),
    ],
    ids=["headless", "undecided", "a name", "headless without ports"],
)
def test_what_has_no_address_of_its_own_needs_nothing(obj):
    assert server(obj) is None


def test_a_service_of_two_families_has_two_addresses():
    found = server(service(addresses=("10.96.0.1", "fd00::1")))
    assert found.internal == addresses("10.96.0.1", "fd00::1")
    assert (found.name, found.origin.kind, found.origin.uid) == ("red/s", "Service", "u-s")


def test_a_service_of_an_older_server_has_one():
    obj = service()
    del obj["spec"]["clusterIPs"]
    assert server(obj).internal == addresses("10.96.0.1")


def test_ports_have_their_protocols_and_tcp_is_understood():
    ports = [
        {"port": 53, "protocol": "UDP", "name": "dns"},
        {"port": 80, "nodePort": 30080},
        {"port": 9, "protocol": "SCTP"},
    ]
    assert server(service(ports=ports)).ports == (
        ServicePort("dns", "udp", 53), ServicePort("", "tcp", 80, 30080), ServicePort("", "sctp", 9),
    )  # fmt: skip


def test_addresses_for_the_outside_count_once_and_names_of_balancers_do_not():
    found = server(
        balanced(
            {"ip": "192.0.2.1"}, {"hostname": "lb.example.org"}, {"ip": "192.0.2.2", "ipMode": "Proxy"},
            {"ip": "2001:db8::1", "ipMode": "VIP"},
            externalIPs=["192.0.2.1", "198.51.100.1"],
        )
    )  # fmt: skip
    assert found.external == addresses("192.0.2.1", "198.51.100.1")
    assert found.balancers == addresses("192.0.2.1", "2001:db8::1")
    assert found.addresses == addresses("10.96.0.1", "192.0.2.1", "198.51.100.1", "2001:db8::1")


def test_what_a_balancer_left_behind_is_nothing_once_the_service_is_of_another_type():
    assert server(balanced({"ip": "192.0.2.1"}) | {"spec": service()["spec"]}).balancers == ()


@pytest.mark.parametrize("clusters", [("10.96.0.1",), ("None",)])
def test_members_may_be_somebody_else_outside_also_those_of_a_headless_service(clusters):
    obj = service(addresses=clusters)
    obj["metadata"]["annotations"] = {"ncp/snat_ip": "172.20.0.7,fd00::7"}
    assert server(obj).translated == addresses("172.20.0.7", "fd00::7")
    obj["metadata"]["annotations"] = {"ncp/snat_ip": "172.20.0.7,?"}
    found, (problem,) = virtual_server(obj)
    assert problem.reason == "MALFORMED_ANNOTATION"
    assert found is None if clusters == ("None",) else found.translated == ()


def test_a_headless_service_may_have_addresses_for_the_outside():
    found = server(service(addresses=("None",), externalIPs=["192.0.2.1"]))
    assert (found.internal, found.external) == ((), addresses("192.0.2.1"))


@pytest.mark.parametrize(
    ("spec", "seconds"),
    [
        ({}, 0),
        ({"sessionAffinity": "None", "sessionAffinityConfig": None}, 0),
        ({"sessionAffinity": "ClientIP"}, 10800),
        ({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {}}}, 10800),
        ({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 5}}}, 5),
        ({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 86400}}}, 86400),
        ({"sessionAffinity": "None", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 5}}}, 0),
    ],
)
def test_how_long_a_client_stays(spec, seconds):
    assert server(service(**spec)).affinity == seconds


@pytest.mark.parametrize(
    ("spec", "local"),
    [
        ({}, set()),
        ({"internalTrafficPolicy": "Cluster", "externalTrafficPolicy": "Local"}, {"external"}),
        ({"internalTrafficPolicy": "Local", "externalTrafficPolicy": "Local"}, {"internal", "external"}),
    ],
)
def test_where_only_members_of_the_node_count(spec, local):
    assert server(service(**spec)).local == local


def test_who_publishes_addresses_that_are_not_ready():
    assert server(service(publishNotReadyAddresses=True)).takes_unready
    assert not server(service()).takes_unready


def test_source_ranges_are_networks_whatever_bits_they_have_below():
    ranges = [" 192.0.2.0/24", "10.1.2.3/8", "10.0.0.0/8", "2001:db8::/32"]
    found = server(balanced({"ip": "192.0.2.1"}, loadBalancerSourceRanges=ranges))
    assert [str(each) for each in found.sources] == ["10.0.0.0/8", "192.0.2.0/24", "2001:db8::/32"]


@pytest.mark.parametrize(
    ("obj", "says"),
    [
        (service(addresses=("10.96.0.1", "10.96")), "spec.clusterIPs: '10.96'; allowed: an IPv4 or IPv6 address"),
        (service(externalIPs=["host"]), "spec.externalIPs: 'host'; allowed: an IPv4 or IPv6 address"),
        (balanced({"ip": "1.2.3"}), "status.loadBalancer.ingress: '1.2.3'; allowed: an IPv4 or IPv6 address"),
        (service(ports=[TCP, {"port": 5, "protocol": "DCCP"}]), "spec.ports[1].protocol: 'DCCP'; allowed: TCP, UDP, SCTP"),
        (
            balanced({"ip": "192.0.2.1"}, loadBalancerSourceRanges=["192.0.2.0/24", "192.0.2.0"], externalIPs=[]),
            "spec.loadBalancerSourceRanges[1]: '192.0.2.0'; allowed: a network, as 192.0.2.0/24",
        ),
    ],
    ids=["cluster address", "outer address", "balancer", "protocol", "range"],
)  # fmt: skip
def test_what_cannot_be_understood_is_named_and_left_aside(obj, says):
    found, (problem,) = virtual_server(obj)
    assert problem.reason == "SERVICE_INVALID"
    assert problem.message == f"Service red/s: {says}"
    assert (found.internal, found.ports) == (addresses("10.96.0.1"), (ServicePort("", "tcp", 80),)), "the rest holds"
    assert [str(each) for each in found.sources] == (["192.0.2.0/24"] if "Ranges" in says else [])


def test_a_balancer_whose_ranges_cannot_be_read_serves_nobody_rather_than_everybody():
    found, problems = virtual_server(
        balanced({"ip": "192.0.2.1"}, loadBalancerSourceRanges=["all"], externalIPs=["198.51.100.1"])
    )
    assert len(problems) == 1
    assert found.external == addresses("198.51.100.1"), "ranges are about balancers alone"
    assert found.balancers == ()


def test_a_problem_goes_with_what_it_was_about():
    state, _ = apply(start(FABRIC), "Service", ("red", "s"), service(addresses=("10.96",)))
    assert [p.reason for p in state.all_problems()] == ["SERVICE_INVALID"]
    assert not state.intent.services
    mended, delta = apply(state, "Service", ("red", "s"), service())
    assert mended.all_problems() == []
    assert delta.services == {"red/s"}
    gone, _ = apply(state, "Service", ("red", "s"), None)
    assert gone.all_problems() == []


# -- EndpointSlice ------------------------------------------------------------------------------------------------------


def endpoint(**value):
    """The only endpoint of a slice."""
    _, found = slice_of(slice_for("s", end("10.4.0.1", **value)))
    return found.endpoints[0]


@pytest.mark.parametrize(
    ("conditions", "flags"),
    [
        (None, (True, True, False)),
        ({}, (True, True, False)),
        ({"ready": None, "serving": None, "terminating": None}, (True, True, False)),
        ({"ready": False}, (False, False, False)),
        ({"ready": False, "serving": True, "terminating": True}, (False, True, True)),
        ({"ready": True, "serving": False}, (True, False, False)),
    ],
)
def test_conditions_that_nobody_states(conditions, flags):
    found = endpoint(conditions=conditions)
    assert (found.ready, found.serving, found.terminating) == flags


def test_an_endpoint_has_its_node_and_hints():
    hints = {"forZones": [{"name": "z1"}, {"name": "z2"}], "forNodes": [{"name": "n1"}]}
    assert endpoint(nodeName="n1", hints=hints) == Endpoint(
        parse_address("10.4.0.1"), "n1", zones=frozenset({"z1", "z2"}), nodes=frozenset({"n1"})
    )
    assert endpoint(nodeName=None, hints=None) == Endpoint(parse_address("10.4.0.1"))


def test_endpoints_without_a_usable_address_are_left_aside():
    ends = ({}, {"addresses": None}, end(), end("host"), end("10.4.0.2", "10.4.0.9"), end("10.4.0.1"))
    _, found = slice_of(slice_for("s", *ends))
    assert [str(each.address) for each in found.endpoints] == ["10.4.0.1", "10.4.0.2"]


@pytest.mark.parametrize("obj", [slice_for(""), slice_for(kind="FQDN")], ids=["nobody's", "of names"])
def test_slices_that_stand_behind_nothing(obj):
    assert slice_of(obj) is None


def test_ports_of_a_slice():
    ports = [
        {"name": "b", "port": 2, "protocol": "UDP"}, {"name": None, "port": 1}, {"name": "all", "port": None},
        {"name": "odd", "port": 3, "protocol": "DCCP"},
    ]  # fmt: skip
    name, found = slice_of(slice_for(ports=ports))
    assert name == "red/s"
    assert found.ports == (("", "tcp", 1), ("b", "udp", 2))
    assert slice_of(slice_for(ports=()))[1].ports == ()


def subset(*ready, unready=(), ports=({"port": 8080},)):
    """One subset of Endpoints; addresses with a node are written ``address@node``."""

    def entry(text):
        address, _, node = text.partition("@")
        return {"ip": address} | ({"nodeName": node} if node else {})

    return {
        "addresses": [entry(each) for each in ready],
        "notReadyAddresses": [entry(each) for each in unready],
        "ports": list(ports),
    }


def endpoints_for(*subsets, name="s"):
    """Endpoints as a server of core/v1 gives them; without subsets the field is not there."""
    meta = {"name": name, "namespace": "red"}
    return {"metadata": meta} | ({"subsets": list(subsets)} if subsets else {})


def test_endpoints_of_old_servers_are_slices_one_for_each_subset():
    named = ({"name": "web", "port": 80, "protocol": "TCP"}, {"name": "dns", "port": 53, "protocol": "UDP"})
    found = slices_of_endpoints(
        endpoints_for(subset("10.4.0.2@n1", "10.4.0.1", unready=("10.4.0.3@n2",)), subset("10.4.0.4", ports=named))
    )
    one, two, three, four = addresses("10.4.0.1", "10.4.0.2", "10.4.0.3", "10.4.0.4")
    assert found == (
        Slice((("", "tcp", 8080),), (Endpoint(one), Endpoint(two, "n1"), Endpoint(three, "n2", False, False))),
        Slice((("dns", "udp", 53), ("web", "tcp", 80)), (Endpoint(four),)),
    )


def test_endpoints_say_the_same_as_slices_of_them():
    (found,) = slices_of_endpoints(endpoints_for(subset("10.4.0.1@n1", unready=("10.4.0.2",))))
    ends = end("10.4.0.1", nodeName="n1"), end("10.4.0.2", conditions={"ready": False})
    assert found == slice_of(slice_for("s", *ends))[1]


@pytest.mark.parametrize(
    "obj",
    [
        endpoints_for(),
        endpoints_for() | {"subsets": None},
        endpoints_for({}),
        endpoints_for({"addresses": [{"ip": "x"}, {}]}),
    ],
)
def test_endpoints_without_a_usable_address_have_nobody(obj):
    assert [each.endpoints for each in slices_of_endpoints(obj)] in ([], [()])


def test_endpoints_that_lose_a_subset_leave_nothing_of_it():
    objects = ("Endpoints", ("red", "s"), endpoints_for(subset("10.4.0.1"), subset("10.4.0.2", ports=({"port": 1},))))
    state, delta = apply(start(FABRIC), *objects)
    assert (len(state.intent.slices["red/s"]), delta.services) == (2, {"red/s"})
    assert apply(state, *objects)[1] == Delta()
    state, delta = apply(state, "Endpoints", ("red", "s"), endpoints_for(subset("10.4.0.2", ports=({"port": 1},))))
    assert [*state.intent.slices["red/s"].values()] == [Slice((("", "tcp", 1),), (Endpoint(*addresses("10.4.0.2")),))]
    assert delta.services == {"red/s"}
    state, delta = apply(state, "Endpoints", ("red", "s"), None)
    assert (state.intent.slices, delta.services) == (start(FABRIC).intent.slices, {"red/s"})


def under(state, name):
    return sorted(state.intent.slices.get(name, {}))


def test_a_slice_may_come_before_its_service_and_stay_after_it():
    state, delta = apply(start(FABRIC), "EndpointSlice", ("red", "s-1"), slice_for())
    assert (under(state, "red/s"), delta.services) == (["red/s-1"], {"red/s"})
    state, _ = apply(state, "Service", ("red", "s"), service())
    state, _ = apply(state, "Service", ("red", "s"), None)
    assert under(state, "red/s") == ["red/s-1"]


def test_a_slice_that_changes_its_service_leaves_the_other():
    state, _ = apply(start(FABRIC), "EndpointSlice", ("red", "s-1"), slice_for("s"))
    state, delta = apply(state, "EndpointSlice", ("red", "s-1"), slice_for("t"))
    assert (under(state, "red/s"), under(state, "red/t")) == ([], ["red/s-1"])
    assert delta.services == {"red/s", "red/t"}
    state, delta = apply(state, "EndpointSlice", ("red", "s-1"), slice_for(""))
    assert (dict(state.intent.slices), delta.services) == ({}, {"red/t"})
    assert dict(state.of_slice) == {}


def test_what_is_written_anew_but_says_the_same_changes_nothing():
    objects = [("Service", ("red", "s"), service()), ("EndpointSlice", ("red", "s-1"), slice_for("s", end("10.4.0.1")))]
    state, _ = apply_all(start(FABRIC), objects)
    for kind, key, obj in objects:
        noted = obj | {"metadata": obj["metadata"] | {"resourceVersion": "9"}}
        assert not apply(state, kind, key, noted)[1]


OBJECTS = {
    ("Service", ("red", "s")): [None, service(), service(addresses=("10.96", "fd00::1")), service(sessionAffinity="ClientIP")],
    ("Service", ("red", "t")): [None, service("t"), service("t", addresses=("None",))],
    ("EndpointSlice", ("red", "1")): [
        None, slice_for("s", name="1"), slice_for("t", end("10.4.0.1"), name="1"), slice_for("", name="1"),
    ],
    ("Endpoints", ("red", "s")): [
        None, endpoints_for(), endpoints_for(subset("10.4.0.4")), endpoints_for(subset("10.4.0.5"), subset(unready=("10.4.0.4",))),
    ],
    ("EndpointSlice", ("red", "2")): [None, slice_for("s", end("10.4.0.2"), name="2"), slice_for("t", name="2")],
    ("EndpointSlice", ("red", "s")): [None, slice_for("s", end("10.4.0.3"), name="s"), slice_for("s", kind="FQDN", name="s")],
}  # fmt: skip
events = st.lists(
    st.sampled_from(sorted(OBJECTS)).flatmap(lambda key: st.tuples(st.just(key), st.sampled_from(OBJECTS[key]))),
    max_size=15,
)


@given(events, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_what_comes_out_depends_only_on_what_exists_at_the_end(sequence, random):
    state, last = start(FABRIC), {}
    for (kind, key), obj in sequence:
        after, delta = apply(state, kind, key, obj)
        for field in ("services", "slices"):
            old, new = getattr(state.intent, field), getattr(after.intent, field)
            assert {name for name in {*old, *new} if old.get(name) != new.get(name)} <= delta.services
        state, last[kind, key] = after, obj
    rest = [(kind, key, obj) for (kind, key), obj in last.items()]
    random.shuffle(rest)
    fresh, _ = apply_all(start(FABRIC), rest)
    assert state.intent == fresh.intent
    assert state.of_slice == fresh.of_slice
    assert state.all_problems() == fresh.all_problems()
