"""Writes problems on the objects they are about, and takes them off when they are gone.

A pod, namespace or policy that cannot be realised gets the annotation ``ncp/error.<node>`` with ``REASON: message`` and a Warning
event. The annotation names the node, so that nodes never undo each other's.
"""

from __future__ import annotations

import logging
import threading

from ncp.kube.client import Kube
from ncp.kube.errors import ApiError, NotFound
from ncp.kube.resources import INTENT, INTENT_CUSTOM, Resource
from sdn.model import Origin, Problem

log = logging.getLogger(__name__)

RESOURCES: dict[str, Resource] = {each.kind: each for each in (*INTENT, *INTENT_CUSTOM)}
RETRY = 2.0


class ProblemReporter:
    """Keeps the annotations in step with the last list of problems, in a thread of its own."""

    def __init__(self, kube: Kube, node: str) -> None:
        self._kube = kube
        self._annotation = f"ncp/error.{node}"
        self._condition = threading.Condition()
        self._wanted: dict[Origin, Problem] = {}
        self._written: dict[Origin, Problem] = {}
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="problem-reporter", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop; what is written stays written."""
        with self._condition:
            self._stopping = True
            self._condition.notify_all()

    def report(self, problems: list[Problem]) -> None:
        """These are all problems now."""
        with self._condition:
            self._wanted = {p.origin.about(""): p for p in reversed(problems) if p.origin.kind in RESOURCES}
            self._condition.notify_all()

    def _run(self) -> None:
        delay: float | None = None
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._stopping or self._wanted != self._written, delay)
                if self._stopping:
                    return
                wanted = dict(self._wanted)
            delay = None if self._write(wanted) else RETRY

    def _write(self, wanted: dict[Origin, Problem]) -> bool:
        """Write what differs; whether all went well."""
        well = True
        for origin in wanted.keys() | self._written.keys():
            problem = wanted.get(origin)
            if problem == self._written.get(origin):
                continue
            try:
                self._annotate(origin, problem)
            except NotFound:
                log.debug("%s is gone, and so is its problem", origin)
            except ApiError as error:
                log.warning("could not write on %s: %s; trying again", origin, error)
                well = False
                continue
            if problem is None:
                self._written.pop(origin, None)
            else:
                self._written[origin] = problem
        if not well:
            with self._condition:
                self._condition.wait(RETRY)
        return well

    def _annotate(self, origin: Origin, problem: Problem | None) -> None:
        resource = RESOURCES[origin.kind]
        value = f"{problem.reason}: {problem.message}" if problem else None
        body = {"metadata": {"annotations": {self._annotation: value}}}
        obj = self._kube.patch(resource, origin.name, origin.namespace, body=body)
        if problem:
            self._kube.event(obj, reason=problem.reason, message=problem.message, type="Warning", component="ncp-node")
