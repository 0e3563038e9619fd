"""One annotation of ours on many objects, kept as it should be: level, not edge."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import NamedTuple

from ncp.kube.client import Kube
from ncp.kube.errors import ApiError, NotFound
from ncp.kube.resources import Resource

log = logging.getLogger(__name__)

RETRY = 2.0


class Noted(NamedTuple):
    """An object that is written on."""

    resource: Resource
    namespace: str
    name: str


class Notes:
    """Writes, in a thread of its own, what differs between what objects say and what they should.

    ``held`` gives the annotation's present value on every object that has it. What others take away or change, told by
    :meth:`saw`, is written again after a while, so that two who disagree do not race each other.
    """

    def __init__(self, kube: Kube, annotation: str, held: Callable[[], Mapping[Noted, str]]) -> None:
        self._kube = kube
        self._annotation = annotation
        self._held = held
        self._condition = threading.Condition()
        self._wanted: Mapping[Noted, str] | None = None
        self._dirty = self._undone = False
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=f"notes {annotation}", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop; what is written stays written."""
        with self._condition:
            self._stopping = True
            self._condition.notify_all()

    def keep(self, wanted: Mapping[Noted, str]) -> None:
        """These are all objects that should have the annotation, with its value."""
        with self._condition:
            self._wanted, self._dirty = dict(wanted), True
            self._condition.notify_all()

    def saw(self, noted: Noted, value: str | None) -> None:
        """An object has this as the annotation by now (None: not at all), whoever wrote it."""
        with self._condition:
            if self._wanted is not None and self._wanted.get(noted) != value:
                self._undone = True
                self._condition.notify_all()

    def _run(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._stopping or self._dirty or self._undone)
                self._condition.wait_for(lambda: self._stopping or self._dirty, RETRY)
                if self._stopping:
                    return
                wanted, self._dirty, self._undone = self._wanted or {}, False, False
            if not self._write(wanted):
                with self._condition:
                    self._dirty = True
                    self._condition.wait_for(lambda: self._stopping, RETRY)

    def _write(self, wanted: Mapping[Noted, str]) -> bool:
        """Write what differs; whether all went well."""
        well = True
        held = self._held()
        for noted in held.keys() | wanted.keys():
            value = wanted.get(noted)
            if value == held.get(noted):
                continue
            body = {"metadata": {"annotations": {self._annotation: value}}}
            try:
                self._kube.patch(noted.resource, noted.name, noted.namespace, body=body)
            except NotFound:
                continue
            except ApiError as error:
                log.warning("could not write %s on %s: %s; trying again", self._annotation, noted.name, error)
                well = False
        return well
