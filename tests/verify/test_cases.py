"""The conformance suite has every feature and every pair, and what its policies say is what the features say they do."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ncp.kube.resources import NAMESPACES, PODS
from ncp.probe.model import Probe
from ncp.verify.cases import EVENTS, Apply, Delete, Recreate, Relabel, cases, chosen
from ncp.verify.features import BY_NAME, FEATURES
from ncp.verify.ground import NAMES, PORTS, SPACES, example
from ncp.verify.minimise import said
from ncp.verify.policies import key_of, parse_key, section_of
from tests.verify.suite_cases import GROUND, policies_of, suite_case

ALL = cases(GROUND)
APPLIED = [
    each for case in ALL for step in case.steps if isinstance(step.change, Apply) for each in step.change.policies
]


def test_every_feature_alone_and_every_pair_is_covered_once():
    names = [feature.name for feature in FEATURES]
    wanted = [(), *((name,) for name in names), *itertools.combinations(names, 2)]
    assert sorted(combination for case in ALL for combination in case.covers) == sorted(wanted)


def test_names_are_unique_and_tell_what_is_covered():
    assert len({case.name for case in ALL}) == len(ALL)
    assert all(case.name == ("+".join(case.covers[0]) or "plain") for case in ALL)
    assert all(set(case.covers[0]) <= set(case.tags) for case in ALL)


def test_cases_with_the_same_policies_are_one():
    policies = [json.dumps([each["spec"] for each in case.steps[0].change.policies], sort_keys=True) for case in ALL]
    kinds = [case.kinds for case in ALL]
    assert len(set(zip(policies, kinds, strict=True))) == len(ALL)


def test_the_same_cases_come_out_every_time_and_only_names_follow_the_prefix():
    assert cases(example()) == ALL
    other = cases(example("other-"))
    assert [case.name for case in other] == [case.name for case in ALL]
    assert "verify-" not in repr(other).replace("'verify'", "")


def test_another_process_has_the_same_cases():
    """Whatever order sets have there: a case that failed must be found again by its name."""
    script = "from ncp.verify.cases import cases; from ncp.verify.ground import example; print(cases(example()))"
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    command = [sys.executable, "-c", script]
    done = subprocess.run(
        command, env=environment, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{ALL}\n"


def test_no_policy_of_the_suite_has_a_fault():
    faults = {section_of(each).fault for each in APPLIED}
    assert not any(faults), faults
    assert {each["kind"] for each in APPLIED} == {"NetworkPolicy", "ClusterNetworkPolicy", "SecurityPolicy"}


def test_alone_every_feature_meets_every_event_and_each_event_meets_pairs():
    for case in ALL:
        if len(case.covers[0]) < 2:
            assert [step.name for step in case.steps] == ["apply", *(name for name, _ in EVENTS)]
    of_pairs = [step.name for case in ALL if len(case.covers[0]) == 2 for step in case.steps[1:]]
    assert set(of_pairs) == {name for name, _ in EVENTS}
    assert 0.4 < len(of_pairs) / sum(len(case.covers[0]) == 2 for case in ALL) < 0.6


def test_steps_touch_only_what_belongs_to_the_ground():
    own = {GROUND.namespace(space) for space in SPACES}
    for case in ALL:
        made = {key_of(each) for each in case.steps[0].change.policies}
        for step in case.steps:
            match step.change:
                case Apply(policies):
                    assert all(
                        each["metadata"].get("namespace") in own or each["metadata"]["name"].startswith(GROUND.prefix)
                        for each in policies
                    )
                case Delete(keys):
                    assert set(keys) <= made
                    assert all(parse_key(key) for key in keys)
                case Relabel(resource, namespace, name, _):
                    assert (resource is PODS and namespace in own and name in NAMES) or (
                        resource is NAMESPACES and name in own
                    )
                case Recreate(pod):
                    assert pod in GROUND.pods


def test_an_update_is_one():
    """A policy that was so before would prove nothing."""
    for case in ALL:
        applied = {key_of(each): each for each in case.steps[0].change.policies}
        for step in case.steps[1:]:
            if isinstance(step.change, Apply):
                assert all(applied[key_of(each)]["spec"] != each["spec"] for each in step.change.policies), case.name


# -- meaning --------------------------------------------------------------------------------------------------------

FROM_B, FROM_C, FROM_Y, FROM_YB, FROM_Z = ("x/b", "x/a"), ("x/c", "x/a"), ("y/a", "x/a"), ("y/b", "x/a"), ("z/c", "x/a")
TO_B, TO_C = ("x/a", "x/b"), ("x/a", "x/c")
MEANING = [
    # features, who asks whom, protocol and port, what is said
    ("", FROM_B, "tcp/80", "yes"),
    ("", FROM_C, "tcp/80", "no"),
    ("", FROM_B, "icmp/0", "yes"),
    ("", TO_C, "tcp/80", "yes"),
    ("egress", TO_B, "udp/81", "yes"),
    ("egress", TO_C, "udp/81", "no"),
    ("egress", FROM_C, "tcp/80", "yes"),
    ("both-ways", TO_C, "tcp/80", "no"),
    ("both-ways", FROM_C, "tcp/80", "no"),
    ("subject-all", ("x/c", "x/b"), "tcp/80", "no"),
    ("subject-notin", ("x/a", "x/c"), "tcp/80", "no"),
    ("subject-notin", ("x/c", "x/b"), "tcp/80", "yes"),
    ("peer-anyone", FROM_Z, "sctp/80", "yes"),
    ("peer-neighbours", FROM_C, "tcp/80", "yes"),
    ("peer-neighbours", FROM_Y, "tcp/80", "no"),
    ("peer-namespace", FROM_Y, "tcp/80", "yes"),
    ("peer-namespace", FROM_B, "tcp/80", "no"),
    ("peer-both", FROM_YB, "tcp/80", "yes"),
    ("peer-both", FROM_Y, "tcp/80", "no"),
    ("peer-in", FROM_Z, "tcp/80", "yes"),
    ("peer-in", FROM_YB, "tcp/80", "no"),
    ("peer-exists", ("y/c", "x/a"), "tcp/80", "yes"),
    ("peer-exists", FROM_Z, "tcp/80", "no"),
    ("peer-absent", ("z/a", "x/a"), "tcp/80", "yes"),
    ("peer-absent", FROM_Z, "tcp/80", "no"),
    ("peer-block", FROM_Y, "tcp/80", "yes"),
    ("peer-block", FROM_Z, "tcp/80", "no"),
    ("peer-except", FROM_YB, "tcp/80", "yes"),
    ("peer-except", FROM_Y, "tcp/80", "no"),
    ("peer-host", ("external", "x/a"), "tcp/80", "yes"),
    ("peer-host", FROM_B, "tcp/80", "no"),
    ("port-number", FROM_B, "tcp/80", "yes"),
    ("port-number", FROM_B, "sctp/81", "yes"),
    ("port-number", FROM_B, "tcp/81", "no"),
    ("port-range", FROM_B, "udp/81", "yes"),
    ("port-range", FROM_B, "udp/80", "no"),
    ("port-name", FROM_B, "tcp/80", "yes"),
    ("port-name", FROM_B, "tcp/81", "no"),
    ("port-name egress", TO_B, "tcp/80", "yes"),
    ("port-protocol", FROM_B, "sctp/80", "yes"),
    ("port-protocol", FROM_B, "icmp/0", "no"),
    ("deny-all", ("y/a", "x/c"), "tcp/80", "no"),
    ("deny-all", ("x/c", "y/a"), "tcp/80", "no"),
    ("allow-all", FROM_Z, "udp/80", "yes"),
    ("several-rules", FROM_Z, "udp/81", "yes"),
    ("several-rules", FROM_Z, "udp/80", "no"),
    ("several-policies", FROM_C, "tcp/81", "yes"),
    ("several-policies", FROM_C, "tcp/80", "no"),
    ("default-types", FROM_C, "tcp/80", "no"),
    ("default-types egress", TO_C, "tcp/80", "no"),
    ("order", FROM_Z, "tcp/80", "yes"),
    ("order", FROM_C, "tcp/80", "no"),
    ("admin-accept", FROM_C, "tcp/80", "yes"),
    ("admin-accept order", FROM_C, "tcp/80", "no"),
    ("admin-accept order", FROM_B, "tcp/80", "yes"),
    ("admin-deny", FROM_B, "tcp/80", "no"),
    ("admin-deny order", FROM_C, "tcp/80", "yes"),
    ("admin-pass order", FROM_B, "tcp/80", "yes"),
    ("admin-pass order", FROM_C, "tcp/80", "no"),
    ("admin-deny admin-accept", FROM_B, "tcp/80", "yes"),
    ("admin-accept deny-all", FROM_B, "tcp/80", "no"),  # b may not send
    ("admin-accept peer-namespace deny-all", FROM_Y, "tcp/80", "yes"),
    ("baseline-deny", FROM_B, "tcp/80", "no"),
    ("baseline-deny allow-all", FROM_B, "tcp/80", "yes"),
    ("baseline-accept baseline-deny", FROM_B, "tcp/80", "yes"),
    ("security-drop", FROM_B, "tcp/80", "no"),
    ("egress security-drop", TO_B, "tcp/80", "no"),
    ("egress security-drop", FROM_B, "tcp/80", "yes"),
    ("egress admin-deny", TO_B, "tcp/80", "no"),
    ("egress admin-deny", FROM_B, "tcp/80", "yes"),
    ("security-reject", FROM_B, "tcp/80", "rejected"),
    ("security-reject allow-all", FROM_B, "tcp/80", "yes"),
    ("security-allow security-drop", FROM_B, "tcp/80", "yes"),
    ("security-allow peer-namespace deny-all", FROM_Y, "tcp/80", "yes"),
    ("peer-namespace port-number", FROM_Y, "tcp/81", "no"),
    ("peer-namespace port-number", FROM_Y, "tcp/80", "yes"),
    ("peer-except peer-both", FROM_Y, "tcp/80", "no"),
]  # fmt: skip


def full(name):
    return f"verify-{name}" if "/" in name else name


@pytest.mark.parametrize(("features", "ends", "what", "answer"), MEANING)
@pytest.mark.parametrize("family", [4, 6])
def test_features_mean_what_they_say(features, ends, what, answer, family):
    protocol, port = what.split("/")
    probe = Probe(*map(full, ends), family, protocol, int(port))
    wanted = policies_of([feature for feature in FEATURES if feature.name in features.split()])
    assert said(suite_case(wanted, probe)).answer == answer


def test_every_feature_is_held_to_its_meaning():
    assert {name for features, *_ in MEANING for name in features.split()} == set(BY_NAME)


def test_every_feature_changes_the_answer_to_something():
    """Else it would be none: against no policies at all, or the plain one."""
    pods = [*GROUND.pods, "external"]
    asked = [
        Probe(full(a), full(b), 4, protocol, port)
        for a in pods
        for b in pods
        if a != b
        for protocol in ("tcp", "udp", "sctp")
        for port in PORTS
    ]
    for feature in FEATURES:
        if feature.name == "default-types":
            continue  # the other way to say the same
        with_it = suite_case(policies_of([feature]), asked[0])
        plain = suite_case(policies_of([]), asked[0])
        assert any(said(with_it.replace(probe=p)).answer != said(plain.replace(probe=p)).answer for p in asked), feature


# -- choosing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "holds"),
    [
        ("peer-except", lambda case: any("peer-except" in names for names in case.covers)),
        ("peer-*", lambda case: any(name.startswith("peer-") for names in case.covers for name in names)),
        ("recreate-pod", lambda case: any(step.name == "recreate-pod" for step in case.steps)),
        ("egress+port-name", lambda case: case.name == "egress+port-name"),
        ("*", lambda case: True),
        ("", lambda case: True),
        ("PLAIN", lambda case: False),
    ],
)
def test_a_pattern_chooses_by_name_feature_and_event(pattern, holds):
    assert chosen(ALL, pattern) == tuple(case for case in ALL if holds(case))


@given(st.sampled_from(ALL))
def test_every_case_is_chosen_by_its_own_name(case):
    assert case in chosen(ALL, case.name)
