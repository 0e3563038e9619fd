"""The node agent's own HTTP API on a unix socket: what is realised here, in the words of Kubernetes objects."""

from __future__ import annotations

import logging
import os
import socketserver
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import orjson

log = logging.getLogger(__name__)

View = Callable[[], Any]


class NodeApi:
    """Serves read-only views as JSON: ``GET <path>`` calls the view of that path."""

    def __init__(self, path: Path, views: dict[str, View]) -> None:
        path.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._server = _Server(str(path), _requests(views))
        os.chmod(path, 0o600)
        self._thread = threading.Thread(target=self._server.serve_forever, name="node-api", daemon=True)

    def start(self) -> None:
        """Answer from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Close the socket and remove its file."""
        self._server.shutdown()
        self._server.server_close()
        self._path.unlink(missing_ok=True)


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True

    def get_request(self) -> tuple[Any, Any]:
        request, _ = super().get_request()
        return request, ("local", 0)


def _requests(views: dict[str, View]) -> type[BaseHTTPRequestHandler]:
    class Request(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            view = views.get(self.path)
            if view is None:
                self._answer(404, {"error": f"{self.path} is not served; there are {', '.join(sorted(views))}"})
                return
            try:
                self._answer(200, view())
            except Exception as error:
                log.exception("GET %s failed", self.path)
                self._answer(500, {"error": f"{type(error).__name__}: {error}"})

        def _answer(self, status: int, body: Any) -> None:
            content = orjson.dumps(body, default=str)
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            log.debug(format, *args)

    return Request
