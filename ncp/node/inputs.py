"""Everything a node's network follows from, as the API server has it: a reflector of each resource."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeAlias

from ncp.kube.client import Kube
from ncp.kube.custom import CustomReflector
from ncp.kube.reflector import OnChange, Reflector
from ncp.kube.resources import EDGE_LEASE, INSTEAD, INTENT, INTENT_CUSTOM, LEASES, OPTIONAL

AnyReflector: TypeAlias = Reflector | CustomReflector


class Inputs:
    """The reflectors by kind.

    ``on_change(kind)`` gives what a kind's reflector calls; ``on_synced(kind)`` is called once the first full list of a kind has been
    given to that, or there is nothing to list. What stands in for a resource that is not served is started then and not
    before; whether it has to is decided once.
    """

    def __init__(
        self, kube: Kube, on_change: Callable[[str], OnChange], on_synced: Callable[[str], None] = lambda kind: None
    ) -> None:
        self.reflectors: dict[str, AnyReflector] = {
            **{each.kind: Reflector(kube, each, on_change(each.kind), optional=each in OPTIONAL) for each in INTENT},
            **{each.kind: CustomReflector(kube, each, on_change(each.kind)) for each in INTENT_CUSTOM},
            LEASES.kind: Reflector(
                kube,
                LEASES,
                on_change(LEASES.kind),
                namespace=EDGE_LEASE[0],
                field_selector=f"metadata.name={EDGE_LEASE[1]}",
            ),
        }
        self._instead = {kind: Reflector(kube, each, on_change(each.kind)) for kind, each in INSTEAD.items()}
        self._on_synced = on_synced

    def start(self) -> None:
        """Start a thread for each."""
        for kind, reflector in self.reflectors.items():
            self._start(kind, reflector)

    def stop(self) -> None:
        """End every thread; nothing changes after this returns."""
        for reflector in (*self.reflectors.values(), *self._instead.values()):
            reflector.stop()

    def _start(self, kind: str, reflector: AnyReflector) -> None:
        reflector.start()
        threading.Thread(target=self._await_sync, args=(kind, reflector), daemon=True).start()

    def _await_sync(self, kind: str, reflector: AnyReflector) -> None:
        reflector.synced.wait()
        if (other := self._instead.get(kind)) is not None and isinstance(reflector, Reflector):
            if reflector.served:
                self._on_synced(other.resource.kind)
            else:
                self.reflectors = {
                    **self.reflectors,
                    other.resource.kind: other,
                }  # whoever iterates keeps what they have
                self._start(other.resource.kind, other)
        self._on_synced(kind)
