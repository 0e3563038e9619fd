"""The OpenAPI v2 document in protobuf, as older kubectl reads it (gnostic's ``openapi.v2.Document``).

It says which kinds take which parameters, and describes the built-in kinds: ``explain``, validation by the client, and
the merge keys from which ``apply`` makes its strategic patch.
"""

from __future__ import annotations

from typing import Any

from labs.api.openapi import PARAMETERS, gv_path
from labs.api.resources import BUILT_IN, Catalog, Resource
from labs.api.types import ANY, Type

PROTOBUF = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
"""Asked for with an ``@`` in place of the second dot, which is no valid media type to answer with."""
_SCALARS = {
    "s": ("string", ""),
    "t": ("string", "date-time"),
    "B": ("string", "byte"),
    "i": ("integer", "int32"),
    "f": ("number", "double"),
    "b": ("boolean", ""),
    "q": ("string", "int-or-string"),
    "Q": ("string", ""),
}
_RETAINED_KEYS = {"PodSpec.volumes", "PodSpec.resourceClaims"}
_INFO = {"title": "Kubernetes", "version": "v1.32.4"}


def as_json() -> dict[str, Any]:
    """The document as JSON: present, and empty."""
    return {"swagger": "2.0", "info": _INFO, "paths": {}, "definitions": {}}


def as_protobuf(catalog: Catalog) -> bytes:
    """The document as protobuf."""
    info = _text(1, _INFO["title"]) + _text(2, _INFO["version"])
    paths = b"".join(_bytes(2, _path(resource)) for resource in catalog.all())
    return _text(1, "2.0") + _bytes(2, info) + _bytes(8, paths) + _bytes(9, _definitions())


def _path(resource: Resource) -> bytes:
    """A NamedPathItem whose patch operation names the resource's kind and the parameters it takes."""
    parameters = b""
    for name in PARAMETERS:
        query = _text(2, "query") + _text(4, name) + _text(5, "string")
        parameters += _bytes(8, _bytes(1, _bytes(2, _bytes(3, query))))
    extension = _bytes(13, _extension("x-kubernetes-group-version-kind", _gvk(resource)))
    operation = _text(5, f"patch{resource.kind}") + parameters + extension
    path = f"/{gv_path(resource.group, resource.version)}/{resource.plural}/{{name}}"
    return _text(1, path) + _bytes(2, _bytes(8, operation))


def _gvk(resource: Resource) -> str:
    return f'{{group: "{resource.group}", version: {resource.version}, kind: {resource.kind}}}'


def _definitions() -> bytes:
    """The Definitions of the built-in kinds and of every type they mention."""
    found: dict[str, bytes] = {}
    for resource in BUILT_IN:
        _define(resource.type, found)
        found[resource.type.name] += _bytes(31, _extension("x-kubernetes-group-version-kind", f"[{_gvk(resource)}]"))
    return b"".join(_bytes(1, _text(1, f"io.k8s.{name}") + _bytes(2, schema)) for name, schema in found.items())


def _define(shape: Type, found: dict[str, bytes]) -> None:
    if shape.name in found:
        return
    found[shape.name] = b""
    schema = (
        _text(4, shape.name) + b"".join(_text(19, name) for name in shape.required) + _bytes(22, _text(1, "object"))
    )
    properties = b""
    for name, part in shape.fields.items():
        made = _schema(part, found) + _merge_rule(shape, name, part)
        properties += _bytes(1, _text(1, name) + _bytes(2, made))
    found[shape.name] = schema + _bytes(25, properties)


def _merge_rule(owner: Type, field: str, shape: Type) -> bytes:
    """How a strategic merge patch treats the field."""
    place = f"{owner.name}.{field}"
    if place == "DeploymentSpec.strategy":
        return _bytes(31, _extension("x-kubernetes-patch-strategy", "retainKeys"))
    if shape.kind != "list" or shape.rule.merge_key is None:
        return b""
    strategy = "merge,retainKeys" if place in _RETAINED_KEYS else "merge"
    rule = _bytes(31, _extension("x-kubernetes-patch-strategy", strategy))
    if shape.rule.merge_key:
        rule += _bytes(31, _extension("x-kubernetes-patch-merge-key", shape.rule.merge_key))
    return rule


def _schema(shape: Type, found: dict[str, bytes]) -> bytes:
    """A Schema: a reference, a scalar, a list or a map."""
    if shape.kind == "object":
        _define(shape, found)
        return _text(1, f"#/definitions/io.k8s.{shape.name}")
    if shape.kind == "scalar":
        kind, form = _SCALARS[shape.scalar]
        return (_text(2, form) if form else b"") + _bytes(22, _text(1, kind))
    if shape.kind == "list":
        return _bytes(22, _text(1, "array")) + _bytes(23, _bytes(1, _schema(shape.item or ANY, found)))
    if shape.kind == "map":
        return _bytes(21, _bytes(1, _schema(shape.item or ANY, found))) + _bytes(22, _text(1, "object"))
    return b""


def _extension(name: str, yaml: str) -> bytes:
    """A NamedAny: a vendor extension with its value as YAML."""
    return _text(1, name) + _bytes(2, _text(2, yaml))


def _text(field: int, text: str) -> bytes:
    return _bytes(field, text.encode())


def _bytes(field: int, body: bytes) -> bytes:
    """A length-delimited protobuf field."""
    return _varint(field << 3 | 2) + _varint(len(body)) + body


def _varint(number: int) -> bytes:
    parts = bytearray()
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    return bytes([*parts, number])
