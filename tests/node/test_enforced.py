"""What a node says it enforces."""

from __future__ import annotations

from immutables import Map

from ncp.node.enforced import Enforced
from sdn.compile.membership import Membership
from sdn.compile.ruleset import Ruleset

KEY = "NetworkPolicy/red/deny"
RULES = Ruleset(Membership("node1"), concerned=Map({KEY: frozenset({"anything"})}))


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


def test_a_new_generation_is_measured_from_when_it_was_seen():
    told, measured = [], []
    enforced = Enforced(told.append, lambda name, seconds: measured.append((name, seconds)))
    for generation in (1, 2):
        enforced.seen("NetworkPolicy", ("red", "deny"), policy("one", generation), float(generation))
        enforced.acknowledged(RULES, generation + 0.5)
    assert told == [{KEY: 1}, {KEY: 2}]
    assert measured == [(KEY, 0.5), (KEY, 0.5)]
