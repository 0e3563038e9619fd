"""Files with policies are read as kubectl reads them; what is no policy is refused with its document, field and what is allowed."""

from __future__ import annotations

import json

import pytest
import yaml

from ncp.verify.errors import Refused
from ncp.verify.manifests import once, policies_in
from ncp.verify.policies import key_of, parse_key, plain
from tests.verify.builders import cluster_policy, network_policy

ONE, TWO, WIDE = network_policy("one"), network_policy("two", "y"), cluster_policy("wide")
KINDS = "NetworkPolicy, ClusterNetworkPolicy, SecurityPolicy"


def test_documents_and_lists_are_read_in_order_and_empty_documents_skipped():
    listed = {"apiVersion": "v1", "kind": "List", "items": [TWO, WIDE]}
    text = "---\n---\n" + yaml.safe_dump_all([ONE, listed]) + "---\n# nothing\n"
    assert policies_in(text, "f") == [ONE, TWO, WIDE]
    assert policies_in(yaml.safe_dump({"kind": "NetworkPolicyList", "items": [ONE]}), "f") == [ONE]
    assert policies_in(json.dumps(ONE), "f") == [ONE]


@pytest.mark.parametrize("namespace", ["", "  namespace:\n", "  namespace: ''\n"])
def test_a_policy_without_a_namespace_is_in_the_default_one(namespace):
    text = f"apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata:\n  name: p\n{namespace}"
    (policy,) = policies_in(text, "f")
    assert key_of(policy) == "NetworkPolicy/default/p"


def test_a_policy_of_the_whole_cluster_has_no_namespace():
    stray = WIDE | {"metadata": {"name": "wide", "namespace": "x"}}
    assert policies_in(yaml.safe_dump(stray), "f") == [WIDE]


GOOD = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy"}


@pytest.mark.parametrize(
    ("document", "says"),
    [
        (3, f"f: document 1: 3; allowed: an object of kind {KINDS}"),
        ([ONE], f"f: document 1: {[ONE]!r}; allowed: an object of kind {KINDS}"),
        ({}, f"f: document 1: kind: None; allowed: {KINDS}"),
        (ONE | {"kind": "Pod"}, f"f: document 1: kind: 'Pod'; allowed: {KINDS}"),
        (ONE | {"kind": ["x"]}, f"f: document 1: kind: ['x']; allowed: {KINDS}"),
        (ONE | {"apiVersion": "v1"}, "f: document 1: apiVersion: 'v1'; allowed: networking.k8s.io/v1"),
        (GOOD, "f: document 1: metadata.name: None; allowed: the policy's name"),
        (GOOD | {"metadata": []}, "f: document 1: metadata: []; allowed: a mapping"),
        (GOOD | {"metadata": {"name": 7}}, "f: document 1: metadata.name: 7; allowed: the policy's name"),
        (GOOD | {"metadata": {"name": "a/b"}}, "f: document 1: metadata.name: 'a/b'; allowed: the policy's name"),
        (
            GOOD | {"metadata": {"name": "p", "namespace": 7}},
            "f: document 1: metadata.namespace: 7; allowed: a namespace's name",
        ),
        ({"kind": "List", "items": {}}, "f: document 1: items: {}; allowed: a list"),
        ({"kind": "List", "items": []}, f"f: holds no policy; allowed: at least one of {KINDS}"),
        (None, f"f: holds no policy; allowed: at least one of {KINDS}"),
    ],
)
def test_what_is_no_policy_is_refused(document, says):
    with pytest.raises(Refused) as refused:
        policies_in(yaml.safe_dump(document), "f")
    assert str(refused.value) == says


@pytest.mark.parametrize("text", ["{", "a: b: c", "\0", "a: 2026-99-99", "a: !!python/name:os.system"])
def test_what_is_not_yaml_is_refused_in_one_line(text):
    with pytest.raises(Refused, match=r"^f: not YAML: .+$") as refused:
        policies_in(text, "f")
    assert "\n" not in str(refused.value)


def test_the_second_document_is_called_so():
    with pytest.raises(Refused, match=r"^f: document 2: kind: 'Pod'"):
        policies_in(yaml.safe_dump_all([ONE, ONE | {"kind": "Pod"}]), "f")


def test_a_policy_given_twice_is_refused():
    assert once([ONE, TWO, WIDE]) == {
        "NetworkPolicy/x/one": ONE,
        "NetworkPolicy/y/two": TWO,
        "ClusterNetworkPolicy//wide": WIDE,
    }
    with pytest.raises(Refused, match=r"^NetworkPolicy/x/one is given twice; allowed: once$"):
        once([ONE, TWO, dict(ONE)])


# -- keys -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", [ONE, WIDE])
def test_a_key_names_its_policy(policy):
    resource, namespace, name = parse_key(key_of(policy))
    assert (resource.kind, namespace, name) == (
        policy["kind"],
        policy["metadata"].get("namespace", ""),
        policy["metadata"]["name"],
    )


def test_kinds_compare_without_case_and_a_cluster_policy_needs_no_namespace():
    assert parse_key("networkpolicy/x/one")[0].kind == "NetworkPolicy"
    assert parse_key("clusternetworkpolicy/wide") == parse_key("ClusterNetworkPolicy//wide")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("Pod/x/a", f"'Pod/x/a': kind 'Pod'; allowed: {KINDS}"),
        ("NetworkPolicy/one", "'NetworkPolicy/one' does not name a NetworkPolicy; allowed: KIND/NAMESPACE/NAME"),
        ("NetworkPolicy//one", "'NetworkPolicy//one' does not name a NetworkPolicy; allowed: KIND/NAMESPACE/NAME"),
        (
            "NetworkPolicy/x/one/y",
            "'NetworkPolicy/x/one/y' does not name a NetworkPolicy; allowed: KIND/NAMESPACE/NAME",
        ),
        (
            "ClusterNetworkPolicy/x/wide",
            "'ClusterNetworkPolicy/x/wide' does not name a ClusterNetworkPolicy; allowed: KIND/NAME",
        ),
        ("", f"'': kind ''; allowed: {KINDS}"),
    ],
)
def test_what_names_no_policy_is_refused(text, says):
    with pytest.raises(Refused) as refused:
        parse_key(text)
    assert str(refused.value) == says


def test_plain_is_what_the_author_wrote():
    noted = {"ncp/established_connections": "cut", "ncp/realisation": "Realized 3/3"}
    served = ONE | {"status": {}, "metadata": ONE["metadata"] | {"uid": "u", "generation": 2, "annotations": noted}}
    kept = ONE["metadata"] | {"annotations": {"ncp/established_connections": "cut"}}
    assert plain(served) == ONE | {"metadata": kept}
