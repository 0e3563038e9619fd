"""Events have two faces, ``v1`` and ``events.k8s.io/v1``: one is stored, the other is made of it."""

from __future__ import annotations

from typing import Any

_NAMES = {
    "involvedObject": "regarding",
    "message": "note",
    "reportingComponent": "reportingController",
    "count": "deprecatedCount",
    "firstTimestamp": "deprecatedFirstTimestamp",
    "lastTimestamp": "deprecatedLastTimestamp",
    "source": "deprecatedSource",
}
_BACK = {new: old for old, new in _NAMES.items()}


def from_core(obj: dict[str, Any]) -> dict[str, Any]:
    """A stored event as ``events.k8s.io/v1`` shows it."""
    return {_NAMES.get(k, k): v for k, v in obj.items()} | {"apiVersion": "events.k8s.io/v1"}


def to_core(obj: dict[str, Any]) -> dict[str, Any]:
    """An ``events.k8s.io/v1`` event as it is stored."""
    return {_BACK.get(k, k): v for k, v in obj.items()} | {"apiVersion": "v1"}
