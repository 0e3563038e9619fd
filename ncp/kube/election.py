"""Leader election through a Lease (coordination.k8s.io/v1): of several candidates one leads, and knows when it no longer does.

``kubernetes.leaderelection`` is not used: it cannot be stopped or resign, keeps time with the wall clock, loses the
leadership to the first connection error that is no HTTP answer, and brings the whole client with it.

The rules are those of other Kubernetes controllers: a lease is renewed every ``retry_period``; a candidate takes a
lease that did not change for ``lease_duration`` on the candidate's own clock; a leader that could not renew for
``renew_deadline`` (which is shorter) stops leading before anybody else may start.
"""

from __future__ import annotations

import logging
import threading
import time
from datetime import UTC, datetime
from typing import Any, Final

from ncp.kube.client import Kube
from ncp.kube.errors import AlreadyExists, ApiError, NotFound
from ncp.kube.resources import LEASES

log = logging.getLogger(__name__)

FAILED_PAUSE: Final = 0.3
"""Seconds until the next look when the server could not be asked."""


class Election:
    """One candidate. Times are in seconds; a lease is renewed at least twice before ``renew_deadline``.

    A candidate that finds its own ``identity`` in the lease at its first look takes it over at once: it is the same
    process started again. Two candidates with one identity therefore fight once; afterwards one of them leads.

    Raises:
        ValueError: the times do not fit together.
    """

    def __init__(
        self,
        kube: Kube,
        *,
        name: str,
        namespace: str,
        identity: str,
        lease_duration: float = 18.0,
        renew_deadline: float = 12.0,
        retry_period: float = 6.0,
    ):
        if not (retry_period > 0 and 0 < renew_deadline < lease_duration):
            raise ValueError(
                f"a leader must stop (after {renew_deadline} s) before its lease ends ({lease_duration} s), "
                f"and renew it now and then (every {retry_period} s)"
            )
        self.identity = identity
        self.holder = ""  # who led at the last look
        self._kube = kube
        self._name, self._namespace = name, namespace
        self._lease_duration, self._renew_deadline = lease_duration, renew_deadline
        self._retry_period = min(retry_period, renew_deadline / 2)
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._leads_until = 0.0  # time.monotonic()
        self._acquired = ""  # acquireTime of our own term
        self._seen: tuple[str, str] = ("", "")  # holder and renewTime at the last change
        self._seen_at = 0.0
        self._looked = False
        self._thread = threading.Thread(target=self._run, name="election", daemon=True)

    def start(self) -> None:
        """Stand for election, in a thread."""
        self._thread.start()

    def leading(self) -> bool:
        """Whether this candidate leads now. Cheap; ask before everything only a leader may do."""
        return time.monotonic() < self._leads_until

    def wait(self, timeout: float) -> bool:
        """Wait until this candidate leads, at most ``timeout`` seconds; whether it does."""
        with self._changed:
            self._changed.wait_for(self.leading, timeout)
        return self.leading()

    def stop(self) -> None:
        """Withdraw; a leader hands the lease back, so that the next one need not wait for its end."""
        self._stopping.set()
        with self._changed:
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout=5.0)
        led, self._leads_until = self.leading(), 0.0
        if led:
            try:
                self._hand_back()
            except ApiError as error:
                log.warning("lease %s/%s was not handed back: %s", self._namespace, self._name, error)

    def _run(self) -> None:
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                held = self._try()
            except AlreadyExists:
                held = False
            except ApiError as error:
                # Also a Conflict: somebody wrote between our look and our write. The next look tells who.
                log.warning("lease %s/%s: %s", self._namespace, self._name, error)
                held = None
            except Exception:
                log.exception("lease %s/%s: unexpected failure", self._namespace, self._name)
                held = None
            self._note(held, began)
            pause = self._retry_period if held is not None else min(FAILED_PAUSE, self._retry_period)
            self._stopping.wait(self._until_takeover(pause))

    def _note(self, held: bool | None, began: float) -> None:
        """``held`` None: not known; a leader goes on until its deadline."""
        led = self.leading()
        if held:
            self._leads_until = began + self._renew_deadline
        elif held is False:
            self._leads_until = 0.0
        if led != self.leading():
            log.info("%s %s", self.identity, "leads" if held else "does not lead any more")
            with self._changed:
                self._changed.notify_all()

    def _until_takeover(self, pause: float) -> float:
        """A candidate looks again when the lease it saw ends, if that is earlier."""
        if self.leading() or not self._seen[0]:
            return min(pause, self._retry_period)
        return max(0.02, min(pause, self._seen_at + self._lease_duration - time.monotonic()))

    def _try(self) -> bool:
        """Look at the lease and take or renew it if that is right; whether it is ours."""
        first, self._looked = not self._looked, True
        try:
            lease = self._kube.get(LEASES, self._name, self._namespace)
        except NotFound:
            self._create()
            return True
        spec = lease.get("spec") or {}
        self.holder = spec.get("holderIdentity") or ""
        mark = (self.holder, str(spec.get("renewTime")))
        if mark != self._seen:
            self._seen, self._seen_at = mark, time.monotonic()
        ours = self.holder == self.identity
        if ours and spec.get("acquireTime") == self._acquired:
            self._write(lease, spec, renew=True)
            return True
        ended = time.monotonic() - self._seen_at >= self._lease_duration
        if not self.holder or ended or (ours and first):
            self._write(lease, spec, renew=False)
            return True
        return False

    def _create(self) -> None:
        now = _now()
        lease = {
            "apiVersion": LEASES.api_version,
            "kind": LEASES.kind,
            "metadata": {"name": self._name, "namespace": self._namespace},
            "spec": self._spec(now, now, 0),
        }
        self._kube.create(LEASES, lease, self._namespace)
        self._acquired, self.holder = now, self.identity

    def _write(self, lease: dict[str, Any], spec: dict[str, Any], *, renew: bool) -> None:
        now = _now()
        acquired = self._acquired if renew else now
        transitions = int(spec.get("leaseTransitions") or 0) + (not renew and self.holder != self.identity)
        # The resourceVersion read goes back with it: whoever wrote in between, the server refuses ours.
        self._kube.replace(LEASES, {**lease, "spec": self._spec(acquired, now, transitions)})
        self._acquired, self.holder = acquired, self.identity

    def _hand_back(self) -> None:
        lease = self._kube.get(LEASES, self._name, self._namespace)
        spec = lease.get("spec") or {}
        if spec.get("holderIdentity") == self.identity and spec.get("acquireTime") == self._acquired:
            self._kube.replace(LEASES, {**lease, "spec": {**spec, "holderIdentity": "", "renewTime": _now()}})

    def _spec(self, acquired: str, renewed: str, transitions: int) -> dict[str, Any]:
        return {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": max(1, round(self._lease_duration)),
            "acquireTime": acquired,
            "renewTime": renewed,
            "leaseTransitions": transitions,
        }


def _now() -> str:
    """A MicroTime as the API writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
