"""Discovery: which groups, versions and resources are served, in the old form and the aggregated one."""

from __future__ import annotations

from typing import Any

from labs.api.errors import no_such_path
from labs.api.resources import Catalog, Resource

Obj = dict[str, Any]
VERSION = {
    "major": "1",
    "minor": "32",
    "gitVersion": "v1.32.4",
    "gitCommit": "0000000000000000000000000000000000000000",
    "gitTreeState": "clean",
    "buildDate": "2025-04-22T00:00:00Z",
    "goVersion": "go1.23.6",
    "compiler": "gc",
    "platform": "linux/amd64",
}
_VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
_SCALE = ("autoscaling", "v1", "Scale")
_SUBRESOURCES: dict[str, tuple[tuple[str, str, str] | None, list[str]]] = {
    # None stands for the kind of the resource itself.
    "status": (None, ["get", "patch", "update"]),
    "finalize": (None, ["update"]),
    "scale": (_SCALE, ["get", "patch", "update"]),
    "binding": (("", "v1", "Binding"), ["create"]),
    "eviction": (("policy", "v1", "Eviction"), ["create"]),
    "log": (None, ["get"]),
    "exec": (("", "v1", "PodExecOptions"), ["create", "get"]),
    "attach": (("", "v1", "PodAttachOptions"), ["create", "get"]),
    "portforward": (("", "v1", "PodPortForwardOptions"), ["create", "get"]),
    "proxy": (("", "v1", "NodeProxyOptions"), ["create", "delete", "get", "patch", "update"]),
    "ephemeralcontainers": (None, ["get", "patch", "update"]),
}
REVIEWS = (("authorization.k8s.io", "v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews"),)
"""Resources that are only asked, never stored."""


def groups(catalog: Catalog) -> Obj:
    """The APIGroupList at ``/apis``."""
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(catalog, name) for name in _names(catalog)]}


def group(catalog: Catalog, name: str) -> Obj:
    """The APIGroup at ``/apis/NAME``. 404 if nothing of it is served."""
    if name not in _names(catalog):
        raise no_such_path()
    return {"kind": "APIGroup", "apiVersion": "v1", **_group(catalog, name)}


def _names(catalog: Catalog) -> list[str]:
    return list(dict.fromkeys([*catalog.groups(), *(review[0] for review in REVIEWS)]))


def _versions(catalog: Catalog, name: str) -> list[str]:
    return catalog.versions(name) or [version for g, version, _, _ in REVIEWS if g == name]


def _group(catalog: Catalog, name: str) -> Obj:
    versions = [{"groupVersion": f"{name}/{v}", "version": v} for v in _versions(catalog, name)]
    return {"name": name, "versions": versions, "preferredVersion": versions[0]}


def resource_list(catalog: Catalog, group: str, version: str) -> Obj:
    """The APIResourceList of a group version. 404 if it is not served."""
    found = [r for r in catalog.all() if (r.group, r.version) == (group, version)]
    reviews = [r for r in REVIEWS if r[:2] == (group, version)]
    if not found and not reviews:
        raise no_such_path()
    entries = [entry for resource in found for entry in _entries(resource)]
    for _, _, kind, plural in reviews:
        entries.append(
            {"name": plural, "singularName": kind.lower(), "namespaced": False, "kind": kind, "verbs": ["create"]}
        )
    gv = f"{group}/{version}" if group else version
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": gv, "resources": entries}


def _entries(resource: Resource) -> list[Obj]:
    main: Obj = {
        "name": resource.plural,
        "singularName": resource.singular,
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": _VERBS,
    }
    if resource.short_names:
        main["shortNames"] = list(resource.short_names)
    if resource.categories:
        main["categories"] = list(resource.categories)
    entries = [main]
    for name in resource.subresources:
        about, verbs = _SUBRESOURCES[name]
        entry = {
            "name": f"{resource.plural}/{name}",
            "singularName": "",
            "namespaced": resource.namespaced,
            "kind": about[2] if about else resource.kind,
            "verbs": verbs,
        }
        if about:
            entry |= {"group": about[0], "version": about[1]}
        entries.append(entry)
    return entries


def aggregated(catalog: Catalog, version: str, *, core: bool) -> Obj:
    """The APIGroupDiscoveryList at ``/api`` (``core``) or ``/apis``."""
    names = [""] if core else _names(catalog)
    items = []
    for name in names:
        versions = [
            {"version": v, "freshness": "Current", "resources": _discovered(catalog, name, v)}
            for v in _versions(catalog, name)
        ]
        items.append({"metadata": {"name": name or None, "creationTimestamp": None}, "versions": versions})
    if core:
        items[0]["metadata"].pop("name")
    api = f"apidiscovery.k8s.io/{version}"
    return {"kind": "APIGroupDiscoveryList", "apiVersion": api, "metadata": {}, "items": items}


def _discovered(catalog: Catalog, group: str, version: str) -> list[Obj]:
    found = []
    for resource in catalog.all():
        if (resource.group, resource.version) != (group, version):
            continue
        entry: Obj = {
            "resource": resource.plural,
            "responseKind": {"group": group, "version": version, "kind": resource.kind},
            "scope": "Namespaced" if resource.namespaced else "Cluster",
            "singularResource": resource.singular,
            "verbs": _VERBS,
        }
        if resource.short_names:
            entry["shortNames"] = list(resource.short_names)
        if resource.categories:
            entry["categories"] = list(resource.categories)
        if resource.subresources:
            entry["subresources"] = [_discovered_subresource(resource, name) for name in resource.subresources]
        found.append(entry)
    for g, v, kind, plural in REVIEWS:
        if (g, v) == (group, version):
            answer = {"group": g, "version": v, "kind": kind}
            found.append({"resource": plural, "responseKind": answer, "scope": "Cluster",
                          "singularResource": kind.lower(), "verbs": ["create"]})  # fmt: skip
    return found


def _discovered_subresource(resource: Resource, name: str) -> Obj:
    about, verbs = _SUBRESOURCES[name]
    group, version, kind = about or (resource.group, resource.version, resource.kind)
    return {"subresource": name, "responseKind": {"group": group, "version": version, "kind": kind}, "verbs": verbs}
