"""What kube-controller-manager does for every kind of object: namespaces that end, dependants of what is gone.

Only needed beside a kube-apiserver that runs alone: the embedded API server does all of this itself.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable

from labs.cluster.loop import carry_out
from labs.cluster.pods import Json, is_leaving
from labs.cluster.view import View
from labs.cluster.writes import Create, Delete, Replace, Write
from ncp.kube.client import Kube
from ncp.kube.errors import ApiError, Conflict, NotFound
from ncp.kube.resources import (
    CONFIG_MAPS,
    CUSTOM_RESOURCE_DEFINITIONS,
    ENDPOINTS,
    EVENTS,
    NAMESPACES,
    NETWORK_POLICIES,
    SECRETS,
    SERVICE_ACCOUNTS,
    SERVICES,
    Resource,
)

_log = logging.getLogger(__name__)

TICK_SECONDS = 0.5
_FURTHER = (
    CONFIG_MAPS,
    SECRETS,
    SERVICES,
    ENDPOINTS,
    NETWORK_POLICIES,
    EVENTS,
    SERVICE_ACCOUNTS,
    Resource("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim", True),
    Resource("rbac.authorization.k8s.io", "v1", "roles", "Role", True),
    Resource("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding", True),
)


def dangling(objects: Iterable[tuple[Resource, Json]], kinds: set[str]) -> list[Delete]:
    """Deletions of objects all of whose owners are gone; only owners of ``kinds``, which are all in ``objects``, count."""
    known = list(objects)
    alive = {obj["metadata"]["uid"] for _, obj in known}
    out = []
    for resource, obj in known:
        owners = obj["metadata"].get("ownerReferences") or ()
        if owners and not is_leaving(obj) and all(_is_gone(each, alive, kinds) for each in owners):
            out.append(Delete(resource, obj))
    return out


def _is_gone(owner: Json, alive: set[str], kinds: set[str]) -> bool:
    return owner["kind"] in kinds and owner["uid"] not in alive


def released(objects: Iterable[tuple[Resource, Json]]) -> list[Write]:
    """What objects that are deleted in the foreground, or leave their dependants behind, still wait for."""
    known = list(objects)
    writes: list[Write] = []
    for resource, obj in known:
        finalizers = obj["metadata"].get("finalizers") or []
        if not is_leaving(obj) or not {"foregroundDeletion", "orphan"} & set(finalizers):
            continue
        uid = obj["metadata"]["uid"]
        mine = [(each, held) for each, held in known if uid in _owner_uids(held)]
        if "orphan" in finalizers:
            writes += [Replace(each, _without_owner(held, uid)) for each, held in mine]
        else:
            writes += [Delete(each, held) for each, held in mine if not is_leaving(held)]
        if not mine:
            kept = [each for each in finalizers if each not in ("foregroundDeletion", "orphan")]
            writes.append(Replace(resource, {**obj, "metadata": {**obj["metadata"], "finalizers": kept}}))
    return writes


def _owner_uids(obj: Json) -> set[str]:
    return {each["uid"] for each in obj["metadata"].get("ownerReferences") or ()}


def _without_owner(obj: Json, uid: str) -> Json:
    kept = [each for each in obj["metadata"]["ownerReferences"] if each["uid"] != uid]
    return {**obj, "metadata": {**obj["metadata"], "ownerReferences": kept}}


class Collector(threading.Thread):
    """Looks for what has to go, twice a second."""

    needs = (NAMESPACES, SERVICE_ACCOUNTS)

    def __init__(self, kube: Kube, view: View) -> None:
        super().__init__(name="collector", daemon=True)
        self._kube = kube
        self._view = view
        self._suspects: set[str] = set()
        self._stopping = threading.Event()

    def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        self.join()

    def run(self) -> None:
        """Tick until stopped."""
        while not self._stopping.wait(TICK_SECONDS):
            if self._view.synced():
                self.tick()

    def tick(self) -> None:
        """Collect once; what the server refuses now is tried again with the next tick."""
        everything = [(resource, obj) for resource in self._view.resources() for obj in self._view.all(resource)]
        kinds = {resource.kind for resource in self._view.resources()} - {"Lease"}
        writes: list[Write] = [*self._twice(dangling(everything, kinds)), *released(everything), *self._accounts()]
        for write in writes:
            try:
                carry_out(self._kube, self._view, write)
            except ApiError as error:
                _log.info("collector: %s", error)
        for namespace in self._view.all(NAMESPACES):
            if is_leaving(namespace):
                try:
                    self._empty(namespace)
                except ApiError as error:
                    _log.info("namespace %s: %s", namespace["metadata"]["name"], error)

    def _twice(self, found: list[Delete]) -> list[Delete]:
        """Those found the last time as well: an object may come into view before its owner does."""
        before, self._suspects = self._suspects, {each.obj["metadata"]["uid"] for each in found}
        return [each for each in found if each.obj["metadata"]["uid"] in before]

    def _accounts(self) -> list[Write]:
        """A default service account for every namespace: the API server admits no pod without one."""
        writes: list[Write] = []
        for namespace in self._view.all(NAMESPACES):
            name = namespace["metadata"]["name"]
            if not is_leaving(namespace) and self._view.get(SERVICE_ACCOUNTS, (name, "default")) is None:
                metadata = {"name": "default", "namespace": name}
                account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}
                writes.append(Create(SERVICE_ACCOUNTS, account))
        return writes

    def _empty(self, namespace: Json) -> None:
        name = namespace["metadata"]["name"]
        left = 0
        for resource in self._contents():
            try:
                objects, _ = self._kube.list(resource, name)
            except NotFound:  # a kind that this server does not serve
                continue
            left += len(objects)
            for obj in objects:
                if not is_leaving(obj):
                    carry_out(self._kube, self._view, Delete(resource, obj))
        if left or "kubernetes" not in (namespace["spec"].get("finalizers") or ()):
            return
        kept = [each for each in namespace["spec"]["finalizers"] if each != "kubernetes"]
        try:
            self._kube.replace(NAMESPACES, {**namespace, "spec": {"finalizers": kept}}, subresource="finalize")
        except (NotFound, Conflict) as error:
            _log.debug("namespace %s: %s", name, error)

    def _contents(self) -> list[Resource]:
        """Every kind of object a namespace can hold: those in view, some further ones, and custom resources."""
        seen = [each for each in self._view.resources() if each.namespaced]
        definitions, _ = self._kube.list(CUSTOM_RESOURCE_DEFINITIONS)
        for each in definitions:
            spec = each["spec"]
            served = [version["name"] for version in spec["versions"] if version.get("served")]
            if spec["scope"] == "Namespaced" and served:
                seen.append(Resource(spec["group"], served[0], spec["names"]["plural"], spec["names"]["kind"], True))
        return list(dict.fromkeys([*seen, *_FURTHER]))
