"""Which nodes must enforce which policy: as objects come, move, change and go; and what that makes of what the nodes say."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firewall import clusterpolicy, networkpolicy, securitypolicy
from ipam.address import parse_interface
from ncp.manager.coverage import Coverage, advance, coverage, realisation
from ncp.translate.intent import Fabric
from sdn.program import build

FABRIC = Fabric("lab", 5000, (parse_interface("100.64.0.1/16"),), 1500, False, "node1")
NODES = ("node1", "node2", "node3")
WEB, DB = {"matchLabels": {"app": "web"}}, {"matchLabels": {"app": "db"}}


def namespace(name, **labels):
    return {"metadata": {"name": name, "labels": labels}}


def pod(name, node="node1", *, space="red", app="web", **more):
    decided = {"vni": 5001, "mac": "02:4e:0a:04:00:02", "addresses": ["10.4.0.2/24"], "gateways": []}
    meta = {"name": name, "namespace": space, "labels": {"app": app}, "annotations": {"ncp/port": json.dumps(decided)}}
    return {"metadata": meta, "spec": {"nodeName": node, "containers": []}} | more


def policy(name, spec, space="red"):
    meta = {"name": name} | ({"namespace": space} if space else {})
    return {"metadata": meta, "spec": spec}


DENY_WEB = policy("p", {"podSelector": WEB})
DENY_DB = policy("p", {"podSelector": DB})
FAULTY = policy("p", {"podSelector": WEB, "ingress": [{"from": [{}]}]})
TEAM = policy(
    "c",
    {
        "tier": "Admin",
        "priority": 5,
        "subject": {"namespaces": {"matchLabels": {"team": "a"}}},
        "ingress": [{"action": "Deny", "from": [{"namespaces": {}}]}],
    },
    "",
)
IDLE = policy("c", TEAM["spec"] | {"ingress": []}, "")
DROP = {"action": "Drop", "direction": "In"}
TO_WEB = policy("s", {"appliedTo": [{"podSelector": WEB}], "rules": [DROP]})
BY_RULE = policy("s", {"rules": [DROP | {"appliedTo": [{"podSelector": DB}]}]})
NO_RULES = policy("s", {"rules": []})
NETWORK, CLUSTER, SECURITY = "NetworkPolicy/red/p", "ClusterNetworkPolicy//c", "SecurityPolicy/red/s"


def change(kind, obj, *, gone=False):
    meta = obj["metadata"]
    return kind, (meta.get("namespace", ""), meta["name"]), None if gone else obj


def after(*changes) -> Coverage:
    """The coverage after changes, one at a time."""
    state = coverage(FABRIC)
    for each in changes:
        state, _ = advance(state, [each])
    return state


def nodes(state: Coverage, key: str = NETWORK) -> set[str]:
    return set(state.nodes(state.translation.intent.sections[key]))


RED = change("Namespace", namespace("red", team="a"))


def test_the_nodes_of_the_pods_that_a_policy_selects():
    state = after(
        RED,
        change("Pod", pod("a", "node1")),
        change("Pod", pod("b", "node2", app="db")),
        change("Pod", pod("c", "node3", space="blue")),
        change("NetworkPolicy", DENY_WEB),
    )
    assert nodes(state) == {"node1"}
    state, stale = advance(state, [change("Pod", pod("d", "node2"))])
    assert (nodes(state), stale) == ({"node1", "node2"}, {NETWORK})


@pytest.mark.parametrize(
    "ended", [{"status": {"phase": "Succeeded"}}, {"spec": {"nodeName": "node1", "hostNetwork": True}}], ids=str
)
def test_pods_without_a_port_or_a_node_ask_for_nothing(ended):
    state = after(change("NetworkPolicy", DENY_WEB), change("Pod", pod("a", **ended)), change("Pod", pod("b", node="")))
    assert nodes(state) == set()


def test_one_pod_more_of_a_kind_that_a_node_has_changes_nothing_and_the_last_one_does():
    state = after(change("NetworkPolicy", DENY_WEB), change("Pod", pod("a")))
    state, stale = advance(state, [change("Pod", pod("b"))])
    assert stale == set()
    state, stale = advance(state, [change("Pod", pod("a"), gone=True)])
    assert (nodes(state), stale) == ({"node1"}, set())
    state, stale = advance(state, [change("Pod", pod("b"), gone=True)])
    assert (nodes(state), stale) == (set(), {NETWORK})


def test_a_pod_that_moves_or_is_relabelled():
    state = after(RED, change("NetworkPolicy", DENY_WEB), change("Pod", pod("a", "node1")))
    state, stale = advance(state, [change("Pod", pod("a", "node2"))])
    assert (nodes(state), stale) == ({"node2"}, {NETWORK})
    state, stale = advance(state, [change("Pod", pod("a", "node2", app="db"))])
    assert (nodes(state), stale) == (set(), {NETWORK})
    state, stale = advance(state, [change("NetworkPolicy", DENY_DB)])
    assert (nodes(state), stale) == ({"node2"}, {NETWORK})


def test_a_namespace_that_is_relabelled():
    state = after(RED, change("Pod", pod("a")), change("ClusterNetworkPolicy", TEAM))
    assert nodes(state, CLUSTER) == {"node1"}
    state, stale = advance(state, [change("Namespace", namespace("red", team="b"))])
    assert (nodes(state, CLUSTER), stale) == (set(), {CLUSTER})


def test_what_no_policy_asks_about_makes_no_policy_stale():
    state = after(RED, change("NetworkPolicy", DENY_WEB), change("ClusterNetworkPolicy", TEAM))
    _, stale = advance(state, [change("Pod", pod("x", space="blue")), change("Namespace", namespace("blue"))])
    assert stale == set()


def test_a_policy_that_cannot_be_understood_is_still_about_somebody():
    assert nodes(after(change("Pod", pod("a")), change("NetworkPolicy", FAULTY))) == {"node1"}


def test_where_rules_say_whom_they_are_about_only_their_nodes_count():
    state = after(change("SecurityPolicy", BY_RULE), change("Pod", pod("a", "node1")))
    assert nodes(state, SECURITY) == set()
    state, stale = advance(state, [change("Pod", pod("b", "node2", app="db"))])
    assert (nodes(state, SECURITY), stale) == ({"node2"}, {SECURITY})


@pytest.mark.parametrize(
    ("kind", "obj", "key"), [("SecurityPolicy", NO_RULES, SECURITY), ("ClusterNetworkPolicy", IDLE, CLUSTER)]
)
def test_a_policy_that_says_nothing_needs_no_node(kind, obj, key):
    assert nodes(after(RED, change("Pod", pod("a")), change(kind, obj)), key) == set()


OBJECTS = {
    ("Namespace", ("", "red")): [None, namespace("red", team="a"), namespace("red")],
    ("Namespace", ("", "blue")): [None, namespace("blue", team="a")],
    **{
        ("Pod", (space, name)): [
            None,
            *(pod(name, node, space=space, app=app) for node in ("", *NODES) for app in ("web", "db")),
        ]
        for space in ("red", "blue")
        for name in ("a", "b")
    },
    ("NetworkPolicy", ("red", "p")): [None, DENY_WEB, DENY_DB, FAULTY],
    ("SecurityPolicy", ("red", "s")): [None, TO_WEB, BY_RULE, NO_RULES],
    ("ClusterNetworkPolicy", ("", "c")): [None, TEAM, IDLE],
}
KEYS = sorted(OBJECTS)
events = st.lists(
    st.sampled_from(KEYS).flatmap(lambda key: st.sampled_from(OBJECTS[key]).map(lambda obj: (*key, obj))), max_size=14
)
batches = st.lists(events, max_size=4)
READ = {each.KIND: each.section for each in (networkpolicy, clusterpolicy, securitypolicy)}


def by_hand(objects) -> dict[str, set[str]]:
    """The nodes of every policy, as plainly as can be: every pod held against every selector."""
    labels = {
        key[1]: {**obj["metadata"].get("labels", {}), "kubernetes.io/metadata.name": key[1]}
        for (kind, key), obj in objects.items()
        if kind == "Namespace"
    }
    found = {}
    for (kind, _), obj in objects.items():
        if kind not in READ:
            continue
        section = READ[kind](obj)
        about = [*section.applied_to] if section.isolates else []
        for rule in section.rules:
            about += section.applied_to if rule.applied_to is None else rule.applied_to
        found[section.key] = {
            each["spec"]["nodeName"]
            for (what, (space, _)), each in objects.items()
            if what == "Pod" and each["spec"]["nodeName"]
            for group in about
            if (not group.namespace or group.namespace == space)
            and group.namespaces.selects(labels.get(space, {}))
            and group.pods.selects(each["metadata"]["labels"])
        }
    return found


def held(state: Coverage) -> dict[str, set[str]]:
    return {key: set(state.nodes(section)) for key, section in state.translation.intent.sections.items()}


@given(batches)
@settings(deadline=None, max_examples=120)
def test_after_any_changes_it_is_as_if_counted_anew_and_everything_that_changed_was_named(sequence):
    state, objects = coverage(FABRIC), {}
    for batch in sequence:
        before, policies = held(state), state.translation.intent.sections
        state, stale = advance(state, batch)
        for kind, key, obj in batch:
            objects.pop((kind, key), None)
            if obj is not None:
                objects[kind, key] = obj
        now = held(state)
        assert now == by_hand(objects)
        sections = state.translation.intent.sections
        changed = {key for key in {*before, *now} if before.get(key) != now.get(key)}
        assert changed <= stale
        assert {key for key in {*policies, *sections} if policies.get(key) != sections.get(key)} <= stale
    fresh, _ = advance(coverage(FABRIC), [(*key, obj) for key, obj in sorted(objects.items(), key=lambda one: one[0])])
    assert state == fresh


@given(batches)
@settings(deadline=None, max_examples=40)
def test_the_nodes_that_must_are_the_nodes_that_do(sequence):
    """What the manager waits for is what the agents tell: a node for which a policy is nothing never says a word about it."""
    state = coverage(FABRIC)
    for batch in sequence:
        state, _ = advance(state, batch)
    concerned = {node: build(state.translation.intent, node, 1, {}).rules.concerned for node in NODES}
    for key, wanted in held(state).items():
        assert wanted == {node for node in NODES if key in concerned[node]}, key


# -- what the nodes say ----------------------------------------------------------------------------------------------


def said(generation, **by_node):
    """How far a policy of some generation is, whose annotations are these, and which two nodes must enforce."""
    notes = {f"ncp/realised.{node}": value for node, value in by_node.items()} | {"other/realised.node9": "1"}
    meta = {"name": "p", "namespace": "red", "generation": generation, "annotations": notes}
    obj = {"metadata": meta, "spec": {"podSelector": WEB}}
    return realisation(obj, networkpolicy.section(obj), frozenset({"node1", "node2"}))


def test_realised_once_every_node_that_must_says_this_generation():
    found = said(3, node1="3", node2="3")
    assert (str(found), found.is_complete, found.waiting, found.stale) == ("Realized 2/2", True, (), ())


@pytest.mark.parametrize("other", ["2", "4", "", "03"])
def test_another_generation_is_no_answer(other):
    found = said(3, node1="3", node2=other)
    assert (str(found), found.is_complete, found.waiting) == ("Realizing 1/2", False, ("node2",))


def test_a_node_that_need_not_is_stale_and_does_not_count():
    found = said(3, node1="3", node3="3", node4="1")
    assert (str(found), found.waiting, found.stale) == ("Realizing 1/2", ("node2",), ("node3", "node4"))


def test_nobody_to_enforce_it_is_realised():
    found = realisation(DENY_WEB, networkpolicy.section(DENY_WEB), frozenset())
    assert (str(found), found.is_complete) == ("Realized 0/0", True)


def test_a_faulty_policy_is_never_realised_however_many_nodes_cut_off_what_it_selects():
    faulty = policy("p", FAULTY["spec"])
    faulty["metadata"] |= {"generation": 1, "annotations": {"ncp/realised.node1": "1"}}
    found = realisation(faulty, networkpolicy.section(faulty), frozenset({"node1"}))
    assert (str(found), found.reason, found.is_complete) == ("Invalid 1/1", "Invalid", False)
    assert "spec.ingress[0].from[0]" in found.fault
