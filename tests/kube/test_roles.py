"""The rights that deploy/rbac.yaml gives the node agent are those it needs."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from ncp.kube.resources import ENDPOINT_SLICES, INSTEAD, INTENT, INTENT_CUSTOM, Resource

RULES = [
    rule
    for each in yaml.safe_load_all((Path(__file__).parents[2] / "deploy" / "rbac.yaml").read_text())
    if (each["kind"], each["metadata"]["name"]) == ("ClusterRole", "ncp-node")
    for rule in each["rules"]
]


def granted(resource: Resource) -> set[str]:
    rules = [rule for rule in RULES if resource.group in rule["apiGroups"] and resource.plural in rule["resources"]]
    return {verb for rule in rules for verb in rule["verbs"]}


@pytest.mark.parametrize("resource", [*INTENT, *INTENT_CUSTOM, *INSTEAD.values()], ids=lambda each: each.plural)
def test_the_node_agent_may_read_all_that_its_network_follows_from(resource: Resource):
    """What is not served, too: who may not ask is not told that it is not there."""
    assert granted(resource) >= {"get", "list", "watch"}


@pytest.mark.parametrize(
    "resource", [each for each in (*INTENT, *INTENT_CUSTOM) if each != ENDPOINT_SLICES], ids=lambda each: each.plural
)
def test_the_node_agent_may_write_on_objects_what_is_wrong_with_them(resource: Resource):
    assert "patch" in granted(resource)
