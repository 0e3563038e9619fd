"""What people get wrong with ``ncp verify``: exit code 2, and a line that names the option, the value and what is allowed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from ncp.verify.casefile import write
from tests.verify.builders import DENY, case, network_policy

FORMATS = "'table', 'wide', 'json', 'junit'"
KINDS = "NetworkPolicy, ClusterNetworkPolicy, SecurityPolicy"


@pytest.fixture
def quiet_lab(lab, tmp_path) -> Path:
    """The lab's API server, and no node agent."""
    for name in ("kubeconfig", "ncp.ini"):
        shutil.copy(lab / name, tmp_path)
    return tmp_path


def refused(told, *says):
    """Exit code 2, everything in one line of standard error, and nothing that a machine would take for a result."""
    assert told.code == 2, told.err
    words = " ".join(told.err.split())
    assert [each for each in says if each not in words] == [], words
    assert "Traceback" not in told.err
    assert "unexpected" not in told.err
    assert told.out == ""


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("-o", "xml"), ("'-o'", "'xml'", FORMATS)),
        (("--family", "5"), ("'--family'", "'5'", "'4', '6'")),
        (("--port", "0"), ("'--port'", "0", "1<=x<=65535")),
        (("--protocol", "gre"), ("'--protocol'", "'gre'", "'tcp', 'udp', 'sctp', 'icmp', 'neighbour'")),
        (("--trace", "some"), ("'--trace'", "'some'", "'all', 'sample', 'none'")),
        (("--apply",), ("--apply needs --policy FILE or --delete KIND/NS/NAME",)),
        (("--policy", "/nowhere"), ("--policy", "/nowhere", "No such file")),
        (("--policy", "/"), ("--policy", "/", "Is a directory")),
        (("--delete", "Pod/x/a"), ("--delete", "'Pod/x/a'", KINDS)),
        (("--delete", "NetworkPolicy/a"), ("--delete", "'NetworkPolicy/a'", "KIND/NAMESPACE/NAME")),
        (("--port", "80", "suite"), ("suite takes its options after its name",)),
        (("zzz",), ("zzz",)),
        (("replay",), ("FILES",)),
        (("replay", "/nowhere"), ("FILES", "/nowhere", "No such file")),
        (("suite", "--only", "zzz"), ("--only", "'zzz'", "--list shows them")),
        (("suite", "--prefix", "Upper-"), ("--prefix", "'Upper-'", "lower case letters")),
        (("suite", "--prefix", "-x"), ("--prefix", "'-x'", "lower case letters")),
        (("suite", "--prefix", "a" * 63), ("--prefix", "a" * 63, "62")),
        (("suite", "--prefix", ""), ("--prefix", "''", "lower case letters")),
        (("suite", "--family", "5"), ("'--family'", "'5'", "'4', '6'")),
    ],
)
def test_a_bad_option_is_named_with_its_value_and_what_is_allowed(ncp, arguments, says):
    refused(ncp("verify", *arguments), *says)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", ("not YAML",)),
        ("", ("holds no policy", KINDS)),
        ("kind: Pod", ("document 1", "kind: 'Pod'", KINDS)),
        ("a: 2026-99-99", ("not YAML",)),
        (yaml.safe_dump_all([DENY, DENY]), ("NetworkPolicy/x/deny is given twice", "once")),
    ],
)
def test_a_file_without_good_policies_is_named(ncp, tmp_path, text, says):
    path = tmp_path / "p.yaml"
    path.write_text(text)
    told = ncp("verify", "--policy", path)
    refused(told, *says)
    assert str(path) in told.err or "twice" in told.err


def test_a_file_that_is_no_text_is_named(ncp, tmp_path):
    path = tmp_path / "p"
    path.write_bytes(b"\xff\xfe\x00")
    refused(ncp("verify", "--policy", path), "--policy", str(path), "not text")
    refused(ncp("verify", "replay", path), "FILES", str(path), "not text")


def test_a_policy_cannot_be_applied_and_deleted(ncp, tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text(json.dumps(DENY))
    refused(ncp("verify", "--policy", path, "--delete", "networkpolicy/x/deny"), "NetworkPolicy/x/deny is to be applied and to be deleted", "one of the two")  # fmt: skip
    refused(ncp("verify", "--policy", path, "-o", "junit"), "--output junit", "table, wide, json")


def test_a_bad_case_file_is_refused_before_any_cluster_is_asked(ncp, tmp_path):
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text(write(case()))
    bad.write_text(write(case()).replace("family: 4", "family: 5"))
    refused(ncp("verify", "replay", good, bad), f"{bad}: probe.family: 5; allowed: 4, 6")


def test_no_cluster_is_one_line(ncp):
    told = ncp("verify")
    assert told.code in (1, 2)
    assert "Traceback" not in told.err
    assert "unexpected" not in told.err


def test_the_list_of_cases_needs_no_cluster(ncp):
    told = ncp("verify", "suite", "--list", "--only", "peer-except", "-o", "json")
    assert told.code == 0
    assert all(any("peer-except" in names for names in each["covers"]) for each in told.json)
    assert len(told.json) > 10


# -- with a cluster, whose switches are never reached ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--pod", "blue/nope"), ("--pod", "blue/nope", "`ncp get ports` lists them")),
        (("--namespace", "nope"), ("--namespace", "nope", "no pod of that namespace")),
        (("--external",), ("--external", "no host beyond tier-0 is within reach")),
        (("--delete", "NetworkPolicy/blue/gone"), ("NetworkPolicy/blue/gone cannot be deleted", "no such policy")),
    ],
)
def test_what_the_cluster_does_not_have_is_named(ncp, quiet_lab, arguments, says):
    refused(ncp("verify", "--state", quiet_lab, *arguments), *says)


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        (network_policy("p", "nowhere", podSelector={}), ("NetworkPolicy/nowhere/p", "nowhere")),
        (network_policy("P_", "blue", podSelector={}), ("NetworkPolicy/blue/P_", "P_")),
        (
            network_policy("p", "blue", podSelector={}, ingress=[{"from": [{"ipBlock": {"cidr": "10.4.0.0/16", "except": ["11.0.0.0/8"]}}]}]),
            ("NetworkPolicy/blue/p", "11.0.0.0/8"),
        ),
        (network_policy("p", "blue", podSelector={}, policyTypes=["Sideways"]), ("NetworkPolicy/blue/p", "Sideways")),
    ],
)  # fmt: skip
def test_a_policy_the_server_would_not_take_is_named(ncp, quiet_lab, tmp_path, policy, says):
    path = tmp_path / "p.yaml"
    path.write_text(json.dumps(policy))
    refused(ncp("verify", "--state", quiet_lab, "--policy", path, "--apply"), *says)
