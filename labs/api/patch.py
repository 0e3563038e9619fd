"""JSON patch, merge patch and strategic merge patch: pure functions from an object and a patch to a new object."""

from __future__ import annotations

from typing import Any

import jsonpatch
import jsonpointer

from labs.api.errors import ApiError, bad_request
from labs.api.types import ANY, Type

_DIRECTIVES = ("$patch", "$retainKeys")
_ORDER, _REMOVE = "$setElementOrder/", "$deleteFromPrimitiveList/"


def json_patch(obj: dict[str, Any], operations: Any) -> dict[str, Any]:
    """RFC 6902. 400 for a malformed patch, 422 where it does not fit the object."""
    if not isinstance(operations, list):
        raise bad_request("json: cannot unmarshal object into Go value of type jsonpatch.Patch")
    try:
        return jsonpatch.apply_patch(obj, operations)
    except jsonpatch.JsonPatchTestFailed as error:
        raise ApiError(
            422, "Invalid", f"the server rejected our request due to an error in our request: {error}"
        ) from error
    except (jsonpatch.JsonPatchConflict, jsonpointer.JsonPointerException) as error:
        raise ApiError(
            422, "Invalid", f"the server rejected our request due to an error in our request: {error}"
        ) from error
    except jsonpatch.InvalidJsonPatch as error:
        raise bad_request(f"error decoding patch: {error}") from error


def merge_patch(value: Any, patch: Any) -> Any:
    """RFC 7386: maps merge, null removes, all else replaces."""
    if not isinstance(patch, dict):
        return patch
    result = dict(value) if isinstance(value, dict) else {}
    for key, item in patch.items():
        if item is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), item)
    return result


def strategic(value: dict[str, Any], patch: dict[str, Any], shape: Type) -> dict[str, Any]:
    """A strategic merge patch: like a merge patch, but lists merge by the keys their type declares.

    Raises ApiError 400 for a directive that cannot be followed.
    """
    directive = patch.get("$patch")
    if directive == "replace":
        return cleaned({k: v for k, v in patch.items() if k not in _DIRECTIVES}, shape)
    if directive == "delete":
        return {}
    if directive not in (None, "merge"):
        raise bad_request(f"unknown patch type found: {directive} for $patch; allowed are merge, replace and delete")
    result = dict(value)
    keep = patch.get("$retainKeys")
    if keep is not None:
        result = {k: v for k, v in result.items() if k in keep}
    for key in _fields_named(patch):
        _merge_field(result, key, patch, shape.child(key))
    return result


def _fields_named(patch: dict[str, Any]) -> list[str]:
    """The fields a patch speaks of, directly or through a directive about a list."""
    names: dict[str, None] = {}
    for key in patch:
        if key in _DIRECTIVES:
            continue
        names[key.partition("/")[2] if key.startswith((_ORDER, _REMOVE)) else key] = None
    return list(names)


def _merge_field(result: dict[str, Any], key: str, patch: dict[str, Any], shape: Type) -> None:
    order, remove = patch.get(_ORDER + key), patch.get(_REMOVE + key)
    if key in patch and patch[key] is None:
        result.pop(key, None)
        return
    old, new = result.get(key), patch.get(key)
    if isinstance(new, dict):
        result[key] = strategic(old if isinstance(old, dict) else {}, new, shape)
    elif isinstance(new, list) or order is not None or remove is not None:
        merged = _merge_list(old if isinstance(old, list) else [], new, order, remove, shape)
        if merged or key in patch or old:
            result[key] = merged
    else:
        result[key] = new


def _merge_list(old: list[Any], new: list[Any] | None, order: Any, remove: Any, shape: Type) -> list[Any]:
    merge_key = shape.rule.merge_key if shape.kind == "list" else None
    if merge_key is None:
        return old if new is None else [cleaned(v, shape.item or ANY) for v in new]
    if merge_key == "":
        kept = [v for v in old if v not in (remove or ())]
        return _ordered(kept + [v for v in new or () if v not in kept], old, order, lambda v: v)
    replaced = [v for v in new or () if isinstance(v, dict) and v.get("$patch") == "replace"]
    if replaced:
        return [cleaned(v, shape.item or ANY) for v in new or () if v.get("$patch") is None]
    merged = _merge_items(old, new or [], merge_key, shape.item or ANY)
    return _ordered(merged, old, order, lambda v: v.get(merge_key))


def _merge_items(old: list[Any], new: list[Any], merge_key: str, item: Type) -> list[Any]:
    result = list(old)
    for part in new:
        if not isinstance(part, dict) or merge_key not in part:
            raise bad_request(f"map: {part} does not contain declared merge key: {merge_key}")
        same = [n for n, held in enumerate(result) if held.get(merge_key) == part[merge_key]]
        if part.get("$patch") == "delete":
            result = [held for n, held in enumerate(result) if n not in same]
        elif same:
            result[same[0]] = strategic(result[same[0]], part, item)
        else:
            result.append(cleaned(part, item))
    return result


def _ordered(merged: list[Any], old: list[Any], order: Any, identity: Any) -> list[Any]:
    """The merged list in the order the patch states; entries it does not name keep their place among the old ones."""
    if not order:
        return merged
    wanted = [identity(v) if isinstance(v, dict) else v for v in order]
    before = [identity(v) for v in old]
    named = sorted((v for v in merged if identity(v) in wanted), key=lambda v: wanted.index(identity(v)))
    others = [v for v in merged if identity(v) not in wanted]
    result: list[Any] = []
    while named and others:
        left, right = identity(others[0]), identity(named[0])
        first = left in before and (right not in before or before.index(left) < before.index(right))
        result.append((others if first else named).pop(0))
    return result + named + others


def cleaned(value: Any, shape: Type) -> Any:
    """A part of a patch that has nothing to merge with: without nulls, directives and entries marked for deletion."""
    if isinstance(value, dict):
        return strategic({}, value, shape)
    if isinstance(value, list):
        item = shape.child("")
        return [cleaned(v, item) for v in value if not (isinstance(v, dict) and v.get("$patch") == "delete")]
    return value
