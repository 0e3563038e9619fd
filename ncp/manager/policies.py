"""Says on every policy whether it is realised: by every node with a pod it is about, in its present generation.

Nodes write the generation they enforce as ``ncp/realised.<node>``; the leading manager sums that up as ``ncp/realisation``, and as
the condition ``Realized`` where the resource has conditions. What is wrong with the object itself it writes as
``ncp/error.policy``.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from firewall.rules import Section
from ncp.kube.client import Kube
from ncp.kube.custom import CustomReflector
from ncp.kube.errors import ApiError, NotFound
from ncp.kube.reflector import Key, Reflector
from ncp.kube.resources import NETWORK_POLICIES, POLICY_CUSTOM, Resource
from ncp.manager.coverage import Coverage, Realisation, advance, coverage, realisation
from ncp.translate.intent import POLICY_INVALID, Fabric
from ncp.translate.objects import REALISATION, REALISED, annotation

log = logging.getLogger(__name__)

Json = dict[str, Any]
ERROR: Final = "ncp/error.policy"
GATHER: Final = 0.02
"""Seconds in which the words of several nodes become one write."""
RETRY: Final = 2.0
CONDITION: Final = "Realized"


class PolicyStatus:
    """Keeps the policies' status in step, in a thread of its own. Give it pods and namespaces through :meth:`see`.

    Nothing is written before all of them are known: a policy whose pods have not come yet would be taken for one without any,
    and what its nodes said for stale.
    """

    def __init__(self, kube: Kube, fabric: Fabric, leading: Callable[[], bool]) -> None:
        self._kube = kube
        self._leading = leading
        self._state: Coverage = coverage(fabric)
        self._inbox: queue.SimpleQueue[tuple[str, Key, Json | None] | None] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._synced = threading.Event()
        custom = [CustomReflector(kube, each, self._watcher(each.kind)) for each in POLICY_CUSTOM]
        self.reflectors: dict[str, Reflector | CustomReflector] = {
            NETWORK_POLICIES.kind: Reflector(kube, NETWORK_POLICIES, self._watcher(NETWORK_POLICIES.kind)),
            **{each.resource.kind: each for each in custom},
        }
        self._thread = threading.Thread(target=self._run, name="policy-status", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        for reflector in self.reflectors.values():
            reflector.start()
        self._thread.start()

    def stop(self) -> None:
        """End; nothing is written after this returns."""
        self._stopping.set()
        for reflector in self.reflectors.values():
            reflector.stop()
        self._inbox.put(None)
        self._thread.join(timeout=5.0)

    def see(self, kind: str, key: Key, obj: Json | None) -> None:
        """A pod or namespace is now this."""
        self._inbox.put((kind, key, obj))

    def synced(self) -> None:
        """Every pod and namespace that existed at start has been given to :meth:`see`."""
        self._synced.set()

    def _watcher(self, kind: str) -> Callable[[Key, Json | None, Json | None], None]:
        return lambda key, old, new: self._inbox.put((kind, key, new))

    def _run(self) -> None:
        for each in (self._synced, *(reflector.synced for reflector in self.reflectors.values())):
            while not each.wait(0.05):
                if self._stopping.is_set():
                    return
        later: set[str] = set()
        while not self._stopping.is_set():
            changes = self._gather(RETRY if later else None)
            try:
                self._state, stale = advance(self._state, changes)
            except Exception:  # an object in a shape nobody foresaw must not end the status of all others
                log.exception("the status of policies could not be brought up to date")
                continue
            stale |= {f"{kind}/{key[0]}/{key[1]}" for kind, key, _ in changes if kind in self.reflectors}
            later = {key for key in sorted(stale | later) if not self._told(key)}

    def _told(self, key: str) -> bool:
        """Say what is to be said of a policy; whether that is dealt with. One that cannot be told must not keep others waiting."""
        if self._stopping.is_set():
            return True
        try:
            return self._tell(key)
        except Exception:
            log.exception("%s: its status could not be told", key)
            return True

    def _gather(self, wait: float | None) -> list[tuple[str, Key, Json | None]]:
        """What comes within a moment of the first thing that comes."""
        found: list[tuple[str, Key, Json | None]] = []
        try:
            while True:
                change = self._inbox.get(timeout=GATHER if found else wait)
                if change is None:
                    return found
                found.append(change)
        except queue.Empty:
            return found

    def _tell(self, key: str) -> bool:
        """Write what is to be said of a policy; whether that is dealt with."""
        kind, namespace, name = key.split("/")
        section = self._state.translation.intent.sections.get(key)
        reflector = self.reflectors.get(kind)
        policy = reflector.store.get((namespace, name)) if reflector else None
        if section is None or policy is None or reflector is None:
            return True
        if not self._leading():
            return False  # the lease may only be late; the term ends where it is lost
        found = realisation(policy, section, self._state.nodes(section))
        try:
            policy = self._annotate(reflector.resource, policy, section, found)
            if reflector.resource in POLICY_CUSTOM:
                self._condition(reflector.resource, policy, found)
        except NotFound:
            return True
        except ApiError as error:
            log.warning("%s: its status could not be written: %s; trying again", key, error)
            return False
        return True

    def _annotate(self, resource: Resource, policy: Json, section: Section, found: Realisation) -> Json:
        """Write the annotations that are not as they should be; the policy as it is then."""
        meta = policy["metadata"]
        fault = f"{POLICY_INVALID}: {section.fault}" if section.fault else None
        wanted = {REALISATION: str(found), ERROR: fault, **{REALISED + node: None for node in found.stale}}
        changed = {name: value for name, value in wanted.items() if annotation(policy, name) != value}
        if not changed:
            return policy
        body = {"metadata": {"annotations": changed}}
        written = self._kube.patch(resource, meta["name"], meta.get("namespace", ""), body=body)
        if fault and ERROR in changed:
            text = f"{section.source} cannot be understood, so what it selects is cut off: {section.fault}"
            self._kube.event(written, reason=POLICY_INVALID, message=text, type="Warning", component="ncp-manager")
        return written

    def _condition(self, resource: Resource, policy: Json, found: Realisation) -> None:
        meta, conditions = policy["metadata"], (policy.get("status") or {}).get("conditions") or []
        held = next((each for each in conditions if each.get("type") == CONDITION), {})
        wanted = {
            "type": CONDITION,
            "status": "True" if found.is_complete else "False",
            "reason": found.reason,
            "message": found.fault
            or f"enforced by {found.done} of the {len(found.nodes)} nodes with pods it applies to",
            "observedGeneration": meta.get("generation", 0),
        }
        if wanted.items() <= held.items():
            return
        since = held.get("lastTransitionTime") if held.get("status") == wanted["status"] else None
        mine = wanted | {"lastTransitionTime": since or datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}
        others = [each for each in conditions if each.get("type") != CONDITION]
        body = {"metadata": {"resourceVersion": meta["resourceVersion"]}, "status": {"conditions": [*others, mine]}}
        self._kube.patch(resource, meta["name"], meta.get("namespace", ""), body=body, subresource="status")
