"""One live connection to a switch: what was asked on it and what came back."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sdn.openflow.app import SwitchSession, ensure_application
from sdn.openflow.message import pack_barrier, pack_meter, pack_packet_in_format
from sdn.openflow.values import SwitchDescription, SwitchGone, SwitchTimeout
from sdn.pipeline.flow import MeterEntry

log = logging.getLogger(__name__)

OLDEST_OPEN_VSWITCH = (3, 1)
# os-ken numbers its own messages from 0 on each connection; ours count in a range of their own.
_FIRST_XID, _LAST_XID = 0x40000000, 0xC0000000
_WHOLE_PACKETS = 0xFFFF


class Refused(Exception):
    """The switch answered one message with an error; the text is its reason in words."""


class Answer:
    """What will come back for one xid."""

    def __init__(self) -> None:
        self.arrived = threading.Event()
        self.error: Exception | None = None

    def settle(self, error: Exception | None = None) -> None:
        """The answer is here: good, or an error."""
        self.error = error
        self.arrived.set()


class Link:
    """A connection from the first hello to its end. Implements :class:`sdn.openflow.app.Listener`.

    ``on_ready`` is called once when packets and changes may flow, ``on_packet_in`` for each os-ken packet-in
    message, both in the receiving thread.
    """

    def __init__(
        self,
        stream: socket.socket,
        path: Path,
        *,
        meter: MeterEntry | None,
        on_ready: Callable[[Link], None],
        on_packet_in: Callable[[Any], None],
    ) -> None:
        ensure_application()
        self.description = SwitchDescription(0, "", "")
        self._path = path
        self._meter = meter
        self._on_ready = on_ready
        self._on_packet_in = on_packet_in
        self._answers: dict[int, Answer] = {}
        self._refusals: dict[int, str] | None = None
        self._next_xid = _FIRST_XID
        self._setup_xid = 0
        self._lock = threading.Lock()
        self._over = False
        self._session = SwitchSession(stream, path, self)

    def serve(self) -> str:
        """Run until the connection ends, in the calling thread; returns why it ended."""
        try:
            self._session.serve()
        finally:
            reason = self._session.ended or "the switch closed the connection"
            with self._lock:
                self._over = True
                waiting, self._answers = self._answers, {}
            for answer in waiting.values():
                answer.settle(SwitchGone(f"{self._path}: {reason}"))
        return reason

    def end(self, reason: str) -> None:
        """End the connection."""
        self._session.end(reason)

    def xids(self, count: int) -> int:
        """Reserve this many consecutive message numbers; returns the first."""
        with self._lock:
            if self._next_xid + count > _LAST_XID:
                self._next_xid = _FIRST_XID
            first = self._next_xid
            self._next_xid += count
            return first

    def send(self, packed: bytes) -> None:
        """Send to the switch, waiting while it does not read; raises SwitchGone."""
        if not self._session.write(packed):
            raise SwitchGone(f"{self._path}: {self._session.ended or 'the connection has ended'}")

    def expect(self, xid: int) -> Answer:
        """Say, before sending, that an answer to this message matters."""
        answer = Answer()
        with self._lock:
            if self._over:
                raise SwitchGone(f"{self._path}: {self._session.ended or 'the connection has ended'}")
            self._answers[xid] = answer
        return answer

    def wait(self, answer: Answer, deadline: float) -> None:
        """Wait for an answer until a time of the monotonic clock.

        Raises Refused, SwitchGone, or SwitchTimeout; after a timeout the connection is ended, because nobody
        knows any more what the switch holds.
        """
        if not answer.arrived.wait(max(deadline - time.monotonic(), 0)):
            self.end("the switch did not answer in time")
            raise SwitchTimeout(f"{self._path} did not answer in time")
        if answer.error is not None:
            raise answer.error

    def barrier(self, deadline: float) -> None:
        """Wait until the switch has done everything sent so far."""
        xid = self.xids(1)
        answer = self.expect(xid)
        self.send(pack_barrier(xid))
        self.wait(answer, deadline)

    @contextmanager
    def refusals(self) -> Iterator[dict[int, str]]:
        """Collect, by xid, the errors that arrive meanwhile."""
        collected: dict[int, str] = {}
        self._refusals = collected
        try:
            yield collected
        finally:
            self._refusals = None

    def set_meter(self, meter: MeterEntry) -> None:
        """Replace a meter."""
        self.send(self._replacing(meter))

    # What os-ken tells us, in the receiving thread.

    def main(self, datapath: Any) -> None:
        """Ask who it is, switch packets on, and put a barrier behind it all."""
        protocol, parser = datapath.ofproto, datapath.ofproto_parser
        self.description = SwitchDescription(datapath.id, "", "")
        datapath.send_msg(parser.OFPDescStatsRequest(datapath, 0))
        datapath.send_msg(parser.OFPSetConfig(datapath, protocol.OFPC_FRAG_NORMAL, _WHOLE_PACKETS))
        # Queued, because it must come behind what os-ken queued, and this thread must never wait for the switch to read.
        if self._meter is not None:
            self._session.send(self._replacing(self._meter))
        self._setup_xid = self.xids(2)
        self._session.send(pack_packet_in_format(self._setup_xid + 1) + pack_barrier(self._setup_xid))

    def described(self, software: str, hardware: str) -> None:
        """Note who the switch says it is."""
        self.description = self.description._replace(software=software, hardware=hardware)

    def answered(self, xid: int) -> None:
        """Settle an answer, or finish setting up."""
        if xid == self._setup_xid:
            self._set_up()
            return
        with self._lock:
            answer = self._answers.pop(xid, None)
        if answer is not None:
            answer.settle()

    def refused(self, xid: int, reason: str) -> None:
        """Settle an answer with an error, and note it for whoever collects errors."""
        with self._lock:
            answer = self._answers.pop(xid, None)
        if answer is not None:
            answer.settle(Refused(reason))
        elif self._refusals is None:
            log.warning("%s refused message %#x: %s", self._path, xid, reason)
        if self._refusals is not None:
            self._refusals[xid] = reason

    def packet_in(self, message: Any) -> None:
        """Hand a packet on."""
        self._on_packet_in(message)

    def _replacing(self, meter: MeterEntry) -> bytes:
        """Messages that replace a meter; deleting one that is not there is no error."""
        xid = self.xids(2)
        return pack_meter(meter, 2, xid) + pack_meter(meter, 0, xid + 1)

    def _set_up(self) -> None:
        version = _version(self.description.software)
        if version < OLDEST_OPEN_VSWITCH:
            oldest = ".".join(map(str, OLDEST_OPEN_VSWITCH))
            said = f"{self.description.hardware} {self.description.software}".strip() or "nothing"
            self.end(f"the switch says it is {said}: Open vSwitch {oldest} or later is needed")
            return
        self._on_ready(self)


def _version(software: str) -> tuple[int, ...]:
    """The leading numbers of a version: (3, 1, 0) of "3.1.0-2"; () if there are none."""
    numbers: list[int] = []
    for part in software.partition("-")[0].split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers)
