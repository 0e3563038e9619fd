"""What the controllers ask about a pod, and how one is made from a template. Pure functions over JSON objects."""

from __future__ import annotations

import copy
import hashlib
from datetime import UTC, datetime
from typing import Any

import orjson

Json = dict[str, Any]

_SAFE = "bcdfghjklmnpqrstvwxz2456789"  # the alphabet of Kubernetes' generated names: spells no words


def now_text() -> str:
    """The current time as the API writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def seconds(stamp: str | None) -> float:
    """An API time as epoch seconds; 0 when there is none."""
    return datetime.fromisoformat(stamp).timestamp() if stamp else 0.0


def digest(value: Any, size: int = 10) -> str:
    """A short name-safe hash of a JSON value."""
    number = int.from_bytes(hashlib.blake2b(orjson.dumps(value, option=orjson.OPT_SORT_KEYS), digest_size=8).digest())
    letters = []
    for _ in range(size):
        number, index = divmod(number, len(_SAFE))
        letters.append(_SAFE[index])
    return "".join(letters)


def condition(obj: Json, kind: str) -> Json:
    """The condition ``kind`` of an object's status, or an empty one."""
    for each in obj.get("status", {}).get("conditions") or ():
        if each.get("type") == kind:
            return dict(each)
    return {}


def is_terminal(pod: Json) -> bool:
    """Whether the pod's containers have ended for good."""
    return pod.get("status", {}).get("phase") in ("Succeeded", "Failed")


def is_leaving(obj: Json) -> bool:
    """Whether somebody asked for the object's deletion."""
    return bool(obj["metadata"].get("deletionTimestamp"))


def is_active(pod: Json) -> bool:
    """Whether the pod counts as one of its owner's replicas."""
    return not is_terminal(pod) and not is_leaving(pod)


def is_ready(pod: Json) -> bool:
    """Whether the pod's Ready condition is true."""
    return condition(pod, "Ready").get("status") == "True"


def available_in(pod: Json, min_ready: int, now: float) -> float | None:
    """Seconds until the pod has been ready for ``min_ready`` seconds (0: available); None while it is not ready."""
    ready = condition(pod, "Ready")
    if ready.get("status") != "True":
        return None
    if not min_ready:
        return 0.0
    return max(0.0, seconds(ready.get("lastTransitionTime")) + min_ready - now)


def controller_of(obj: Json) -> Json | None:
    """The owner reference of the object's controller, if it has one."""
    for reference in obj["metadata"].get("ownerReferences") or ():
        if reference.get("controller"):
            return dict(reference)
    return None


def owned_by(obj: Json, owner: Json) -> bool:
    """Whether ``owner`` is the object's controller."""
    reference = controller_of(obj)
    return reference is not None and reference.get("uid") == owner["metadata"]["uid"]


def reference_to(owner: Json) -> Json:
    """The owner reference that makes ``owner`` a controller."""
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def from_template(template: Json, owner: Json, *, name: str = "", labels: Json | None = None) -> Json:
    """A pod made from ``template`` for ``owner``; without ``name`` the API server completes one from the owner's."""
    given = template.get("metadata") or {}
    metadata: Json = {
        "namespace": owner["metadata"]["namespace"],
        "labels": {**(given.get("labels") or {}), **(labels or {})},
        "ownerReferences": [reference_to(owner)],
    }
    for kept in ("annotations", "finalizers"):
        if given.get(kept):
            metadata[kept] = copy.deepcopy(given[kept])
    if name:
        metadata["name"] = name
    else:
        metadata["generateName"] = f"{owner['metadata']['name'][:57]}-"
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": copy.deepcopy(template.get("spec") or {})}


def portion(value: int | str | None, whole: int, default: int | str, *, round_up: bool) -> int:
    """An int-or-percentage field such as ``maxSurge`` as a number of pods out of ``whole``.

    Raises :class:`ValueError` naming the value when it is neither.
    """
    value = default if value is None else value
    if isinstance(value, int):
        return value
    if not (value.endswith("%") and value[:-1].isdigit()):
        raise ValueError(f"{value!r} is neither a number of pods nor a percentage such as 25%")
    parts = int(value[:-1]) * whole
    return -(-parts // 100) if round_up else parts // 100


def with_condition(conditions: list[Json], new: Json) -> list[Json]:
    """``conditions`` with ``new`` in the place of its type; its transition time stays while its status does."""
    out, found = [], False
    for each in conditions:
        if each.get("type") != new["type"]:
            out.append(each)
            continue
        found = True
        same = each.get("status") == new.get("status")
        stamp = each.get("lastTransitionTime") if same else None
        out.append({**new, "lastTransitionTime": stamp or new.get("lastTransitionTime") or now_text()})
    if not found:
        out.append({**new, "lastTransitionTime": new.get("lastTransitionTime") or now_text()})
    return out
