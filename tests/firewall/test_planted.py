"""Faults planted in our own code: the tests of this area see each of them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from firewall import order, reading, verdict
from firewall.labels import Requirement
from firewall.rules import IpBlock, inside
from tests.firewall import (
    test_clusterpolicy,
    test_ipblock,
    test_labels,
    test_networkpolicy,
    test_ports,
    test_tiers,
    test_verdict,
)
from tests.firewall.cast import cluster_policy, network_policy


def reversed_rules(patch):
    right = verdict._one_by_one
    patch.setattr(
        verdict,
        "_one_by_one",
        lambda where, stage, asked: right(where, tuple(replace(s, rules=s.rules[::-1]) for s in stage), asked),
    )


def exceptions_forgotten(patch):
    patch.setattr(IpBlock, "contains", lambda self, address: inside(self.cidr, address))


def one_isolating_policy_named(patch):
    right = verdict._together
    patch.setattr(
        verdict, "_together", lambda *args: (found := right(*args)) and found._replace(causes=found.causes[:1])
    )


def baseline_asked_first(patch):
    patch.setitem(order._STAGES, "Baseline", 0)


def missing_labels_in_a_list(patch):
    right = Requirement.holds
    patch.setattr(Requirement, "holds", lambda self, labels: self.key in labels and right(self, labels))


def last_port_left_out(patch):
    right = reading.port_range
    short = lambda *args: (found := right(*args))._replace(last=max(found.first, found.last - 1))  # noqa: E731
    patch.setattr("firewall.networkpolicy.port_range", short)


def peers_turned_around(patch):
    right = verdict._is
    patch.setattr(verdict, "_is", lambda where, peer, asked: not right(where, peer, asked))


DENIED_BELOW = cluster_policy("below", tier="Baseline", ingress=[{"action": "Deny", "from": [{"namespaces": {}}]}])
ALLOWED = network_policy("allowed", ingress=[{}])
BLOCK = {"cidr": "10.1.0.0/16", "except": ["10.1.8.0/24"]}


@pytest.mark.parametrize(
    ("plant", "sees", "arguments"),
    [
        (reversed_rules, test_clusterpolicy.test_the_first_rule_that_matches_decides_and_is_named, ()),
        (reversed_rules, test_tiers.test_rules_are_asked_in_their_order, (("Deny", "Pass", "Accept"),)),
        (
            baseline_asked_first,
            test_tiers.test_each_tier_has_its_say_before_the_next,
            ([DENIED_BELOW, ALLOWED], "allow", "allowed"),
        ),
        (
            exceptions_forgotten,
            test_ipblock.test_a_block_is_its_prefix_to_both_ends_less_its_exceptions_to_both_ends,
            (BLOCK, ["10.1.7.255"], ["10.1.8.0"]),
        ),
        (
            missing_labels_in_a_list,
            test_labels.test_an_operator_holds_of_present_empty_and_missing_labels,
            ("gone", "NotIn", ["web"], True),
        ),
        (
            last_port_left_out,
            test_ports.test_a_port_is_of_one_protocol_and_a_range_holds_both_its_ends,
            ({"port": 80, "endPort": 90}, [("tcp", 90)], [("tcp", 91)]),
        ),
        (one_isolating_policy_named, test_verdict.test_isolation_names_every_policy_that_isolates_and_no_other, ()),
        (
            peers_turned_around,
            test_networkpolicy.test_rules_are_alternatives_and_each_is_counted_within_its_direction,
            (),
        ),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_planted_fault_is_seen(plant, sees, arguments, monkeypatch):
    sees(*arguments)
    plant(monkeypatch)
    with pytest.raises(AssertionError):
        sees(*arguments)
