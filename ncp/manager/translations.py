"""Keeps addresses outside in step while this replica leads: of namespaces, services and bindings."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from ncp.kube.client import Kube
from ncp.kube.custom import CustomReflector
from ncp.kube.resources import ADDRESS_BINDINGS, NAMESPACES, SERVICES, Resource
from ncp.manager.keeper import Keeper
from ncp.manager.metrics import PoolUsage
from ncp.manager.outbox import Key
from ncp.manager.outside import Outside, Verdict
from ncp.manager.wishes import READY, Outward

Json = dict[str, Any]
RESOURCES: Final[dict[str, Resource]] = {each.kind: each for each in (NAMESPACES, SERVICES, ADDRESS_BINDINGS)}


class Translations:
    """Gives addresses of ``external_ip_pools``, in a thread of its own.

    Namespaces, pods and services come through :meth:`see`; ``known``: set once all that there are were given to it. Bindings it
    follows itself.
    """

    def __init__(
        self, kube: Kube, settings: Outward, leading: Callable[[], bool], known: Sequence[threading.Event]
    ) -> None:
        self._kube = kube
        self._books = Outside(settings)
        self.reflector = CustomReflector(kube, ADDRESS_BINDINGS, self._changed)
        known = (*known, self.reflector.synced)
        self._keeper: Keeper[Verdict] = Keeper("addresses-outside", kube, self._books, self._write, leading, known)
        self.see = self._keeper.see
        self.set_rest = self._keeper.set_rest

    def start(self) -> None:
        """Begin to watch."""
        self.reflector.start()
        self._keeper.start()

    def stop(self) -> None:
        """End; nothing is written after this returns."""
        self.reflector.stop()
        self._keeper.stop()

    def usage(self) -> tuple[PoolUsage, ...]:
        """Addresses of each pool and family."""
        with self._keeper.lock:
            return tuple(PoolUsage(name, family, *counts) for name, family, counts in self._books.usage())

    def waiting(self) -> int:
        """How many objects lack an address that they ask for."""
        with self._keeper.lock:
            return len(self._books.failures)

    def _changed(self, key: Key, old: Json | None, new: Json | None) -> None:
        self._keeper.see((ADDRESS_BINDINGS.kind, key), new)

    def _write(self, verdict: Verdict) -> Json:
        kind, (namespace, name) = verdict.ref
        # The uid makes the patch fail on another object of the same name.
        body: Json = {"metadata": {"uid": verdict.uid}}
        if not verdict.status:
            body["metadata"]["annotations"] = verdict.annotations
            return self._kube.patch(RESOURCES[kind], name, namespace, body=body)
        body["status"] = {"ipAddresses": verdict.status["ipAddresses"], "conditions": [self._dated(verdict)]}
        return self._kube.patch(RESOURCES[kind], name, namespace, body=body, subresource="status")

    def _dated(self, verdict: Verdict) -> Json:
        """The condition, with the time its status changed."""
        wanted: Json = verdict.status[READY]
        conditions = (self.reflector.store.get(verdict.ref[1], {}).get("status") or {}).get("conditions") or ()
        held: Json = next((each for each in conditions if each.get("type") == READY), {})
        since = held.get("lastTransitionTime") if held.get("status") == wanted["status"] else None
        return wanted | {"lastTransitionTime": since or datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}
