"""Custom objects against their structural schema: defaults filled in, every value checked.

Undeclared fields were pruned before, by the type made from the schema; rules (CEL) are asked in :mod:`labs.api.rules`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from labs.api import formats
from labs.api.errors import Cause, duplicate, required, shown, unsupported, wrong

Schema = dict[str, Any]
_PYTHON = {"string": str, "boolean": bool, "array": list, "object": dict}


def defaulted(value: Any, schema: Schema | None) -> Any:
    """The value with the schema's defaults filled in, at every depth."""
    if not schema:
        return value
    if isinstance(value, dict):
        result = dict(value)
        for name, part in (schema.get("properties") or {}).items():
            if result.get(name) is None and "default" in part:
                result[name] = part["default"]
            if name in result:
                result[name] = defaulted(result[name], part)
        extra = schema.get("additionalProperties")
        if isinstance(extra, dict):
            declared = schema.get("properties") or {}
            result = {k: v if k in declared else defaulted(v, extra) for k, v in result.items()}
        return result
    if isinstance(value, list):
        return [defaulted(item, schema.get("items")) for item in value]
    return value


def faults(value: Any, schema: Schema | None, at: str) -> Iterator[Cause]:
    """Every rule of the schema that the value breaks; ``at`` is the path of the value."""
    if not schema:
        return
    if value is None:
        if not schema.get("nullable"):
            yield wrong(at, None, f'must be of type {schema.get("type")}: "null"')
        return
    wrong_type = _type_fault(value, schema, at)
    if wrong_type is not None:
        yield wrong_type
        return
    if "enum" in schema and value not in schema["enum"]:
        yield unsupported(at, value, map(str, schema["enum"]))
    if isinstance(value, str):
        yield from _string(value, schema, at)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield from _number(value, schema, at)
    elif isinstance(value, list):
        yield from _list(value, schema, at)
    elif isinstance(value, dict):
        yield from _object(value, schema, at)
    yield from _combined(value, schema, at)


def _type_fault(value: Any, schema: Schema, at: str) -> Cause | None:
    if schema.get("x-kubernetes-int-or-string"):
        fits, kind = isinstance(value, int | str) and not isinstance(value, bool), "integer or string"
    else:
        kind = schema.get("type", "")
        if kind == "integer":
            whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
            fits = whole and not isinstance(value, bool)
        elif kind == "number":
            fits = isinstance(value, int | float) and not isinstance(value, bool)
        else:
            fits = kind not in _PYTHON or isinstance(value, _PYTHON[kind])
    if fits:
        return None
    names = {str: "string", bool: "boolean", int: "integer", float: "number", list: "array", dict: "object"}
    return Cause(
        "FieldValueTypeInvalid",
        f'Invalid value: "{names[type(value)]}": {at} in body must be of type {kind}: "{names[type(value)]}"',
        at,
    )


def _string(value: str, schema: Schema, at: str) -> Iterator[Cause]:
    if len(value) < schema.get("minLength", 0):
        yield wrong(at, value, f"{at} in body should be at least {schema['minLength']} chars long")
    if len(value) > schema.get("maxLength", len(value)):
        yield Cause("FieldValueTooLong", f"Too long: may not be more than {schema['maxLength']} bytes", at)
    pattern = schema.get("pattern")
    if pattern and not re.search(pattern, value):
        yield wrong(at, value, f"{at} in body should match '{pattern}'")
    form = schema.get("format", "")
    if not formats.fits(value, form):
        quoted = shown(value)
        yield Cause(
            "FieldValueTypeInvalid", f"Invalid value: {quoted}: {at} in body must be of type {form}: {quoted}", at
        )


def _number(value: float, schema: Schema, at: str) -> Iterator[Cause]:
    if schema.get("type") == "integer" and not formats.in_range(value, schema.get("format", "")):
        form = f"with format {schema['format']}" if schema.get("format") else "(default format)"
        # Kubernetes finds this in a place where it knows no field, and says so.
        yield wrong("<nil>", "", f"Checked value must be of type integer {form} in {at}")
    least, most = schema.get("minimum"), schema.get("maximum")
    if least is not None and (value < least or (schema.get("exclusiveMinimum") and value == least)):
        sign = "greater than" if schema.get("exclusiveMinimum") else "greater than or equal to"
        yield wrong(at, value, f"{at} in body should be {sign} {least}")
    if most is not None and (value > most or (schema.get("exclusiveMaximum") and value == most)):
        sign = "less than" if schema.get("exclusiveMaximum") else "less than or equal to"
        yield wrong(at, value, f"{at} in body should be {sign} {most}")
    if schema.get("multipleOf") and value % schema["multipleOf"]:
        yield wrong(at, value, f"{at} in body should be a multiple of {schema['multipleOf']}")


def _list(value: list[Any], schema: Schema, at: str) -> Iterator[Cause]:
    if len(value) < schema.get("minItems", 0):
        yield wrong(at, len(value), f"{at} in body should have at least {schema['minItems']} items")
    if len(value) > schema.get("maxItems", len(value)):
        yield Cause("FieldValueTooMany", f"Too many: {len(value)}: must have at most {schema['maxItems']} items", at)
    keys = schema.get("x-kubernetes-list-map-keys") if schema.get("x-kubernetes-list-type") == "map" else None
    seen: list[Any] = []
    for place, item in enumerate(value):
        yield from faults(item, schema.get("items"), f"{at}[{place}]")
        if keys or schema.get("x-kubernetes-list-type") == "set":
            mark = {k: item.get(k) for k in keys} if keys and isinstance(item, dict) else item
            if mark in seen:
                yield duplicate(f"{at}[{place}]", mark)
            seen.append(mark)


def _object(value: dict[str, Any], schema: Schema, at: str) -> Iterator[Cause]:
    if len(value) < schema.get("minProperties", 0):
        yield wrong(at, len(value), f"{at} in body should have at least {schema['minProperties']} properties")
        return
    if len(value) > schema.get("maxProperties", len(value)):
        most = schema["maxProperties"]
        yield Cause("FieldValueTooMany", f"Too many: {len(value)}: must have at most {most} items", at)
        return
    dot = f"{at}." if at else ""
    for name in schema.get("required") or ():
        if name not in value:
            yield required(dot + name)
    declared, extra = schema.get("properties") or {}, schema.get("additionalProperties")
    for name, item in value.items():
        if name in declared:
            yield from faults(item, declared[name], dot + name)
        elif isinstance(extra, dict):
            yield from faults(item, extra, dot + name)


def _combined(value: Any, schema: Schema, at: str) -> Iterator[Cause]:
    """allOf, anyOf, oneOf and not."""
    for part in schema.get("allOf") or ():
        yield from faults(value, part, at)
    if schema.get("anyOf") and not any(_fits(value, part, at) for part in schema["anyOf"]):
        yield wrong(at, value, f"{at} in body must validate at least one schema (anyOf)")
    if schema.get("oneOf") and sum(_fits(value, part, at) for part in schema["oneOf"]) != 1:
        yield wrong(at, value, f"{at} in body must validate one and only one schema (oneOf)")
    if schema.get("not") and _fits(value, schema["not"], at):
        yield wrong(at, value, f"{at} in body must not validate the schema (not)")


def _fits(value: Any, schema: Schema, at: str) -> bool:
    return next(faults(value, schema, at), None) is None
