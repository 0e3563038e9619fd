"""What ``ovs-appctl`` does, from Python: commands to a running ovs-vswitchd over its control socket (unixctl)."""

from __future__ import annotations

import os
from pathlib import Path

import ovs.jsonrpc
import ovs.poller
import ovs.stream
import ovs.timeval


class AppctlError(Exception):
    """The daemon is not there, did not answer in time, or refused the command."""


class Appctl:
    """Commands to the ovs-vswitchd whose run directory is ``rundir``.

    The control socket is looked up by the daemon's pid file at every call, so a restarted daemon is found.
    """

    def __init__(self, rundir: str | Path, *, timeout: float = 10.0) -> None:
        self._rundir = Path(rundir)
        self._timeout = timeout

    def call(self, command: str, *arguments: str) -> str:
        """Run one command, as ``ovs-appctl COMMAND ARGUMENTS…``, and return what it prints.

        Raises:
            AppctlError: the daemon is away, silent for too long, or answered with an error.
        """
        path = self._socket()
        error, stream = ovs.stream.Stream.open_block(
            ovs.stream.Stream.open(f"unix:{path}"), timeout=int(self._timeout * 1000)
        )
        if error:
            raise AppctlError(f"ovs-vswitchd does not answer at {path}: {os.strerror(error)}")
        connection = ovs.jsonrpc.Connection(stream)
        try:
            return self._transact(connection, command, arguments)
        finally:
            connection.close()

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

    def _transact(self, connection: ovs.jsonrpc.Connection, command: str, arguments: tuple[str, ...]) -> str:
        request = ovs.jsonrpc.Message.create_request(command, list(arguments))
        if error := connection.send(request):
            raise AppctlError(f"{command}: cannot send: {os.strerror(error)}")
        deadline = ovs.timeval.msec() + self._timeout * 1000
        while True:
            connection.run()
            error, reply = connection.recv()
            if reply is not None and reply.id == request.id:
                break
            if error not in (0, 11):  # 11: EAGAIN, nothing there yet
                raise AppctlError(f"{command}: ovs-vswitchd closed the connection ({os.strerror(max(error, 0))})")
            if ovs.timeval.msec() >= deadline:
                raise AppctlError(f"{command}: no answer from ovs-vswitchd within {self._timeout:g} s")
            poller = ovs.poller.Poller()
            connection.wait(poller)
            connection.recv_wait(poller)
            poller.timer_wait_until(deadline)
            poller.block()
        if reply.error is not None:
            raise AppctlError(f"{command}: {str(reply.error).strip()}")
        return str(reply.result)
