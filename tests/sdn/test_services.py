"""Who is a member of a pool, as a node sees it: what Kubernetes defines."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipam.address import parse_address
from sdn.model import Origin
from sdn.services import Endpoint, Member, Place, ServicePort, Slice, VirtualServer, endpoints, members

WEB = ServicePort("web", "tcp", 80)
HERE = Place("n1", "z1")
PORTS = (("web", "tcp", 8080),)


def server(**more):
    return VirtualServer("red/s", Origin("Service", "red", "s"), (WEB,), (parse_address("10.96.0.1"),), **more)


def end(address, node="n1", condition="ready", *, zones=(), nodes=()):
    """An endpoint whose condition is ``ready``, ``unready``, ``draining`` (it terminates and serves) or ``ending`` (it does not)."""
    flags = {
        "ready": (True, True, False),
        "unready": (False, False, False),
        "draining": (False, True, True),
        "ending": (False, False, True),
    }[condition]
    return Endpoint(parse_address(address), node, *flags, frozenset(zones), frozenset(nodes))


def chosen(*ends, port=WEB, family=4, place=HERE, local=False, ports=PORTS, of=None):
    """Last parts of the addresses of members."""
    found = members(of or server(), [Slice(ports, ends)], port, family, place, local=local)
    return [str(each.address).rpartition(":" if family == 6 else ".")[2] for each in found]


@pytest.mark.parametrize(
    ("conditions", "those"),
    [
        (("ready", "unready", "draining", "ending"), ["1"]),
        (("unready", "draining", "ending", "draining"), ["2", "4"]),
        (("unready", "ending", "unready", "ending"), []),
        ((), []),
    ],
)
def test_ready_ones_are_members_and_without_any_those_that_still_serve_while_they_terminate(conditions, those):
    ends = [end(f"10.4.0.{n}", condition=each) for n, each in enumerate(conditions, 1)]
    assert chosen(*ends) == those


def test_who_publishes_addresses_that_are_not_ready_has_them_all():
    ends = [end(f"10.4.0.{n}", condition=each) for n, each in enumerate(("ready", "unready", "draining", "ending"), 1)]
    assert chosen(*ends, of=server(takes_unready=True)) == ["1", "2", "3", "4"]


@pytest.mark.parametrize(
    ("ends", "those"),
    [
        ([("n1", "ready"), ("n2", "ready")], ["1"]),
        ([("n1", "draining"), ("n2", "ready")], ["1"]),
        ([("n1", "unready"), ("n2", "ready")], []),
        ([("n2", "ready"), ("", "ready")], []),
    ],
)
def test_local_members_are_those_of_the_clients_node_whatever_there_is_elsewhere(ends, those):
    assert chosen(*(end(f"10.4.0.{n}", *each) for n, each in enumerate(ends, 1)), local=True) == those


def test_local_is_not_narrowed_by_hints():
    ends = (end("10.4.0.1", zones=["z2"]), end("10.4.0.2", zones=["z1"]))
    assert chosen(*ends, local=True) == ["1", "2"]


@pytest.mark.parametrize(
    ("hints", "place", "those"),
    [
        ((["z1"], ["z2"], ["z1", "z2"]), HERE, ["1", "3"]),
        ((["z2"], ["z2"], ["z3"]), HERE, ["1", "2", "3"]),
        ((["z1"], ["z2"], []), HERE, ["1", "2", "3"]),
        ((["z1"], ["z2"], ["z3"]), Place("n1"), ["1", "2", "3"]),
    ],
    ids=["meant for the zone", "none meant for the zone", "one has no hint", "the node has no zone"],
)
def test_hints_for_zones(hints, place, those):
    assert chosen(*(end(f"10.4.0.{n}", zones=each) for n, each in enumerate(hints, 1)), place=place) == those


@pytest.mark.parametrize(
    ("hints", "those"),
    [
        ((["n1"], ["n2"], ["n2"]), ["1"]),
        ((["n2"], ["n2"], ["n3"]), ["1", "2"]),
        ((["n1"], ["n2"], []), ["1", "2"]),
    ],
    ids=["meant for the node", "none meant for the node: by zone", "one has no hint: by zone"],
)
def test_hints_for_nodes_come_before_those_for_zones(hints, those):
    zones = (["z1"], ["z1"], ["z2"])
    ends = [end(f"10.4.0.{n}", zones=z, nodes=h) for n, (h, z) in enumerate(zip(hints, zones, strict=True), 1)]
    assert chosen(*ends) == those


def test_hints_of_endpoints_that_are_not_ready_are_nothing():
    assert chosen(end("10.4.0.1", zones=["z1"]), end("10.4.0.2"), end("10.4.0.3", condition="unready")) == ["1", "2"]
    assert chosen(
        end("10.4.0.1", zones=["z1"]), end("10.4.0.2", zones=["z2"]), end("10.4.0.3", condition="unready")
    ) == ["1"]


def test_whoever_still_serves_takes_all_whatever_the_hints():
    assert chosen(*(end(f"10.4.0.{n}", condition="draining", zones=[f"z{n}"]) for n in (1, 2))) == ["1", "2"]


def test_each_family_has_its_own():
    ends = (end("10.4.0.1"), end("fd00::2"), end("fd00::3"))
    assert chosen(*ends) == ["1"]
    assert chosen(*ends, family=6) == ["2", "3"]


@pytest.mark.parametrize(
    ("ports", "numbers"),
    [
        ((("web", "tcp", 8080), ("other", "tcp", 1)), [8080]),
        ((("web", "udp", 8080),), []),
        ((("", "tcp", 8080),), []),
        ((("web", "tcp", 8080), ("web", "tcp", 8081)), [8080, 8081]),
        ((), []),
    ],
)
def test_a_port_is_found_by_name_and_protocol(ports, numbers):
    found = members(server(), [Slice(ports, (end("10.4.0.1"),))], WEB, 4, HERE, local=False)
    assert [each.port for each in found] == numbers


def test_slices_may_give_a_port_different_numbers():
    slices = [Slice((("web", "tcp", n),), (end(f"10.4.0.{n}"),)) for n in (2, 1)]
    assert members(server(), slices, WEB, 4, HERE, local=False) == (
        Member(parse_address("10.4.0.1"), 1), Member(parse_address("10.4.0.2"), 2),
    )  # fmt: skip


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(
    ("better", "worse"), [("ready", "draining"), ("ready", "unready"), ("draining", "ending"), ("unready", "ending")]
)
def test_an_address_of_several_slices_counts_once_in_its_better_condition(better, worse, turned):
    ends = [end("10.4.0.1", condition=each) for each in (better, worse)]
    (found,) = endpoints([Slice(PORTS, (each,)) for each in (ends[::-1] if turned else ends)], WEB, 4).values()
    assert found == ends[0]


some = st.builds(
    end,
    st.sampled_from(["10.4.0.1", "10.4.0.2", "10.4.0.3", "fd00::1"]),
    st.sampled_from(["n1", "n2", ""]),
    st.sampled_from(["ready", "unready", "draining", "ending"]),
    zones=st.sampled_from([(), ("z1",), ("z2",)]),
    nodes=st.sampled_from([(), ("n1",), ("n2",)]),
)


@given(st.lists(some), st.sampled_from([HERE, Place("n2", "z2"), Place("n3")]), st.booleans(), st.booleans())
def test_whoever_could_answer_is_reached_and_nobody_else(ends, place, local, takes):
    """Whatever slices hold: no client is turned away while somebody could serve it, and hints only ever narrow."""
    of, slices = server(takes_unready=takes), [Slice(PORTS, tuple(ends))]
    found = set(members(of, slices, WEB, 4, place, local=local))
    known = {m: e for m, e in endpoints(slices, WEB, 4).items() if not local or e.node == place.node}
    ready = {m for m, e in known.items() if e.ready or takes}
    rest = {m for m, e in known.items() if e.serving and e.terminating}
    assert found <= (ready or rest)
    assert bool(found) == bool(ready or rest)
