"""A very small API server for tests: real HTTP over loopback, and it misbehaves on request."""

from __future__ import annotations

import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


def pod(name: str, version: int, *, uid: str = "u1", color: str = "") -> dict:
    metadata = {"name": name, "namespace": "default", "uid": uid, "resourceVersion": str(version)}
    return {"kind": "Pod", "apiVersion": "v1", "metadata": metadata, "spec": {"color": color}}


class TinyApi:
    """Serves pods: list (paged) and watch. ``objects``, ``version`` and ``log`` are its whole state."""

    def __init__(self) -> None:
        self.objects: dict[str, dict] = {}
        self.version = 100
        self.log: list[tuple[int, str, dict]] = []
        self.oldest = 0  # versions below are answered with 410
        self.gone_as_event = False
        self.requests: list[str] = []
        self.answers: list[tuple[int, dict]] = []  # canned answers to the next requests that are no watch
        self.watch_answers: list[tuple[int, dict]] = []  # the same for watches
        self.bodies: list[tuple[str, str, dict | list | None]] = []  # method, content type, body
        self.lock = threading.RLock()
        self._watchers: list[_Handler] = []
        self._server: ThreadingHTTPServer | None = None
        self.port = 0

    def start(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), type("Handler", (_Handler,), {"api": self}))
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
        self.cut()

    def put(self, name: str, *, uid: str = "u1", color: str = "") -> dict:
        with self.lock:
            self.version += 1
            kind = "MODIFIED" if name in self.objects else "ADDED"
            self.objects[name] = pod(name, self.version, uid=uid, color=color)
            self._publish(kind, self.objects[name])
            return self.objects[name]

    def drop(self, name: str) -> None:
        with self.lock:
            self.version += 1
            gone = self.objects.pop(name)
            self._publish("DELETED", pod(name, self.version, uid=gone["metadata"]["uid"]))

    def bookmark(self) -> None:
        with self.lock:
            self.version += 1
            self.inject("BOOKMARK", {"kind": "Pod", "metadata": {"resourceVersion": str(self.version)}})

    def inject(self, kind: str, obj: dict) -> None:
        """An event straight to every open watch, whatever the state says."""
        self.raw(_line(kind, obj))

    def raw(self, data: bytes) -> None:
        with self.lock:
            for watcher in self._watchers:
                watcher.chunk(data)

    def cut(self) -> None:
        """Hang up on every watch, in the middle of whatever it was saying."""
        with self.lock:
            for watcher in self._watchers:
                watcher.over.set()
                try:
                    watcher.connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue  # already gone
            self._watchers.clear()

    @property
    def watching(self) -> int:
        return len(self._watchers)

    def _publish(self, kind: str, obj: dict) -> None:
        self.log.append((self.version, kind, obj))
        self.inject(kind, obj)


def _line(kind: str, obj: dict) -> bytes:
    return json.dumps({"type": kind, "object": obj}).encode() + b"\n"


class _Handler(BaseHTTPRequestHandler):
    api: TinyApi
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        self.over = threading.Event()

    def log_message(self, *args: object) -> None:
        """Silence."""

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        self.api.requests.append(self.path)
        if "watch" in query and self.api.watch_answers:
            self._answer(*self.api.watch_answers.pop(0))
        elif "watch" in query:
            self._watch(int(query["resourceVersion"]))
        elif self.api.answers:
            self._answer(*self.api.answers.pop(0))
        elif url.path.endswith("/version"):
            self._answer(200, {"gitVersion": "v0"})
        else:
            self._list(query)

    def do_write(self) -> None:
        self.api.requests.append(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        self.api.bodies.append((self.command, self.headers.get("Content-Type", ""), body))
        self._answer(*(self.api.answers.pop(0) if self.api.answers else (200, body or {})))

    do_POST = do_PUT = do_PATCH = do_DELETE = do_write  # noqa: N815

    def _list(self, query: dict[str, str]) -> None:
        with self.api.lock:
            items = sorted(self.api.objects.values(), key=lambda item: item["metadata"]["name"])
            metadata = {"resourceVersion": str(self.api.version)}
        start, limit = int(query.get("continue", 0)), int(query.get("limit", len(items) or 1))
        if start + limit < len(items):
            metadata["continue"] = str(start + limit)
        bare = [{key: item[key] for key in ("metadata", "spec")} for item in items[start : start + limit]]
        self._answer(200, {"kind": "PodList", "metadata": metadata, "items": bare})

    def _watch(self, since: int) -> None:
        gone = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}
        with self.api.lock:
            if since < self.api.oldest and not self.api.gone_as_event:
                self._answer(410, gone)
                return
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            if since < self.api.oldest:
                self.chunk(_line("ERROR", gone))
                self.chunk(b"")
                return
            for version, kind, obj in self.api.log:
                if version > since:
                    self.chunk(_line(kind, obj))
            self.api._watchers.append(self)
        self.over.wait()
        self.close_connection = True

    def chunk(self, data: bytes) -> None:
        try:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        except OSError:
            self.over.set()

    def _answer(self, status: int, body: dict) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
