"""The shapes of objects: which fields a type has, how its lists merge. Read from ``types.json`` and from CRDs.

``types.json`` holds one line a type: field name (``!`` marks it required) to a short code: ``s`` string, ``i`` integer,
``f`` number, ``b`` boolean, ``t`` time, ``B`` base64, ``q`` integer or string, ``Q`` quantity, ``*`` anything,
``[X`` list of X, ``{X`` map of X, else the name of another type.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

from labs.api.lists import ATOMIC_FIELDS, ATOMIC_TYPES, LISTS, ListRule

ATOMIC_LIST = ListRule()


class Type:
    """The shape of a value. ``kind`` is ``object``, ``map``, ``list``, ``scalar`` or ``any``."""

    __slots__ = ("atomic", "checked", "fields", "item", "kind", "name", "open", "required", "rule", "scalar")

    def __init__(self, kind: str, name: str = "") -> None:
        self.kind = kind
        self.name = name
        self.fields: dict[str, Type] = {}
        self.required: tuple[str, ...] = ()
        self.item: Type | None = None
        self.scalar = ""
        self.rule = ATOMIC_LIST
        self.atomic = False
        self.checked = True
        """Whether reading refuses values of another type; a custom object's schema tells more about them, later."""
        self.open = False
        """Whether an object keeps fields it does not declare (x-kubernetes-preserve-unknown-fields)."""

    def child(self, key: str) -> Type:
        """The type of a field or of a map's value; ANY where nothing is known."""
        if self.kind == "object":
            return self.fields.get(key, ANY)
        return self.item or ANY


ANY = Type("any")


def _scalar(code: str, *, checked: bool = True) -> Type:
    made = Type("scalar", code)
    made.checked = checked
    made.scalar = code
    return made


SCALARS = {code: _scalar(code) for code in "sifbtBqQ"}
UNCHECKED = {code: _scalar(code, checked=False) for code in "sifbq"}


@cache
def _definitions() -> dict[str, dict[str, str]]:
    return json.loads(files("labs.api").joinpath("types.json").read_text())


@cache
def named(name: str) -> Type:
    """The built-in type of that name, e.g. ``PodSpec``; raises KeyError for an unknown one."""
    made = Type("object", name)
    _MAKING[name] = made
    made.atomic = name in ATOMIC_TYPES
    required = []
    for key, code in _definitions()[name].items():
        field = key.rstrip("!")
        made.fields[field] = _field(name, field, code)
        if key.endswith("!"):
            required.append(field)
    made.required = tuple(required)
    return made


_MAKING: dict[str, Type] = {}


def _coded(code: str) -> Type:
    if code == "*":
        return ANY
    if code in SCALARS:
        return SCALARS[code]
    return _MAKING.get(code) or named(code)


def _field(owner: str, field: str, code: str) -> Type:
    """A field's type, with the list and map rules that belong to this place."""
    if code[0] == "[":
        made = Type("list")
        made.item = _coded(code[1:])
        by_type = field == "conditions" and made.item.kind == "object" and "type" in made.item.fields
        made.rule = LISTS.get(f"{owner}.{field}") or (ListRule("map", ("type",), "type") if by_type else ATOMIC_LIST)
        return made
    if code[0] == "{":
        made = Type("map")
        made.item = _field(owner, field + "[]", code[1:])
        made.atomic = f"{owner}.{field}" in ATOMIC_FIELDS
        return made
    return _coded(code)


def from_schema(schema: dict[str, Any] | None, *, root: bool = False) -> Type:
    """The type a CRD's structural schema describes; ``root`` adds the metadata every object has."""
    if not schema or schema.get("x-kubernetes-int-or-string"):
        return UNCHECKED["q"] if schema else _with_metadata(_open_object()) if root else ANY
    kind = schema.get("type")
    if schema.get("x-kubernetes-embedded-resource"):
        root = True
    if kind == "array":
        return _array(schema)
    if kind == "object":
        return _object(schema, root)
    if kind in ("string", "integer", "boolean", "number"):
        return UNCHECKED[{"string": "s", "integer": "i", "boolean": "b", "number": "f"}[kind]]
    return ANY


def _open_object() -> Type:
    made = Type("object")
    made.open = True
    return made


def _array(schema: dict[str, Any]) -> Type:
    made = Type("list")
    made.checked = False
    made.item = from_schema(schema.get("items"))
    made.rule = ListRule(
        schema.get("x-kubernetes-list-type", "atomic"), tuple(schema.get("x-kubernetes-list-map-keys", ()))
    )
    return made


def _object(schema: dict[str, Any], root: bool) -> Type:
    properties, extra = schema.get("properties"), schema.get("additionalProperties")
    if not properties and extra:
        made = Type("map")
        made.item = from_schema(extra) if isinstance(extra, dict) else ANY
    else:
        made = Type("object")
        made.fields = {name: from_schema(part) for name, part in (properties or {}).items()}
        made.open = bool(schema.get("x-kubernetes-preserve-unknown-fields"))
    made.checked = False
    made.atomic = schema.get("x-kubernetes-map-type") == "atomic"
    return _with_metadata(made) if root else made


def _with_metadata(made: Type) -> Type:
    made.fields["apiVersion"] = made.fields["kind"] = SCALARS["s"]
    made.fields["metadata"] = named("ObjectMeta")
    return made
