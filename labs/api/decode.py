"""Reading a body into the shape of its type: nulls dropped, unknown fields found, wrong types refused."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from labs.api.errors import ApiError
from labs.api.types import ANY, Type

_GO = {"s": "string", "i": "int64", "b": "bool", "f": "float64", "B": "[]uint8", "t": "v1.Time"}
_JSON = {str: "string", bool: "bool", int: "number", float: "number", list: "array", dict: "object"}

_SHOWN_EMPTY = frozenset({"EndpointSlice.endpoints", "EndpointSlice.ports", "Role.rules", "ClusterRole.rules"})
"""Lists that are kept when they are empty; all others are left out then, as Go leaves them out."""


class Unread(Exception):
    """A value that does not have the type its place wants; the message is what a Go decoder would say."""


def decoded(value: Any, shape: Type, path: str, unknown: list[str]) -> Any:
    """The value in its type's shape, as a new value; paths of undeclared fields are added to ``unknown``.

    Raises :class:`Unread` where the value cannot have that type.
    """
    kind = shape.kind
    if kind == "any" or (value is None and not shape.checked):
        return value
    if kind == "scalar":
        return _scalar(value, shape.scalar, path) if shape.checked else value
    if not isinstance(value, list if kind == "list" else dict):
        if not shape.checked:
            return value
        wanted = "[]" if kind == "list" else shape.name or "map"
        found = _JSON.get(type(value), "null")
        raise Unread(f"json: cannot unmarshal {found} into Go struct field {path} of type {wanted}")
    item = shape.item or ANY
    if kind == "list":
        return [decoded(v, item, f"{path}[{n}]", unknown) for n, v in enumerate(value) if v is not None]
    if kind == "map":
        return {k: decoded(v, item, f"{path}.{k}", unknown) for k, v in value.items() if v is not None}
    return _object(value, shape, path, unknown)


def _object(value: dict[str, Any], shape: Type, path: str, unknown: list[str]) -> dict[str, Any]:
    result, fields = {}, shape.fields
    for key, item in value.items():
        known = fields.get(key)
        if known is None:
            if shape.open:
                result[key] = item
            else:
                unknown.append(f"{path}.{key}" if path else key)
        elif item is not None:
            read = decoded(item, known, f"{path}.{key}" if path else key, unknown)
            if read or known.kind not in ("list", "map") or not known.checked or f"{shape.name}.{key}" in _SHOWN_EMPTY:
                result[key] = read
    return result


def _scalar(value: Any, code: str, path: str) -> Any:
    kind = type(value)
    if code in "st":
        if kind is str:
            return value
    elif code == "i":
        if kind is int:
            return value
        if kind is float and value.is_integer():
            return int(value)
    elif code == "b":
        if kind is bool:
            return value
    elif code == "f":
        if kind in (int, float):
            return value
    elif code == "q":
        if kind in (int, str):
            return value
    elif code == "Q":
        if kind in (str, int, float):
            return value if kind is str else str(value)
    elif code == "B" and kind is str:
        return _base64(value, path)
    name = _JSON.get(kind, "null")
    raise Unread(f"json: cannot unmarshal {name} into Go struct field {path} of type {_GO.get(code, 'string')}")


def _base64(value: str, path: str) -> str:
    try:
        base64.b64decode(value, validate=True)
    except binascii.Error as error:
        raise Unread(f"illegal base64 data in {path}: {error}") from error
    return value


def read_object(
    body: Any, kind: str, group_version: str, shape: Type, *, strict: bool
) -> tuple[dict[str, Any], list[str]]:
    """A request's object in its type's shape, and warnings about fields it does not have.

    Raises ApiError 400 where a type is wrong, or, when ``strict``, where a field is unknown.
    """
    unknown: list[str] = []
    version = group_version.rpartition("/")[2]
    prefix = f'{kind} in version "{version}" cannot be handled as a {kind}: '
    try:
        result = decoded(body, shape, "", unknown)
    except Unread as error:
        raise ApiError(400, "BadRequest", prefix + str(error)) from error
    warnings = [f'unknown field "{path}"' for path in unknown]
    if warnings and strict:
        raise ApiError(400, "BadRequest", prefix + "strict decoding error: " + ", ".join(warnings))
    return result, warnings
