"""Which policy is asked before which, and which of them has the last word."""

from __future__ import annotations

import itertools

import pytest

from firewall.order import Priorities
from tests.firewall.cast import EVERYBODY, ask, cluster_policy, having, network_policy, security_policy, senders

ANYBODY = [{"namespaces": {}}]
ISOLATES = network_policy("isolates")
ALLOWS = network_policy("allows", ingress=[{}])


def admin(action, name="admin", **spec):
    return cluster_policy(name, **{"ingress": [{"action": action, "from": ANYBODY}], **spec})


def baseline(action, name="baseline", **spec):
    return admin(action, name, tier="Baseline", **spec)


def application(action, priority, name="application"):
    return security_policy(name, priority=priority, rules=[{"action": action, "direction": "In"}])


@pytest.mark.parametrize(
    ("sections", "action", "by"),
    [
        ([admin("Deny"), ALLOWS], "drop", "admin"),
        ([admin("Accept"), ISOLATES], "allow", "admin"),
        ([admin("Accept"), baseline("Deny")], "allow", "admin"),
        ([admin("Deny"), baseline("Accept")], "drop", "admin"),
        ([admin("Pass"), ISOLATES], "drop", "isolates"),
        ([admin("Pass"), ALLOWS], "allow", "allows"),
        ([admin("Pass"), baseline("Deny")], "drop", "baseline"),
        ([admin("Pass")], "allow", None),
        ([admin("Pass"), admin("Deny", "later", priority=51)], "allow", None),
        ([admin("Pass"), admin("Accept", "later", priority=51), ISOLATES], "drop", "isolates"),
        ([admin("Pass", priority=51), admin("Deny", "sooner")], "drop", "sooner"),
        ([baseline("Deny"), ALLOWS], "allow", "allows"),
        ([baseline("Accept"), ISOLATES], "drop", "isolates"),
        ([baseline("Deny")], "drop", "baseline"),
        ([baseline("Accept")], "allow", "baseline"),
        ([baseline("Pass")], "allow", None),
        ([baseline("Pass"), baseline("Deny", "later", priority=51)], "allow", None),
        ([baseline("Pass"), application("Drop", 99)], "drop", "application"),
        ([application("Drop", 0), admin("Accept")], "allow", "admin"),
        ([application("Allow", 0), admin("Deny")], "drop", "admin"),
        ([application("Drop", 0), admin("Pass")], "drop", "application"),
    ],
)
def test_each_tier_has_its_say_before_the_next(sections, action, by):
    for order in itertools.permutations(sections):
        verdict = ask(list(order), "blue/job", "red/web")
        assert verdict.action == action
        assert [cause.source.name for cause in verdict.causes] == ([by] if by else [])


@pytest.mark.parametrize("baseline_action", ["Deny", "Accept"])
def test_the_baseline_counts_only_for_pods_that_no_network_policy_isolates(baseline_action):
    sections = [baseline(baseline_action), network_policy(podSelector=having(app="web"))]
    assert not ask(sections, "blue/job", "red/web").allowed
    assert ask(sections, "blue/job", "red/api").allowed is (baseline_action == "Accept")


def test_the_baseline_counts_in_the_direction_that_no_network_policy_isolates():
    sections = [baseline("Deny"), network_policy(policyTypes=["Egress"], egress=[{}])]
    assert ask(sections, "blue/job", "red/web").causes[0].source.name == "baseline"
    assert ask(sections, "red/web", "blue/job").allowed


def test_a_tier_is_passed_for_what_the_rule_matches_only():
    passing = admin("Pass", ingress=[{"action": "Pass", "from": [{"namespaces": having(team="b")}]}])
    sections = [passing, admin("Deny", "later", priority=51)]
    assert senders(sections, "red/web") == {"blue/web", "blue/job", "outside", "node1", "node2"}


def test_a_lower_number_is_asked_first():
    for first, second in itertools.permutations(("Accept", "Deny")):
        sections = [admin(first, "z", priority=0), admin(second, "a", priority=1000)]
        assert ask(sections, "blue/job", "red/web").allowed is (first == "Accept")


@pytest.mark.parametrize("make", [admin, baseline])
def test_policies_of_one_priority_are_asked_in_the_order_of_their_names(make):
    for names in itertools.permutations(("a", "b", "c")):
        sections = [make("Deny" if name == "a" else "Accept", name) for name in names]
        assert ask(sections, "blue/job", "red/web").causes[0].source.name == "a"


@pytest.mark.parametrize("actions", list(itertools.permutations(("Accept", "Deny", "Pass"))))
def test_rules_are_asked_in_their_order(actions):
    section = admin("", ingress=[{"action": action, "from": ANYBODY} for action in actions])
    allowed = {"Accept": True, "Deny": False, "Pass": False}[actions[0]]
    assert ask([section, ISOLATES], "blue/job", "red/web").allowed is allowed


@pytest.mark.parametrize(
    ("priority", "options", "before"),
    [
        (0, Priorities(), {"network policy", "baseline"}),
        (9, Priorities(), {"network policy", "baseline"}),
        (10, Priorities(), {"baseline"}),
        (98, Priorities(), {"baseline"}),
        (99, Priorities(), set()),
        (1000, Priorities(), set()),
        (10, Priorities(11, 99), {"network policy", "baseline"}),
        (10, Priorities(0, 10), set()),
        (0, Priorities(0, 99), {"baseline"}),
        (0, Priorities(0, 0), set()),
        (1000, Priorities(1001, 1002), {"network policy", "baseline"}),
        (500, Priorities(500, 501), {"baseline"}),
    ],
)
def test_a_security_policy_stands_where_its_priority_and_the_options_put_it(priority, options, before):
    drops, allows = application("Drop", priority), application("Allow", priority)
    others = {
        "network policy": (ALLOWS, ISOLATES),
        "baseline": (baseline("Accept"), baseline("Deny")),
    }
    for name, (open_, closed) in others.items():
        assert ask([drops, open_], "blue/job", "red/web", priorities=options).allowed is (name not in before)
        assert ask([allows, closed], "blue/job", "red/web", priorities=options).allowed is (name in before)


def test_security_policies_are_asked_by_priority_and_then_by_name():
    for above in (1, 20, 200):
        sections = [
            application("Drop", above + 1, "a"),
            application("Allow", above, "c"),
            application("Drop", above, "d"),
        ]
        assert ask(sections, "blue/job", "red/web").causes[0].source.name == "c"


def test_what_no_tier_decides_is_allowed():
    elsewhere = [{"namespaces": having(team="none")}]
    sections = [
        admin("", ingress=[{"action": "Deny", "from": elsewhere}]),
        baseline("", ingress=[{"action": "Deny", "from": elsewhere}]),
        network_policy(podSelector=having(app="none")),
        security_policy(
            rules=[{"action": "Drop", "direction": "In", "sources": [{"podSelector": having(app="none")}]}]
        ),
    ]
    assert senders(sections, "red/web") == EVERYBODY - {"red/web"}
    verdict = ask(sections, "outside", "red/web")
    assert (verdict.why, verdict.causes) == ("no policy decides on ingress of red/web", ())
