"""Label and field selectors: read from their text, asked of labels and of the fields an object can be selected by.

Label selectors that stand in objects (``podSelector``) are checked and asked here too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from labs.api.errors import Cause, bad_request, denied, required, wrong
from labs.api.names import broken, key_fault, label_faults

if TYPE_CHECKING:
    from labs.api.store import Key

Match = Callable[[Mapping[str, str]], bool]

_POD_FIELDS = (
    "spec.nodeName spec.restartPolicy spec.schedulerName spec.serviceAccountName spec.hostNetwork "
    "status.phase status.podIP status.nominatedNodeName"
)
_EVENT_FIELDS = (
    "involvedObject.kind involvedObject.namespace involvedObject.name involvedObject.uid involvedObject.apiVersion "
    "involvedObject.resourceVersion involvedObject.fieldPath reason reportingComponent source.component type"
)
FIELDS: dict[str, tuple[str, ...]] = {
    "pods": tuple(_POD_FIELDS.split()),
    "events": tuple(_EVENT_FIELDS.split()),
    "nodes": ("spec.unschedulable",),
    "namespaces": ("status.phase",),
    "secrets": ("type",),
    "services": ("spec.clusterIP", "spec.type"),
    "jobs.batch": ("status.successful",),
    "replicasets.apps": ("status.replicas",),
    "replicationcontrollers": ("status.replicas",),
}
"""Selectable fields of each store beside metadata.name and metadata.namespace."""
_PATHS = {store: tuple((path, tuple(path.split("."))) for path in paths) for store, paths in FIELDS.items()}
_ALIASES = {"source": "source.component", "regarding.": "involvedObject.", "reportingController": "reportingComponent"}
_DEFAULTS = {"spec.unschedulable": "false", "spec.hostNetwork": "false", "status.successful": "0"}
_REQUIREMENT = re.compile(
    r"\s*(?:(?P<no>!)\s*(?P<absent>[^\s,!=()]+)"
    r"|(?P<key>[^\s,!=()<>]+)(?:\s+(?P<set>in|notin)\s*\((?P<values>[^)]*)\)"
    r"|\s*(?P<op>==|=|!=|>|<)\s*(?P<value>[\w.-]*))?)\s*(?:,|$)"
)


def selectable(key: Key, obj: Mapping[str, Any]) -> dict[str, str]:
    """The fields this object can be selected by, as text."""
    fields = {"metadata.name": key.name, "metadata.namespace": key.namespace}
    for path, parts in _PATHS.get(key.store, ()):
        value: Any = obj
        for part in parts:
            value = value.get(part) if isinstance(value, dict) else None
        if value is None:
            fields[path] = _DEFAULTS.get(path, "")
        else:
            fields[path] = ("true" if value else "false") if isinstance(value, bool) else str(value)
    return fields


def label_match(text: str) -> Match | None:
    """The test a label selector makes; None if it selects everything. 400 if it cannot be read."""
    tests, position = [], 0
    while position < len(text.strip()):
        found = _REQUIREMENT.match(text, position)
        if found is None or found.end() == position:
            raise bad_request(f"unable to parse requirement: {text!r} is not a label selector")
        if fault := key_fault(found["key"] or found["absent"]):
            raise bad_request(f"unable to parse requirement: key {found['key'] or found['absent']!r}: {fault}")
        tests.append(_label_test(found))
        position = found.end()
    return _all(tests)


def _label_test(found: re.Match[str]) -> Match:
    if found["no"]:
        absent = found["absent"]
        return lambda labels: absent not in labels
    key = found["key"]
    if found["set"]:
        values = frozenset(part.strip() for part in found["values"].split(","))
        if found["set"] == "in":
            return lambda labels: labels.get(key) in values
        return lambda labels: labels.get(key) not in values
    if found["op"] is None:
        return lambda labels: key in labels
    value = found["value"]
    if found["op"] == "!=":
        return lambda labels: labels.get(key) != value
    if found["op"] in ("<", ">"):
        return _compared(key, found["op"], value)
    return lambda labels: labels.get(key) == value


def _compared(key: str, op: str, value: str) -> Match:
    if not value.lstrip("-").isdigit():
        raise bad_request(f"for 'Gt', 'Lt' operators, the value must be an integer: {value!r}")
    bound = int(value)

    def test(labels: Mapping[str, str]) -> bool:
        held = labels.get(key, "")
        return held.lstrip("-").isdigit() and (int(held) > bound if op == ">" else int(held) < bound)

    return test


def field_match(store: str, text: str, selectable_paths: tuple[str, ...] = ()) -> Match | None:
    """The test a field selector makes; None if it selects everything. 400 for a field that is not selectable."""
    allowed = {"metadata.name", "metadata.namespace", *FIELDS.get(store, ()), *selectable_paths}
    tests = [_field_test(part, store, allowed) for part in text.split(",") if part.strip()]
    return _all(tests)


def _field_test(part: str, store: str, allowed: set[str]) -> Match:
    found = re.fullmatch(r"\s*([^\s!=]+)\s*(==|=|!=)\s*(.*?)\s*", part)
    if found is None:
        raise bad_request(f"invalid selector: {part!r}; can't understand it")
    field, op, value = found[1], found[2], found[3].replace("\\,", ",").replace("\\=", "=")
    if store == "events":
        field = _ALIASES.get(field, field.replace("regarding.", "involvedObject."))
    if field not in allowed:
        raise bad_request(f"field label not supported: {field}")
    if op == "!=":
        return lambda fields: fields.get(field, "") != value
    return lambda fields: fields.get(field, "") == value


def _all(tests: list[Match]) -> Match | None:
    if not tests:
        return None
    if len(tests) == 1:
        return tests[0]
    return lambda values: all(test(values) for test in tests)


def labels_select(selector: Mapping[str, Any] | None, labels: Mapping[str, str]) -> bool:
    """Whether a LabelSelector object selects these labels; an empty one selects all, none selects nothing."""
    if selector is None:
        return False
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    for need in selector.get("matchExpressions") or ():
        held, values = labels.get(need["key"]), need.get("values") or ()
        operator = need["operator"]
        met = {
            "In": held in values,
            "NotIn": held not in values,
            "Exists": held is not None,
            "DoesNotExist": held is None,
        }.get(operator, False)
        if not met:
            return False
    return True


def selector_faults(selector: Mapping[str, Any], at: str) -> Iterator[Cause]:
    """Everything wrong with a LabelSelector object; ``at`` is its path."""
    yield from label_faults(selector.get("matchLabels") or {}, f"{at}.matchLabels")
    for place, need in enumerate(selector.get("matchExpressions") or ()):
        yield from _requirement_faults(need, f"{at}.matchExpressions[{place}]")


def _requirement_faults(need: Mapping[str, Any], at: str) -> Iterator[Cause]:
    operator, values, key = need.get("operator", ""), need.get("values") or (), need.get("key", "")
    if operator in ("In", "NotIn"):
        if not values:
            yield required(f"{at}.values", "must be specified when `operator` is 'In' or 'NotIn'")
    elif operator in ("Exists", "DoesNotExist"):
        if values:
            yield denied(f"{at}.values", "may not be specified when `operator` is 'Exists' or 'DoesNotExist'")
    else:
        yield wrong(f"{at}.operator", operator, "not a valid selector operator")
    if fault := key_fault(key):
        yield wrong(f"{at}.key", key, fault)
    for place, value in enumerate(values):
        if fault := broken(value, "value"):
            yield wrong(f"{at}.values[{place}]", value, fault)
