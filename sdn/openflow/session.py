"""A switch as the rest of the program sees it: apply changes, read flows, hear packets; it reconnects for ever."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from sdn.openflow.bundle import apply_bundle
from sdn.openflow.conntrack import Flush, pack_flush
from sdn.openflow.dump import dump_flows, dump_groups, dump_tables
from sdn.openflow.link import Link
from sdn.openflow.message import CONTROLLER_METER, pack_packet_out
from sdn.openflow.packets import read_packet_in
from sdn.openflow.values import (
    ChangeSet,
    InstalledFlow,
    InstalledGroup,
    PacketIn,
    SwitchDescription,
    SwitchGone,
    TableUse,
)
from sdn.openflow.wire import connect, management_socket
from sdn.pipeline.flow import Action, MeterEntry

log = logging.getLogger(__name__)

FIRST_RETRY, LAST_RETRY = 0.1, 1.0
ANY_PORT = 0xFFFFFFFD  # packets we make come from the controller, unless said otherwise
_PACKETS_WAITING = 1024


class Switch:
    """One switch, reached over its management socket, for as long as this object is started.

    ``place`` is the socket or the run directory that holds ``<bridge>.mgmt``. The callbacks run one at a time, in
    order, in a thread of this object's; they may call anything here. ``on_disconnected`` gets the reason in words,
    also (once per reason) while a switch cannot be reached or is refused.
    """

    def __init__(
        self,
        place: Path,
        bridge: str = "br-int",
        *,
        owner: int,
        on_connected: Callable[[Switch], None],
        on_disconnected: Callable[[Switch, str], None],
        on_packet_in: Callable[[Switch, PacketIn], None],
    ) -> None:
        self.socket = management_socket(Path(place), bridge)
        self.owner = owner
        self.packets_dropped = 0  # packets in that came faster than on_packet_in took them
        self._on_connected = on_connected
        self._on_disconnected = on_disconnected
        self._on_packet_in = on_packet_in
        self._link: Link | None = None  # set while a session is ready
        self._latest: Link | None = None  # the session being set up or running
        self._meter: MeterEntry | None = None
        self._stopping = threading.Event()
        self._applying = threading.Lock()
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._said = ""

    def __repr__(self) -> str:
        return f"Switch({self.socket})"

    def start(self) -> None:
        """Begin to connect; returns at once."""
        for target in (self._keep_connected, self._run_callbacks):
            thread = threading.Thread(target=target, name=f"openflow {self.socket}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """End the session and wait until its threads have ended; no callback runs after this."""
        self._stopping.set()
        latest = self._latest
        if latest is not None:
            latest.end("stopped")
        self._calls.put(None)
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()

    @property
    def connected(self) -> bool:
        """Whether changes can be applied now."""
        return self._link is not None

    @property
    def description(self) -> SwitchDescription:
        """The connected switch's datapath id and version; raises SwitchGone when there is none."""
        return self._ready().description

    def apply(self, changes: ChangeSet, timeout: float = 10.0) -> None:
        """Apply a change set, all of it or nothing; returns when the switch has done it.

        Adding over an installed flow of the same key replaces cookie and actions and keeps the counters. Raises
        BundleRefused (nothing was applied), SwitchGone or SwitchTimeout (the session was ended; read again).
        """
        deadline = time.monotonic() + timeout
        with self._applying:
            apply_bundle(self._ready(), changes, deadline)

    def barrier(self, timeout: float = 10.0) -> None:
        """Wait until the switch has done everything sent so far; raises SwitchGone or SwitchTimeout."""
        self._ready().barrier(time.monotonic() + timeout)

    def flows(self, *, cookie: int = 0, cookie_mask: int = 0, table: int | None = None) -> list[InstalledFlow]:
        """The installed flows whose cookie agrees in the masked bits; over a connection of its own."""
        return dump_flows(self.socket, cookie=cookie, cookie_mask=cookie_mask, table=table)

    def groups(self) -> list[InstalledGroup]:
        """The installed groups."""
        return dump_groups(self.socket)

    def tables(self) -> list[TableUse]:
        """How the tables that hold flows are used."""
        return dump_tables(self.socket)

    def flush(self, connections: Iterable[Flush], timeout: float = 10.0) -> None:
        """Forget tracked connections; returns when the switch has. Raises SwitchGone or SwitchTimeout."""
        link = self._ready()
        packed = [pack_flush(each, link.xids(1)) for each in connections]
        if packed:
            link.send(b"".join(packed))
            link.barrier(time.monotonic() + timeout)

    def packet_out(self, packet: bytes, actions: tuple[Action, ...], in_port: int = ANY_PORT) -> None:
        """Let the switch act on a packet of ours; a refusal is only logged. Raises SwitchGone or ValueError."""
        link = self._ready()
        link.send(pack_packet_out(packet, actions, in_port, link.xids(1)))

    def set_controller_rate(self, packets_per_second: int) -> None:
        """Limit the packets handed to us, now and after every reconnect; the switch drops what exceeds it."""
        self._meter = MeterEntry(CONTROLLER_METER, packets_per_second, packets_per_second, packets=True)
        link = self._link
        if link is not None:
            link.set_meter(self._meter)

    def _ready(self) -> Link:
        link = self._link
        if link is None:
            raise SwitchGone(f"{self.socket}: not connected: {self._said or 'not yet'}")
        return link

    def _keep_connected(self) -> None:
        pause = FIRST_RETRY
        while not self._stopping.is_set():
            was_ready, reason = self._connect_once()
            pause = FIRST_RETRY if was_ready else min(pause * 2, LAST_RETRY)
            if not self._stopping.is_set():
                self._say_disconnected(reason, always=was_ready)
            self._stopping.wait(pause)

    def _connect_once(self) -> tuple[bool, str]:
        """One session from connecting to its end: whether it was ever ready, and why it ended."""
        try:
            stream = connect(self.socket)
        except OSError as error:
            return False, f"cannot connect to {self.socket}: {error.strerror or error}"
        link = Link(stream, self.socket, meter=self._meter, on_ready=self._became_ready, on_packet_in=self._take_packet)
        self._latest = link
        if self._stopping.is_set():
            link.end("stopped")
        try:
            reason = link.serve()
        except Exception as error:  # whatever a broken switch makes os-ken raise, we connect again
            log.exception("%s: the session failed", self.socket)
            reason = f"the session failed: {error!r}"
        was_ready, self._link = self._link is not None, None
        return was_ready, reason

    def _became_ready(self, link: Link) -> None:
        self._link, self._said = link, ""
        log.info("%s: connected to %s %s", self.socket, link.description.hardware, link.description.software)
        self._calls.put(lambda: self._on_connected(self))

    def _say_disconnected(self, reason: str, always: bool) -> None:
        if always or reason != self._said:
            log.warning("%s: disconnected: %s", self.socket, reason)
            self._calls.put(lambda: self._on_disconnected(self, reason))
        self._said = reason

    def _take_packet(self, message: Any) -> None:
        if self._calls.qsize() >= _PACKETS_WAITING:
            self.packets_dropped += 1
            return
        self._calls.put(lambda: self._on_packet_in(self, read_packet_in(message)))

    def _run_callbacks(self) -> None:
        while (call := self._calls.get()) is not None and not self._stopping.is_set():
            try:
                call()
            except Exception:  # a callback's fault must not end the session
                log.exception("%s: a callback failed", self.socket)
