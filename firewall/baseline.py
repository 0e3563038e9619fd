"""What ``[k8s] baseline_policy_type`` means: NCP's policy for whatever no other policy decides.

``allow_cluster`` lets pods reach every pod of the cluster. ``allow_namespace`` lets them reach the pods of their own namespace and
keeps those of others from them; what is outside the cluster stays allowed. ``allow_namespace_strict`` keeps them from what is
outside as well, on their way out.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from firewall.rules import Direction, PodGroup, Rule, Section, Source

BaselineType: TypeAlias = Literal["allow_cluster", "allow_namespace", "allow_namespace_strict"]
KIND: Final = "Baseline"
_NAME: Final[dict[Direction, str]] = {"ingress": "from", "egress": "to"}


def section(kind: BaselineType, namespace: str) -> Section:
    """The section that a baseline policy is for the pods of one namespace."""
    own, everybody = (PodGroup(namespace),), (PodGroup(),)
    rules: list[Rule] = []
    for direction, side in _NAME.items():
        if kind == "allow_cluster":
            rules.append(Rule(direction, "allow", len(rules), everybody, None, f"{side} any pod"))
            continue
        rules.append(Rule(direction, "allow", len(rules), own, None, f"{side} the namespace"))
        if kind == "allow_namespace_strict" and direction == "egress":
            rules.append(Rule(direction, "drop", len(rules), None, None, "to anything else"))
        else:
            rules.append(Rule(direction, "drop", len(rules), everybody, None, f"{side} other namespaces"))
    return Section(Source(KIND, namespace, kind), "Default", own, tuple(rules))
