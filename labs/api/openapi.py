"""OpenAPI documents, as far as kubectl reads them: shapes for ``explain``, parameters for validation and dry runs.

The v2 document holds no shapes on purpose: without them kubectl merges by the types it was built with.
"""

from __future__ import annotations

from typing import Any

from labs.api.errors import no_such_path
from labs.api.resources import Catalog, Resource
from labs.api.types import Type, named

Obj = dict[str, Any]
V2_PROTOBUF = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
"""Asked for with an ``@`` in place of the second dot, which is no valid media type to answer with."""
_PARAMETERS = ("dryRun", "fieldManager", "fieldValidation", "force", "pretty")
_SCALARS: dict[str, Obj] = {
    "s": {"type": "string"},
    "t": {"type": "string", "format": "date-time"},
    "B": {"type": "string", "format": "byte"},
    "i": {"type": "integer", "format": "int32"},
    "f": {"type": "number", "format": "double"},
    "b": {"type": "boolean"},
    "q": {"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]},
    "Q": {"type": "string"},
}


def v2_document() -> Obj:
    """The v2 document as JSON."""
    return {"swagger": "2.0", "info": {"title": "Kubernetes", "version": "v1.32.4"}, "paths": {}, "definitions": {}}


def v2_protobuf(catalog: Catalog) -> bytes:
    """The v2 document as kubectl 1.20 wants it (gnostic's openapi.v2.Document): which kinds take which parameters."""
    info = _text(1, "Kubernetes") + _text(2, "v1.32.4")
    paths = b"".join(_bytes(2, _v2_path(resource)) for resource in catalog.all())
    return _text(1, "2.0") + _bytes(2, info) + _bytes(8, paths)


def _v2_path(resource: Resource) -> bytes:
    """A NamedPathItem whose patch operation names the resource's kind and the parameters it takes."""
    gvk = f"group: {resource.group or chr(34) * 2}\nversion: {resource.version}\nkind: {resource.kind}\n"
    extension = _text(1, "x-kubernetes-group-version-kind") + _bytes(2, _text(2, gvk))
    parameters = b""
    for name in _PARAMETERS:
        query = _text(2, "query") + _text(4, name) + _text(5, "string")
        parameters += _bytes(8, _bytes(1, _bytes(2, _bytes(3, query))))
    operation = _text(5, f"patch{resource.kind}") + parameters + _bytes(13, extension)
    path = f"/{_gv_path(resource.group, resource.version)}/{resource.plural}/{{name}}"
    return _text(1, path) + _bytes(2, _bytes(8, operation))


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


def v3_index(catalog: Catalog) -> Obj:
    """Where the v3 document of each group version is."""
    paths = {}
    for resource in catalog.all():
        path = _gv_path(resource.group, resource.version)
        paths[path] = {"serverRelativeURL": f"/openapi/v3/{path}?hash={catalog.generation}"}
    return {"paths": paths}


def _gv_path(group: str, version: str) -> str:
    return f"apis/{group}/{version}" if group else f"api/{version}"


def v3_document(catalog: Catalog, path: str) -> Obj:
    """The v3 document at ``apis/GROUP/VERSION``. 404 if nothing of it is served."""
    found = [r for r in catalog.all() if _gv_path(r.group, r.version) == path]
    if not found:
        raise no_such_path()
    schemas: dict[str, Obj] = {}
    paths: Obj = {}
    for resource in found:
        gvk = {"group": resource.group, "version": resource.version, "kind": resource.kind}
        name = _schema_name(resource)
        if resource.custom:
            schema = dict(resource.custom.schema or {"type": "object"})
            schema["properties"] = {**_identity(schemas), **schema.get("properties", {})}
            schemas[name] = schema
        else:
            _collect(resource.type, schemas)
        schemas[name] = {**schemas[name], "x-kubernetes-group-version-kind": [gvk]}
        paths |= _paths(resource, gvk, name)
    info = {"title": "Kubernetes", "version": "v1.32.4"}
    return {"openapi": "3.0.0", "info": info, "paths": paths, "components": {"schemas": schemas}}


def _identity(schemas: dict[str, Obj]) -> Obj:
    _collect(named("ObjectMeta"), schemas)
    meta = {"allOf": [_ref("io.k8s.ObjectMeta")]}
    return {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": meta}


def _schema_name(resource: Resource) -> str:
    if resource.custom:
        return ".".join([*reversed(resource.group.split(".")), resource.version, resource.kind])
    return f"io.k8s.{resource.type.name}"


def _paths(resource: Resource, gvk: Obj, schema: str) -> Obj:
    base = "/" + _gv_path(resource.group, resource.version)
    collection = (
        f"{base}/namespaces/{{namespace}}/{resource.plural}" if resource.namespaced else f"{base}/{resource.plural}"
    )
    answer = {"200": {"description": "OK", "content": {"application/json": {"schema": _ref(schema)}}}}
    parameters = [{"name": n, "in": "query", "schema": {"type": "string"}} for n in _PARAMETERS]

    def operation(action: str) -> Obj:
        return {
            "operationId": f"{action}{resource.kind}",
            "parameters": parameters,
            "responses": answer,
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": gvk,
        }

    one = {"get": operation("get"), "put": operation("put"), "patch": operation("patch"), "delete": operation("delete")}
    return {collection: {"get": operation("list"), "post": operation("post")}, f"{collection}/{{name}}": one}


def _ref(name: str) -> Obj:
    return {"$ref": f"#/components/schemas/{name}"}


def _collect(shape: Type, schemas: dict[str, Obj]) -> None:
    """Adds the schema of a type, and of every type it mentions."""
    name = f"io.k8s.{shape.name}"
    if name in schemas:
        return
    schemas[name] = schema = {"type": "object", "description": "", "properties": {}}
    schema["properties"] = {field: _schema(part, schemas) for field, part in shape.fields.items()}
    if shape.required:
        schema["required"] = list(shape.required)


def _schema(shape: Type, schemas: dict[str, Obj]) -> Obj:
    if shape.kind == "scalar":
        return dict(_SCALARS[shape.scalar])
    if shape.kind == "list":
        schema: Obj = {"type": "array", "items": _schema(shape.item or Type("any"), schemas)}
        schema["x-kubernetes-list-type"] = shape.rule.kind
        if shape.rule.keys:
            schema["x-kubernetes-list-map-keys"] = list(shape.rule.keys)
        return schema
    if shape.kind == "map":
        return {"type": "object", "additionalProperties": _schema(shape.item or Type("any"), schemas)}
    if shape.kind == "object":
        _collect(shape, schemas)
        return {"allOf": [_ref(f"io.k8s.{shape.name}")]}
    return {}
