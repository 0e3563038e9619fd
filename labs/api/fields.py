"""Sets of fields as ``managedFields`` writes them: computed from objects, united, subtracted, compared.

A set is a frozenset of paths; a path is a tuple of elements: ``f:name`` a field or map key, ``k:{…}`` the list entry with
these keys, ``v:…`` the list entry of this value.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import orjson

from labs.api.types import ANY, Type

Path = tuple[str, ...]
Fields = frozenset[Path]
_KEY_DEFAULTS = {"protocol": "TCP"}
_MISSING = object()
_ALWAYS_THERE = frozenset(
    ("metadata", "spec", "status", "template", "strategy", "updateStrategy", "resources", "jobTemplate", "loadBalancer",
     "nodeInfo", "involvedObject", "source", "daemonEndpoints", "kubeletEndpoint")
)  # fmt: skip
"""Objects that every object of their type has, if only empty: nobody adds them."""


def element(item: Any, shape: Type) -> str | None:
    """The path element of a list entry; None where the list has no such element."""
    if shape.rule.kind == "set":
        return "v:" + orjson.dumps(item).decode()
    keys = {}
    for key in shape.rule.keys:
        value = item.get(key, _KEY_DEFAULTS.get(key)) if isinstance(item, dict) else None
        if value is not None:
            keys[key] = value
    return "k:" + orjson.dumps(keys, option=orjson.OPT_SORT_KEYS).decode() if keys else None


def fields_of(value: Any, shape: Type) -> Iterator[Path]:
    """The path of every field a value states; entries of keyed lists have a path of their own."""
    if isinstance(value, dict) and value and not shape.atomic:
        for key, item in value.items():
            for path in fields_of(item, shape.child(key)):
                yield (f"f:{key}", *path)
    elif isinstance(value, list) and value and shape.kind == "list" and shape.rule.kind != "atomic":
        for item in value:
            step = element(item, shape)
            if step is None:
                continue
            yield (step,)
            if shape.rule.kind == "map":
                for path in fields_of(item, shape.item or ANY):
                    if path:
                        yield (step, *path)
    else:
        yield ()


def own_fields(obj: dict[str, Any], shape: Type) -> Fields:
    """The fields of an object that someone can own: not its identity nor what the server gives."""
    return frozenset(path for path in fields_of(obj, shape) if not _server_given(path))


_SERVER_METADATA = {
    f"f:{name}"
    for name in [
        "name",
        "namespace",
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "managedFields",
        "selfLink",
    ]
}


def _server_given(path: Path) -> bool:
    if len(path) < 2:
        return path in ((), ("f:apiVersion",), ("f:kind",), ("f:metadata",))
    return path[0] == "f:metadata" and path[1] in _SERVER_METADATA


def at(value: Any, shape: Type, path: Path) -> Any:
    """The value at a path, or a marker object that equals nothing else where there is none."""
    for step in path:
        found = child(value, shape, step)
        if found is None:
            return _MISSING
        value, shape = found
    return value


def child(value: Any, shape: Type, step: str) -> tuple[Any, Type] | None:
    """One step down: the value there and its type."""
    if step.startswith("f:"):
        key = step[2:]
        return (value[key], shape.child(key)) if isinstance(value, dict) and key in value else None
    if isinstance(value, list) and shape.kind == "list":
        for item in value:
            if element(item, shape) == step:
                return item, shape.item or ANY
    return None


def without(value: Any, shape: Type, paths: Iterable[Path]) -> Any:
    """A copy of a value without what the paths name; containers emptied by that go too."""
    by_step: dict[str, list[Path]] = {}
    for path in paths:
        if path:
            by_step.setdefault(path[0], []).append(path[1:])
    if isinstance(value, dict):
        result = {}
        for key, item in value.items():
            rest = by_step.get(f"f:{key}")
            kept = item if rest is None else _part_without(item, shape.child(key), rest)
            if kept is not _MISSING:
                result[key] = kept
        return result
    if isinstance(value, list):
        parts = []
        for item in value:
            rest = by_step.get(element(item, shape) or "")
            kept = item if rest is None else _part_without(item, shape.item or ANY, rest)
            if kept is not _MISSING:
                parts.append(kept)
        return parts
    return value


def _part_without(item: Any, shape: Type, rest: list[Path]) -> Any:
    if () in rest:
        return _MISSING
    kept = without(item, shape, rest)
    return _MISSING if kept in ({}, []) and item not in ({}, []) else kept


def containers_of(value: Any, shape: Type, *, custom: bool, path: Path = ()) -> Iterator[Path]:
    """The path of every map and optional object in a value: whoever adds one owns that it is there."""
    if isinstance(value, dict) and not shape.atomic:
        for key, item in value.items():
            if isinstance(item, dict) and item:
                below = shape.child(key)
                if not below.atomic and (custom or below.kind == "map" or key not in _ALWAYS_THERE):
                    yield (*path, f"f:{key}")
            yield from containers_of(item, shape.child(key), custom=custom, path=(*path, f"f:{key}"))
    elif isinstance(value, list) and shape.kind == "list" and shape.rule.kind == "map":
        for item in value:
            step = element(item, shape)
            if step is not None:
                yield from containers_of(item, shape.item or ANY, custom=custom, path=(*path, step))


def to_v1(fields: Iterable[Path]) -> dict[str, Any]:
    """A set as ``fieldsV1``; a dot stands for a field that is owned beside fields inside it."""
    root: dict[str, Any] = {}
    ordered = sorted(fields)
    for path in ordered:
        node = root
        for step in path:
            node = node.setdefault(step, {})
    for path in ordered:
        node = root
        for step in path:
            node = node[step]
        if node or path[-1].startswith("k:"):
            node["."] = {}
    return root


def from_v1(node: dict[str, Any], path: Path = ()) -> Iterator[Path]:
    """The set that ``fieldsV1`` writes."""
    inner = False
    for step, below in node.items():
        if step == ".":
            yield path
        else:
            inner = True
            yield from from_v1(below, (*path, step))
    if not inner and "." not in node and path:
        yield path


def shown(path: Path) -> str:
    """A path in the words of conflict messages: ``.spec.containers[name="web"].image``."""
    words = []
    for step in path:
        if step.startswith("f:"):
            words.append("." + step[2:])
        elif step.startswith("v:"):
            words.append(f"[={step[2:]}]")
        else:
            keys = orjson.loads(step[2:])
            words.append("[" + ",".join(f"{k}={orjson.dumps(v).decode()}" for k, v in keys.items()) + "]")
    return "".join(words)
