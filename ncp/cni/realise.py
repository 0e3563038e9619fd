"""What a CNI call does: from a pod's decided addresses to a cable, a port and flows, and back.

Three collaborators do it: the pod network (decisions and flows), the switch's database, and the plumber. A failed
ADD leaves nothing behind; a DEL succeeds when nothing is left, however often it is called.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, Protocol

from ncp.cni import protocol
from ncp.cni.protocol import CniError, Request
from ncp.cni.result import PortConfig, add_result, previous_addresses
from ncp.plumbing.namespace import NamespaceMissing, NetworkError
from ncp.plumbing.pods import PodPlumber, Wire, interface_name
from sdn.ovsdb.client import AttachError, Ovsdb, OvsdbUnavailable
from sdn.ovsdb.commands import NoBridge
from sdn.ovsdb.rows import Attachment, NoPortNumber, OwnershipError, PortRow

LOG = logging.getLogger(__name__)


class NotDecided(Exception):
    """The control plane has not decided a pod's addresses in time; the message says what it waits for."""


class UnknownPod(Exception):
    """There is no such pod."""


class NotRealised(Exception):
    """Flows could not be installed or removed in time."""


class PodNetwork(Protocol):
    """Decisions and flows of pods. ``deadline`` is of ``time.monotonic()``, ``iface_id`` is ``namespace/pod``."""

    def wanted(self, namespace: str, pod: str, uid: str, deadline: float) -> PortConfig:
        """What was decided for a pod; waits for the decision. Raises NotDecided, UnknownPod."""

    def realise(self, iface_id: str, attachment: Attachment, deadline: float) -> None:
        """Return when the pod's flows are acknowledged by the switch. Raises NotRealised."""

    def withdraw(self, iface_id: str, sandbox: str, deadline: float) -> None:
        """Return when the sandbox's flows are gone. Raises NotRealised."""

    def installed(self, iface_id: str, attachment: Attachment) -> str | None:
        """None when the pod's flows are there, else what is missing."""


CODES: tuple[tuple[type[Exception], int], ...] = (
    (NotDecided, protocol.TRY_AGAIN_LATER),
    (NotRealised, protocol.TRY_AGAIN_LATER),
    (OvsdbUnavailable, protocol.TRY_AGAIN_LATER),
    (NoBridge, protocol.TRY_AGAIN_LATER),
    (NoPortNumber, protocol.ATTACH_FAILED),
    (AttachError, protocol.ATTACH_FAILED),
    (UnknownPod, protocol.UNKNOWN_POD),
    (NamespaceMissing, protocol.UNKNOWN_CONTAINER),
    (NetworkError, protocol.PLUMBING_FAILED),
    (OwnershipError, protocol.NOT_OURS),
)


def as_cni(error: Exception) -> CniError:
    """The CNI error for an exception of this package or its collaborators; code 999 for a fault of the program."""
    if isinstance(error, CniError):
        return error
    for kind, code in CODES:
        if isinstance(error, kind):
            return CniError(code, str(error))
    LOG.exception("a CNI call failed by a fault of the program", exc_info=error)
    return CniError(protocol.INTERNAL, f"{type(error).__name__}: {error}")


class Steps:
    """How long each step of a call took, in milliseconds."""

    def __init__(self) -> None:
        self.taken: dict[str, float] = {}

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time what is inside."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.taken[name] = (time.perf_counter() - start) * 1000

    def __str__(self) -> str:
        return " ".join(f"{name}={taken:.1f}" for name, taken in self.taken.items())


class PodRealiser:
    """Adds, removes and checks pods. Any thread may call; calls about one pod take turns."""

    def __init__(self, network: PodNetwork, ovsdb: Ovsdb, plumber: PodPlumber) -> None:
        self._network = network
        self._ovsdb = ovsdb
        self._plumber = plumber
        self._turns = _Turns()
        self._lock = threading.Lock()
        self._adding: dict[str, list[object]] = {}  # container id → calls under way; a DEL empties it

    def add(self, request: Request, deadline: float, steps: Steps) -> dict[str, Any]:
        """CNI ADD: the result. Repeating it for the same container gives the same result.

        A new container of the same pod takes the place of the older one. On any failure everything is undone.

        Raises:
            CniError, or what the collaborators raise (see :func:`as_cni`).
        """
        with self._announced(request) as still_wanted:
            with steps.step("decided"):
                port = self._network.wanted(request.namespace, request.pod, request.uid, deadline)
            with self._turns.of(request.iface_id):
                still_wanted()
                return self._add(request, port, deadline, steps)

    def delete(self, request: Request, deadline: float, steps: Steps) -> None:
        """CNI DEL: the container's flows, port and cable are gone when it returns; a newer container's stay.

        Raises:
            what the collaborators raise, after everything was tried: the runtime calls again.
        """
        with self._lock:
            self._adding.pop(request.container, None)
        found = self._of_container(request.container)
        iface_id = found.iface_id if found is not None else request.iface_id
        with self._turns.of(iface_id or request.container):
            self._tear_down(iface_id, request.container, deadline, steps)

    def check(self, request: Request, deadline: float) -> None:
        """CNI CHECK: return when port, cable, addresses, routes and flows are all there.

        Raises:
            CniError: code 105, naming everything that is missing.
        """
        port = self._network.wanted(request.namespace, request.pod, request.uid, deadline)
        with self._turns.of(request.iface_id):
            missing = list(self._missing(request, port))
        if missing:
            raise CniError(protocol.CHECK_FAILED, f"pod {request.iface_id}: {'; '.join(missing)}")

    def collect(self, request: Request, deadline: float, steps: Steps) -> None:
        """CNI GC: remove every port whose container is not in the runtime's ``cni.dev/valid-attachments``.

        Raises:
            CniError: the list is missing or malformed; or what the collaborators raise.
        """
        valid = request.config.get("cni.dev/valid-attachments")
        if not isinstance(valid, list) or not all(isinstance(row, dict) and "containerID" in row for row in valid):
            raise CniError(protocol.INVALID_CONFIG, 'GC needs "cni.dev/valid-attachments": [{"containerID", "ifname"}]')
        keep = {row["containerID"] for row in valid}
        for found in self._ovsdb.attachments().values():
            with self._turns.of(found.iface_id):
                if found.sandbox not in keep and found.sandbox not in self._adding:
                    self._tear_down(found.iface_id, found.sandbox, deadline, steps)

    def status(self) -> None:
        """CNI STATUS: return when an ADD could succeed.

        Raises:
            CniError: code 50, with the reason.
        """
        if not self._ovsdb.connected:
            raise CniError(protocol.UNAVAILABLE, "the switch's database is away")

    def _add(self, request: Request, port: PortConfig, deadline: float, steps: Steps) -> dict[str, Any]:
        wire = _wire(request, port)
        same = self._make_way(request, deadline, steps)
        configuring: Future[None] | None = None
        try:
            with steps.step("cable"):
                cable = self._plumber.connect(wire)
            if same is not None and cable.fresh:
                # The switch would keep the old device of that name open.
                self._ovsdb.detach(same.interface, timeout=_left(deadline))
                self._ovsdb.settle(_left(deadline))
            configuring = self._plumber.configure(wire)
            with steps.step("port"):
                self._ovsdb.attach(_port_row(request, port), _left(deadline))
            with steps.step("addresses"):
                configuring.result(_left(deadline))
            with steps.step("flows"):
                self._network.realise(request.iface_id, self._attached(request), deadline)
        except Exception:
            self._undo(request, configuring)
            raise
        return add_result(
            request.version,
            port,
            interface=cable.interface,
            interface_mac=cable.interface_mac,
            ifname=request.ifname,
            netns=request.netns,
        )

    def _make_way(self, request: Request, deadline: float, steps: Steps) -> Attachment | None:
        """Remove an older container's port of the same pod; returns the port this very container has already."""
        mine = self._of_container(request.container)
        if mine is not None:
            if mine.iface_id != request.iface_id or (mine.pod_uid and request.uid and mine.pod_uid != request.uid):
                raise CniError(
                    protocol.CONTAINER_IN_USE,
                    f"container {request.container} is attached for pod {mine.iface_id} (uid {mine.pod_uid}), "
                    f"not for {request.iface_id} (uid {request.uid}): DEL it first",
                )
            if mine.ifname != request.ifname:
                raise CniError(
                    protocol.CONTAINER_IN_USE,
                    f"container {request.container} is attached as {mine.ifname}; a second interface "
                    f"({request.ifname}) is not possible: DEL it first",
                )
            return mine
        older = self._ovsdb.attachments().get(request.iface_id)
        if older is not None:
            LOG.info("container %s replaces %s of pod %s", request.container, older.sandbox, request.iface_id)
            self._tear_down(older.iface_id, older.sandbox, deadline, steps)
        return None

    def _attached(self, request: Request) -> Attachment:
        attachment = self._ovsdb.ports().get(interface_name(request.container))
        if attachment is None or attachment.ofport <= 0:
            raise AttachError(f"the port of pod {request.iface_id} was removed while it was being attached")
        return attachment

    def _undo(self, request: Request, configuring: Future[None] | None) -> None:
        """After a failed ADD: leave nothing. Should a step of this fail too, the runtime's DEL comes next."""
        if configuring is not None:
            configuring.exception()
        for error in self._remove(request.iface_id, request.container, time.monotonic() + protocol.GRACE, Steps()):
            LOG.warning("undoing the ADD of pod %s: %s", request.iface_id, error)

    def _tear_down(self, iface_id: str, container: str, deadline: float, steps: Steps) -> None:
        for error in self._remove(iface_id, container, deadline, steps):
            raise error

    def _remove(self, iface_id: str, container: str, deadline: float, steps: Steps) -> list[Exception]:
        """Flows, then port, then cable; every step is tried, the errors are returned."""

        def flows() -> None:
            now = self._ovsdb.attachments().get(iface_id)
            if iface_id and (now is None or now.sandbox == container):  # else they are a newer container's
                self._network.withdraw(iface_id, container, deadline)

        work: tuple[tuple[str, Callable[[], object]], ...] = (
            ("flows", flows),
            ("port", lambda: self._ovsdb.detach(interface_name(container), timeout=_left(deadline))),
            ("cable", lambda: self._plumber.disconnect(container)),
        )
        errors = []
        for name, step in work:
            try:
                with steps.step(name):
                    step()
            except Exception as error:
                errors.append(error)
        return errors

    def _missing(self, request: Request, port: PortConfig) -> Iterator[str]:
        before = previous_addresses(request.config)
        now = frozenset(map(str, port.addresses))
        if before and before != now:
            yield f"it was given {', '.join(sorted(before))}, decided is {', '.join(sorted(now))}"
        yield from self._plumber.check(_wire(request, port))
        attachment = self._ovsdb.ports().get(interface_name(request.container))
        if attachment is None or attachment.iface_id != request.iface_id:
            yield f"the port {interface_name(request.container)} is gone from the switch's database"
        elif attachment.ofport <= 0 or attachment.error:
            yield f"the switch cannot use port {attachment.interface}: {attachment.error or 'it has no number'}"
        elif (what := self._network.installed(request.iface_id, attachment)) is not None:
            yield what

    def _of_container(self, container: str) -> Attachment | None:
        return next((row for row in self._ovsdb.attachments().values() if row.sandbox == container), None)

    @contextlib.contextmanager
    def _announced(self, request: Request) -> Iterator[Callable[[], None]]:
        """While an ADD waits for a decision, a DEL of the same container may come and must win."""
        call = object()
        with self._lock:
            self._adding.setdefault(request.container, []).append(call)

        def still_wanted() -> None:
            with self._lock:
                if call not in self._adding.get(request.container, ()):
                    raise CniError(
                        protocol.UNKNOWN_CONTAINER, f"container {request.container} was deleted while it was added"
                    )

        try:
            yield still_wanted
        finally:
            with self._lock:
                calls = self._adding.get(request.container, [])
                if call in calls:
                    calls.remove(call)
                if not calls:
                    self._adding.pop(request.container, None)


class _Turns:
    """One lock per key, kept only while somebody holds or awaits it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._locks: dict[str, tuple[threading.Lock, int]] = {}

    @contextlib.contextmanager
    def of(self, key: str) -> Iterator[None]:
        with self._lock:
            lock, users = self._locks.get(key, (threading.Lock(), 0))
            self._locks[key] = lock, users + 1
        try:
            with lock:
                yield
        finally:
            with self._lock:
                lock, users = self._locks[key]
                if users == 1:
                    del self._locks[key]
                else:
                    self._locks[key] = lock, users - 1


def _wire(request: Request, port: PortConfig) -> Wire:
    return Wire(request.container, request.netns, request.ifname, port.mac, port.addresses, port.gateways, port.mtu)


def _port_row(request: Request, port: PortConfig) -> PortRow:
    name = interface_name(request.container)
    return PortRow(
        name, request.iface_id, request.uid, request.container, request.netns, port.mac.lower(), request.ifname
    )


def _left(deadline: float) -> float:
    return max(0.1, deadline - time.monotonic())
