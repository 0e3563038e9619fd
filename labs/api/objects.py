"""The life of an object: created, changed, marked for deletion, gone. Every write of the server passes here."""

from __future__ import annotations

import random
import uuid
from typing import Any

from labs.api import apply, crds, defaults, events, validation
from labs.api.clock import later, now
from labs.api.decode import read_object
from labs.api.errors import ApiError, Cause, already_exists, bad_request, conflict, forbidden, invalid, not_found
from labs.api.lifecycle import Deletion, Write, Written, finished, grace_of, same, with_propagation
from labs.api.resources import Catalog, Resource
from labs.api.services import Refused, ServiceAddresses, leave_type
from labs.api.store import Entry, Key, Store, encode

Obj = dict[str, Any]
_NAME_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
_SERVER_GIVEN = (
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "namespace",
)
_NO_GENERATION = frozenset(
    [
        "Pod",
        "Node",
        "Namespace",
        "Service",
        "ConfigMap",
        "Secret",
        "ServiceAccount",
        "Event",
        "Endpoints",
        "PersistentVolume",
        "PersistentVolumeClaim",
        "LimitRange",
        "ResourceQuota",
        "Lease",
        "Role",
        "RoleBinding",
        "ClusterRole",
        "ClusterRoleBinding",
        "IngressClass",
        "StorageClass",
        "ControllerRevision",
        "PodTemplate",
        "CSIDriver",
        "CSINode",
        "RuntimeClass",
    ]
)
_IMMORTAL = ("default", "kube-system", "kube-public")
_UNCONDITIONAL_REFUSED = ("Lease",)
_LABELLED_WITH_STATUS = ("Pod", "Node", "Namespace", "Service")
"""Kinds whose labels and annotations may be written together with their status."""


class Objects:
    """All objects of the server and the rules of their changes."""

    def __init__(self, store: Store, catalog: Catalog) -> None:
        self.store, self.catalog = store, catalog
        self.services = ServiceAddresses()
        for entry in store.entries("services"):
            self.services.hold(entry)
        store.listen(self.services.learn, "services")

    def key(self, resource: Resource, namespace: str, name: str) -> Key:
        """Where an object of this resource is stored."""
        return Key(resource.store, namespace if resource.namespaced else "", name)

    def get(self, resource: Resource, namespace: str, name: str) -> Entry:
        """The object as stored. 404 if there is none."""
        found = self.store.get(self.key(resource, namespace, name))
        if found is None:
            raise not_found(resource.plural, resource.group, name)
        return found

    def read(self, resource: Resource, body: Any, write: Write) -> tuple[Obj, list[str]]:
        """A body in the shape of the resource's type, with warnings. 400 if it does not fit."""
        if not isinstance(body, dict):
            raise bad_request("the body of the request must be one object")
        said = (body.get("apiVersion") or resource.group_version, body.get("kind") or resource.kind)
        if said[1] != resource.kind:
            raise bad_request(f"{said[1]} in version {said[0]!r} cannot be handled as a {resource.kind}")
        if said[0] != resource.group_version:
            expected = resource.group_version
            raise bad_request(
                f"the API version in the data ({said[0]}) does not match the expected API version ({expected})"
            )
        strict = write.validation == "Strict"
        obj, warnings = read_object(body, resource.kind, resource.group_version, resource.type, strict=strict)
        obj["apiVersion"], obj["kind"] = said
        obj.setdefault("metadata", {})
        return obj, [] if write.validation == "Ignore" else warnings

    def create(self, resource: Resource, namespace: str, body: Any, write: Write) -> Written:
        """Creates an object. 400, 403, 404 (namespace), 409 (exists) or 422 say why not."""
        obj, warnings = self.read(resource, body, write)
        return self.create_read(resource, namespace, obj, write, warnings)

    def create_read(
        self,
        resource: Resource,
        namespace: str,
        obj: Obj,
        write: Write,
        warnings: list[str] | tuple[str, ...] = (),
        *,
        tracked: bool = False,
    ) -> Written:
        """Creates an object that was read before. ``tracked`` tells that managedFields are settled already."""
        meta = obj["metadata"]
        self._settle_namespace(resource, namespace, meta)
        if not meta.get("name") and meta.get("generateName"):
            meta["name"] = self._generated(resource, namespace, meta["generateName"])
        if meta.get("resourceVersion") not in (None, "", "0"):
            raise ApiError(400, "BadRequest", "resourceVersion should not be set on objects to be created")
        key = self.key(resource, namespace, meta.get("name", ""))
        if self.store.get(key) is not None:
            raise already_exists(resource.plural, resource.group, key.name)
        self._admit(resource, namespace, key.name)
        for field in ("resourceVersion", "selfLink", "deletionTimestamp", "deletionGracePeriodSeconds", "generation"):
            meta.pop(field, None)
        meta |= {"uid": str(uuid.uuid4()), "creationTimestamp": now()}
        if resource.kind not in _NO_GENERATION:
            meta["generation"] = 1
        if resource.has_status:
            obj.pop("status", None)
        warnings = [*warnings, *self._complete(resource, obj, None)]
        if not tracked:
            meta.pop("managedFields", None)
            if write.explicit_manager:
                apply.track(obj, None, resource, write.manager, "")
        return Written(self._keep(resource, key, obj, write), True, tuple(warnings))

    def update(
        self, resource: Resource, namespace: str, name: str, body: Any, write: Write, subresource: str = ""
    ) -> Written:
        """Replaces an object, or its status. 404, 409 (outdated) or 422 say why not."""
        old = self.get(resource, namespace, name)
        obj, warnings = self.read(resource, body, write)
        meta = obj["metadata"]
        if meta.get("name", name) != name:
            message = f"the name of the object ({meta['name']}) does not match the name on the URL ({name})"
            raise bad_request(message)
        self._settle_namespace(resource, namespace, meta)
        meta["name"] = name
        if not meta.get("resourceVersion") and (resource.custom or resource.kind in _UNCONDITIONAL_REFUSED):
            cause = Cause(
                "FieldValueInvalid", "Invalid value: 0x0: must be specified for an update", "metadata.resourceVersion"
            )
            raise invalid(resource.kind, resource.group, name, [cause])
        return self.replace(resource, old, obj, write, subresource, warnings)

    def replace(
        self,
        resource: Resource,
        old: Entry,
        obj: Obj,
        write: Write,
        subresource: str = "",
        warnings: list[str] | tuple[str, ...] = (),
        *,
        tracked: bool = False,
    ) -> Written:
        """Puts a new state in place of an object's old one. ``tracked`` tells that managedFields are settled already."""
        before, meta = self.loaded(resource, old), obj["metadata"]
        self.check_version(resource, old, meta)
        for field in _SERVER_GIVEN:
            if field in before["metadata"]:
                meta[field] = before["metadata"][field]
            else:
                meta.pop(field, None)
        meta.pop("selfLink", None)
        obj = self._isolated(resource, obj, before, subresource)
        meta = obj["metadata"]
        warnings = [*warnings, *self._complete(resource, obj, before, subresource)]
        changed = {k: v for k, v in obj.items() if k not in ("metadata", "status")} != {
            k: v for k, v in before.items() if k not in ("metadata", "status")
        }
        if changed and resource.kind not in _NO_GENERATION and subresource != "status":
            meta["generation"] = before["metadata"].get("generation", 1) + 1
        if not tracked:
            self._track(resource, obj, before, write, subresource)
        meta["resourceVersion"] = before["metadata"]["resourceVersion"]
        if same(obj, before):
            return Written(old, False, tuple(warnings))
        return Written(self._keep(resource, old.key, obj, write), False, tuple(warnings))

    def _track(self, resource: Resource, obj: Obj, before: Obj, write: Write, subresource: str) -> None:
        """Settles managedFields: kept unless the author cleared them, and extended once someone cares about them."""
        meta, held = obj["metadata"], before["metadata"].get("managedFields")
        given = meta.get("managedFields")
        if given is not None and not any(entry.get("manager") for entry in given):
            del meta["managedFields"]
            return
        if held:
            meta["managedFields"] = held
        if write.explicit_manager or held:
            apply.track(obj, before, resource, write.manager, subresource)

    def loaded(self, resource: Resource, entry: Entry) -> Obj:
        """An entry's object as this resource's version shows it."""
        obj = entry.load()
        if resource.group == "events.k8s.io":
            return events.from_core(obj)
        obj["apiVersion"] = resource.group_version
        return obj

    def _settle_namespace(self, resource: Resource, namespace: str, meta: Obj) -> None:
        if not resource.namespaced:
            meta.pop("namespace", None)
        elif meta.get("namespace", namespace) != namespace:
            raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
        else:
            meta["namespace"] = namespace

    def _admit(self, resource: Resource, namespace: str, name: str) -> None:
        """Nothing is created in a namespace that is not there, or is on its way out."""
        if not resource.namespaced:
            return
        found = self.store.get(Key("namespaces", "", namespace))
        if found is None:
            raise not_found("namespaces", "", namespace)
        if found.fields["status.phase"] == "Terminating" and resource.store != "events":
            why = f"unable to create new content in namespace {namespace} because it is being terminated"
            cause = Cause("NamespaceTerminating", f"namespace {namespace} is being terminated", "metadata.namespace")
            raise forbidden(resource.plural, resource.group, name, why, [cause])

    def _generated(self, resource: Resource, namespace: str, stem: str) -> str:
        while True:
            name = stem[:58] + "".join(random.choices(_NAME_LETTERS, k=5))
            if self.store.get(self.key(resource, namespace, name)) is None:
                return name

    def check_version(self, resource: Resource, old: Entry, meta: Obj) -> None:
        """409 if the writer saw another state of the object, or another object of that name."""
        given = meta.get("resourceVersion")
        if meta.get("uid") and meta["uid"] != old.uid:
            why = f"Precondition failed: UID in precondition: {meta['uid']}, UID in object meta: {old.uid}"
            raise conflict(resource.plural, resource.group, old.key.name, why)
        if given and given != "0" and given != str(old.rv):
            why = "the object has been modified; please apply your changes to the latest version and try again"
            raise conflict(resource.plural, resource.group, old.key.name, why)

    def _isolated(self, resource: Resource, obj: Obj, before: Obj, subresource: str) -> Obj:
        """A write of the status changes nothing else, a write of the rest leaves the status alone."""
        if not resource.has_status or subresource not in ("", "status"):
            return obj
        if subresource == "status":
            kept = {**before, "metadata": {**before["metadata"]}, "status": obj.get("status", {})}
            if "managedFields" in obj["metadata"]:
                kept["metadata"]["managedFields"] = obj["metadata"]["managedFields"]
            if resource.kind in _LABELLED_WITH_STATUS:
                kept["metadata"] |= {k: v for k, v in obj["metadata"].items() if k in ("labels", "annotations")}
            return kept
        kept = {k: v for k, v in obj.items() if k != "status"}
        if "status" in before:
            kept["status"] = before["status"]
        return kept

    def _complete(self, resource: Resource, obj: Obj, before: Obj | None, subresource: str = "") -> list[str]:
        """Defaults, allocations and rules; 422 with everything that is wrong. Returns warnings."""
        warnings: list[str] = []
        if resource.custom is not None:
            crds.complete(resource, obj, before, subresource)
            return warnings
        if resource.store == "services" and before is not None:
            leave_type(obj.get("spec") or {}, before["spec"])
        defaults.default(obj)
        if resource.kind == "CustomResourceDefinition":
            warnings = crds.complete_definition(obj, before, self.catalog)
        found = [] if subresource == "status" else validation.faults(obj, before)
        if resource.store == "services" and not found:
            try:
                self.services.give(obj, before)
            except Refused as error:
                found = [error.cause]
        if found:
            raise invalid(resource.kind, resource.group, obj["metadata"].get("name", ""), found)
        return warnings

    def _keep(self, resource: Resource, key: Key, obj: Obj, write: Write) -> Entry:
        """Stores the object, or lets it go if the last finalizer of a deleted one is gone."""
        stored = events.to_core(obj) if resource.group == "events.k8s.io" else obj
        if resource.custom is not None:
            stored["apiVersion"] = f"{resource.group}/{resource.custom.storage_version}"
        meta = stored["metadata"]
        if write.dry_run:
            return Entry(key, 0, meta["uid"], encode(stored), {}, {}, (), False)
        if meta.get("deletionTimestamp") and finished(stored):
            self.store.put(key, stored)
            return self.store.remove(key)
        return self.store.put(key, stored)

    def delete(self, resource: Resource, namespace: str, name: str, how: Deletion) -> tuple[Entry, bool]:
        """Deletes an object or marks it; returns its state and whether it is gone. 404, 403 or 409 say why not."""
        entry = self.get(resource, namespace, name)
        if how.uid and how.uid != entry.uid:
            why = f"Precondition failed: UID in precondition: {how.uid}, UID in object meta: {entry.uid}"
            raise conflict(resource.plural, resource.group, name, why)
        if how.rv and how.rv != str(entry.rv):
            why = (
                f"Precondition failed: ResourceVersion in precondition: {how.rv}, "
                f"ResourceVersion in object meta: {entry.rv}"
            )
            raise conflict(resource.plural, resource.group, name, why)
        if resource.kind == "Namespace":
            return self._delete_namespace(resource, entry, how), False
        obj = entry.load()
        meta = obj["metadata"]
        finalizers = with_propagation(meta.get("finalizers") or [], how.propagation)
        grace = grace_of(obj, how.grace)
        if meta.get("deletionTimestamp"):
            held = meta.get("deletionGracePeriodSeconds") or 0
            if grace >= held and finalizers == (meta.get("finalizers") or []):
                return entry, False
            grace = min(grace, held)
        if how.dry_run:
            return entry, not finalizers and not grace
        if not finalizers and not grace:
            return self.store.remove(entry.key), True
        meta["deletionTimestamp"] = later(grace)
        meta["deletionGracePeriodSeconds"] = grace
        meta["finalizers"] = finalizers
        if not finalizers:
            del meta["finalizers"]
        if "generation" in meta:
            meta["generation"] += 1
        return self.store.put(entry.key, obj), False

    def _delete_namespace(self, resource: Resource, entry: Entry, how: Deletion) -> Entry:
        name, obj = entry.key.name, entry.load()
        if name in _IMMORTAL:
            raise forbidden("namespaces", "", name, "this namespace may not be deleted")
        if obj["metadata"].get("deletionTimestamp"):
            why = (
                "The system is ensuring all content is removed from this namespace.  "
                "Upon completion, this namespace will automatically be purged by the system."
            )
            raise conflict("namespaces", "", name, why)
        if how.dry_run:
            return entry
        obj["metadata"] |= {"deletionTimestamp": now(), "deletionGracePeriodSeconds": 0}
        obj["status"] = {**obj.get("status", {}), "phase": "Terminating"}
        return self.store.put(entry.key, obj)
