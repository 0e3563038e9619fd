"""A Kubernetes API reduced to what decisions need: objects with uids, patched by decisions."""

from __future__ import annotations

import itertools
import json
import random
from typing import Any

from ipam.address import parse_prefix
from ncp.manager.decide import Decision
from ncp.manager.layout import Layout
from ncp.manager.outbox import Key
from ncp.manager.rebuild import rebuild
from ncp.manager.records import namespace_record, pod_record
from ncp.manager.routers import RouterRecord, numbered
from ncp.settings_types import RoutingDomain


def layout(*blocks: str, **options: Any) -> Layout:
    options["no_snat_blocks"] = tuple(map(parse_prefix, options.get("no_snat_blocks", ())))
    options.setdefault("cluster", "k8scluster")
    options["domains"] = tuple(
        RoutingDomain(name, tuple(map(parse_prefix, found))) for name, found in options.get("domains", {}).items()
    )
    return Layout(container_blocks=tuple(map(parse_prefix, blocks)), **options)


class World:
    """Objects, and the books of the manager that runs now. Every write is a decision applied to an object."""

    def __init__(self, settings: Layout, now: float = 1000.0):
        self.settings = settings
        self.now = now
        self.namespaces: dict[str, dict[str, Any]] = {}
        self.pods: dict[Key, dict[str, Any]] = {}
        self.routers: dict[str, RouterRecord] = {}
        self.events: list[tuple[str, Key, str]] = []
        self.writes = 0
        self._uids = itertools.count(1)
        self.books = rebuild(settings, [], [], now)

    def _meta(self, name: str, namespace: str, annotations: dict[str, str]) -> dict[str, Any]:
        number = next(self._uids)
        created = f"2026-01-01T00:{number // 60 % 60:02d}:{number % 60:02d}Z"
        meta = {"name": name, "uid": f"u{number:06d}", "creationTimestamp": created, "annotations": annotations}
        return meta | ({"namespace": namespace} if namespace else {})

    # -- what users and the cluster do -------------------------------------------------------------------------------

    def namespace(self, name: str, **annotations: str) -> None:
        self.namespaces[name] = {"metadata": self._meta(name, "", _names(annotations))}
        self.seen_namespace(name)

    def pod(self, namespace: str, name: str, *, stateful: bool = False, host: bool = False, **annotations: str) -> None:
        meta = self._meta(name, namespace, _names(annotations))
        if stateful:
            meta["ownerReferences"] = [{"kind": "StatefulSet", "name": name.rpartition("-")[0], "controller": True}]
        self.pods[namespace, name] = {"metadata": meta, "spec": {"hostNetwork": host}, "status": {"phase": "Pending"}}
        self.seen_pod((namespace, name))

    def router(self, name: str, number: int | None = None, *, tier: int = 1) -> None:
        self.routers[name] = RouterRecord(name, f"u-{name}", f"2026-01-01T00:00:{len(self.routers):02d}Z", tier, number)
        self.seen_routers()

    def delete_router(self, name: str) -> None:
        del self.routers[name]
        self.seen_routers()

    def annotate(self, obj: dict[str, Any], **annotations: str | None) -> None:
        self._patch(obj, {name.replace("__", "/"): text for name, text in annotations.items()})
        self.seen_all()

    def finish(self, namespace: str, name: str, phase: str = "Succeeded") -> None:
        self.pods[namespace, name]["status"]["phase"] = phase
        self.seen_pod((namespace, name))

    def delete_pod(self, namespace: str, name: str) -> None:
        del self.pods[namespace, name]
        self.seen_pod((namespace, name))

    def delete_namespace(self, name: str) -> None:
        for key in [key for key in self.pods if key[0] == name]:
            self.delete_pod(*key)
        del self.namespaces[name]
        self.seen_namespace(name)

    # -- what the manager sees and does ------------------------------------------------------------------------------

    def seen_namespace(self, name: str) -> None:
        obj = self.namespaces.get(name)
        self.books.see_namespace(name, namespace_record(obj) if obj else None)

    def seen_pod(self, key: Key) -> None:
        obj = self.pods.get(key)
        self.books.see_pod(key, pod_record(obj) if obj else None)

    def seen_routers(self) -> None:
        self.books.see_routers(numbered(self.routers.values(), self.settings.vnis))

    def seen_all(self) -> None:
        for name in self.namespaces.keys() | self.books.namespaces.keys():
            self.seen_namespace(name)
        for key in self.pods.keys() | self.books.pods.keys():
            self.seen_pod(key)

    def settle(self, seconds: float = 0.0) -> list[Decision]:
        """Let time pass, then decide and write until nothing is left to write."""
        self.now += seconds
        made: list[Decision] = []
        for _ in range(20):
            batch = self.books.decisions(self.now)
            if not batch:
                return made
            for decision in batch:
                self.write(decision)
            made += batch
        raise AssertionError(f"decisions do not come to rest: {batch}")

    def write(self, decision: Decision) -> None:
        kind, key = decision.kind, decision.key
        obj = self.namespaces.get(key[1]) if kind == "Namespace" else self.pods.get(key)
        self.writes += 1
        if obj is not None and obj["metadata"]["uid"] == decision.uid:
            self._patch(obj, decision.annotations)
            self.events += [(kind, key, note.reason) for note in decision.notes]
        self.seen_namespace(key[1]) if kind == "Namespace" else self.seen_pod(key)
        self.books.written(kind, key)

    def restart(self, shuffle: random.Random | None = None) -> None:
        """The manager is killed, and another one starts."""
        namespaces, pods = list(self.namespaces.values()), list(self.pods.values())
        if shuffle:
            shuffle.shuffle(namespaces)
            shuffle.shuffle(pods)
        known = numbered(self.routers.values(), self.settings.vnis)
        self.books = rebuild(self.settings, map(namespace_record, namespaces), map(pod_record, pods), self.now, known)

    @staticmethod
    def _patch(obj: dict[str, Any], changes: dict[str, str | None]) -> None:
        merged = {**obj["metadata"]["annotations"], **changes}
        obj["metadata"] = obj["metadata"] | {"annotations": {k: v for k, v in merged.items() if v is not None}}

    # -- what is to be seen ------------------------------------------------------------------------------------------

    def annotations(self, *where: str) -> dict[str, str]:
        obj = self.namespaces[where[0]] if len(where) == 1 else self.pods[where[0], where[1]]
        return obj["metadata"]["annotations"]

    def segments(self, name: str) -> list[dict[str, Any]]:
        return json.loads(self.annotations(name)["ncp/segments"])

    def addresses(self, namespace: str, name: str) -> list[str]:
        return json.loads(self.annotations(namespace, name)["ncp/port"])["addresses"]

    def resting(self, name: str) -> dict[str, float]:
        return json.loads(self.annotations(name).get("ncp/resting", "{}"))

    def all_addresses(self) -> list[str]:
        """Addresses of all live pods that are not of the host's network."""
        live = [
            key
            for key, pod in self.pods.items()
            if pod["status"]["phase"] not in ("Succeeded", "Failed") and not pod["spec"].get("hostNetwork")
        ]
        return [a for key in live if "ncp/port" in self.annotations(*key) for a in self.addresses(*key)]


def _names(annotations: dict[str, str]) -> dict[str, str]:
    return {name.replace("__", "/"): text for name, text in annotations.items()}
