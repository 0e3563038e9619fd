"""``/healthz``, ``/readyz`` and ``/metrics`` of a long-running process, on one small HTTP server."""

from __future__ import annotations

import json
import logging
import socket
import socketserver
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import parse_qs
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import REGISTRY, CollectorRegistry, make_wsgi_app

from ncp.metrics import ApiCollector

log = logging.getLogger(__name__)

Check = Callable[[], str | None]
"""Returns None when all is well, else what is wrong, as a sentence."""
Environ = dict[str, Any]
Respond = Callable[..., Any]


class Server:
    """The running server. ``port`` is the one it got when 0 was asked for."""

    def __init__(self, server: WSGIServer, close: Callable[[], None]):
        self._server = server
        self._close = close
        self.host, self.port = server.server_address[:2]
        self._thread = threading.Thread(target=server.serve_forever, args=(0.2,), name="health", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop answering and free the port."""
        self._server.shutdown()
        self._server.server_close()
        self._close()


def serve(
    host: object,
    port: int,
    checks: Mapping[str, Check],
    *,
    ready: Mapping[str, Check] | None = None,
    registry: CollectorRegistry = REGISTRY,
) -> Server:
    """Answer on ``host`` (an address, as text or :class:`ipam.address.Address`) until stopped.

    ``/healthz`` asks ``checks``, ``/readyz`` asks ``ready`` (default: the same): 200 with a line per check, or 503 with the
    reasons; as JSON with ``?verbose`` or ``Accept: application/json``. A check that raises has failed.

    Raises:
        OSError: the port is taken, or the address is not ours.
    """
    metrics = make_wsgi_app(registry)
    pages = {"/healthz": checks, "/readyz": checks if ready is None else ready}

    def application(environ: Environ, respond: Respond) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == "/metrics":
            return metrics(environ, respond)
        if path not in pages:
            return _answer(respond, "404 Not Found", "text/plain", "there are /healthz, /readyz and /metrics\n")
        return _judge(pages[path], environ, respond)

    try:
        server = make_server(str(host), port, application, _Threads6 if ":" in str(host) else _Threads, _Quiet)
    except OSError as error:
        raise OSError(error.errno, f"cannot serve health on {host} port {port}: {error.strerror}") from error
    collector = ApiCollector()
    registry.register(collector)
    return Server(server, lambda: registry.unregister(collector))


def _judge(checks: Mapping[str, Check], environ: Environ, respond: Respond) -> list[bytes]:
    verdicts = {name: _ask(name, check) for name, check in checks.items()}
    status = "503 Service Unavailable" if any(verdicts.values()) else "200 OK"
    query = parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True)
    if "verbose" in query or "application/json" in environ.get("HTTP_ACCEPT", ""):
        body = {"ok": not any(verdicts.values()), "checks": {name: why or "ok" for name, why in verdicts.items()}}
        return _answer(respond, status, "application/json", json.dumps(body) + "\n")
    text = "".join(f"{name}: {why or 'ok'}\n" for name, why in verdicts.items()) or "ok\n"
    return _answer(respond, status, "text/plain", text)


def _ask(name: str, check: Check) -> str | None:
    try:
        return check()
    except Exception as error:
        log.exception("health check %s failed to run", name)
        return f"the check itself failed: {type(error).__name__}: {error}"


def _answer(respond: Respond, status: str, kind: str, text: str) -> list[bytes]:
    body = text.encode()
    respond(status, [("Content-Type", f"{kind}; charset=utf-8"), ("Content-Length", str(len(body)))])
    return [body]


class _Threads(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)  # the base class looks the host up in DNS, which may take seconds
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]
        self.setup_environ()


class _Threads6(_Threads):
    address_family = socket.AF_INET6


class _Quiet(WSGIRequestHandler):
    timeout = 5  # seconds a client may take to say what it wants

    def log_message(self, format: str, *args: Any) -> None:
        log.debug(format, *args)
