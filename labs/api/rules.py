"""The rules of a definition's schema (``x-kubernetes-validations``): kept where they are understood, else named."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from labs.api import cel
from labs.api.errors import Cause, denied, duplicate, required, wrong
from labs.api.expressions import NotUnderstood

Schema = dict[str, Any]
_BLOCKING = frozenset(
    f"FieldValue{reason}" for reason in ("NotSupported", "Required", "TooLong", "TooMany", "TypeInvalid")
)
UNCHECKED = Cause(
    "FieldValueInvalid",
    "Invalid value: null: some validation rules were not checked because the object was invalid; "
    "correct the existing errors to complete validation",
    "<nil>",
)


def faults(value: Any, schema: Schema, before: list[Cause]) -> Iterator[Cause]:
    """Every understood rule that an object breaks; none is asked while the faults found before make them pointless."""
    if all(fault for _, fault in _verdicts(schema)):
        return
    if any(cause.reason in _BLOCKING for cause in before):
        yield UNCHECKED
    else:
        yield from _broken(value, schema, "")


def unenforced(schema: Schema) -> list[str]:
    """Which rules of a schema are not understood, and why."""
    return [f"{' '.join(rule.split())!r} ({fault})" for rule, fault in _verdicts(schema) if fault]


def _verdicts(schema: Schema) -> Iterator[tuple[str, str]]:
    """Every rule of a schema, at any depth, with what is not understood of it."""
    for rule in schema.get("x-kubernetes-validations") or ():
        try:
            cel.understood(rule.get("rule", ""))
        except NotUnderstood as error:
            yield rule.get("rule", ""), str(error)
        else:
            yield rule["rule"], ""
    for part in _parts(schema):
        yield from _verdicts(part)


def _parts(schema: Schema) -> Iterator[Schema]:
    yield from (schema.get("properties") or {}).values()
    yield from schema.get("allOf") or ()
    for name in ("items", "additionalProperties"):
        if isinstance(schema.get(name), dict):
            yield schema[name]


def _broken(value: Any, schema: Schema, at: str) -> Iterator[Cause]:
    if value is None:
        return
    for rule in schema.get("x-kubernetes-validations") or ():
        yield from _asked(rule, value, schema.get("type", ""), at)
    for part in schema.get("allOf") or ():
        yield from _broken(value, part, at)
    if isinstance(value, list):
        for place, item in enumerate(value):
            yield from _broken(item, schema.get("items") or {}, f"{at}[{place}]")
    elif isinstance(value, dict):
        declared, extra = schema.get("properties") or {}, schema.get("additionalProperties")
        for name, item in value.items():
            if name in declared:
                yield from _broken(item, declared[name], f"{at}.{name}" if at else name)
            elif isinstance(extra, dict):
                yield from _broken(item, extra, f"{at}[{name}]")


def _asked(rule: dict[str, Any], value: Any, kind: str, at: str) -> Iterator[Cause]:
    """The fault that a rule finds; ``kind`` is the value's type, which is what messages show of it."""
    at = at or "<nil>"
    said = (rule.get("message") or "").strip()
    try:
        verdict = cel.value(cel.understood(rule.get("rule", "")), {"self": value})
    except NotUnderstood:
        return
    except cel.Unanswerable as error:
        yield wrong(at, kind, f"{error} evaluating rule: {said or rule['rule'].strip()}")
        return
    if verdict is True:
        return
    at += rule.get("fieldPath") or ""
    message = said or f"failed rule: {rule['rule'].strip()}"
    reason = rule.get("reason") or "FieldValueInvalid"
    if reason == "FieldValueForbidden":
        yield denied(at, message)
    elif reason == "FieldValueRequired":
        yield required(at, message)
    elif reason == "FieldValueDuplicate":
        yield duplicate(at, kind)
    else:
        yield wrong(at, kind, message)
