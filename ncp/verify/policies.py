"""Policy objects of any kind: how each is read, where it is served, which nodes must enforce it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from firewall import clusterpolicy, networkpolicy, securitypolicy
from firewall.reading import ESTABLISHED_ANNOTATION
from firewall.rules import PodGroup, Section
from ncp.kube.resources import CLUSTER_NETWORK_POLICIES, NETWORK_POLICIES, SECURITY_POLICIES, Resource
from ncp.verify.errors import Refused
from sdn.model import Intent

Json = dict[str, Any]
RESOURCES: Final[dict[str, Resource]] = {
    each.kind: each for each in (NETWORK_POLICIES, CLUSTER_NETWORK_POLICIES, SECURITY_POLICIES)
}
_READ: Final[dict[str, Callable[[Mapping[str, Any]], Section]]] = {
    each.KIND: each.section for each in (networkpolicy, clusterpolicy, securitypolicy)
}


def section_of(obj: Json) -> Section:
    """What a policy means; with a ``fault`` where it cannot be understood."""
    return _READ[obj["kind"]](obj)


def key_of(obj: Json) -> str:
    """``KIND/NAMESPACE/NAME`` of a policy, as sections have it."""
    meta = obj["metadata"]
    return f"{obj['kind']}/{meta.get('namespace', '')}/{meta['name']}"


def parse_key(text: str) -> tuple[Resource, str, str]:
    """Resource, namespace and name of a key; ``KIND/NAME`` will do for what has no namespace. Kinds compare without case.

    Raises:
        Refused: it names no policy.
    """
    kind, *rest = text.split("/")
    resource = next((each for name, each in RESOURCES.items() if name.lower() == kind.lower()), None)
    if resource is None:
        raise Refused(f"{text!r}: kind {kind!r}; allowed: {', '.join(RESOURCES)}")
    if not resource.namespaced and len(rest) == 1:
        rest = ["", *rest]
    if len(rest) != 2 or not rest[1] or bool(rest[0]) is not resource.namespaced:
        form = "KIND/NAMESPACE/NAME" if resource.namespaced else "KIND/NAME"
        raise Refused(f"{text!r} does not name a {resource.kind}; allowed: {form}")
    return resource, rest[0], rest[1]


def plain(obj: Json) -> Json:
    """A policy as its author wrote it: without what the API server and controllers put in."""
    meta = obj["metadata"]
    kept = {name: meta[name] for name in ("name", "namespace", "labels") if meta.get(name)}
    wish = (meta.get("annotations") or {}).get(ESTABLISHED_ANNOTATION)
    if wish is not None:
        kept["annotations"] = {ESTABLISHED_ANNOTATION: wish}
    return {"apiVersion": obj["apiVersion"], "kind": obj["kind"], "metadata": kept, "spec": obj.get("spec") or {}}


def enforcing(intent: Intent, section: Section) -> frozenset[str]:
    """Nodes with a pod that a policy is about."""
    groups: set[PodGroup] = {*section.applied_to, *(g for rule in section.rules for g in rule.applied_to or ())}
    return frozenset(
        port.node
        for port in intent.ports.values()
        if port.node
        and any(g.contains(port.identity, dict(intent.namespaces.get(port.identity.namespace, ()))) for g in groups)
    )
