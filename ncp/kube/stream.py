"""A watch as it comes off the wire: one JSON event per line, handed on the moment it is there."""

from __future__ import annotations

import socket
from typing import Any

import orjson
import urllib3

from ncp.kube.errors import ApiError, from_status, unavailable


class WatchStream:
    """Iterates over ``(type, object)``: ``ADDED``, ``MODIFIED``, ``DELETED`` or ``BOOKMARK``.

    Ends when the server ends the watch. ``close()`` may be called from another thread and ends a blocked read.

    Raises (while iterating):
        Gone: an ERROR event of code 410; other ERROR events raise the :class:`ApiError` of their code.
        Unavailable: the connection broke. What arrived of an unfinished line is dropped.
        ApiError: the server sent a line that is no watch event (reason ``BadEvent``).
    """

    def __init__(self, response: urllib3.BaseHTTPResponse, request: str):
        self._response = response
        self._request = request
        self._lines: list[bytes] = []  # complete lines, last one first
        self._rest = b""
        self._closed = False

    def __iter__(self) -> WatchStream:
        return self

    def __next__(self) -> tuple[str, dict[str, Any]]:
        while not self._lines:
            self._fill()
        return self._event(self._lines.pop())

    def close(self) -> None:
        """End the watch now. Safe to call twice, and from any thread."""
        self._closed = True
        connection = getattr(self._response, "connection", None)
        sock = getattr(connection, "sock", None)
        if sock is None:
            return
        try:
            # Closing a socket does not wake a thread that reads from it; shutting it down does.
            sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # the server was faster

    def _fill(self) -> None:
        try:
            piece = self._response.read1(65536)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            asked_to = self._closed
            self._release()
            if asked_to:
                raise StopIteration from None
            raise unavailable(self._request, error) from error
        if not piece:
            self._release()
            raise StopIteration
        if b"\n" not in piece:
            self._rest += piece
            return
        *lines, rest = (self._rest + piece).split(b"\n")
        self._rest = rest
        self._lines = [line for line in reversed(lines) if line]

    def _release(self) -> None:
        self._closed = True
        self._response.close()

    def _event(self, line: bytes) -> tuple[str, dict[str, Any]]:
        try:
            event = orjson.loads(line)
            kind, obj = event["type"], event["object"]
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            self._release()
            shown = line[:80].decode("utf-8", "replace")
            raise ApiError(0, "BadEvent", f"{self._request}: not a watch event: {shown!r}") from error
        if kind == "ERROR":
            self._release()
            raise from_status(obj)
        return kind, obj
