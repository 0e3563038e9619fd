"""Label selectors and node selectors, as Kubernetes reads them. Pure functions over JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Json = dict[str, Any]


def matches(selector: Json | None, labels: Mapping[str, str] | None) -> bool:
    """Whether a ``LabelSelector`` (``matchLabels``, ``matchExpressions``) selects ``labels``; None selects nothing."""
    if selector is None:
        return False
    labels = labels or {}
    wanted = selector.get("matchLabels") or {}
    return all(labels.get(name) == value for name, value in wanted.items()) and all(
        expression_holds(each, labels) for each in selector.get("matchExpressions") or ()
    )


def equal_labels(selector: Mapping[str, str] | None, labels: Mapping[str, str] | None) -> bool:
    """Whether a plain map selector (of a service, a pod's nodeSelector) selects ``labels``; an empty one does not."""
    return bool(selector) and all((labels or {}).get(name) == value for name, value in (selector or {}).items())


def expression_holds(expression: Json, labels: Mapping[str, str]) -> bool:
    """One match expression. Raises :class:`ValueError` for an operator that does not exist."""
    key, operator = expression["key"], expression["operator"]
    values = expression.get("values") or []
    held = labels.get(key)
    if operator == "In":
        return held in values
    if operator == "NotIn":
        return held not in values
    if operator == "Exists":
        return held is not None
    if operator == "DoesNotExist":
        return held is None
    if operator in ("Gt", "Lt"):
        if held is None or not held.lstrip("-").isdigit():
            return False
        return int(held) > int(values[0]) if operator == "Gt" else int(held) < int(values[0])
    raise ValueError(f"operator {operator!r} of key {key!r} is not one of In, NotIn, Exists, DoesNotExist, Gt, Lt")


def node_terms_hold(selector: Json | None, node: Json) -> bool:
    """Whether a ``NodeSelector`` (any of its terms) selects the node; None selects every node."""
    if selector is None:
        return True
    labels = node["metadata"].get("labels") or {}
    fields = {"metadata.name": node["metadata"]["name"]}
    for term in selector.get("nodeSelectorTerms") or ():
        expressions, named = term.get("matchExpressions") or [], term.get("matchFields") or []
        if not expressions and not named:
            continue
        if all(expression_holds(each, labels) for each in expressions) and all(
            expression_holds(each, fields) for each in named
        ):
            return True
    return False


def tolerates(tolerations: list[Json] | None, taint: Json) -> bool:
    """Whether any toleration covers the taint."""
    return any(_covers(each, taint) for each in tolerations or ())


def _covers(toleration: Json, taint: Json) -> bool:
    if toleration.get("effect") and toleration["effect"] != taint.get("effect"):
        return False
    if toleration.get("key") and toleration["key"] != taint.get("key"):
        return False
    if toleration.get("operator", "Equal") == "Exists":
        return True
    return bool(toleration.get("key")) and toleration.get("value", "") == taint.get("value", "")
