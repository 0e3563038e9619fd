"""Writes decisions on their objects: several at a time, in order for each object, only while this replica leads."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import tenacity

from ncp.kube.client import Kube
from ncp.kube.errors import ApiError, Conflict, Invalid, NotFound, Unavailable
from ncp.kube.resources import NAMESPACES, PODS, Resource
from ncp.manager.outbox import NAMESPACE, POD, Decision, Ref

log = logging.getLogger(__name__)

WORKERS: Final = 8
RESOURCES: Final[dict[str, Resource]] = {POD: PODS, NAMESPACE: NAMESPACES}


class Outcome(NamedTuple):
    """How writing an object ended: what it is now, or why it was refused. Told once nothing more is to be written."""

    ref: Ref
    uid: str
    written: dict[str, Any] | None
    error: ApiError | None


class Writer:
    """A queue of decisions with its worker threads.

    Decisions about one object that wait are merged into one patch; two patches of one object are never on their way at
    the same time. A server that does not answer is asked again until it does, or until this replica leads no more.
    """

    def __init__(
        self,
        kube: Kube,
        *,
        leading: Callable[[], bool],
        report: Callable[[Outcome], None],
        refused: Callable[[str], None] = lambda reason: None,
        workers: int = WORKERS,
    ):
        self._kube, self._leading, self._report, self._refused = kube, leading, report, refused
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._ready: queue.SimpleQueue[Ref | None] = queue.SimpleQueue()
        self._pending: dict[Ref, Decision] = {}
        self._busy: set[Ref] = set()
        self._parked: dict[Ref, list[Ref]] = {}  # by the object that must be written first
        self._abandoned = threading.Event()
        self._threads = [threading.Thread(target=self._work, name=f"write-{n}", daemon=True) for n in range(workers)]
        for thread in self._threads:
            thread.start()

    def submit(self, decision: Decision) -> None:
        """Write a decision soon; returns at once."""
        ref = (decision.kind, decision.key)
        with self._lock:
            waiting = self._pending.get(ref)
            self._pending[ref] = decision if waiting is None else _merged(waiting, decision)
            if waiting is None and ref not in self._busy:
                self._dispatch(ref)

    def stop(self, drain: float = 0.0) -> None:
        """End; write what waits for at most ``drain`` seconds first."""
        with self._idle:
            self._idle.wait_for(lambda: not self._pending and not self._busy, drain)
        self._abandoned.set()
        for _ in self._threads:
            self._ready.put(None)
        for thread in self._threads:
            thread.join(timeout=5.0)

    def _dispatch(self, ref: Ref) -> None:
        """Queue an object, or park it until the namespace it depends on is written. Called with the lock held."""
        first = (NAMESPACE, ("", self._pending[ref].after))
        if self._pending[ref].after and (first in self._pending or first in self._busy):
            self._parked.setdefault(first, []).append(ref)
        else:
            self._ready.put(ref)

    def _work(self) -> None:
        while (ref := self._ready.get()) is not None and not self._abandoned.is_set():
            with self._lock:
                decision = self._pending.pop(ref)
                self._busy.add(ref)
            written: dict[str, Any] | None = None
            error: ApiError | None = None
            try:
                written = self._write(decision)
            except ApiError as found:
                error = found
                self._refused(found.reason)
            except Exception as found:  # a worker must outlive anything; the object is decided anew
                log.exception("%s %s/%s: writing failed", ref[0], *ref[1])
                error = ApiError(0, "WriteFailed", repr(found))
            self._done(ref, decision, written, error)

    def _done(self, ref: Ref, decision: Decision, written: dict[str, Any] | None, error: ApiError | None) -> None:
        with self._idle:
            self._busy.discard(ref)
            more = ref in self._pending
            if more:
                self._dispatch(ref)
            else:
                for parked in self._parked.pop(ref, ()):
                    self._dispatch(parked)
            if not self._pending and not self._busy:
                self._idle.notify_all()
        if not more and not self._abandoned.is_set():
            self._report(Outcome(ref, decision.uid, written, error))

    def _write(self, decision: Decision) -> dict[str, Any] | None:
        resource, (namespace, name) = RESOURCES[decision.kind], decision.key
        obj = None
        if decision.annotations:
            # The uid makes the patch fail on another object of the same name.
            body = {"metadata": {"uid": decision.uid, "annotations": decision.annotations}}
            obj = self._insist(lambda: self._kube.patch(resource, name, namespace, body=body))
        if decision.notes and self._leading():
            self._record(decision, obj)
        return obj

    def _insist(self, call: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Ask until the server answers, but never without leading."""

        def attempt() -> dict[str, Any]:
            if not self._leading():
                raise ApiError(0, "NotLeading", "this replica does not lead any more")
            return call()

        patient = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(Unavailable),
            wait=tenacity.wait_random_exponential(multiplier=0.05, max=1.0),
            stop=tenacity.stop_when_event_set(self._abandoned),
            sleep=tenacity.sleep_using_event(self._abandoned),
            reraise=True,
        )
        return patient(attempt)

    def _record(self, decision: Decision, obj: dict[str, Any] | None) -> None:
        """Events are for people: one that cannot be written is logged, and nothing else waits for it."""
        (namespace, name), resource = decision.key, RESOURCES[decision.kind]
        about = obj or {
            "kind": resource.kind,
            "apiVersion": resource.api_version,
            "metadata": {"name": name, "namespace": namespace, "uid": decision.uid},
        }
        for note in decision.notes:
            log.warning("%s %s/%s: %s: %s", decision.kind, namespace, name, *note)
            try:
                self._kube.event(
                    about, reason=note.reason, message=note.message, type="Warning", component="ncp-manager"
                )
            except ApiError as error:
                log.warning("%s %s/%s: event not recorded: %s", decision.kind, namespace, name, error)


def is_stale(error: ApiError) -> bool:
    """Whether a refusal says that the object is gone or another one by now: a change that is yet to be seen."""
    return isinstance(error, NotFound | Conflict | Invalid)


def _merged(old: Decision, new: Decision) -> Decision:
    if old.uid != new.uid:
        return new
    return new._replace(
        annotations={**old.annotations, **new.annotations},
        notes=tuple(dict.fromkeys((*old.notes, *new.notes))),
        after=new.after or old.after,
    )
