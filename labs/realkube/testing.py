"""A real control plane for the length of a ``with`` block."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType

from labs.realkube.binaries import Binaries, find_binaries
from labs.realkube.control_plane import Command, commands, etcd_call, write_kubeconfig

# A test run that is killed outright takes the control plane with it (util-linux; without it, only an orderly end does).
_DIES_WITH_US = ("setpriv", "--pdeathsig", "KILL") if shutil.which("setpriv") else ()


class RealApi:
    """etcd and kube-apiserver in a temporary directory, stopped and removed at the end of the ``with`` block.

    ``url`` is the server's address, ``kubeconfig`` the path of a file that reaches it with every right,
    ``version`` its (major, minor, patch). Raises BinariesMissingError when the programs are not on this machine and
    RuntimeError, with the last lines of its log, when one of them does not become ready.
    """

    def __init__(self, binaries: Binaries | None = None, *, start_seconds: float = 90) -> None:
        self.binaries = binaries or find_binaries()
        self.version = self.binaries.version
        self._start_seconds = start_seconds
        self._running: list[tuple[subprocess.Popen[bytes], Path]] = []

    def __enter__(self) -> RealApi:
        self.state = Path(tempfile.mkdtemp(prefix="ncp-kube-"))
        try:
            self._port = _free_port()
            self.url = f"https://127.0.0.1:{self._port}"
            self.kubeconfig = write_kubeconfig(self.state, self._port)
            self._start_all()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def restart(self) -> None:
        """Kill both programs, as a crash would, and start them again on what they had stored."""
        self._kill_all()
        self._start_all()

    def etcd(self, path: str, body: str = "") -> tuple[int, bytes]:
        """Ask etcd itself, past the API server: status and body of its JSON gateway's answer."""
        return etcd_call(self.state, path, body)

    def check(self) -> None:
        """Raise RuntimeError when one of the programs has died, with the reason its log gives."""
        for child, log in self._running:
            if child.poll() is not None:
                raise RuntimeError(f"{log.stem} died with {child.returncode}:\n{_reason(log)}")

    def _start_all(self) -> None:
        for command in commands(self.state, self.binaries, self._port):
            self._start(command)

    def _start(self, command: Command) -> None:
        log = self.state / f"{command.name}.log"
        with log.open("wb") as output:
            child = subprocess.Popen(
                (*_DIES_WITH_US, *command.argv),
                env={**os.environ, **command.env},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the tests, which then stop it in order
            )
        self._running.append((child, log))
        deadline = time.monotonic() + self._start_seconds
        while not command.ready():
            if child.poll() is not None or time.monotonic() > deadline:
                ending = "ended" if child.returncode is not None else f"not ready after {self._start_seconds:.0f} s"
                raise RuntimeError(f"{command.name} {ending}: {' '.join(command.argv)}\n{_reason(log)}")
            time.sleep(0.05)

    def _kill_all(self) -> None:
        for child, _ in reversed(self._running):
            child.kill()
            child.wait()
        self._running.clear()

    def _stop(self) -> None:
        """Nothing of a throw-away control plane needs saving, so there is no grace period to wait for."""
        self._kill_all()
        shutil.rmtree(self.state)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _reason(log: Path) -> str:
    """Return the lines of a log that tell why its program ended: a Go program's last words come before its stacks."""
    lines = log.read_text(errors="replace").splitlines()
    last_words = [number for number, line in enumerate(lines) if line.startswith(("panic:", "fatal error:"))]
    first = last_words[0] if last_words else max(0, len(lines) - 20)
    return "\n".join(lines[first : first + 20])
