"""The OpenAPI v3 documents, as far as kubectl reads them: shapes for ``explain``, parameters for validation.

They do not offer the strategic merge patch, so kubectl takes its merge keys from the v2 document.
"""

from __future__ import annotations

from typing import Any

from labs.api.errors import no_such_path
from labs.api.resources import Catalog, Resource
from labs.api.types import Type, named

Obj = dict[str, Any]
PARAMETERS = ("dryRun", "fieldManager", "fieldValidation", "force", "pretty")
_SCALARS: dict[str, Obj] = {
    "s": {"type": "string"},
    "t": {"type": "string", "format": "date-time"},
    "B": {"type": "string", "format": "byte"},
    "i": {"type": "integer", "format": "int32"},
    "f": {"type": "number", "format": "double"},
    "b": {"type": "boolean"},
    "Q": {"type": "string"},
}
_INT_OR_STRING = {"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]}


def v3_index(catalog: Catalog) -> Obj:
    """Where the v3 document of each group version is."""
    paths = {}
    for resource in catalog.all():
        path = gv_path(resource.group, resource.version)
        paths[path] = {"serverRelativeURL": f"/openapi/v3/{path}?hash={catalog.generation}"}
    return {"paths": paths}


def gv_path(group: str, version: str) -> str:
    """``apis/apps/v1``, ``api/v1``."""
    return f"apis/{group}/{version}" if group else f"api/{version}"


def v3_document(catalog: Catalog, path: str) -> Obj:
    """The v3 document at ``apis/GROUP/VERSION``. 404 if nothing of it is served."""
    found = [r for r in catalog.all() if gv_path(r.group, r.version) == path]
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
    base = "/" + gv_path(resource.group, resource.version)
    collection = (
        f"{base}/namespaces/{{namespace}}/{resource.plural}" if resource.namespaced else f"{base}/{resource.plural}"
    )
    answer = {"200": {"description": "OK", "content": {"application/json": {"schema": _ref(schema)}}}}
    parameters = [{"name": n, "in": "query", "schema": {"type": "string"}} for n in PARAMETERS]

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
    if shape.kind == "scalar" and shape.scalar == "q":
        schemas["io.k8s.IntOrString"] = dict(_INT_OR_STRING)  # by its name, which is what explain shows
        return {"allOf": [_ref("io.k8s.IntOrString")]}
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
