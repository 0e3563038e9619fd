"""One connection to a switch's database: a node's rows and its pods' ports.

Any thread may call; one thread of the library's talks to the server. Callers that come while a transaction is under
way share the next one, so that two hundred pods at once cost a few transactions. Waiting for a port number is
waiting for a notification of the replica.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple

from ovsdbapp import exceptions
from ovsdbapp.backend.ovs_idl import connection, idlutils

from sdn.ovsdb.commands import AttachPort, Batch, DetachPort, EnsureNode, Shareable, Sync
from sdn.ovsdb.replica import Replica
from sdn.ovsdb.rows import Attachment, Change, NodeRows, PortRow
from sdn.ovsdb.uplinks import EnsureUplinks, UplinkChanges, UplinkPort

LOG = logging.getLogger(__name__)
SCHEMA: Final = "Open_vSwitch"
TIMEOUT: Final = 10.0  # seconds a call takes at most unless told
CONNECT_RETRY: Final = 0.25  # seconds between attempts while the server has never been seen


class OvsdbUnavailable(Exception):
    """The database does not answer, or not in time; trying again later may work."""


class AttachError(Exception):
    """The switch could not open a port's device, or somebody removed the port; the message has the reason."""


class Api(NamedTuple):
    """What the library's transactions and commands expect of their API object."""

    idl: Replica


class _Slot:
    """A command on its way, and its outcome."""

    __slots__ = ("command", "done", "error")

    def __init__(self, command: Shareable) -> None:
        self.command = command
        self.done = False
        self.error: Exception | None = None


class Ovsdb:
    """The database of one node's switch.

    ``socket_path`` is the server's unix socket (``db.sock``), ``cluster`` the owner's name on every row.
    Callbacks run on a thread of their own, in order; they may call any method:
    ``on_change(interface, old, new)`` when an interface of ours appears, changes or goes (``iface_id`` is empty for the
    node's own ports), ``on_bridge(bridge)`` when a bridge changed in a column of ours or went: time for
    :meth:`ensure_node`; ``on_carrier()`` when :meth:`carriers` changed; ``on_connected()``, ``on_disconnected()``.
    """

    def __init__(
        self,
        socket_path: str | Path,
        cluster: str,
        *,
        bridge: str = "br-int",
        on_change: Callable[[str, Attachment | None, Attachment | None], None] | None = None,
        on_bridge: Callable[[str], None] | None = None,
        on_carrier: Callable[[], None] | None = None,
        on_connected: Callable[[], None] | None = None,
        on_disconnected: Callable[[], None] | None = None,
    ) -> None:
        self._path = Path(socket_path)
        self._cluster = cluster
        self._bridge = bridge
        self._on_change = on_change
        self._on_bridge = on_bridge
        self._on_carrier = on_carrier
        self._on_connected = on_connected
        self._on_disconnected = on_disconnected
        self._news = threading.Condition()
        self._connected = False
        self._stopping = threading.Event()
        self._replica: Replica | None = None
        self._connection: Any = None
        self._queue_lock = threading.Lock()
        self._commit_lock = threading.Lock()
        self._pending: list[_Slot] = []
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._connect, name="ovsdb-connect", daemon=True),
            threading.Thread(target=self._dispatch, name="ovsdb-callbacks", daemon=True),
        ]

    def start(self) -> None:
        """Connect in the background, retrying for ever."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Close the connection; the rows stay."""
        self._stopping.set()
        self._calls.put(None)
        for thread in self._threads:
            if thread is not threading.current_thread() and thread.is_alive():
                thread.join(TIMEOUT)
        if self._connection is not None:
            self._connection.stop(TIMEOUT)

    def __enter__(self) -> Ovsdb:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def connected(self) -> bool:
        """Whether the replica is complete and the server there."""
        return self._connected

    def wait_connected(self, timeout: float = TIMEOUT) -> None:
        """Return once connected.

        Raises:
            OvsdbUnavailable: not within ``timeout`` seconds.
        """
        with self._news:
            if not self._news.wait_for(lambda: self._connected, timeout):
                raise OvsdbUnavailable(
                    f"no connection to ovsdb-server at {self._path} within {timeout:g} s: is it running?"
                )

    @property
    def ovs_version(self) -> str:
        """Version of ovs-vswitchd as the database has it; empty while unknown."""
        root = self._replica.root if self._replica is not None and self._connected else None
        return str(root.ovs_version[0]) if root is not None and root.ovs_version else ""

    def ports(self) -> Mapping[str, Attachment]:
        """Every interface of ours by name, pods' and the node's. An immutable snapshot: no waiting, no lock."""
        return self._replica.ports if self._replica is not None else {}

    def carriers(self) -> Mapping[str, bool]:
        """Whether packets of the switch's own devices on other bridges have a link to leave by, by the devices' names."""
        return self._replica.carriers if self._replica is not None else {}

    def attachments(self) -> dict[str, Attachment]:
        """The pods' ports by ``namespace/pod``."""
        return {port.iface_id: port for port in self.ports().values() if port.iface_id}

    def ensure_uplinks(self, ports: Iterable[UplinkPort], timeout: float = TIMEOUT) -> UplinkChanges:
        """Make these our ports on others' bridges, and no others; returns when the switch has made their devices.

        What was refused is told in the answer, and holds nothing else up.

        Raises:
            AttachError: the switch could not make one of the devices.
            OvsdbUnavailable: not done within ``timeout`` seconds.
        """
        wanted, deadline = tuple(ports), time.monotonic() + timeout
        done: UplinkChanges = self._result(EnsureUplinks(self._api(deadline), wanted, self._cluster), deadline)
        for port in wanted:
            if port.name not in done.refused:
                self._ofport(port.name, deadline)
        return done

    def ensure_node(self, rows: NodeRows, timeout: float = TIMEOUT) -> tuple[Change, ...]:
        """Make the node's rows so and return what had to change; returns when the switch has opened its ports.

        Raises:
            OwnershipError: a bridge or port of that name is somebody else's.
            AttachError: the switch could not open one of the ports.
            OvsdbUnavailable: not done within ``timeout`` seconds.
        """
        deadline = time.monotonic() + timeout
        changes = self._result(EnsureNode(self._api(deadline), rows, self._cluster), deadline)
        for row in rows.interfaces:
            self._ofport(row.name, deadline)
        return tuple(changes)

    def attach(self, port: PortRow, timeout: float = TIMEOUT) -> int:
        """Add a pod's port to the bridge, in place of any other of the same pod, and return its OpenFlow number.

        The device should exist. Repeating it changes nothing. A row whose device cannot be opened is removed.

        Raises:
            AttachError: the switch could not open the device.
            OwnershipError: an interface or bridge of that name is somebody else's.
            NoBridge: the bridge does not exist: :meth:`ensure_node` was not called, or somebody removed it.
            OvsdbUnavailable: not done within ``timeout`` seconds.
        """
        deadline = time.monotonic() + timeout
        name = self._result(AttachPort(self._api(deadline), self._bridge, port, self._cluster), deadline)
        try:
            return self._ofport(name, deadline)
        except AttachError:
            if (mine := self.ports().get(name)) is not None and mine.error:  # not one that somebody made since
                self.detach(name, sandbox=port.sandbox)
            raise

    def detach(self, which: str, *, sandbox: str = "", timeout: float = TIMEOUT) -> tuple[str, ...]:
        """Remove a pod's port by interface name or ``namespace/pod``; returns the interfaces removed.

        With ``sandbox`` (a container id), only that sandbox's port. Only ports of pods, only of this cluster.

        Raises:
            OvsdbUnavailable: not done within ``timeout`` seconds.
        """
        deadline = time.monotonic() + timeout
        removed = self._result(DetachPort(self._api(deadline), which, sandbox), deadline)
        with self._news:
            gone = lambda: not any(name in self.ports() for name in removed)  # noqa: E731
            self._news.wait_for(gone, max(0.0, deadline - time.monotonic()))
        return tuple(removed)

    def settle(self, timeout: float = TIMEOUT) -> None:
        """Return when ovs-vswitchd has done everything that is in the database now.

        Raises:
            OvsdbUnavailable: not within ``timeout`` seconds; the daemon may be away.
        """
        deadline = time.monotonic() + timeout
        api = self._api(deadline)
        number = self._result(Sync(api), deadline)
        with self._news:
            if not self._news.wait_for(lambda: api.idl.root.cur_cfg >= number, max(0.0, deadline - time.monotonic())):
                raise OvsdbUnavailable(f"ovs-vswitchd did not apply the database at {self._path} within {timeout:g} s")

    # What the replica tells (on the connection's thread).

    def connection_changed(self, connected: bool) -> None:
        """For the replica: the server came or went."""
        with self._news:
            self._connected = connected
            self._news.notify_all()
        LOG.info("ovsdb-server at %s: %s", self._path, "connected" if connected else "connection lost")
        callback = self._on_connected if connected else self._on_disconnected
        if callback is not None:
            self._calls.put(callback)

    def port_changed(self, name: str, old: Attachment | None, new: Attachment | None) -> None:
        """For the replica: one of our interfaces changed."""
        if (callback := self._on_change) is not None:
            self._calls.put(lambda: callback(name, old, new))

    def carriers_changed(self) -> None:
        """For the replica: a link came or went."""
        if self._on_carrier is not None:
            self._calls.put(self._on_carrier)

    def bridge_changed(self, name: str) -> None:
        """For the replica: a bridge changed."""
        if (callback := self._on_bridge) is not None:
            self._calls.put(lambda: callback(name))

    def updated(self) -> None:
        """For the replica: something changed; wake who waits."""
        with self._news:
            self._news.notify_all()

    # Threads.

    def _connect(self) -> None:
        remote, said = f"unix:{self._path}", ""
        while not self._stopping.wait(0 if self._path.exists() else CONNECT_RETRY):
            if not self._path.exists():
                continue
            try:
                schema = idlutils.fetch_schema_json(remote, SCHEMA)
                replica = Replica(remote, schema, self._cluster, self, self._bridge)
                self._replica = replica
                found = connection.Connection(replica, timeout=TIMEOUT)
                found.start()
            except Exception as error:  # the library raises bare Exception here
                if said != str(error):
                    said = str(error)
                    LOG.warning("ovsdb-server at %s: %s; trying for ever", self._path, said)
                self._stopping.wait(CONNECT_RETRY)
                continue
            self._connection = found
            self.updated()
            return

    def _dispatch(self) -> None:
        while (call := self._calls.get()) is not None:
            try:
                call()
            except Exception:
                LOG.exception("a callback about %s failed", self._path)

    # Transactions.

    def _api(self, deadline: float) -> Api:
        with self._news:
            ready = lambda: self._connected and self._connection is not None  # noqa: E731
            if not self._news.wait_for(ready, max(0.0, deadline - time.monotonic())):
                raise OvsdbUnavailable(f"no connection to ovsdb-server at {self._path}: is it running?")
        assert self._replica is not None
        return Api(self._replica)

    def _result(self, command: Shareable, deadline: float) -> Any:
        """Commit the command, alone or with others, and return its result or raise its refusal."""
        slot = _Slot(command)
        with self._queue_lock:
            self._pending.append(slot)
        while not slot.done:
            with self._turn(slot, deadline):
                if not slot.done:
                    self._commit(self._take(), deadline)
        error = slot.error if slot.error is not None else command.result
        if isinstance(error, Exception):
            raise error
        return command.result

    @contextlib.contextmanager
    def _turn(self, slot: _Slot, deadline: float) -> Iterator[None]:
        if not self._commit_lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
            with self._queue_lock, contextlib.suppress(ValueError):
                self._pending.remove(slot)
            raise OvsdbUnavailable(f"ovsdb-server at {self._path} is busy with other transactions: no turn in time")
        try:
            yield
        finally:
            self._commit_lock.release()

    def _take(self) -> list[_Slot]:
        """The longest run of waiting commands, from the oldest, that may share a transaction."""
        with self._queue_lock:
            batch: list[_Slot] = []
            while self._pending and self._pending[0].command.may_share([slot.command for slot in batch]):
                batch.append(self._pending.pop(0))
            return batch

    def _commit(self, batch: list[_Slot], deadline: float) -> None:
        left = max(0.1, deadline - time.monotonic())
        transaction = Batch(batch[0].command.api, self._connection, left, check_error=True, log_errors=False)
        for slot in batch:
            transaction.add(slot.command)
        error: Exception | None = None
        try:
            transaction.commit()
        except (exceptions.OvsdbAppException, RuntimeError) as failure:
            error = OvsdbUnavailable(f"ovsdb-server at {self._path} refused or lost a transaction: {failure}")
        except Exception as failure:  # a fault of a command: every caller in the batch must hear of it
            error = failure
        finally:
            for slot in batch:
                slot.error, slot.done = error, True

    def _ofport(self, name: str, deadline: float) -> int:
        """Wait until the switch has numbered a port that was just committed."""

        def known() -> Attachment | bool | None:
            port = self.ports().get(name)
            return port is None or port.ofport != 0 or bool(port.error)

        with self._news:
            self._news.wait_for(known, max(0.0, deadline - time.monotonic()))
            port = self.ports().get(name)
        if port is None:
            raise AttachError(f"port {name} was removed from the database while it was being attached")
        if port.error or port.ofport < 0:
            raise AttachError(f"the switch cannot use port {name}: {port.error or 'no OpenFlow port number given'}")
        if port.ofport == 0:
            raise OvsdbUnavailable(f"ovs-vswitchd gave port {name} no number in time: is it running? (see its log)")
        return port.ofport
