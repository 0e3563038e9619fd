"""What a node says it enforces."""

from __future__ import annotations

from dataclasses import replace

import pytest
from immutables import Map

from ncp.node.enforced import Enforced
from ncp.node.rulestats import rule_statistics
from sdn.compile.membership import Membership
from sdn.compile.ruleset import Concern, Ruleset
from tests.node.rig import Rig, only_from, pod, tracked
from tests.node.rig import policy as rig_policy

KEY = "NetworkPolicy/red/deny"
RULES = Ruleset(Membership("node1"), concerned=Map({KEY: ((Concern("ingress", KEY, True, False), frozenset()),)}))


def policy(uid, generation=1):
    return {"metadata": {"name": "deny", "namespace": "red", "uid": uid, "generation": generation}}


def test_a_policy_made_anew_under_its_name_is_told_of_again():
    """It was deleted and made anew before the switch had heard of either: only its uid is another."""
    told = []
    enforced = Enforced(told.append, lambda name, seconds: None)
    enforced.seen("NetworkPolicy", ("red", "deny"), policy("one"), 1.0)
    enforced.acknowledged(RULES, 2.0)
    enforced.acknowledged(RULES, 3.0)
    assert told == [{KEY: 1}]
    enforced.seen("NetworkPolicy", ("red", "deny"), policy("two"), 4.0)
    enforced.acknowledged(RULES, 5.0)
    assert told == [{KEY: 1}, {KEY: 1}]


@pytest.mark.parametrize(
    "rules",
    [
        replace(RULES, crowded=frozenset({KEY})),
        replace(RULES, concerned=Map({KEY: ((Concern("ingress", KEY, True, True), frozenset()),)})),
    ],
    ids=["no room", "no number"],
)
def test_a_policy_that_cuts_off_what_it_selects_is_not_told_of_until_it_is_enforced(rules):
    told = []
    enforced = Enforced(told.append, lambda name, seconds: None)
    enforced.seen("NetworkPolicy", ("red", "deny"), policy("one"), 1.0)
    enforced.acknowledged(rules, 2.0)
    assert told == [{}]
    enforced.acknowledged(RULES, 3.0)
    assert told == [{}, {KEY: 1}]


def test_a_new_generation_is_measured_from_when_it_was_seen():
    told, measured = [], []
    enforced = Enforced(told.append, lambda name, seconds: measured.append((name, seconds)))
    for generation in (1, 2):
        enforced.seen("NetworkPolicy", ("red", "deny"), policy("one", generation), float(generation))
        enforced.acknowledged(RULES, generation + 0.5)
    assert told == [{KEY: 1}, {KEY: 2}]
    assert measured == [(KEY, 0.5), (KEY, 0.5)]


def test_of_generations_that_come_before_an_answer_the_first_is_measured():
    """The user has waited since then."""
    told, measured = [], []
    enforced = Enforced(told.append, lambda name, seconds: measured.append((name, seconds)))
    enforced.seen("NetworkPolicy", ("red", "deny"), policy("one", 1), 1.0)
    enforced.seen("NetworkPolicy", ("red", "deny"), policy("one", 2), 2.0)
    enforced.acknowledged(RULES, 3.0)
    assert (told, measured) == ([{KEY: 2}], [(KEY, 2.0)])


def test_what_is_no_new_generation_is_neither_told_nor_measured():
    """A node's own word on the policy comes back as a change of it."""
    told, measured = [], []
    enforced = Enforced(told.append, lambda name, seconds: measured.append((name, seconds)))
    for at in (1.0, 3.0):
        enforced.seen("NetworkPolicy", ("red", "deny"), policy("one"), at)
        enforced.seen("Pod", ("red", "deny"), policy("two", 7), at)
        enforced.acknowledged(RULES, at + 1)
    assert (told, measured) == ([{KEY: 1}], [(KEY, 1.0)])


def test_a_policy_about_nobody_here_is_not_told_of_or_measured_and_one_that_goes_is_taken_back():
    told, measured = [], []
    enforced = Enforced(told.append, lambda name, seconds: measured.append((name, seconds)))
    nobodys = Ruleset(Membership("node1"), concerned=Map())
    enforced.acknowledged(nobodys, 0.5)
    assert told == [{}], "so that what an agent before this one said is taken back"
    enforced.seen("NetworkPolicy", ("red", "deny"), policy("one"), 1.0)
    enforced.acknowledged(nobodys, 2.0)
    assert (told, measured) == ([{}], [])
    enforced.acknowledged(RULES, 60.0)  # a pod came
    assert (told, measured) == ([{}, {KEY: 1}], []), "that took as long as the pod did, not the policy"
    enforced.acknowledged(nobodys, 61.0)  # ... and went
    enforced.acknowledged(RULES, 62.0)
    enforced.seen("NetworkPolicy", ("red", "deny"), None, 63.0)
    enforced.acknowledged(nobodys, 64.0)
    assert told == [{}, {KEY: 1}, {}, {KEY: 1}, {}]


@pytest.mark.switch
def test_a_policy_is_told_of_when_the_switch_has_it_and_no_forbidden_connection_is_left(rig: Rig):
    rig.start()
    rig.connect("a", "b")
    rig.connect("c", "b")
    there = []
    rig.on_enforced = lambda policies: there.append((len(policies), held(rig), rig.connections("b")))
    rig.apply(only_c := rig_policy("only-c", only_from("c")))
    rig.apply(rig_policy("nobodys", only_from(to="nobody")))
    ((count, rules, connections),) = there
    assert (count, rules) == (1, {"ingress rule 0", "isolates ingress"})
    assert connections == {tracked("b", "c", "b")}
    assert rig.told == [{}, {"only-c": 1}]
    (seconds,) = (seconds for name, seconds in rig.seconds if name == "NetworkPolicy/red/only-c")
    assert 0 < seconds < 5
    rig.apply(only_c | {"metadata": only_c["metadata"] | {"generation": 2}})
    assert rig.told[2:] == [{"only-c": 2}]
    rig.change("Pod", "b", None)
    rig.change("Pod", "b", pod("b"))
    rig.change("NetworkPolicy", "only-c", None)
    assert rig.told[3:] == [{}, {"only-c": 2}, {}]


def held(rig: Rig) -> set[str]:
    """Rules that the switch has by now."""
    return {each["rule"] for each in rule_statistics(rig.loop.program, rig.switch.flows())}
