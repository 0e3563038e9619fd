"""What a group says: the same for a group we want and for what a switch holds of it, and as os-ken reads the switch's answer."""

from __future__ import annotations

from collections.abc import Iterator
from struct import pack
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sdn.openflow.groups import installed_content, wanted_content
from sdn.openflow.message import InsertBuckets, RemoveBucket, SetGroup
from sdn.openflow.session import Switch
from sdn.openflow.values import InstalledGroup
from sdn.pipeline import flow as f
from tests.openflow.oracle import of
from tests.openflow.test_on_switch import BALANCED, FLOOD, STICKY, changes
from tests.support.ovs import PrivateOvs

pytestmark = pytest.mark.switch

EVERY = (("dp_hash", ()), ("hash", ("ipv4_src",)), ("hash", ("ipv6_src", "tcp_src")), ("hash", ("sctp_src", "udp_src")))
some_buckets = st.lists(
    st.builds(
        lambda number, register, value, table, weight: f.Bucket(
            number, (f.SetField(register, value), f.Resubmit(table)), weight
        ),
        st.integers(0, 0xFFFFFF00),
        st.sampled_from(["metadata", "reg3"]),
        st.integers(0, 0xFFFFFFFF),
        st.integers(1, 200),
        st.integers(1, 300),
    ),
    max_size=6,
    unique_by=lambda bucket: bucket.id,
).map(tuple)
select_groups = st.builds(
    lambda number, buckets, how, param: f.GroupEntry(number, "select", buckets, *how, param * (how[0] == "hash")),
    st.integers(1, 0xFFFFFF00),
    some_buckets,
    st.sampled_from(EVERY),
    st.sampled_from([0, 1, (1 << 64) - 1]),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(select_groups)
def test_a_switch_gives_back_the_group_it_was_sent(switch: Switch, group: f.GroupEntry) -> None:
    switch.apply(changes(groups=[SetGroup(group)]))
    held = {each.id: each for each in switch.groups()}
    assert installed_content(held[group.id]) == wanted_content(group)


def test_groups_of_other_kinds_and_in_whatever_sequence_their_buckets_came(switch: Switch) -> None:
    switch.apply(changes(groups=[SetGroup(BALANCED), SetGroup(FLOOD)]))
    first = BALANCED.buckets[0]
    switch.apply(changes(groups=[RemoveBucket(5, "select", first.id), InsertBuckets(5, "select", (first,))]))
    held = {each.id: installed_content(each) for each in switch.groups()}
    assert held == {5: wanted_content(BALANCED), 7: wanted_content(FLOOD)}


def _different() -> list[f.GroupEntry]:
    first, *rest = BALANCED.buckets
    return [
        BALANCED._replace(kind="all"),
        BALANCED._replace(selection="hash", hash_fields=("ipv4_src",)),
        STICKY._replace(buckets=BALANCED.buckets, param=1),
        STICKY._replace(buckets=BALANCED.buckets, hash_fields=("ipv4_src", "tcp_src")),
        BALANCED._replace(buckets=tuple(rest)),
        BALANCED._replace(buckets=(first._replace(weight=11), *rest)),
        BALANCED._replace(buckets=(first._replace(id=99), *rest)),
        BALANCED._replace(buckets=(first._replace(actions=(f.SetField("reg1", 99), f.Resubmit(9))), *rest)),
    ]


def test_groups_that_mean_something_else_are_not_equal() -> None:
    contents = [wanted_content(each) for each in (BALANCED, *_different())]
    assert all(one != other for n, one in enumerate(contents) for other in contents[:n])


def test_what_we_do_not_know_of_a_group_makes_it_another(switch: Switch) -> None:
    switch.apply(changes(groups=[SetGroup(BALANCED)]))
    (held,) = switch.groups()
    stranger = pack("!HHIQ", 0xFFFF, 16, 0x2320, 7)
    assert installed_content(held._replace(properties=held.properties + stranger)) != wanted_content(BALANCED)
    watched = pack("!HHI", 1, 8, 3)
    bucket = pack("!HHI", 24, 0, 1) + pack("!HHH2x", 0, 8, 5) + watched
    found = installed_content(InstalledGroup(5, 1, bucket, held.properties)).buckets[1]
    assert (found.weight, found.other) == (5, watched)


@pytest.mark.parametrize(
    "properties", [b"\0\0\0\0", b"\xff\xff\0\x08\0\0\x15\x4d", b"\0", b"\xff\xff\xff\xff" + bytes(40)]
)
def test_properties_that_cannot_be_read_are_an_end(properties: bytes) -> None:
    assert installed_content(InstalledGroup(5, 1, b"", properties)).buckets == {}


def test_os_ken_reads_the_same_buckets(switch: Switch) -> None:
    """It cannot read the property that says how a select group chooses: that is for ovs-ofctl to say (below)."""
    switch.apply(changes(groups=[SetGroup(BALANCED), SetGroup(STICKY), SetGroup(FLOOD)]))
    for group in switch.groups():
        ours, theirs = installed_content(group).buckets, list(_os_ken_buckets(group.buckets))
        weights = [[each.weight for each in bucket.properties if each.type == 0] for bucket in theirs]
        assert {bucket.bucket_id: weight for bucket, weight in zip(theirs, weights, strict=True)} == {
            number: [each.weight] if group.kind == 1 else [] for number, each in ours.items()
        }
        actions = {bucket.bucket_id: sum(each.len for each in bucket.actions) for bucket in theirs}
        assert actions == {number: len(each.actions) for number, each in ours.items()}


def _os_ken_buckets(packed: bytes) -> Iterator[Any]:
    position = 0
    while position < len(packed):
        length = int.from_bytes(packed[position : position + 2], "big")
        yield of.OFPBucket.parser(packed[position : position + length], 0)  # alone: it reads on beyond a bucket's end
        position += length


def test_the_switch_says_how_a_group_chooses(switch: Switch, shared_ovs: PrivateOvs, bridge: str) -> None:
    group = STICKY._replace(param=7, hash_fields=("ipv4_src", "tcp_src"))
    switch.apply(changes(groups=[SetGroup(group)]))
    said = shared_ovs.ofctl("dump-groups", bridge)
    assert "selection_method=hash,selection_method_param=7,fields(ip_src,tcp_src)" in said
    (held,) = switch.groups()
    assert installed_content(held) == wanted_content(group)
