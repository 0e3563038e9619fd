"""A thin client of the Kubernetes API: raw JSON objects in and out, no model classes.

Every call raises an :class:`ApiError` (see :mod:`ncp.kube.errors`) when the server refuses or cannot be reached.
"""

from __future__ import annotations

import hashlib
import logging
import math
import socket
import ssl
import threading
import time
from datetime import UTC, datetime
from typing import Any, Final, Literal
from urllib.parse import quote, urlencode

import orjson
import urllib3

from ncp.kube.access import Access, AccessError, load
from ncp.kube.errors import (
    AlreadyExists,
    ApiError,
    Conflict,
    Gone,
    Invalid,
    NotFound,
    Unavailable,
    from_response,
    unavailable,
)
from ncp.kube.resources import EVENTS, PODS, Resource
from ncp.kube.stream import WatchStream

__all__ = [
    "AccessError",
    "AlreadyExists",
    "ApiError",
    "Conflict",
    "Gone",
    "Invalid",
    "Kube",
    "NotFound",
    "Unavailable",
    "WatchStream",
]

log = logging.getLogger(__name__)

PAGE: Final = 500
"""Objects per page of a list."""
CONNECT_TIMEOUT: Final = 5.0
READ_TIMEOUT: Final = 30.0
Json = dict[str, Any]
PatchKind = Literal["merge", "json", "strategic", "apply"]

_PATCH_TYPES: Final[dict[str, str]] = {
    "merge": "application/merge-patch+json",
    "json": "application/json-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "apply": "application/apply-patch+yaml",
}
# A peer that vanished without a word is noticed after 10 + 3 * 3 s; without Nagle a small request leaves at once.
_SOCKET_OPTIONS: Final = [
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 3),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
]


class Kube:
    """A connection to one API server; safe to share between threads."""

    def __init__(self, access: Access):
        self.access = access
        options: dict[str, Any] = {"maxsize": 16, "block": False, "socket_options": _SOCKET_OPTIONS}
        if access.tls is not None:
            options |= {"ssl_context": access.tls, "server_hostname": access.server_name}
            if access.tls.verify_mode == ssl.CERT_NONE:
                log.warning("%s: the API server's certificate is not verified, as asked", access.source)
                urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        self._pool = urllib3.ProxyManager(access.proxy, **options) if access.proxy else urllib3.PoolManager(**options)
        self._asking = threading.Lock()
        self._answered = -math.inf  # time.monotonic() of the last answer to any request
        self._silent = -math.inf  # the same of the last ping without one

    @staticmethod
    def connect(kubeconfig: str | None = None) -> Kube:
        """A client for the kubeconfig file's current context, or for the cluster this pod runs in.

        Nothing is sent yet.

        Raises:
            AccessError: no such file, not a kubeconfig, or not in a cluster.
        """
        return Kube(load(kubeconfig))

    def close(self) -> None:
        """Drop pooled connections."""
        self._pool.clear()

    def get(self, res: Resource, name: str, namespace: str = "") -> Json:
        """One object."""
        return self._json("GET", res.path(namespace, name))

    def list(
        self, res: Resource, namespace: str = "", *, label_selector: str = "", field_selector: str = ""
    ) -> tuple[list[Json], str]:
        """All objects, read in pages, and the resourceVersion to watch from.

        Items carry ``kind`` and ``apiVersion``, which the API leaves out of lists.
        """
        query = _selectors(label_selector, field_selector)
        try:
            return self._pages(res, namespace, query | {"limit": str(PAGE)})
        except Gone:  # the list changed so much between two pages that the rest cannot be served
            return self._pages(res, namespace, query)

    def _pages(self, res: Resource, namespace: str, query: dict[str, str]) -> tuple[list[Json], str]:
        items: list[Json] = []
        while True:
            page = self._json("GET", res.path(namespace), query=query)
            for item in page.get("items") or ():
                item.setdefault("kind", res.kind)
                item.setdefault("apiVersion", res.api_version)
                items.append(item)
            metadata = page.get("metadata") or {}
            if not metadata.get("continue"):
                return items, str(metadata.get("resourceVersion", ""))
            query = query | {"continue": metadata["continue"]}

    def create(self, res: Resource, obj: Json, namespace: str = "", *, timeout: float = READ_TIMEOUT) -> Json:
        """Create; the namespace is the one given, else the object's own."""
        return self._json("POST", res.path(namespace or _namespace(res, obj)), obj, timeout=timeout)

    def replace(self, res: Resource, obj: Json, *, subresource: str = "", timeout: float = READ_TIMEOUT) -> Json:
        """Update the whole object (or its ``status``). With a resourceVersion in it, Conflict if it changed."""
        path = res.path(_namespace(res, obj), obj["metadata"]["name"], subresource)
        return self._json("PUT", path, obj, timeout=timeout)

    def patch(
        self,
        res: Resource,
        name: str,
        namespace: str = "",
        *,
        body: Any,
        kind: PatchKind = "merge",
        subresource: str = "",
        field_manager: str = "",
        force: bool = False,
        dry_run: bool = False,
    ) -> Json:
        """Change parts of an object. ``apply`` is server-side apply and needs a ``field_manager``. With ``dry_run`` the server
        answers with what would come of it, and nothing changes."""
        query = {"fieldManager": field_manager} if field_manager else {}
        if force:
            query["force"] = "true"
        if dry_run:
            query["dryRun"] = "All"
        path = res.path(namespace, name, subresource)
        return self._json("PATCH", path, body, query=query, content_type=_PATCH_TYPES[kind])

    def delete(
        self,
        res: Resource,
        name: str,
        namespace: str = "",
        *,
        grace_seconds: int | None = None,
        uid: str = "",
        propagation: str = "",
    ) -> None:
        """Delete. With ``uid``, only that very object: Conflict if its name was taken by another since."""
        options: Json = {"kind": "DeleteOptions", "apiVersion": "v1"}
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        if uid:
            options["preconditions"] = {"uid": uid}
        if propagation:
            options["propagationPolicy"] = propagation
        self._json("DELETE", res.path(namespace, name), options)

    def bind(self, pod: str, namespace: str, node: str) -> None:
        """Schedule a pod to a node."""
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": pod, "namespace": namespace},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        }
        self._json("POST", PODS.path(namespace, pod, "binding"), binding)

    def watch(
        self,
        res: Resource,
        resource_version: str,
        namespace: str = "",
        *,
        label_selector: str = "",
        field_selector: str = "",
        timeout_seconds: int = 300,
    ) -> WatchStream:
        """Events after ``resource_version``, until the server ends the watch after ``timeout_seconds``.

        Raises:
            Gone: the server no longer knows that version (also raised while iterating).
        """
        query = _selectors(label_selector, field_selector) | {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(timeout_seconds),
            "resourceVersion": resource_version,
        }
        path = res.path(namespace)
        response = self._send("GET", path, query=query, read_timeout=timeout_seconds + 15.0)
        return WatchStream(response, f"watch {path}")

    def event(
        self, regarding: Json, *, reason: str, message: str, type: str = "Normal", component: str = "ncp"
    ) -> None:
        """Record an Event about an object; the same reason and message again only raises its count."""
        metadata = regarding["metadata"]
        namespace = metadata.get("namespace") or "default"
        uid = metadata.get("uid", "")
        digest = hashlib.blake2b("\0".join((uid, reason, message, type, component)).encode(), digest_size=8)
        name = f"{metadata['name'][:200].rstrip('.-')}.{digest.hexdigest()}"
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        involved = {
            "kind": regarding.get("kind", ""),
            "apiVersion": regarding.get("apiVersion", "v1"),
            "name": metadata["name"],
            "uid": uid,
        }
        if metadata.get("namespace"):
            involved["namespace"] = namespace
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": namespace},
            "involvedObject": involved,
            "reason": reason,
            "message": message,
            "type": type,
            "source": {"component": component},
            "reportingComponent": component,
            "reportingInstance": socket.gethostname(),
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        try:
            self.create(EVENTS, event)
        except AlreadyExists:
            held = self.get(EVENTS, name, namespace)
            body = {"count": int(held.get("count") or 1) + 1, "lastTimestamp": now}
            self.patch(EVENTS, name, namespace, body=body)

    def versions(self, group: str) -> list[str]:
        """Versions of an API group that this server serves, preferred first; empty if it does not know the group."""
        if not group:
            return [str(version) for version in self._json("GET", "/api").get("versions", ())]
        try:
            found = self._json("GET", f"/apis/{quote(group)}")
        except NotFound:
            return []
        return [str(version["version"]) for version in found.get("versions", ())]

    def ping(self, timeout: float = 3.0) -> float:
        """Ask the server for its version and return how long it took, in seconds.

        Raises:
            Unavailable: no answer within ``timeout`` seconds.
        """
        started = time.monotonic()
        response = self._send("GET", "/version", read_timeout=timeout, connect_timeout=timeout)
        self._body(response, "GET /version")
        return time.monotonic() - started

    def answering(self, max_age: float = 5.0) -> bool:
        """Whether the server answered anything in the last ``max_age`` seconds, or answers a ping now.

        Callers on many threads share one ping, and its result for ``max_age`` seconds.
        """
        with self._asking:
            now = time.monotonic()
            if now - self._answered <= max_age:
                return True
            if now - self._silent <= max_age:
                return False
            try:
                self.ping()
            except Unavailable:
                self._silent = time.monotonic()
                return False
            except ApiError:
                return True  # a refusal is an answer too
            return True

    def _json(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: dict[str, str] | None = None,
        content_type: str = "application/json",
        timeout: float = READ_TIMEOUT,
    ) -> Json:
        connect = min(timeout, CONNECT_TIMEOUT)
        response = self._send(
            method, path, body, query=query, content_type=content_type, connect_timeout=connect, read_timeout=timeout
        )
        content = self._body(response, f"{method} {path}")
        try:
            return orjson.loads(content)
        except orjson.JSONDecodeError as error:
            raise ApiError(
                response.status, "BadResponse", f"{method} {path}: the answer is not JSON: {error}"
            ) from error

    @staticmethod
    def _body(response: urllib3.BaseHTTPResponse, request: str) -> bytes:
        try:
            return response.read(decode_content=True)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise unavailable(request, error) from error
        finally:
            response.release_conn()

    def _send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: dict[str, str] | None = None,
        content_type: str = "application/json",
        connect_timeout: float = CONNECT_TIMEOUT,
        read_timeout: float = READ_TIMEOUT,
    ) -> urllib3.BaseHTTPResponse:
        """Send, and return the response with its body unread; an error status is raised."""
        request = f"{method} {path}"
        url = self.access.host + quote(path) + (f"?{urlencode(query)}" if query else "")
        headers = {"Accept": "application/json", "User-Agent": "ncp"}
        if body is not None:
            headers["Content-Type"] = content_type
        if authorization := self.access.authorization():
            headers["Authorization"] = authorization
        try:
            response = self._pool.request(
                method,
                url,
                body=None if body is None else orjson.dumps(body),
                headers=headers,
                timeout=urllib3.Timeout(connect=connect_timeout, read=read_timeout),
                retries=False,
                preload_content=False,
            )
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise unavailable(f"{self.access.host}: {request}", error) from error
        self._answered = time.monotonic()
        if response.status >= 400:
            raise from_response(response.status, self._body(response, request), request)
        return response


def _selectors(label_selector: str, field_selector: str) -> dict[str, str]:
    chosen = {"labelSelector": label_selector, "fieldSelector": field_selector}
    return {name: text for name, text in chosen.items() if text}


def _namespace(res: Resource, obj: Json) -> str:
    return str(obj["metadata"].get("namespace") or "default") if res.namespaced else ""
