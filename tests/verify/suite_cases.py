"""The nine pods of the conformance suite as a case, and the policies of combinations of features."""

from __future__ import annotations

from ncp.probe.model import Verdict
from ncp.verify.casefile import WHO, CasePod
from ncp.verify.drafts import policy
from ncp.verify.features import drafts
from ncp.verify.ground import SPACES, example, namespace_object, pod_object
from tests.verify.builders import case

GROUND = example()


def policies_of(features):
    return tuple(policy(GROUND, draft, f"p{number}") for number, draft in enumerate(drafts(GROUND, *features)))


def suite_case(policies, probe):
    """All nine pods; everybody says yes."""
    spaces = [namespace_object(GROUND, space)["metadata"] for space in SPACES]
    found = case(
        probe=probe,
        verdicts={who: Verdict("yes") for who in WHO},
        pods=tuple(map(_pod, GROUND.pods)),
        namespaces={meta["name"]: meta["labels"] for meta in spaces},
        hosts={"node:node1": ("192.168.50.11",), "external": tuple(map(str, GROUND.hosts))},
    )
    return found.replace(policies=policies)


def _pod(short):
    pod = pod_object(GROUND, short, ["node1", "node2"])
    meta, spec = pod["metadata"], pod["spec"]
    name = f"{meta['namespace']}/{meta['name']}"
    ports = tuple(spec["containers"][0]["ports"])
    return CasePod(name, meta["labels"], ports, spec["nodeName"], tuple(map(str, GROUND.pods[short])))
