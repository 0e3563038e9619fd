"""Pools, their numbers and groups: even, stable, and in step by few messages whatever changes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from immutables import Map

from ipam.address import Address, parse_address, parse_prefix
from sdn.compile import balancing
from sdn.compile.balancing import Balancing, Pool, names, numbered
from sdn.compile.delta import Delta
from sdn.compile.firewall import LEARNED
from sdn.compile.groups import SHARES, SPILL, apportioned, chunk_of, group_entries
from sdn.compile.services import compile_service
from sdn.model import Intent, Origin
from sdn.openflow.message import DeleteGroup, InsertBuckets, RemoveBucket, SetGroup, pack_group_change
from sdn.pipeline import flow as f
from sdn.pipeline.registers import MEMBER
from sdn.pipeline.tables import PIPELINE, T
from sdn.program import Changes, Program, build, update
from sdn.services import Endpoint, Member, ServicePort, Slice, VirtualServer
from tests.sdn.test_program import applied, held
from tests.sdn.worlds import NODES, node, world

OWNER = 0x4E43
WEB, DNS, SIG = ServicePort("web", "tcp", 80), ServicePort("dns", "udp", 53), ServicePort("sig", "sctp", 5)
NUMBERS = (("web", "tcp", 8080), ("dns", "udp", 5353), ("sig", "sctp", 5))
OUTER, VIRTUAL, NODE2 = (parse_address(each) for each in ("192.0.2.1", "192.0.2.2", "192.168.50.12"))
MEETING = ("red/s1315", "red/s6200")
"""Services whose IPv4 pools of port 80 have hashes that meet: they take turns at a number."""


def v4(number: int) -> Address:
    return Address(4, 0x0A040000 + number)


def server(name: str, *ports: ServicePort, families: tuple[int, ...] = (4,), **more: Any) -> VirtualServer:
    number = sum(name.encode())
    addresses = {4: Address(4, 0x0A600000 + number), 6: Address(6, (0xFD96 << 112) + number)}
    origin = Origin("Service", *name.split("/"))
    return VirtualServer(name, origin, ports or (WEB,), tuple(addresses[each] for each in families), **more)


def behind(*addresses: Address, **more: Any) -> Slice:
    return Slice(NUMBERS, tuple(Endpoint(each, NODES[n % 3], **more) for n, each in enumerate(addresses)))


def balanced(*servers: VirtualServer, members: int = 3, **more: Any) -> Intent:
    slices = {each.name: Map({"s": behind(*(v4(n + 1) for n in range(members)))}) for each in servers}
    return world().replace(services=Map({each.name: each for each in servers}), slices=Map(slices), **more)


def resized(intent: Intent, name: str, members: int) -> tuple[Intent, Delta]:
    slices = intent.slices.set(name, Map({"s": behind(*(v4(n + 1) for n in range(members)))}))
    return intent.replace(slices=slices), Delta(services=frozenset({name}))


def program_of(intent: Intent) -> Program:
    return build(intent, "node1", OWNER, {})


def groups_of(program: Program) -> dict[int, f.GroupEntry]:
    """As a switch holds them: the order of buckets is nothing."""
    return {each.id: _in_order(each) for entries in program.groups.values() for each in entries}


def _in_order(group: f.GroupEntry) -> f.GroupEntry:
    return group._replace(buckets=tuple(sorted(group.buckets, key=lambda bucket: bucket.id)))


def regrouped(on_switch: dict[int, f.GroupEntry], changes: Changes) -> dict[int, f.GroupEntry]:
    """The groups a switch has after a bundle, which deletes groups last."""
    after = dict(on_switch)
    for each in sorted(changes.groups, key=lambda change: isinstance(change, DeleteGroup)):
        match each:
            case SetGroup(group):
                after[group.id] = group
            case InsertBuckets(number, kind, buckets):
                group = after[number]
                assert kind == group.kind
                assert not {bucket.id for bucket in buckets} & {bucket.id for bucket in group.buckets}
                after[number] = group._replace(buckets=(*group.buckets, *buckets))
            case RemoveBucket(number, kind, bucket):
                group = after[number]
                assert kind == group.kind
                assert bucket in {each.id for each in group.buckets}
                after[number] = group._replace(buckets=tuple(each for each in group.buckets if each.id != bucket))
            case DeleteGroup(number):
                del after[number]
    return {number: _in_order(group) for number, group in after.items()}


def members_of(program: Program) -> set[str]:
    flows = [entry.flow for entry in program.entries() if entry.flow.table == T["members"]]
    return {
        str(Address(each.nat.version, each.nat.address))
        for flow in flows
        for each in flow.actions
        if isinstance(each, f.Ct)
    }


def named(actions: Iterable[f.Action]) -> set[int]:
    return {each.id for each in actions if isinstance(each, f.Group)}


def asked_for(program: Program) -> set[int]:
    """Groups that flows, or other groups, name."""
    found = set().union(*(named(entry.flow.actions) for entry in program.entries()))
    buckets = [bucket for group in groups_of(program).values() for bucket in group.buckets]
    return found.union(*(named(bucket.actions) for bucket in buckets))


COLLIDING = ("10.4.120.58", "10.4.185.39")
"""Addresses whose members at port 80 have hashes that meet."""


# -- numbers --------------------------------------------------------------------------------------------------------------

some_members = st.sets(st.builds(Member, st.integers(1, 400).map(v4), st.sampled_from((80, 8080))), max_size=30)


@given(some_members, some_members)
def test_a_members_number_is_its_own_whoever_comes_and_goes(before, after):
    first, then = numbered(before), numbered(after)
    assert all(first[member] == then[member] for member in before & after)
    assert len(set(then.values())) == len(after)
    assert all(0 < number < 1 << 31 for number in then.values())


def test_members_whose_hashes_meet_have_different_numbers():
    pair = [Member(parse_address(each), 80) for each in COLLIDING]
    first, second = numbered(pair).values()
    assert first != second
    assert numbered(reversed(pair)) == numbered(pair)
    assert {number for each in pair for number in numbered([each]).values()} == {first}, "they do meet"


# -- groups ---------------------------------------------------------------------------------------------------------------


def pool(members: int, port: ServicePort = WEB, family: int = 4) -> Pool:
    return Pool("p", port, family, numbered(Member(v4(n + 1), 80) for n in range(members)))


def shares(entries: tuple[f.GroupEntry, ...]) -> dict[int, Fraction]:
    """The part of connections each member gets, by its number."""
    parts = {entries[-1].id: Fraction(1)}
    found: dict[int, Fraction] = {}
    for group in reversed(entries):
        part = parts[group.id] / sum(bucket.weight for bucket in group.buckets)
        for bucket in group.buckets:
            if deeper := named(bucket.actions):
                below = deeper.pop()
                parts[below] = parts.get(below, Fraction(0)) + part * bucket.weight
            else:
                assert bucket.actions == (MEMBER.set(bucket.id), f.Resubmit(T["members"]))
                found[bucket.id] = found.get(bucket.id, Fraction(0)) + part * bucket.weight
    return found


@pytest.mark.parametrize("algorithm", ["even", "client"])
def test_members_share_connections_evenly_however_many_they_are(algorithm):
    for size in (*range(2, 301), 1000):
        some = pool(size)
        entries = group_entries(70, some, algorithm)
        assert shares(entries) == {number: Fraction(1, size) for number in some.members.values()}, size
        assert entries[-1].id == 70


def test_the_switchs_own_hash_has_all_its_slots_shared_out():
    """It rounds what weights ask for to whole slots: only a total of all of them, or of a power of two, stays exact."""
    for size in range(2, 257):
        *over, fast = group_entries(70, pool(size), "even")
        assert fast.selection == "dp_hash"
        assert sum(bucket.weight for bucket in fast.buckets) == 256, size
        assert all(group.selection == "hash" for group in over)
        least = min(bucket.weight for bucket in fast.buckets)
        assert least == 1 or (256 // least).bit_count() == 1, (
            f"{size}: the switch would use fewer slots than weights need"
        )


def test_more_members_than_slots_have_the_exact_group_alone():
    (group,) = group_entries(70, pool(257), "even")
    assert (group.selection, group.hash_fields) == ("hash", ("ipv4_src", "tcp_src"))


# -- large pools ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["even", "client"])
@pytest.mark.parametrize("size", [1025, 2000, 8193])
def test_a_large_pool_is_shared_out_evenly_in_two_levels_that_choose_independently(size, algorithm):
    some = pool(size)
    chunks = range(1000, 999 + len(names(some)))
    *lower, upper = group_entries(70, some, algorithm, chunks)
    found = shares((*lower, upper))
    assert found.keys() == set(some.members.values())
    rounding = Fraction(len(lower), SHARES)  # half a share of the smallest chunk, which is half the size of the average
    assert all(abs(share * size - 1) <= rounding for share in found.values())
    assert {each.param for each in lower} == {1} != {upper.param}
    assert {(each.selection, each.hash_fields) for each in (*lower, upper)} == {
        ("hash", ("ipv4_src",) if algorithm == "client" else ("ipv4_src", "tcp_src"))
    }
    assert {bucket.weight for each in (*lower, upper) for bucket in each.buckets} == {1}, "no other weight is exact"
    assert all(len(pack_group_change(SetGroup(each))) < 1 << 16 for each in (*lower, upper))


@given(st.integers(0, (1 << 31) - 1), st.integers(1, 70))
def test_one_chunk_more_takes_members_from_one_chunk_only(mark, chunks):
    before, after = chunk_of(mark, chunks), chunk_of(mark, chunks + 1)
    assert 0 <= before < chunks
    splits = chunks - (1 << (chunks.bit_length() - 1))
    assert after == before or (before, after) == (splits, chunks)


@given(st.lists(st.integers(16, 600), min_size=2, max_size=64), st.data())
def test_a_chunk_that_grows_by_one_takes_a_share_from_one_other_at_most(sizes, data):
    place = data.draw(st.integers(0, len(sizes) - 1))
    seats = min(sum(sizes), SHARES)
    before = apportioned(sizes, seats)
    after = apportioned([size + (n == place) for n, size in enumerate(sizes)], seats)
    assert sum(before) == sum(after) == seats
    moved = [then - first for first, then in zip(before, after, strict=True)]
    assert moved[place] in (0, 1)
    assert sorted(each for n, each in enumerate(moved) if n != place)[:1] == [-moved[place]]
    assert sum(map(abs, moved)) == 2 * moved[place]


@pytest.mark.parametrize("algorithm", ["even", "client"])
def test_one_member_of_two_thousand_is_three_messages_to_groups(algorithm):
    """Its chunk has a bucket more or less; of the shares above one goes and one comes, or none."""
    smaller = balanced(server("red/s"), members=2000, algorithm=algorithm)
    larger, delta = resized(smaller, "red/s", 2001)
    before = program_of(smaller)
    assert before.all_problems() == []
    assert len(members_of(before)) == 2000
    assert groups_of(before).keys() == asked_for(before)
    after, more = update(before, larger, {}, delta)
    back, less = update(after, smaller, {}, delta)
    for changes in (more, less):
        assert 1 <= len(changes.groups) <= 3
        assert not any(isinstance(each, SetGroup | DeleteGroup) for each in changes.groups)
        assert all(len(pack_group_change(each)) < 200 for each in changes.groups)
        assert len(changes.add) + len(changes.delete) == 1
    assert regrouped(groups_of(before), more) == groups_of(after)
    assert regrouped(groups_of(after), less) == groups_of(back) == groups_of(before)


@pytest.mark.parametrize(("size", "chunks"), [(1024, 0), (2048, 8)], ids=["two levels", "a chunk is split"])
def test_a_pool_that_outgrows_its_groups_by_one_member_is_a_few_messages(size, chunks):
    smaller = balanced(server("red/s"), members=size)
    larger, delta = resized(smaller, "red/s", size + 1)
    before = program_of(smaller)
    after, more = update(before, larger, {}, delta)
    back, less = update(after, smaller, {}, delta)
    assert (len(groups_of(before)), len(groups_of(after))) == (1 + chunks, 6 if not chunks else 2 + chunks)
    for changes in (more, less):
        assert len(changes.groups) <= (6 if not chunks else 4)
        assert all(len(pack_group_change(each)) < 1 << 16 for each in changes.groups)
    assert regrouped(groups_of(before), more) == groups_of(after)
    assert regrouped(groups_of(after), less) == groups_of(back) == groups_of(before)


def test_groups_of_chunks_have_numbers_that_no_pool_and_no_second_group_has():
    names_of = [f"red/s{n}" for n in range(3)]
    intent = balanced(*(server(each, WEB, DNS, families=(4, 6)) for each in names_of), members=1100)
    state, _ = balancing.advance(Balancing("node1"), intent, Delta(services=frozenset(names_of)))
    pools = [each for name in names_of for each in state.pools[name] if each.members]
    found = [state.numbers.number(name) for each in pools for name in names(each)]
    assert len(found) == len(set(found)) == 6 * (1 + 5)
    assert None not in found
    assert all(number < SPILL for number in found)
    gone, _ = balancing.advance(state, intent.replace(services=Map()), Delta(services=frozenset(names_of)))
    assert not gone.numbers.slots, "they are given back"


def test_a_pool_has_an_end_and_says_so():
    size = balancing.LARGEST + 1
    intent = balanced(server("red/s"), members=size)
    state, _ = balancing.advance(Balancing("node1"), intent, Delta(services=frozenset({"red/s"})))
    (one,) = state.pools["red/s"]
    assert (len(one.members), one.of) == (16384, size)
    held = dict(one.members)
    larger, delta = resized(intent, "red/s", size + 1)
    state, _ = balancing.advance(state, larger, delta)
    (then,) = state.pools["red/s"]
    assert len(dict(then.members).keys() - held.keys()) <= 1, "always the same ones"
    few = replace_members(one, 3)
    served = compile_service(intent, replace(state, pools=Map({"red/s": (few,)})), "red/s")
    said = "port 80/tcp has 16385 members, and connections go to 3 of them; use several services"
    assert [(each.reason, each.message) for each in served.problems] == [("POOL_TOO_LARGE", f"Service red/s: {said}")]


def replace_members(pool: Pool, count: int) -> Pool:
    return pool._replace(members=dict(list(pool.members.items())[:count]))


def test_what_a_switch_notes_of_clients_goes_with_the_one_member_it_is_about():
    """The switch deletes by cookie: services in front of the same member must not share any."""
    program = program_of(balanced(*(server(f"red/s{n}", affinity=60) for n in range(100)), members=2))
    flows = [entry.flow for entry in program.entries() if entry.flow.table == T["members"]]
    noted = [(flow, each) for flow in flows for each in flow.actions if isinstance(each, f.Learn)]
    by_cookie: dict[int, set[f.Term]] = {}
    for flow, learn in noted:
        by_cookie.setdefault(learn.cookie, set()).update(term for term in flow.match if term[0] == "metadata")
    assert {cookie >> 48 for cookie in by_cookie} == {LEARNED}
    assert len(by_cookie) == 200
    assert all(len(members) == 1 for members in by_cookie.values())


@pytest.mark.parametrize("size", [2, 3, 300])
def test_a_client_keeps_its_member_by_its_address_alone(size):
    (group,) = group_entries(70, pool(size, DNS, 6), "client")
    assert (group.selection, group.hash_fields) == ("hash", ("ipv6_src",))


def test_one_member_needs_no_group():
    assert group_entries(70, pool(1), "even") == group_entries(70, pool(0), "client") == ()


# -- programs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("affinity", [0, 60])
@pytest.mark.parametrize("size", [0, 1, 2, 3, 300])
def test_every_flow_keeps_to_the_pipelines_definition_and_every_group_that_is_named_is_there(size, affinity):
    program = program_of(balanced(server("red/s", WEB, DNS, SIG, families=(4, 6), affinity=affinity), members=size))
    for entry in program.entries():
        PIPELINE.check(entry.flow)
    groups = groups_of(program)
    assert groups.keys() == asked_for(program)
    assert bool(groups) == (size > 1)
    assert program.all_problems() == []


SIZES = (0, 1, 2, 3, 4, 5, 63, 64, 127, 254, 255, 256, 257, 300)


@pytest.mark.parametrize("algorithm", ["even", "client"])
@pytest.mark.parametrize("size", SIZES)
def test_one_member_more_or_less_is_a_few_messages_to_groups(size, algorithm):
    """A group of slots is written anew, or loses the two buckets of what was left over; the group of that comes or goes."""
    smaller = balanced(server("red/s"), members=size, algorithm=algorithm)
    larger, delta = resized(smaller, "red/s", size + 1)
    before = program_of(smaller)
    after, more = update(before, larger, {}, delta)
    back, less = update(after, smaller, {}, delta)
    for changes in (more, less):
        assert len(changes.groups) <= 4
        if algorithm == "client" or size > 256:
            assert len(changes.groups) <= 1, "buckets come and go one by one"
        assert len(changes.add) + len(changes.delete) <= 4
    assert regrouped(groups_of(before), more) == groups_of(after)
    assert regrouped(groups_of(after), less) == groups_of(back) == groups_of(before)


def test_who_stays_when_a_member_comes_keeps_the_very_flows_there_were():
    """What a change costs is what it changes: nobody writes 300 flows anew, or compares them, for one member."""
    smaller = balanced(server("red/s"), members=300)
    larger, delta = resized(smaller, "red/s", 301)
    before = program_of(smaller)
    after, _ = update(before, larger, {}, delta)
    assert [entry for entry in before.entries() if after.get(entry.key) is not entry] == []


def test_a_node_that_changes_its_zone_has_other_members():
    zoned = {f"s{n}": behind(v4(n), zones=frozenset({f"z{n}"})) for n in (1, 2)}
    intent = balanced(server("red/s")).replace(slices=Map({"red/s": Map(zoned)}))
    program = program_of(intent)
    assert members_of(program) == {"10.4.0.1", "10.4.0.2"}
    for zone, those in (("z1", {"10.4.0.1"}), ("z2", {"10.4.0.2"}), ("z3", {"10.4.0.1", "10.4.0.2"})):
        intent, delta = edited(intent, ("zone", zone))
        program, _ = update(program, intent, {}, delta)
        assert members_of(program) == those
        assert program.claims == program_of(intent).claims


def test_services_that_take_each_others_numbers_keep_their_groups():
    first, second = map(server, MEETING)
    both = balanced(first, second)
    alone = both.replace(services=both.services.delete(first.name))
    delta = Delta(services=frozenset({first.name}))
    program = program_of(both)
    moved, changes = update(program, alone, {}, delta)
    assert groups_of(moved).keys() < groups_of(program).keys(), "the other has taken its number"
    assert regrouped(groups_of(program), changes) == groups_of(moved) == groups_of(program_of(alone))
    back, changes = update(moved, both, {}, delta)
    assert regrouped(groups_of(moved), changes) == groups_of(back) == groups_of(program)


NAMES = (*MEETING, "blue/t")
servers = st.builds(
    lambda name, ports, families, affinity, local, unready, outside: server(
        name, *ports, families=families, affinity=affinity, local=local, takes_unready=unready, **outside
    ),
    st.sampled_from(NAMES),
    st.sampled_from([(WEB,), (WEB, DNS), (DNS,), (WEB._replace(node_port=30080), SIG)]),
    st.sampled_from([(4,), (4, 6)]),
    st.sampled_from([0, 60]),
    st.sets(st.sampled_from(["internal", "external"])).map(frozenset),
    st.booleans(),
    st.fixed_dictionaries(
        {
            "external": st.sets(st.sampled_from([OUTER, NODE2])).map(tuple),
            "balancers": st.sets(st.sampled_from([VIRTUAL, OUTER])).map(tuple),
            "sources": st.sampled_from([(), (parse_prefix("10.0.0.0/8"),)]),
            "host": st.sampled_from(["", "node2", "node9"]),
        }
    ),
)
slices = st.builds(
    lambda count, v6, ready, zones: behind(
        *(v4(n + 1) for n in range(count)),
        *(Address(6, n + 1) for n in range(v6)),
        ready=ready,
        terminating=not ready,
        zones=frozenset(zones),
    ),
    st.sampled_from([0, 1, 2, 3, 5, 258]),
    st.integers(0, 2),
    st.booleans(),
    st.sampled_from([(), ("z1",), ("z2",)]),
)
edits = st.lists(
    st.one_of(
        st.tuples(st.just("service"), servers),
        st.tuples(st.just("no service"), st.sampled_from(NAMES)),
        st.tuples(st.just("slice"), st.tuples(st.sampled_from(NAMES), st.sampled_from(["one", "two"]), slices)),
        st.tuples(st.just("no slices"), st.sampled_from(NAMES)),
        st.tuples(st.just("zone"), st.sampled_from(["", "z1", "z2"])),
        st.tuples(st.just("no node"), st.sampled_from(["node1", "node2"])),
        st.tuples(st.just("node"), st.sampled_from(["node1", "node2"])),
        st.tuples(st.just("algorithm"), st.sampled_from(["even", "client"])),
    ),
    max_size=10,
)


def edited(intent: Intent, edit: tuple[str, Any]) -> tuple[Intent, Delta]:
    what, value = edit
    match what:
        case "service":
            changed = intent.replace(services=intent.services.set(value.name, value))
            return changed, Delta(services=frozenset({value.name}))
        case "no service":
            return intent.replace(services=_without(intent.services, value)), Delta(services=frozenset({value}))
        case "slice":
            service, name, found = value
            of = intent.slices.get(service, Map()).set(name, found)
            return intent.replace(slices=intent.slices.set(service, of)), Delta(services=frozenset({service}))
        case "no slices":
            return intent.replace(slices=_without(intent.slices, value)), Delta(services=frozenset({value}))
        case "zone":
            nodes = intent.nodes.set("node1", replace(node("node1"), zone=value))
            return intent.replace(nodes=nodes), Delta(nodes=frozenset({"node1"}))
        case "node":
            return intent.replace(nodes=intent.nodes.set(value, node(value))), Delta(nodes=frozenset({value}))
        case "no node":
            return intent.replace(nodes=_without(intent.nodes, value)), Delta(nodes=frozenset({value}))
        case _:
            return intent.replace(algorithm=value), Delta(settings=True)


def _without(mapping: Any, key: str) -> Any:
    return mapping.delete(key) if key in mapping else mapping


@given(edits)
@settings(max_examples=60, deadline=None)
def test_any_sequence_of_updates_ends_in_the_full_recompute(sequence):
    intent = balanced(*map(server, NAMES))
    program = program_of(intent)
    flows, groups = held(program), groups_of(program)
    for edit in sequence:
        intent, delta = edited(intent, edit)
        program, changes = update(program, intent, {}, delta)
        flows, groups = applied(flows, changes), regrouped(groups, changes)
    fresh = program_of(intent)
    assert program.claims == fresh.claims
    assert program.groups == fresh.groups
    assert (flows, groups) == (held(fresh), groups_of(fresh))
    assert groups.keys() == asked_for(fresh)
