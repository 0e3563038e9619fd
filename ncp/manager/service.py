"""The manager as a process: stand for election, serve a term while leading, stand again."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from prometheus_client import REGISTRY
from prometheus_client.registry import CollectorRegistry

from ncp.kube.client import Kube
from ncp.kube.election import Election
from ncp.manager.demand import load_balancing
from ncp.manager.layout import layout
from ncp.manager.metrics import Meters, Stats
from ncp.manager.term import Term
from ncp.manager.wishes import outward
from ncp.translate.fabric import fabric_of

log = logging.getLogger(__name__)

LEASE_NAMESPACE: Final = "kube-system"
STUCK: Final = 15.0
"""Seconds without a sign of life after which the process counts as stuck."""


class Service:
    """One replica of the manager.

    Raises:
        BlockError: the settings' blocks do not fit together.
        ValueError: the settings' election times do not.
    """

    def __init__(self, settings: Any, kube: Kube, *, identity: str, registry: CollectorRegistry = REGISTRY):
        self._layout = layout(settings)
        self._kube = kube
        self._run_time = settings.k8s.enable_ncp_setting_crd
        self._fabric = fabric_of(settings)
        self._balancing = load_balancing(settings)
        self._outward = outward(settings)
        self._term: Term | None = None
        ha = settings.ha
        update = ha.master_timeout - ha.heartbeat_period if ha.update_timeout is None else ha.update_timeout
        self._beat = time.monotonic()
        self.election = Election(
            kube,
            name=lease_name(self._layout.cluster),
            namespace=LEASE_NAMESPACE,
            identity=identity,
            lease_duration=float(ha.master_timeout),
            renew_deadline=float(update),
            retry_period=float(ha.heartbeat_period),
        )
        self.meters = Meters(self.stats, registry)

    def run(self, stop: threading.Event) -> None:
        """Returns when ``stop`` is set, after the last writes and with the lease handed back."""
        self.election.start()
        try:
            while not stop.is_set():
                self._beat = time.monotonic()
                if self.election.wait(0.2):
                    self._serve(stop)
        finally:
            self.election.stop()
            self.meters.close()

    def _serve(self, stop: threading.Event) -> None:
        self._term = Term(
            self._layout,
            self._kube,
            self.election.leading,
            self.meters,
            run_time=self._run_time,
            fabric=self._fabric,
            balancing=self._balancing,
            outward=self._outward,
        )
        self.meters.leader.set(1)
        try:
            self._term.run(stop)
        except Exception:
            # Books that failed once are not trusted: the next term starts from the objects again.
            log.exception("the term ended with an error; starting from the objects again")
            stop.wait(1.0)
        finally:
            self._term = None
            self.meters.leader.set(0)

    def stats(self) -> Stats:
        """What the books hold now; empty while this replica does not lead."""
        term = self._term
        return term.stats() if term else Stats()

    def live(self) -> Mapping[str, Callable[[], str | None]]:
        """Checks of the process itself (for /healthz): each returns None, or what is wrong."""
        return {"loop": self._loop_alive}

    def ready(self) -> Mapping[str, Callable[[], str | None]]:
        """Checks of what it needs (for /readyz)."""
        return {"loop": self._loop_alive, "watches": self._watches}

    def _loop_alive(self) -> str | None:
        term = self._term
        age = time.monotonic() - (term.beat if term else self._beat)
        return None if age < STUCK else f"no sign of life for {age:.0f} s"

    def _watches(self) -> str | None:
        term = self._term
        if term is None:
            leader = self.election.holder
            return None if leader not in ("", self.election.identity) else "nobody is known to lead"
        stale = [each.resource.plural for each in term.reflectors if not each.healthy()]
        return f"not in step with the API server: {', '.join(stale)}" if stale else None


def lease_name(cluster: str) -> str:
    """Name of the Lease of a cluster's managers."""
    return "ncp-manager-" + (re.sub(r"[^a-z0-9]+", "-", cluster.lower()).strip("-") or "default")


def run(settings: Any, kube: Kube, *, stop: threading.Event, identity: str) -> None:
    """Run a replica until ``stop`` is set.

    Raises:
        BlockError: the settings' blocks do not fit together.
        ValueError: the settings' election times do not.
    """
    Service(settings, kube, identity=identity).run(stop)
