"""The requests on resources: read, written, listed and watched over HTTP."""

from __future__ import annotations

import asyncio
import logging
import random
from pathlib import Path
from typing import Any

import orjson
import yaml
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from labs.api import apply, patch, subresources, tables, views
from labs.api.calls import Call, Form, form_of, query_of, target_of
from labs.api.errors import ApiError, bad_request, no_such_path
from labs.api.lifecycle import Written
from labs.api.listing import Page, page
from labs.api.logs import follow_log
from labs.api.objects import Objects
from labs.api.resources import Resource
from labs.api.selectors import field_match, label_match
from labs.api.store import Entry
from labs.api.watch import DEFAULT_SECONDS, Render, Start, Watch
from labs.api.watch import Scope as Selection

LOG = logging.getLogger(__name__)
_RETURNED_WHEN_GONE = frozenset({"pods", "services", "serviceaccounts", "persistentvolumes", "persistentvolumeclaims"})
_PATCHES = {
    "application/json-patch+json": "json",
    "application/merge-patch+json": "merge",
    "application/strategic-merge-patch+json": "strategic",
    "application/apply-patch+yaml": "apply",
}


class Resources:
    """The ASGI application for everything under a resource's path."""

    def __init__(self, objects: Objects, pod_logs: Path | None) -> None:
        self.objects, self.pod_logs = objects, pod_logs
        self.watches: set[Watch] = set()
        self.stopping = asyncio.Event()

    def stop(self) -> None:
        """Ends every watch and every followed log, so that the server can end."""
        self.stopping.set()
        for watch in tuple(self.watches):
            watch.end()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        request = Request(scope, receive)
        try:
            await self._serve(request, scope, receive, send)
        except ApiError as error:
            await failure(error)(scope, receive, send)
        except ClientDisconnect:
            return
        except Exception:
            LOG.exception("%s %s failed", request.method, request.url.path)
            error = ApiError(
                500, "InternalError", f"{request.method} {request.url.path} failed; the server's log says why"
            )
            await failure(error)(scope, receive, send)

    async def _serve(self, request: Request, scope: Scope, receive: Receive, send: Send) -> None:
        target = target_of(scope["path"], self.objects.catalog)
        body = await request.body() if request.method != "GET" else b""
        call = Call(request.method, target, query_of(scope["query_string"]), dict(request.headers), body)
        if call.method == "GET" and not target.subresource and (target.watch or call.flag("watch")):
            await self._watch(call, scope, receive, send)
        elif call.method == "GET" and target.subresource == "log":
            await self._log(call, scope, receive, send)
        else:
            await self._answer(call)(scope, receive, send)

    def _answer(self, call: Call) -> Response:
        target = call.target
        if target.subresource and target.subresource not in ("status", "finalize"):
            return self._subresource(call)
        if target.name:
            actions = {"GET": self._get, "PUT": self._put, "PATCH": self._patch, "DELETE": self._delete}
        else:
            actions = {"GET": self._list, "POST": self._post, "DELETE": self._delete_all}
        action = actions.get(call.method if call.method != "HEAD" else "GET")
        if action is None:
            raise ApiError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
        return action(call)

    # ---- one object ----

    def _get(self, call: Call) -> Response:
        resource, namespace, name, _, _ = call.target
        return self._object(self.objects.get(resource, namespace, name), call)

    def _post(self, call: Call) -> Response:
        resource, namespace = call.target.resource, call.target.namespace
        body = call.read()
        if resource.namespaced and not namespace:
            raise ApiError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
        return self._written(self.objects.create(resource, namespace, body, call.write()), call)

    def _put(self, call: Call) -> Response:
        resource, namespace, name, subresource, _ = call.target
        return self._written(
            self.objects.update(resource, namespace, name, call.read(), call.write(), subresource), call
        )

    def _patch(self, call: Call) -> Response:
        resource, namespace, name, subresource, _ = call.target
        kind, body, write = patch_kind(call, resource), call.read(), call.write()
        if kind == "apply":
            return self._written(self._apply(call, body), call)
        old = self.objects.get(resource, namespace, name)
        before = self.objects.loaded(resource, old)
        obj = patched(before, kind, body, resource)
        obj, warnings = self.objects.read(resource, obj, write)
        if obj["metadata"].get("name") != name:
            raise bad_request(
                f"the name of the object ({obj['metadata'].get('name')}) does not match the name on the URL ({name})"
            )
        return self._written(self.objects.replace(resource, old, obj, write, subresource, warnings), call)

    def _apply(self, call: Call, body: Any) -> Written:
        resource, namespace, name, subresource, _ = call.target
        write = call.write()
        if not write.explicit_manager:
            raise bad_request(
                'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for apply patch'
            )
        config, warnings = self.objects.read(resource, body, write)
        meta = config["metadata"]
        if meta.get("managedFields"):
            raise bad_request("metadata.managedFields must be nil")
        if meta.setdefault("name", name) != name:
            raise bad_request(f"the name of the object ({meta['name']}) does not match the name on the URL ({name})")
        old = self.objects.store.get(self.objects.key(resource, namespace, name))
        if old is None:
            if subresource:
                self.objects.get(resource, namespace, name)
            new = apply.applied(None, config, resource, write.manager, force=write.force)
            return self.objects.create_read(resource, namespace, new, write, warnings, tracked=True)
        if meta.get("uid") or meta.get("resourceVersion"):
            self.objects.check_version(resource, old, meta)
        live = self.objects.loaded(resource, old)
        new = apply.applied(live, config, resource, write.manager, force=write.force, subresource=subresource)
        new["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"]
        return self.objects.replace(resource, old, new, write, subresource, warnings, tracked=True)

    def _delete(self, call: Call) -> Response:
        resource, namespace, name, _, _ = call.target
        entry, is_gone = self.objects.delete(resource, namespace, name, call.deletion())
        if not is_gone or resource.plural in _RETURNED_WHEN_GONE:
            return self._object(entry, call)
        details = {"name": name, "group": resource.group, "kind": resource.plural, "uid": entry.uid}
        return success({k: v for k, v in details.items() if v})

    def _subresource(self, call: Call) -> Response:
        answer = subresources.serve(self.objects, call)
        if isinstance(answer, Written):
            return self._written(answer, call)
        if answer is None:
            raise no_such_path()
        return Response(orjson.dumps(answer[1]), answer[0], media_type="application/json")

    # ---- collections ----

    def _selection(self, call: Call) -> Selection:
        resource, namespace, name, _, _ = call.target
        text = call.query.get("fieldSelector", "")
        if name:
            text = ",".join(filter(None, (text, f"metadata.name={name}")))
        labels = label_match(call.query.get("labelSelector", ""))
        return Selection(resource, namespace, labels, field_match(resource.store, text))

    def _list(self, call: Call) -> Response:
        form, resource = form_of(call.headers.get("accept", "")), call.target.resource
        found = page(
            self.objects.store,
            self._selection(call),
            limit=call.number("limit") or 0,
            token=call.query.get("continue", ""),
            rv=call.query.get("resourceVersion", ""),
            match=call.query.get("resourceVersionMatch", ""),
        )
        return self._listed(found, resource, form, call)

    def _listed(self, found: Page, resource: Resource, form: Form, call: Call) -> Response:
        if form.kind == "table":
            body = tables.table(found.entries, resource, found.metadata(), form.version, include(call))
            return Response(body, media_type=table_type(form))
        if form.kind == "partial":
            kind, version = "PartialObjectMetadataList", "meta.k8s.io/v1"
            items = b",".join(views.metadata_only(entry, resource) for entry in found.entries)
        else:
            kind, version = resource.list_kind, resource.group_version
            items = b",".join([views.listed(entry, resource) for entry in found.entries])
        head = orjson.dumps({"kind": kind, "apiVersion": version, "metadata": found.metadata()})
        return document(head[:-1] + b',"items":[' + items + b"]}", form)

    def _delete_all(self, call: Call) -> Response:
        resource, how = call.target.resource, call.deletion()
        found = page(self.objects.store, self._selection(call), limit=0, token="", rv="", match="")
        for entry in found.entries:
            self.objects.delete(resource, entry.key.namespace, entry.key.name, how)
        return self._listed(found, resource, Form("json"), call)

    # ---- streams ----

    async def _watch(self, call: Call, scope: Scope, receive: Receive, send: Send) -> None:
        form, resource, selection = form_of(call.headers.get("accept", "")), call.target.resource, self._selection(call)
        start = start_of(call)
        kind = (resource.group_version, resource.kind)
        if form.kind == "table":
            kind = (f"meta.k8s.io/{form.version}", "Table")
        elif form.kind == "partial":
            kind = ("meta.k8s.io/v1", "PartialObjectMetadata")
        watch = Watch(self.objects.store, selection, start, renderer(resource, form, call), kind)
        media = table_type(form) if form.kind == "table" else "application/json"
        await self._stream(watch.lines(), watch, media, receive, send)

    async def _log(self, call: Call, scope: Scope, receive: Receive, send: Send) -> None:
        lines = follow_log(self.objects, call, self.pod_logs, self.stopping)
        await self._stream(lines, None, "text/plain", receive, send)

    async def _stream(self, chunks: Any, watch: Watch | None, media: str, receive: Receive, send: Send) -> None:
        """Sends chunks until they end or the client goes."""
        first = None if watch else await anext(chunks, b"")
        headers = [(b"content-type", media.encode()), (b"cache-control", b"no-cache, private")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": first or b"", "more_body": True})
        if watch is not None:
            self.watches.add(watch)
        sending = asyncio.ensure_future(_send_all(chunks, send))
        leaving = asyncio.ensure_future(_left(receive))
        try:
            await asyncio.wait((sending, leaving), return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
        finally:
            for task in (sending, leaving):
                task.cancel()
            await asyncio.gather(sending, leaving, return_exceptions=True)
            if watch is not None:
                self.watches.discard(watch)

    # ---- forms ----

    def _object(self, entry: Entry, call: Call, status: int = 200, warnings: tuple[str, ...] = ()) -> Response:
        form, resource = form_of(call.headers.get("accept", "")), call.target.resource
        if form.kind == "table":
            meta = {"resourceVersion": str(entry.rv)}
            body = tables.table([entry], resource, meta, form.version, include(call))
            response = Response(body, status, media_type=table_type(form))
        elif form.kind == "partial":
            response = Response(views.metadata_only(entry, resource), status, media_type="application/json")
        else:
            response = document(views.whole(entry, resource), form, status)
        for warning in warnings:
            response.headers.append("Warning", '299 - "' + warning.replace("\\", "\\\\").replace('"', '\\"') + '"')
        return response

    def _written(self, written: Written, call: Call) -> Response:
        return self._object(written.entry, call, 201 if written.created else 200, written.warnings)


async def _send_all(chunks: Any, send: Send) -> None:
    async for chunk in chunks:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue


def start_of(call: Call) -> Start:
    """Where a watch begins. 400 for parameters that contradict each other."""
    rv = call.query.get("resourceVersion", "")
    if rv and not rv.isdigit():
        raise bad_request(f"resourceVersion: Invalid value: {rv!r}: must be a number")
    streaming = call.flag("sendInitialEvents")
    if "sendInitialEvents" in call.query and call.query.get("resourceVersionMatch") != "NotOlderThan":
        why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
        raise ApiError(422, "Invalid", f'ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: {why}')
    initial = streaming if "sendInitialEvents" in call.query else rv in ("", "0")
    bookmarks = call.flag("allowWatchBookmarks")
    seconds = call.number("timeoutSeconds") or DEFAULT_SECONDS * random.uniform(1, 1.5)
    return Start(rv or "0", initial, bookmarks, streaming and bookmarks, seconds)


def renderer(resource: Resource, form: Form, call: Call) -> Render:
    """How a watch shows each object."""
    if form.kind == "table":
        return tables.watch_renderer(resource, form.version, include(call))
    if form.kind == "partial":
        return lambda entry: views.metadata_only(entry, resource)
    return lambda entry: views.whole(entry, resource)


def include(call: Call) -> str:
    """What a table's rows carry of their objects: None, Metadata or Object."""
    return call.query.get("includeObject") or "Metadata"


def table_type(form: Form) -> str:
    """The media type of a table."""
    return f"application/json;as=Table;v={form.version};g=meta.k8s.io"


def patch_kind(call: Call, resource: Resource) -> str:
    """Which kind of patch the body is. 415 for one the resource does not take."""
    kind = _PATCHES.get(call.content_type())
    if kind is None or (kind == "strategic" and resource.custom is not None):
        allowed = [media for media, kind in _PATCHES.items() if kind != "strategic" or resource.custom is None]
        message = "the body of the request was in an unknown format - accepted media types include: " + ", ".join(
            allowed
        )
        raise ApiError(415, "UnsupportedMediaType", message)
    return kind


def patched(before: dict[str, Any], kind: str, body: Any, resource: Resource) -> dict[str, Any]:
    """The object after the patch."""
    if kind == "json":
        return patch.json_patch(before, body)
    if not isinstance(body, dict):
        raise bad_request("the body of the patch must be an object")
    return patch.merge_patch(before, body) if kind == "merge" else patch.strategic(before, body, resource.type)


def document(body: bytes, form: Form, status: int = 200) -> Response:
    """JSON, or the same as YAML."""
    if form.kind == "yaml":
        return Response(yaml.safe_dump(orjson.loads(body), sort_keys=False), status, media_type="application/yaml")
    return Response(body, status, media_type="application/json")


def success(details: dict[str, Any], status: int = 200) -> Response:
    """A Status that says it worked."""
    body = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
    return Response(orjson.dumps(body), status, media_type="application/json")


def failure(error: ApiError) -> Response:
    """A Status that says what went wrong."""
    headers = {"Retry-After": str(error.retry_after)} if error.retry_after else None
    return Response(orjson.dumps(error.body()), error.status, headers, media_type="application/json")
