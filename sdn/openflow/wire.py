"""Sockets to a switch: connecting to its management socket, and a small private read-only session."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from struct import Struct
from types import TracebackType
from typing import Any

from sdn.openflow.pack import OPENFLOW_15
from sdn.openflow.values import SwitchGone, SwitchTimeout

_HEADER = Struct("!BBHI")
_HELLO, _ERROR, _ECHO_REQUEST, _ECHO_REPLY = 0, 1, 2, 3
_ASKING = 0x40000001  # the switch counts its own messages from 1
_PATH_LIMIT = 100  # a unix address holds 107 bytes of path


class UnixStream(socket.socket):
    """A unix stream socket for several senders, which tolerates being told TCP options as code written for TCP does."""

    def __init__(self) -> None:
        super().__init__(socket.AF_UNIX, socket.SOCK_STREAM)
        self._sending = threading.Lock()

    def sendall(self, packed: Any, flags: int = 0) -> None:
        """Send all of it; what two threads send does not mix."""
        with self._sending:
            super().sendall(packed, flags)

    def setsockopt(self, level: int, *arguments: Any) -> None:
        """Set an option, unless it is one of TCP's."""
        if level != socket.IPPROTO_TCP:
            super().setsockopt(level, *arguments)


def management_socket(place: Path, bridge: str) -> Path:
    """The management socket of a bridge: ``place`` itself if it names one, else found in that run directory."""
    return place if place.suffix == ".mgmt" else place / f"{bridge}.mgmt"


def connect(path: Path, timeout: float = 5.0) -> UnixStream:
    """Connect to a unix socket however long its path is; raises OSError as connect does."""
    stream = UnixStream()
    try:
        stream.settimeout(timeout)
        if len(os.fsencode(path)) <= _PATH_LIMIT:
            stream.connect(str(path))
            return stream
        directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
        try:
            stream.connect(f"/proc/self/fd/{directory}/{path.name}")
        finally:
            os.close(directory)
        return stream
    except BaseException:
        stream.close()
        raise


class Reader:
    """A session of its own that asks one thing at a time and reads the answer as raw messages."""

    def __init__(self, path: Path, timeout: float) -> None:
        self._deadline = time.monotonic() + timeout
        self._path = path
        try:
            self._stream = connect(path, timeout)
            self._stream.sendall(_HEADER.pack(OPENFLOW_15, _HELLO, 8, 1))
        except OSError as error:
            raise SwitchGone(f"cannot read from {path}: {error}") from error

    def __enter__(self) -> Reader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()

    def ask(self, message_type: int, body: bytes) -> Iterator[bytes]:
        """Send a request and yield its replies (of the next type), without end: the caller knows the last one.

        Raises SwitchGone when the session ends or the switch answers with an error, SwitchTimeout when time is up.
        """
        try:
            self._stream.sendall(_HEADER.pack(OPENFLOW_15, message_type, 8 + len(body), _ASKING) + body)
            for message in self._messages():
                _, kind, _, xid = _HEADER.unpack_from(message)
                if kind == _ECHO_REQUEST:
                    self._stream.sendall(_HEADER.pack(OPENFLOW_15, _ECHO_REPLY, len(message), xid) + message[8:])
                elif kind == _ERROR:
                    raise SwitchGone(f"{self._path} answered a read with an error: {message.hex()}")
                elif kind == message_type + 1 and xid == _ASKING:
                    yield message
        except TimeoutError as error:
            raise SwitchTimeout(f"{self._path} did not answer a read in time") from error
        except OSError as error:
            raise SwitchGone(f"reading from {self._path}: {error}") from error

    def _messages(self) -> Iterator[bytes]:
        buffer = b""
        while True:
            self._stream.settimeout(max(self._deadline - time.monotonic(), 0.001))
            received = self._stream.recv(1 << 18)
            if not received:
                raise SwitchGone(f"{self._path} closed the session during a read")
            buffer = buffer + received if buffer else received
            position, end = 0, len(buffer)
            while end - position >= 8:
                length = int.from_bytes(buffer[position + 2 : position + 4], "big")
                if length < 8:
                    raise SwitchGone(f"{self._path} sent a message of impossible length {length}")
                if end - position < length:
                    break
                yield buffer[position : position + length]
                position += length
            buffer = buffer[position:]
