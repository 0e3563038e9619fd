"""What is taken away from a case has no part in it, and what has one stays."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from ncp.probe.model import Probe, Verdict
from ncp.verify.casefile import write
from ncp.verify.cases import combinations
from ncp.verify.ground import PORTS
from ncp.verify.minimise import minimal, said
from ncp.verify.reading import read
from tests.verify.builders import DENY, case, cluster_policy, network_policy, security_policy
from tests.verify.suite_cases import GROUND, policies_of, suite_case

OTHER = network_policy("other", "z", podSelector={})
OPEN = network_policy("open", podSelector={}, ingress=[{}])


def kept(some):
    return [each["metadata"]["name"] for each in minimal(some).policies]


def verdicts(expected, traced, observed, causes=()):
    return {
        "expected": Verdict(expected),
        "traced": Verdict(traced, causes=causes),
        "observed": Verdict(observed),
    }


# -- what everything together says, its least part says -------------------------------------------------------------


@given(
    st.sampled_from(list(combinations())),
    st.permutations(sorted(GROUND.pods)),
    st.sampled_from((4, 6)),
    st.sampled_from(("tcp", "udp", "sctp", "icmp")),
    st.sampled_from(PORTS),
)
@settings(deadline=None, max_examples=60)
def test_the_least_case_says_what_the_whole_one_says_for_the_same_reasons(features, pods, family, protocol, port):
    probe = Probe(f"verify-{pods[0]}", f"verify-{pods[1]}", family, protocol, 0 if protocol == "icmp" else port)
    everything = suite_case(policies_of(features), probe)
    least = minimal(everything)
    asked, left = said(everything), said(least)
    assert (left.answer, left.causes) == (asked.answer, asked.causes)
    assert {pod.name for pod in least.pods} == {probe.source, probe.destination}
    assert minimal(least) == least
    assert read(write(least), "f") == least


# -- what goes ------------------------------------------------------------------------------------------------------


def test_pods_namespaces_and_hosts_that_are_not_asked_go():
    least = minimal(case(hosts={"node:node1": ("192.168.50.11",), "node:node3": ("192.168.50.13",), "external": ()}))
    assert [pod.name for pod in least.pods] == ["x/a", "y/b"]
    assert set(least.namespaces) == {"x", "y"}
    assert set(least.hosts) == {"node:node1"}


def test_policies_that_change_nothing_go():
    assert kept(case(DENY, OTHER, network_policy("out", podSelector={}, policyTypes=["Egress"]))) == ["deny"]


def test_the_policies_that_decide_stay_together():
    """Where two isolate, both are the reason; where one of them allows, the other is none."""
    assert kept(case(DENY, network_policy("too", podSelector={"matchLabels": {"pod": "a"}}))) == ["deny", "too"]
    agreed = verdicts("yes", "yes", "yes")
    assert kept(case(DENY, OPEN, verdicts=agreed)) == ["open"]


# -- what stays though the intent does not need it ------------------------------------------------------------------


def test_a_policy_that_says_what_the_wire_says_against_the_intent_stays():
    accept = cluster_policy("first", ingress=[{"action": "Accept", "from": [{"namespaces": {}}]}])
    silent = verdicts("yes", "unknown", "no")
    assert kept(case(accept, DENY, OTHER, verdicts=silent)) == ["first", "deny"]
    assert kept(case(accept, DENY, OTHER, verdicts=verdicts("yes", "no", "yes"))) == ["first", "deny"]
    assert kept(case(accept, DENY, OTHER, verdicts=verdicts("yes", "yes", "yes"))) == ["first"]


def test_a_policy_that_the_flows_name_stays_with_its_namespace():
    """Its name is wrong, and that is the case; a replay must not make it in a namespace that is not the case's own."""
    wrong = verdicts("no", "no", "no", causes=("NetworkPolicy z/other isolates ingress",))
    least = minimal(case(DENY, OTHER, verdicts=wrong))
    assert [each["metadata"]["name"] for each in least.policies] == ["deny", "other"]
    assert set(least.namespaces) == {"x", "y", "z"}
    assert read(write(least), "f") == least


def test_the_name_of_one_policy_is_not_the_beginning_of_anothers():
    also = network_policy("oth", "z", podSelector={})
    wrong = verdicts("no", "no", "no", causes=("NetworkPolicy z/other isolates ingress",))
    assert kept(case(DENY, OTHER, also, verdicts=wrong)) == ["deny", "other"]


# -- what the oracle is asked with ----------------------------------------------------------------------------------


def test_the_baseline_and_the_priorities_are_the_clusters():
    alone = case(network_policy("none", "z", podSelector={}), settings={"baseline_policy_type": "allow_namespace"})
    assert said(alone).causes == ("Baseline y/allow_namespace egress rule 3",)
    assert said(alone.replace(settings={"baseline_policy_type": "allow_cluster"})).answer == "yes"
    rules = [{"action": "Drop", "direction": "In"}]
    both = OPEN, security_policy("s", priority=20, appliedTo=[{"podSelector": {}}], rules=rules)
    assert said(case(*both)).answer == "yes"
    assert said(case(*both, settings={"top_section_priority": 30})).answer == "no"


def test_an_end_without_an_address_and_a_port_nobody_serves():
    assert said(case(OPEN, hosts={}, probe=Probe("external", "x/a", 4, "tcp", 80))).why == "one end has no IPv4 address"
    assert said(case(OPEN, probe=Probe("y/b", "x/a", 4, "udp", 80))).answer == "refused"
    assert said(case(OPEN, probe=Probe("y/b", "x/a", 6, "udp", 81))).answer == "yes"


def test_a_node_reaches_its_own_pods_whatever_policies_say():
    assert said(case(DENY, probe=Probe("node:node1", "x/a", 4, "tcp", 80))).answer == "yes"
    assert (
        said(case(DENY, probe=Probe("node:node2", "x/a", 4, "tcp", 80), hosts={"node:node2": ("1.2.3.4",)})).answer
        == "no"
    )
