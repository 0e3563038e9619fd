"""Custom resource definitions: what they add to the catalog, and the rules of the objects they define."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from labs.api import rules, structural
from labs.api.clock import now
from labs.api.errors import Cause, denied, invalid, required, wrong
from labs.api.names import metadata_faults
from labs.api.resources import BUILT_IN, Catalog, Custom, Resource
from labs.api.types import Type, from_schema
from labs.api.validation import finalizer_faults

Obj = dict[str, Any]
CLEANUP = "customresourcecleanup.apiextensions.k8s.io"
"""The finalizer that keeps a definition until its objects are gone."""
UNENFORCED = "RulesEnforced"
"""The condition, False, of a definition with rules that this server does not evaluate. Kubernetes has none such."""
_RULED_METADATA = ("name", "generateName")
"""What rules may ask of an object's metadata."""
_CLASH = "the following names are taken by another resource: "


def resources_of(definition: Obj) -> tuple[Resource, ...]:
    """The resources a stored definition serves; none while its names are not accepted."""
    spec = definition["spec"]
    conditions = {c["type"]: c["status"] for c in definition.get("status", {}).get("conditions", ())}
    if conditions.get("Established") != "True":
        return ()
    storage = next(v["name"] for v in spec["versions"] if v.get("storage"))
    made = []
    for version in spec["versions"]:
        if not version.get("served"):
            continue
        schema = (version.get("schema") or {}).get("openAPIV3Schema")
        subresources = version.get("subresources") or {}
        custom = Custom(
            definition["metadata"]["name"], schema, tuple(version.get("additionalPrinterColumns") or ()),
            subresources.get("scale"), storage,
        )  # fmt: skip
        made.append(_served(spec, version, custom, from_schema(schema, root=True)))
    return tuple(made)


def _served(spec: Obj, version: Obj, custom: Custom, shape: Type) -> Resource:
    names, subresources = spec["names"], version.get("subresources") or {}
    return Resource(
        group=spec["group"],
        version=version["name"],
        kind=names["kind"],
        plural=names["plural"],
        namespaced=spec["scope"] == "Namespaced",
        singular=names.get("singular", ""),
        short_names=tuple(names.get("shortNames") or ()),
        categories=tuple(names.get("categories") or ()),
        subresources=tuple(s for s in ("status", "scale") if s in subresources),
        type=shape,
        store=f"{names['plural']}.{spec['group']}",
        custom=custom,
        list_kind=names.get("listKind", names["kind"] + "List"),
    )


def complete(resource: Resource, obj: Obj, before: Obj | None, subresource: str) -> None:
    """Defaults and rules of a custom object; 422 with everything that is wrong."""
    schema = resource.custom.schema if resource.custom else None
    if schema:
        for name, value in structural.defaulted(obj, schema).items():
            if name not in ("apiVersion", "kind", "metadata"):
                obj[name] = value
    found = [*metadata_faults(obj), *finalizer_faults(obj, before)]
    if schema:
        body = _body_schema(schema)
        found += structural.faults({k: v for k, v in obj.items() if k != "metadata"}, body, "")
        seen = {k: v for k, v in obj["metadata"].items() if k in _RULED_METADATA}
        found = [*found, *rules.faults({**obj, "metadata": seen}, body, found)]
    if found:
        raise invalid(resource.kind, resource.group, obj["metadata"].get("name", ""), found)


def _body_schema(schema: Obj) -> Obj:
    """The schema without what the server checks itself."""
    properties = {k: v for k, v in (schema.get("properties") or {}).items() if k != "metadata"}
    needed = [name for name in schema.get("required") or () if name != "metadata"]
    return {**schema, "properties": properties, "required": needed}


def complete_definition(obj: Obj, before: Obj | None, catalog: Catalog) -> list[str]:
    """Rules of a definition, and the conditions that say whether its resources are served; returns warnings."""
    found = list(_definition_faults(obj, before))
    if found:
        raise invalid("CustomResourceDefinition", "apiextensions.k8s.io", obj["metadata"].get("name", ""), found)
    if before is None:
        meta = obj["metadata"]
        meta["finalizers"] = list(dict.fromkeys([*meta.get("finalizers", ()), CLEANUP]))
    spec, status = obj["spec"], obj.setdefault("status", {})
    taken = _taken(obj, catalog)
    old = {c["type"]: c for c in status.get("conditions", ())}
    status["conditions"] = [
        _condition(old, "NamesAccepted", not taken, "NoConflicts" if not taken else "NameConflict",
                   _CLASH + ", ".join(taken) if taken else "no conflicts found"),
        _condition(old, "Established", not taken, "InitialNamesAccepted" if not taken else "NotAccepted",
                   "the initial names have been accepted" if not taken else "not all names are accepted"),
        *(c for kind, c in old.items() if kind not in ("NamesAccepted", "Established", UNENFORCED)),
    ]  # fmt: skip
    if not taken:
        status["acceptedNames"] = dict(spec["names"])
    storage = [v["name"] for v in spec["versions"] if v.get("storage")]
    status["storedVersions"] = list(dict.fromkeys([*status.get("storedVersions", ()), *storage]))
    unenforced = list(dict.fromkeys(text for version in spec["versions"] for text in _unenforced(version)))
    if not unenforced:
        return []
    message = f"this server does not evaluate {'; '.join(unenforced)}"
    status["conditions"].append(_condition(old, UNENFORCED, False, "NotUnderstood", message))
    return [f"x-kubernetes-validations not enforced by this server: {len(unenforced)}; see the condition {UNENFORCED}"]


def _unenforced(version: Obj) -> list[str]:
    return rules.unenforced((version.get("schema") or {}).get("openAPIV3Schema") or {})


def _condition(old: Obj, kind: str, holds: bool, reason: str, message: str) -> Obj:
    status = "True" if holds else "False"
    before = old.get(kind, {})
    since = before["lastTransitionTime"] if before.get("status") == status else now()
    return {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": since}


def _taken(obj: Obj, catalog: Catalog) -> list[str]:
    """Names of the definition that another resource of its group has."""
    spec, own = obj["spec"], obj["metadata"]["name"]
    names = spec["names"]
    wanted = {names["plural"], names.get("singular", ""), names["kind"], *(names.get("shortNames") or ())} - {""}
    others = [r for r in catalog.all() if r.group == spec["group"] and not (r.custom and r.custom.crd == own)]
    held = {name for r in others for name in (r.plural, r.singular, r.kind, *r.short_names)}
    return sorted(wanted & held)


def _definition_faults(obj: Obj, before: Obj | None) -> Iterator[Cause]:
    spec = obj["spec"]
    names, group = spec.get("names") or {}, spec.get("group", "")
    expected = f"{names.get('plural', '')}.{group}"
    if obj["metadata"].get("name") != expected:
        yield wrong("metadata.name", obj["metadata"].get("name", ""), 'must be spec.names.plural+"."+spec.group')
    for field in ("group", "scope"):
        if not spec.get(field):
            yield required(f"spec.{field}")
    if group in {r.group for r in BUILT_IN}:
        yield wrong("spec.group", group, "is a group the server itself serves")
    for field in ("plural", "kind"):
        if not names.get(field):
            yield required(f"spec.names.{field}")
    versions = spec.get("versions") or []
    if sum(bool(v.get("storage")) for v in versions) != 1:
        yield wrong(
            "spec.versions",
            [v.get("name") for v in versions],
            "must have exactly one version marked as storage version",
        )
    for place, version in enumerate(versions):
        if not (version.get("schema") or {}).get("openAPIV3Schema"):
            yield required(f"spec.versions[{place}].schema.openAPIV3Schema", "schemas are required")
    if (spec.get("conversion") or {}).get("strategy") == "Webhook":
        yield denied("spec.conversion.strategy", "this server converts versions by their apiVersion only (None)")
    if before is not None and before["spec"].get("scope") != spec.get("scope"):
        yield wrong("spec.scope", spec.get("scope"), "field is immutable")
