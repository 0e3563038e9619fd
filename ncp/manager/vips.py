"""Keeps the virtual addresses of Services in step while this replica leads: follows services, decides, writes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, Final

from ncp.kube.client import Kube
from ncp.kube.reflector import Reflector
from ncp.kube.resources import SERVICES
from ncp.manager.balancers import Balancers, Verdict
from ncp.manager.demand import LoadBalancing
from ncp.manager.keeper import Keeper
from ncp.manager.metrics import PoolUsage
from ncp.manager.outbox import Key, Ref
from ncp.manager.records import CLUSTER

Json = dict[str, Any]
SERVICE: Final = SERVICES.kind


class VirtualAddresses:
    """Gives services of type LoadBalancer their addresses, in a thread of its own.

    Namespaces, which say how many a namespace may have, come through :meth:`see`; ``known``: set once all were given to it.
    ``also`` is told of every service as it is.
    """

    def __init__(
        self,
        kube: Kube,
        settings: LoadBalancing,
        leading: Callable[[], bool],
        known: Sequence[threading.Event] = (),
        also: Callable[[Ref, Json | None], None] = lambda ref, obj: None,
    ) -> None:
        self._kube, self._also = kube, also
        self._books = Balancers(settings)
        self.reflector = Reflector(kube, SERVICES, self._changed)
        known = (*known, self.reflector.synced)
        self._keeper: Keeper[Verdict] = Keeper("virtual-addresses", kube, self._books, self._write, leading, known)
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
        """How many services wait for an address."""
        with self._keeper.lock:
            return len(self._books.failures)

    def _changed(self, key: Key, old: Json | None, new: Json | None) -> None:
        self._keeper.see((SERVICE, key), new)
        self._also((SERVICE, key), new)

    def _write(self, verdict: Verdict) -> Json:
        """First the annotation that says whose the addresses are, then those; the other way round where they go."""
        steps = [self._annotate] if verdict.annotations else []
        if verdict.ingress is not None:
            steps.append(self._show)
        if verdict.annotations.get(CLUSTER, "") is None:
            steps.reverse()
        written: Json = {}
        for step in steps:
            written = step(verdict)
        return written

    def _annotate(self, verdict: Verdict) -> Json:
        (namespace, name), meta = verdict.key, {"uid": verdict.uid, "annotations": verdict.annotations}
        return self._kube.patch(SERVICES, name, namespace, body={"metadata": meta})

    def _show(self, verdict: Verdict) -> Json:
        (namespace, name), shown = verdict.key, [{"ip": str(each), "ipMode": "VIP"} for each in verdict.ingress or ()]
        body = {"metadata": {"uid": verdict.uid}, "status": {"loadBalancer": {"ingress": shown or None}}}
        return self._kube.patch(SERVICES, name, namespace, body=body, subresource="status")
