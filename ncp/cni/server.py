"""The unix socket on which ``ncp node`` takes CNI calls: one connection, one thread, one call, one log line."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import socketserver
import struct
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from ncp.cni import protocol, wire
from ncp.cni.protocol import CniError, Request
from ncp.cni.realise import PodRealiser, Steps, as_cni

LOG = logging.getLogger(__name__)
BACKLOG: Final = 512  # a node that reboots starts all its pods at once
READ_SECONDS: Final = 10.0  # a caller has its request ready


class CniServer:
    """Serves CNI calls at ``socket_path`` until stopped. Only root may call.

    Raises:
        OSError: another process serves there, or the directory is not writable.
    """

    def __init__(self, socket_path: str | Path, realiser: PodRealiser) -> None:
        self.path = str(socket_path)
        self._realiser = realiser
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="cni", daemon=True)

    def start(self) -> None:
        """Serve in the background."""
        self._thread.start()

    def stop(self) -> None:
        """Stop taking calls and remove the socket; calls under way end by themselves."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)

    def __enter__(self) -> CniServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def answer(self, body: bytes) -> tuple[int, bytes]:
        """Exit code and output of a call as it came over the socket, header excepted."""
        start, steps, what, version = time.perf_counter(), Steps(), "malformed request", protocol.VERSIONS[-1]
        failure: CniError | None = None
        try:
            environ, stdin = wire.of_call(body)
            config = protocol.parse_config(stdin)
            version = protocol.reply_version(config)
            request = protocol.parse_request(environ, config)
            what = f"{request.command} {request.iface_id or '-'} container {request.container or '-'}"
            result = self._do(request, steps)
        except wire.NotACall as error:
            failure = CniError(protocol.DECODING_FAILURE, f"not a call of the plugin: {error}")
        except Exception as error:
            failure = as_cni(error)
        taken = (time.perf_counter() - start) * 1000
        if failure is not None:
            told = f"failed with code {failure.code}: {failure.msg}"
            LOG.warning("%s: %s in %.1f ms (%s)", what, told, taken, steps)
            return protocol.failed(version, failure)
        LOG.info("%s: done in %.1f ms (%s)", what, taken, steps)
        return protocol.succeeded(result)

    def _do(self, request: Request, steps: Steps) -> dict[str, Any] | None:
        deadline = time.monotonic() + request.timeout
        match request.command:
            case "ADD":
                return self._realiser.add(request, deadline, steps)
            case "DEL":
                self._realiser.delete(request, deadline, steps)
            case "CHECK":
                self._realiser.check(request, deadline)
            case "GC":
                self._realiser.collect(request, deadline, steps)
            case "STATUS":
                self._realiser.status()
            case other:
                raise CniError(protocol.INVALID_ENVIRONMENT, f"{other} is answered by the plugin itself")
        return None


class _Call(socketserver.StreamRequestHandler):
    server: _Server
    timeout = READ_SECONDS

    def handle(self) -> None:
        uid = _peer_uid(self.connection)
        if uid != 0:
            LOG.warning("refused a CNI call of uid %d: only root may call", uid)
            return
        try:
            header = self.rfile.readline(wire.MAX_HEADER)
            if not header:
                return  # somebody only looked whether we are there
            size = wire.length(header)
            body = self.rfile.read(size)
        except OSError as error:
            LOG.warning("a caller sent no request: %s", error)
            return
        except wire.NotACall as error:
            LOG.warning("a caller sent no request: %s", error)
            body, size = b"", 0
        if len(body) < size:
            LOG.warning("a caller went away after %d of %d bytes of its request", len(body), size)
            return
        reply = wire.reply(*self.server.owner.answer(body))
        try:
            self.wfile.write(reply)
        except OSError as error:
            LOG.warning("the plugin went away before its answer: %s", error)


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = BACKLOG

    def __init__(self, owner: CniServer) -> None:
        self.owner = owner
        super().__init__(owner.path, _Call)

    def server_bind(self) -> None:
        _clear(self.owner.path)
        before = os.umask(0o177)
        try:
            wire.with_short_path(self.owner.path, self.socket.bind)
        finally:
            os.umask(before)

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, _ = super().get_request()
        return connection, "unix"


def _clear(path: str) -> None:
    """Remove the socket a dead process left.

    Raises:
        OSError: somebody answers there.
    """
    try:
        wire.connect(path).close()
    except FileNotFoundError:
        return
    except ConnectionRefusedError:
        os.unlink(path)
        return
    raise OSError(f"another process serves CNI calls at {path}: stop it, or choose another --cni-socket")


def _peer_uid(connection: socket.socket) -> int:
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[1])
