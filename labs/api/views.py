"""A stored object as the version and the form a client asked for: whole, or its metadata only."""

from __future__ import annotations

import orjson

from labs.api.events import from_core
from labs.api.resources import Resource
from labs.api.store import Entry, encode

_META_PREFIX = b'{"apiVersion":"meta.k8s.io/v1","kind":"PartialObjectMetadata",'


def whole(entry: Entry, resource: Resource) -> bytes:
    """The object's encoding in the resource's version."""
    raw = entry.raw
    if raw.startswith(resource.prefix):
        return raw
    obj = entry.load()
    if resource.group == "events.k8s.io":
        return encode(from_core(obj))
    obj["apiVersion"], obj["kind"] = resource.group_version, resource.kind
    return encode(obj)


def listed(entry: Entry, resource: Resource) -> bytes:
    """The object as an item of a list: built-in kinds do not repeat their apiVersion and kind there."""
    raw = whole(entry, resource)
    return raw if resource.custom else b"{" + raw[len(resource.prefix) :]


def metadata_only(entry: Entry, resource: Resource) -> bytes:
    """The object as a PartialObjectMetadata."""
    return _META_PREFIX + b'"metadata":' + orjson.dumps(entry.load()["metadata"]) + b"}"
