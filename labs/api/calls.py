"""What a request asks: its path, parameters, wanted form and body, read once and kept as values."""

from __future__ import annotations

from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import orjson
import yaml

from labs.api import protobuf
from labs.api.errors import ApiError, bad_request, no_such_path
from labs.api.lifecycle import Deletion, Write
from labs.api.resources import Catalog, Resource

_MEDIA = ("", "application/json", "application/yaml", "application/vnd.kubernetes.protobuf")
_NAMESPACE_SUBRESOURCES = ("status", "finalize")


class Target(NamedTuple):
    """What a path points at; ``name`` is empty for a collection."""

    resource: Resource
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    watch: bool = False


class Form(NamedTuple):
    """How the answer is wanted: ``kind`` is json, yaml, table or partial; ``version`` that of the Table."""

    kind: str
    version: str = "v1"


class Loader(yaml.CSafeLoader):
    """YAML as the API reads it: times stay text."""


Loader.yaml_implicit_resolvers = {
    first: [(tag, test) for tag, test in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}


class Call(NamedTuple):
    """One request."""

    method: str
    target: Target
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    def flag(self, name: str) -> bool:
        """Whether a boolean parameter is set."""
        return self.query.get(name, "false").lower() in ("true", "1", "")

    def number(self, name: str) -> int | None:
        """A whole-number parameter, or None. 400 if it is no number."""
        text = self.query.get(name, "")
        if not text:
            return None
        try:
            return int(text)
        except ValueError:
            raise bad_request(f"parameter {name}={text!r} is not a whole number") from None

    def content_type(self) -> str:
        """The media type of the body, without parameters."""
        return self.headers.get("content-type", "").partition(";")[0].strip()

    def read(self) -> Any:
        """The body as a value. 400 if it is neither JSON nor YAML, 415 for protobuf."""
        return parsed(self.body, self.content_type())

    def write(self) -> Write:
        """How this write is meant. 400 for a parameter with an unknown value."""
        dry = self.query.get("dryRun", "")
        if dry not in ("", "All"):
            raise bad_request(f'dryRun: Unsupported value: "{dry}": supported values: "All"')
        manager = self.query.get("fieldManager", "")
        check = self.query.get("fieldValidation", "") or "Warn"
        if check not in ("Ignore", "Warn", "Strict"):
            raise bad_request(
                f'fieldValidation: Unsupported value: "{check}": supported values: "", "Ignore", "Strict", "Warn"'
            )
        agent = self.headers.get("user-agent", "unknown").partition("/")[0]
        return Write(manager or agent, bool(manager), dry == "All", check, self.flag("force"))

    def deletion(self) -> Deletion:
        """How this deletion is meant, from the body's DeleteOptions and the parameters."""
        options = (self.read() if self.body else {}) or {}
        if not isinstance(options, dict):
            raise bad_request("the body of a deletion must be DeleteOptions")
        conditions = options.get("preconditions") or {}
        grace = options.get("gracePeriodSeconds")
        policy = options.get("propagationPolicy") or self.query.get("propagationPolicy", "")
        if options.get("orphanDependents") is not None:
            policy = policy or ("Orphan" if options["orphanDependents"] else "Background")
        if policy not in ("", "Background", "Foreground", "Orphan"):
            raise bad_request(f'propagationPolicy: Unsupported value: "{policy}"')
        dry = (options.get("dryRun") or []) + ([self.query["dryRun"]] if self.query.get("dryRun") else [])
        return Deletion(
            self.number("gracePeriodSeconds") if grace is None else int(grace),
            policy,
            conditions.get("uid") or "",
            conditions.get("resourceVersion") or "",
            bool(dry),
        )


def parsed(body: bytes, content_type: str) -> Any:
    """Bytes as protobuf, JSON, or YAML where they are said to be that or nothing."""
    if body.startswith(protobuf.MAGIC):
        try:
            return protobuf.decode(body)
        except protobuf.Unreadable as error:
            raise ApiError(415, "UnsupportedMediaType", f"the body of the request cannot be read: {error}") from error
    if content_type not in _MEDIA and "+" not in content_type:
        message = "the body of the request was in an unknown format - accepted media types include: " + ", ".join(
            _MEDIA[1:]
        )
        raise ApiError(415, "UnsupportedMediaType", message)
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if content_type == "application/json":
            raise bad_request(f"couldn't get version/kind; json parse error: {error}") from error
    try:
        return yaml.load(body, Loader)
    except yaml.YAMLError as error:
        raise bad_request(f"error parsing YAML: {error}") from error


def query_of(raw: bytes) -> dict[str, str]:
    """The parameters of a request; the last of several equal names counts."""
    return dict(parse_qsl(raw.decode("latin-1"), keep_blank_values=True))


def target_of(path: str, catalog: Catalog) -> Target:
    """What a path points at. 404 for anything not served."""
    parts = path.strip("/").split("/")
    if parts[0] == "api" and len(parts) >= 3:
        group, version, rest = "", parts[1], parts[2:]
    elif parts[0] == "apis" and len(parts) >= 4:
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        raise no_such_path()
    watch = rest[0] == "watch"
    rest = rest[1:] if watch else rest
    namespace = ""
    if (
        len(rest) >= 3
        and rest[0] == "namespaces"
        and not (group == "" and len(rest) == 3 and rest[2] in _NAMESPACE_SUBRESOURCES)
    ):
        namespace, rest = rest[1], rest[2:]
    resource = catalog.find(group, version, rest[0]) if rest else None
    if resource is None or (namespace and not resource.namespaced):
        raise no_such_path()
    name = rest[1] if len(rest) > 1 else ""
    subresource = "/".join(rest[2:])
    if subresource and subresource.partition("/")[0] not in resource.subresources:
        raise no_such_path()
    if name and resource.namespaced and not namespace:
        raise no_such_path()
    return Target(resource, namespace, name, subresource, watch)


def form_of(accept: str) -> Form:
    """The first form the client accepts that the server can give. 406 if there is none."""
    if not accept:
        return Form("json")
    for wanted in accept.split(","):
        media, *parameters = (part.strip() for part in wanted.split(";"))
        settings = dict(p.split("=", 1) for p in parameters if "=" in p)
        shape = settings.get("as")
        if media in ("application/json", "*/*", "application/*"):
            if shape is None:
                return Form("json")
            if shape == "Table" and settings.get("v") in ("v1", "v1beta1"):
                return Form("table", settings["v"])
            if shape in ("PartialObjectMetadata", "PartialObjectMetadataList"):
                return Form("partial")
        elif media in ("application/yaml", "text/yaml") and shape is None:
            return Form("yaml")
    message = "only the following media types are accepted: application/json, application/yaml"
    raise ApiError(406, "NotAcceptable", message)
