"""The server put together: the store, the rules, the controllers that live inside, and the paths."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import IO, Any

import orjson
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from labs.api import crds, discovery, openapi, openapi_v2
from labs.api.calls import parsed
from labs.api.definitions import DefinitionKeeper
from labs.api.errors import ApiError
from labs.api.gc import GarbageCollector
from labs.api.namespaces import NamespaceKeeper, first_objects
from labs.api.objects import Objects
from labs.api.resources import Catalog
from labs.api.serve import Resources, failure
from labs.api.store import Change, Store

LOG = logging.getLogger(__name__)
_DISCOVERY = "application/json;g=apidiscovery.k8s.io;v={};as=APIGroupDiscoveryList"


class Api:
    """One API server over one data directory."""

    def __init__(self, data: Path, *, history: int, pod_logs: Path | None) -> None:
        data.mkdir(parents=True, exist_ok=True)
        self._lock = _locked(data)
        self.store = Store(data / "objects.sqlite", history=history)
        self.catalog = Catalog()
        self.store.listen(self._follow_definitions, "customresourcedefinitions.apiextensions.k8s.io")
        for entry in self.store.entries("customresourcedefinitions.apiextensions.k8s.io"):
            self.catalog.put_crd(entry.key.name, crds.resources_of(entry.load()))
        self.objects = Objects(self.store, self.catalog)
        self.resources = Resources(self.objects, pod_logs)

    def _follow_definitions(self, change: Change) -> None:
        name = change.entry.key.name
        self.catalog.put_crd(name, () if change.gone else crds.resources_of(change.entry.load()))

    def stop(self) -> None:
        """Ends the streams; requests under way are answered first."""
        self.resources.stop()

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        first_objects(self.objects)
        keepers = [keeper(self.objects) for keeper in (GarbageCollector, NamespaceKeeper, DefinitionKeeper)]
        tasks = [asyncio.create_task(_kept_running(keeper.run)) for keeper in keepers]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.store.close()
            self._lock.close()

    def starlette(self) -> Starlette:
        """The ASGI application."""
        catalog = self.catalog
        routes: list[Any] = [Route(path, _healthy) for path in ("/healthz", "/livez", "/readyz")]
        routes += [
            _route("/version", lambda _: discovery.VERSION),
            Route("/api", _group_list(catalog, core=True)),
            Route("/apis", _group_list(catalog, core=False)),
            _route("/api/{version}", lambda r: discovery.resource_list(catalog, "", r.path_params["version"])),
            _route("/apis/{group}", lambda r: discovery.group(catalog, r.path_params["group"])),
            _route("/apis/{group}/{version}", lambda r: discovery.resource_list(catalog, **r.path_params)),
            Route("/openapi/v2", _openapi_v2(catalog)),
            _route("/openapi/v3", lambda _: openapi.v3_index(catalog)),
            _route("/openapi/v3/{path:path}", lambda r: openapi.v3_document(catalog, r.path_params["path"])),
            Route("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", _review, methods=["POST"]),
            Mount("/", self.resources),
        ]
        return Starlette(routes=routes, lifespan=self._lifespan, middleware=[Middleware(WithoutTrailingSlash)])


class InUseError(RuntimeError):
    """Another server works on the data directory."""


def _locked(data: Path) -> IO[bytes]:
    """Takes the directory for this process, as long as the returned file is open; :class:`InUseError` if it is taken."""
    lock = (data / "lock").open("ab")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise InUseError(f"another API server uses {data}; stop it, or choose another --data") from None
    return lock


class WithoutTrailingSlash:
    """Serves ``/version/`` as ``/version``: clients write discovery paths both ways."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on."""
        path = scope.get("path", "/")
        if len(path) > 1 and path.endswith("/"):
            scope = {**scope, "path": path.rstrip("/")}
        await self._app(scope, receive, send)


async def _kept_running(run: Callable[[], Any]) -> None:
    """Runs a controller; one that fails is logged and begins anew."""
    while True:
        try:
            await run()
        except Exception:
            LOG.exception("a controller failed and starts again")
            await asyncio.sleep(0.5)


def _json(body: Any, status: int = 200, media: str = "application/json") -> Response:
    return Response(orjson.dumps(body), status, media_type=media)


def _route(path: str, answer: Callable[[Request], Any]) -> Route:
    async def endpoint(request: Request) -> Response:
        try:
            return _json(answer(request))
        except ApiError as error:
            return failure(error)

    return Route(path, endpoint)


async def _healthy(_: Request) -> Response:
    return PlainTextResponse("ok")


def _group_list(catalog: Catalog, *, core: bool) -> Callable[[Request], Any]:
    async def endpoint(request: Request) -> Response:
        accept = request.headers.get("accept", "")
        for version in ("v2", "v2beta1"):
            if f"g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList" in accept.replace(" ", ""):
                return _json(discovery.aggregated(catalog, version, core=core), media=_DISCOVERY.format(version))
        if not core:
            return _json(discovery.groups(catalog))
        addresses = [{"clientCIDR": "0.0.0.0/0", "serverAddress": request.headers.get("host", "")}]
        return _json({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": addresses})

    return endpoint


def _openapi_v2(catalog: Catalog) -> Callable[[Request], Any]:
    async def endpoint(request: Request) -> Response:
        if "protobuf" in request.headers.get("accept", ""):
            return Response(openapi_v2.as_protobuf(catalog), media_type=openapi_v2.PROTOBUF)
        return _json(openapi_v2.as_json())

    return endpoint


async def _review(request: Request) -> Response:
    """Everything is allowed here."""
    try:
        body = parsed(await request.body(), request.headers.get("content-type", ""))
    except ApiError as error:
        return failure(error)
    kind = {"kind": "SelfSubjectAccessReview", "apiVersion": "authorization.k8s.io/v1"}
    return _json({**kind, **body, "status": {"allowed": True}}, 201)
