"""Speaking to one FRR daemon over its own socket, as ``vtysh`` does: a command ended by a zero byte; the answer, three
zero bytes and a code. A command takes 0.1 ms so, where a process of ``vtysh`` takes 30."""

from __future__ import annotations

import socket
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import orjson

SECONDS: Final = 5.0
GONE: Final = 13
"""CMD_WARNING_CONFIG_FAILED: among others, what is to be removed is not there."""
_END: Final = b"\0\0\0"


class FrrError(Exception):
    """FRR is not installed, does not start, or refused a command; the message says which and what to do."""


class Vty:
    """One connection, in the daemon's enabled mode. A context manager."""

    def __init__(self, path: Path) -> None:
        self._name = path.stem
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(SECONDS)
        try:
            self._socket.connect(str(path))
            self._exchange("enable")
        except OSError as error:
            self._socket.close()
            raise FrrError(f"{self._name} does not answer at {path}: {error.strerror or error}") from error

    def __enter__(self) -> Vty:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def show(self, command: str) -> Any:
        """What a ``show … json`` says.

        Raises:
            FrrError: the daemon does not know the command, or has gone.
        """
        said = self.run(command)
        try:
            return orjson.loads(said)
        except orjson.JSONDecodeError as error:
            raise FrrError(f"{self._name}: {command}: not JSON: {said[:200]!r}") from error

    def run(self, command: str, *, may_miss: bool = False) -> str:
        """Run one command; its output. ``may_miss``: it may find nothing to remove.

        Raises:
            FrrError: the daemon refused it, or has gone; a password in it is not told.
        """
        try:
            code, said = self._exchange(command)
        except OSError as error:
            raise FrrError(f"{self._name} does not answer {_told(command)!r}: {error.strerror or error}") from error
        if code and not (may_miss and code == GONE):
            raise FrrError(
                f"{self._name} refused {_told(command)!r}: {said.replace(command, _told(command)).strip() or f'code {code}'}"
            )
        return said

    def _exchange(self, command: str) -> tuple[int, str]:
        self._socket.sendall(command.encode() + b"\0")
        answer = bytearray()
        while answer[-4:-1] != _END:
            received = self._socket.recv(1 << 16)
            if not received:
                raise ConnectionResetError("it ended the connection")
            answer += received
        return answer[-1], answer[:-4].decode(errors="replace")


def _told(command: str) -> str:
    head, password, _ = command.partition(" password ")
    return head + (password and " password …")
