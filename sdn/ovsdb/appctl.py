"""What ``ovs-appctl`` does, from Python: commands to a running ovs-vswitchd over its control socket (unixctl).

The protocol is JSON-RPC, one message after another with nothing between them (unixctl(7)). It is spoken here with the standard
library: the parser of the ``ovs`` package takes ten times as long over a trace as the switch does to make it.
"""

from __future__ import annotations

import codecs
import json
import os
import select
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from sdn.openflow.wire import connect

WINDOW: Final = 48
"""Commands under way at a time: their requests fit a socket's buffer, so that neither side waits for the other to read."""
FIRST_PAUSE: Final = 0.0005
LAST_PAUSE: Final = 0.05
"""Seconds until what is done meanwhile is done again."""
_CHUNK: Final = 1 << 18


class AppctlError(Exception):
    """The daemon is not there, did not answer in time, or refused the command."""


class Appctl:
    """Commands to the ovs-vswitchd whose run directory is ``rundir``.

    The control socket is looked up by the daemon's pid file at every call, so a restarted daemon is found.
    """

    def __init__(self, rundir: str | Path, *, timeout: float = 10.0) -> None:
        self._rundir = Path(rundir)
        self._timeout = timeout

    def connect(self) -> Session:
        """A connection to the daemon that runs now, for many commands; close it, or use it in a ``with``.

        Raises:
            AppctlError: the daemon is away.
        """
        return Session(self._socket(), self._timeout)

    def call(self, command: str, *arguments: str) -> str:
        """Run one command, as ``ovs-appctl COMMAND ARGUMENTS…``, and return what it prints.

        Raises:
            AppctlError: the daemon is away, silent for too long, or answered with an error.
        """
        with self.connect() as session:
            return session.call(command, *arguments)

    def version(self) -> str:
        """Version of the running ovs-vswitchd, as ``3.1.0``."""
        return self.call("version").split()[-1]

    def trace(self, bridge: str, flow: str, *options: str) -> str:
        """``ofproto/trace``: what the flows of a bridge do with a packet, as text."""
        return self.call("ofproto/trace", bridge, flow, *options)

    def set_neighbour(self, bridge: str, address: str, mac: str) -> None:
        """Tell the switch which MAC a tunnel endpoint has; otherwise the first packet to it is lost to ARP or ND."""
        self.call("tnl/neigh/set", bridge, address, mac)

    def neighbours(self) -> dict[str, tuple[str, str]]:
        """The tunnel endpoints whose MAC the switch knows: address → (MAC, bridge)."""
        rows = (line.split() for line in self.call("tnl/neigh/show").splitlines()[2:])
        return {row[0]: (row[1], row[2]) for row in rows if len(row) >= 3}

    def _socket(self) -> Path:
        pid_file = self._rundir / "ovs-vswitchd.pid"
        try:
            pid = int(pid_file.read_text())
        except (OSError, ValueError) as error:
            raise AppctlError(f"ovs-vswitchd is not running: {pid_file}: {error}") from error
        names = (f"ovs-vswitchd.{pid}.ctl", "ovs-vswitchd.ctl", "vswitchd.ctl")
        for path in (self._rundir / name for name in names):
            if path.exists():
                return path
        raise AppctlError(
            f"ovs-vswitchd (pid {pid}) has no control socket in {self._rundir}: none of {', '.join(names)}"
        )


class Session:
    """One open connection to a daemon; of one thread at a time. After an :class:`AppctlError` it is of no use any more,
    unless the daemon only refused the command."""

    def __init__(self, path: Path, timeout: float) -> None:
        self._path, self._timeout = path, timeout
        self._next = 0
        self._text = ""
        self._characters = codecs.getincrementaldecoder("utf-8")("replace")
        self._json = json.JSONDecoder()
        try:
            self._socket = connect(path, timeout)
        except OSError as error:
            raise AppctlError(f"ovs-vswitchd does not answer at {path}: {_reason(error)}") from error

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        self._socket.close()

    def call(self, command: str, *arguments: str, meanwhile: Callable[[], None] | None = None) -> str:
        """Run one command and return what it prints. ``meanwhile`` is called when it has been sent, and again and again, with
        growing pauses, until it is answered.

        Raises:
            AppctlError: as for :meth:`Appctl.call`.
        """
        return self._window(command, [arguments], meanwhile)[0]

    def calls(self, command: str, arguments: Iterable[tuple[str, ...]]) -> list[str]:
        """Run a command once for each of some arguments, several under way at a time; what each printed, in their order.

        Raises:
            AppctlError: as for :meth:`Appctl.call`; of several refusals the first.
        """
        asked = list(arguments)
        found: list[str] = []
        for start in range(0, len(asked), WINDOW):
            found += self._window(command, asked[start : start + WINDOW])
        return found

    def _window(
        self, command: str, asked: list[tuple[str, ...]], meanwhile: Callable[[], None] | None = None
    ) -> list[str]:
        first, self._next = self._next, self._next + len(asked)
        requests = (
            json.dumps({"id": first + number, "method": command, "params": each}) for number, each in enumerate(asked)
        )
        replies: dict[int, Any] = {}
        deadline = time.monotonic() + self._timeout
        try:
            self._socket.sendall("".join(requests).encode())
            if meanwhile is not None:
                self._until_answered(meanwhile, deadline)
            while len(replies) < len(asked):
                reply = self._reply(command, deadline)
                replies[int(reply["id"])] = reply
        except OSError as error:
            raise AppctlError(f"{command}: no answer from ovs-vswitchd at {self._path}: {_reason(error)}") from error
        for reply in (replies[number] for number in sorted(replies)):
            if reply.get("error") is not None:
                raise AppctlError(f"{command}: {str(reply['error']).strip()}")
        return [str(replies[first + number]["result"]) for number in range(len(asked))]

    def _until_answered(self, meanwhile: Callable[[], None], deadline: float) -> None:
        meanwhile()
        pause = FIRST_PAUSE
        while time.monotonic() < deadline and not select.select([self._socket], [], [], pause)[0]:
            meanwhile()
            pause = min(2 * pause, LAST_PAUSE)

    def _reply(self, command: str, deadline: float) -> dict[str, Any]:
        """The next message; waits for one."""
        while True:
            if self._text:
                try:
                    reply, end = self._json.raw_decode(self._text)
                except ValueError:
                    pass  # only a part of it is there
                else:
                    self._text = self._text[end:].lstrip()
                    return dict(reply)
            left = deadline - time.monotonic()
            if left <= 0:
                raise AppctlError(f"{command}: no answer from ovs-vswitchd within {self._timeout:g} s")
            self._socket.settimeout(left)
            received = self._socket.recv(_CHUNK)
            if not received:
                raise AppctlError(f"{command}: ovs-vswitchd closed the connection")
            self._text += self._characters.decode(received)


def _reason(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return "it took too long"
    return os.strerror(error.errno) if error.errno else str(error)
