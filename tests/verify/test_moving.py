"""A case under other names and addresses is the same case."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from firewall.reading import cidr, ip_block
from firewall.rules import inside
from ipam.address import WIDTH, Address, Prefix, parse_address
from ncp.probe.model import Probe
from ncp.verify.cases import combinations
from ncp.verify.minimise import minimal, said
from ncp.verify.moving import CASE_LABEL, Moves, move_block, moved, stand_ins
from ncp.verify.policies import section_of
from tests.verify.builders import case, cluster_policy, network_policy
from tests.verify.suite_cases import GROUND, policies_of, suite_case

# Few low bits, so that blocks, exceptions and neighbours meet all the time.
BASE = {4: 0x0A040000, 6: 0xFD00_0010_0004 << 80}
families = st.sampled_from((4, 6))


def near(family):
    return st.integers(0, 31).map(lambda low: Address(family, BASE[family] + low))


@st.composite
def moves(draw):
    """A block with exceptions strictly inside it, and ends as they were and are."""
    family = draw(families)
    length = WIDTH[family] - draw(st.integers(1, 5))
    outer = Prefix(family, draw(near(family)).value >> (WIDTH[family] - length) << (WIDTH[family] - length), length)
    excepts = []
    for _ in range(draw(st.integers(0, 2))):
        longer = draw(st.integers(length + 1, WIDTH[family]))
        value = outer.value + draw(st.integers(0, 31)) % (1 << (WIDTH[family] - length))
        excepts.append(Prefix(family, value >> (WIDTH[family] - longer) << (WIDTH[family] - longer), longer))
    old, new = (draw(st.lists(near(family), min_size=1, max_size=4, unique=True)) for _ in "ab")
    return outer, excepts, list(zip(old, new, strict=False))


def holds(blocks, address):
    return any(
        inside(cidr(outer, "cidr"), address) and not any(inside(cidr(each, "except"), address) for each in inner)
        for outer, inner in blocks
    )


@given(moves())
@settings(deadline=None, max_examples=400)
def test_a_moved_block_holds_exactly_the_ends_whose_old_addresses_it_held(given_):
    outer, excepts, pairs = given_
    found = move_block(outer, excepts, pairs)
    for was, now in pairs:
        held = inside(outer, was) and not any(inside(each, was) for each in excepts)
        assert holds(found, now) is held, (str(was), str(now))
    for block, inner in found:  # the API takes it: exceptions are strictly inside their block
        ip_block({"cidr": block, **({"except": list(inner)} if inner else {})}, "ipBlock")
        assert all(
            cidr(each, "")[2] > cidr(block, "")[2] and inside(cidr(block, ""), cidr(each, "")[:2]) for each in inner
        )


@given(moves())
@settings(deadline=None)
def test_a_block_that_need_not_move_stays_as_it_is(given_):
    outer, excepts, pairs = given_
    stayed = [(was, was) for was, _ in pairs]
    ((block, inner),) = move_block(outer, excepts, stayed)
    assert block == str(outer)
    assert set(inner) == {str(each) for each in excepts}


def test_a_block_of_the_other_family_is_left_alone():
    pair = (parse_address("10.4.0.2"), parse_address("10.4.9.2"))
    assert move_block(cidr("fd00::/64", ""), (), [pair]) == [("fd00::/64", ())]


# -- whole cases ----------------------------------------------------------------------------------------------------

MOVES = Moves(
    "abc",
    {f"verify-{space}": f"verify-{space}-case-abc" for space in "xyz"},
    {"node1": "other1", "node2": "other2"},
    {},
)


@given(
    st.sampled_from(list(combinations())),
    st.permutations(sorted(GROUND.pods)),
    families,
    st.sampled_from(("tcp", "udp", "sctp")),
    st.permutations(range(9)),
    st.integers(0, 2),
)
@settings(deadline=None, max_examples=80)
def test_a_moved_case_says_the_same(features, pods, family, protocol, places, spread):
    probe = Probe(f"verify-{pods[0]}", f"verify-{pods[1]}", family, protocol, 80)
    least = minimal(suite_case(policies_of(features), probe))
    new = {
        pod.name: tuple(Address(f, BASE[f] + 0x50 + (places[index] << 6 * spread)) for f in (4, 6))
        for index, pod in enumerate(least.pods)
    }
    found = moved(least, Moves("abc", MOVES.namespaces, MOVES.nodes, new))
    assert not any(section_of(each).fault for each in found.policies)
    assert said(found).answer == said(least).answer
    assert len(said(found).causes) == len(said(least).causes)
    assert set(found.namespaces) <= set(MOVES.namespaces.values())
    assert {pod.node for pod in found.pods} <= {"other1", "other2"}
    assert {each["metadata"].get("namespace", "") for each in found.policies} <= {"", *MOVES.namespaces.values()}


NAMES = Moves("abc", {"x": "x-case", "y": "y-case", "z": "z-case"}, {"node1": "n"}, {})


def selector(*values):
    name = "kubernetes.io/metadata.name"
    return {
        "matchLabels": {name: values[0]},
        "matchExpressions": [{"key": name, "operator": "In", "values": [*values]}],
    }


def test_namespaces_that_are_called_by_their_name_are_called_by_the_new_one():
    peer = {"namespaceSelector": selector("y", "elsewhere"), "podSelector": {"matchLabels": {"pod": "y"}}}
    (policy,) = moved(case(network_policy("p", podSelector={}, ingress=[{"from": [peer]}])), NAMES).policies
    (left,) = policy["spec"]["ingress"][0]["from"]
    assert left["namespaceSelector"] == selector("y-case", "elsewhere")
    assert left["podSelector"] == {"matchLabels": {"pod": "y"}}, "a pod's label is no namespace"


def test_a_policy_of_the_whole_cluster_is_narrowed_to_the_case():
    ours = {"matchExpressions": [{"key": CASE_LABEL, "operator": "In", "values": ["abc"]}]}
    both = {"podSelector": {"matchLabels": {"pod": "a"}}, "namespaceSelector": {"matchLabels": {"team": "red"}}}
    for subject, wanted in (
        ({"namespaces": {}}, {"namespaces": ours}),
        ({"pods": both}, {"pods": both | {"namespaceSelector": both["namespaceSelector"] | ours}}),
    ):
        deny = [{"action": "Deny", "from": [{"namespaces": {}}]}]
        some = case(cluster_policy("all", subject=subject, ingress=deny), cluster_policy("n" * 250))
        here = moved(some, NAMES)
        assert [each["metadata"]["name"] for each in here.policies] == ["all-case-abc", "n" * 200 + "-case-abc"]
        assert here.policies[0]["spec"]["subject"] == wanted
        assert said(here).answer == said(some).answer == "no"


def test_hosts_keep_what_they_are():
    found = moved(
        case(probe=Probe("node:node1", "x/a", 4, "tcp", 80), hosts={"node:node1": ("1.2.3.4",), "external": ()}), NAMES
    )
    assert found.ends() == ("node:n", "x-case/a")
    assert set(found.hosts) == {"node:n", "external"}


@given(st.lists(st.text("ab-", min_size=1, max_size=63).map(lambda name: f"{name}c"[-63:]), max_size=6, unique=True))
def test_namespaces_that_begin_alike_have_stand_ins_of_their_own(names):
    alike = ["n" * 62 + each for each in "xyz"]
    found = stand_ins([*names, *alike], "abcdef")
    assert list(found) == [*names, *alike]
    assert len(set(found.values())) == len(found)
    assert max(map(len, found.values())) <= 63
