"""The syntax of names, labels and annotations, with the sentences that state it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from labs.api.errors import Cause, required, wrong

_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_LABEL_1035 = r"[a-z]([-a-z0-9]*[a-z0-9])?"
_VALUE = r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?"
_KEY = r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_RULES = {
    "label": (
        63,
        _LABEL,
        "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end "
        f"with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '{_LABEL}')",
    ),
    "subdomain": (
        253,
        _SUBDOMAIN,
        "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start "
        f"and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '{_SUBDOMAIN}')",
    ),
    "label1035": (
        63,
        _LABEL_1035,
        "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, "
        "and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is "
        f"'{_LABEL_1035}')",
    ),
    "value": (
        63,
        _VALUE,
        "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start "
        "and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation "
        f"is '{_VALUE}')",
    ),
    "config key": (
        253,
        r"[-._a-zA-Z0-9]+",
        "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or "
        "'key-name', regex used for validation is '[-._a-zA-Z0-9]+')",
    ),
    "key": (
        63,
        _KEY,
        "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
        "character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
        f"'{_KEY}')",
    ),
}
_COMPILED = {rule: re.compile(pattern) for rule, (_, pattern, _) in _RULES.items()}
_NAME_RULE = {"Namespace": "label", "Service": "label1035"}
_FREE_NAMES = frozenset({"Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"})
MOST_ANNOTATIONS = 256 * 1024


def broken(text: str, rule: str) -> str:
    """The sentence about the rule this text breaks; empty if it keeps it."""
    limit, _, sentence = _RULES[rule]
    if len(text) > limit:
        return f"must be no more than {limit} characters"
    return "" if _COMPILED[rule].fullmatch(text) else sentence


def metadata_faults(obj: dict[str, Any]) -> Iterator[Cause]:
    """Everything wrong with an object's metadata."""
    meta, kind = obj["metadata"], obj["kind"]
    name = meta.get("name", "")
    if not name:
        yield required("metadata.name", "name or generateName is required")
    elif kind in _FREE_NAMES:
        if "/" in name or "%" in name or name in (".", ".."):
            yield wrong("metadata.name", name, "may not contain '/' or '%'")
    elif fault := broken(name, _NAME_RULE.get(kind, "subdomain")):
        yield wrong("metadata.name", name, fault)
    yield from label_faults(meta.get("labels") or {}, "metadata.labels")
    annotations = meta.get("annotations") or {}
    for key in annotations:
        if fault := key_fault(key.lower()):
            yield wrong("metadata.annotations", key, fault)
    size = sum(len(k) + len(v) for k, v in annotations.items())
    if size > MOST_ANNOTATIONS:
        yield Cause(
            "FieldValueTooLong", f"Too long: must have at most {MOST_ANNOTATIONS} bytes", "metadata.annotations"
        )
    for finalizer in meta.get("finalizers") or ():
        if fault := key_fault(finalizer):
            yield wrong("metadata.finalizers", finalizer, fault)
    for place, owner in enumerate(meta.get("ownerReferences") or ()):
        for field in ("apiVersion", "kind", "name", "uid"):
            if not owner.get(field):
                yield wrong(f"metadata.ownerReferences[{place}].{field}", "", f"{field} must not be empty")


def label_faults(labels: dict[str, str], field: str) -> Iterator[Cause]:
    """Everything wrong with a set of labels."""
    for key, value in labels.items():
        if fault := key_fault(key):
            yield wrong(field, key, fault)
        if fault := broken(value, "value"):
            yield wrong(field, value, fault)


def key_fault(key: str) -> str:
    """The sentence about what is wrong with a label's key; empty if nothing is."""
    prefix, slash, name = key.rpartition("/")
    if slash and (not prefix or broken(prefix, "subdomain")):
        return "prefix part " + _RULES["subdomain"][2]
    if not name:
        return "name part must be non-empty"
    return broken(name, "key")
