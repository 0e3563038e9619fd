"""Reading the protobuf bodies that newer kubectl sends; answers are always JSON, which it accepts as well.

``protobuf.json`` holds the messages: field number → name and type code (``s`` string, ``i`` integer, ``b`` boolean,
``d`` number, ``y`` bytes, ``[X`` list, ``{X`` map from strings, else the name of a message).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import Any

import orjson

MAGIC = b"k8s\x00"
_GROUPS = {"rbac.authorization.k8s.io": "rbac", "policy": "policy", "": "core"}
_POINTERS = """
replicas terminationGracePeriodSeconds activeDeadlineSeconds revisionHistoryLimit progressDeadlineSeconds
parallelism completions backoffLimit ttlSecondsAfterFinished successfulJobsHistoryLimit failedJobsHistoryLimit
startingDeadlineSeconds gracePeriodSeconds deletionGracePeriodSeconds runAsUser runAsGroup fsGroup defaultMode
mode priority tolerationSeconds partition minReplicas leaseTransitions value controller blockOwnerDeletion
automountServiceAccountToken enableServiceLinks shareProcessNamespace readOnlyRootFilesystem
allowPrivilegeEscalation privileged runAsNonRoot optional suspend immutable orphanDependents setHostnameAsFQDN
allocateLoadBalancerNodePorts hostUsers ready serving terminating manualSelector maxSurge maxUnavailable
minAvailable
"""
_KEPT_ZEROS = frozenset(_POINTERS.split())
"""Fields where zero or false differs from nothing said: Go keeps them behind a pointer."""


class Unreadable(ValueError):
    """The bytes are not what they are said to be."""


@cache
def _messages() -> dict[str, dict[int, tuple[str, str]]]:
    table = json.loads(files("labs.api").joinpath("protobuf.json").read_text())
    return {
        name: {int(n): (_RENAMED.get(field, field), code) for n, (field, code) in parts.items()}
        for name, parts in table.items()
    }


def fields(body: bytes) -> Iterator[tuple[int, Any]]:
    """The fields of a message: number, and its integer or bytes."""
    place, size = 0, len(body)
    while place < size:
        tag, place = _varint(body, place)
        wire = tag & 7
        if wire == 0:
            value, place = _varint(body, place)
        elif wire in (1, 5):
            value, place = body[place : place + (8 if wire == 1 else 4)], place + (8 if wire == 1 else 4)
        elif wire == 2:
            length, place = _varint(body, place)
            value, place = body[place : place + length], place + length
        else:
            raise Unreadable(f"wire type {wire} at byte {place}")
        if place > size:
            raise Unreadable("the message ends within a field")
        yield tag >> 3, value


def _varint(body: bytes, place: int) -> tuple[int, int]:
    result = shift = 0
    while True:
        if place >= len(body):
            raise Unreadable("the message ends within a number")
        byte = body[place]
        place += 1
        result |= (byte & 127) << shift
        if byte < 128:
            return result, place
        shift += 7


def decode(body: bytes) -> dict[str, Any]:
    """The object in a protobuf body (runtime.Unknown). Raises :class:`Unreadable`."""
    if not body.startswith(MAGIC):
        raise Unreadable("the body does not begin with the mark of a Kubernetes protobuf message")
    envelope = dict(fields(body[len(MAGIC) :]))
    about = {number: bytes(value).decode() for number, value in fields(envelope.get(1, b""))}
    api_version, kind = about.get(1, ""), about.get(2, "")
    group, _, version = api_version.rpartition("/")
    package = _GROUPS.get(group, group.partition(".")[0])
    name = f"{package}.{version}.{kind}"
    if kind == "DeleteOptions":
        name = "meta.v1.DeleteOptions"
    if name not in _messages():
        raise Unreadable(f"{kind} of {api_version} is not known in protobuf; send JSON")
    return {"apiVersion": api_version, "kind": kind} | _message(envelope.get(2, b""), name)


def _message(body: bytes, name: str) -> Any:
    special = _SPECIAL.get(name)
    if special is not None:
        return special(body)
    result: dict[str, Any] = {}
    table = _messages()[name]
    for number, raw in fields(body):
        known = table.get(number)
        if known is None:
            continue
        field, code = known
        if code[0] == "[":
            result.setdefault(field, []).append(_value(raw, code[1:]))
        elif code[0] == "{":
            pair = dict(fields(raw))
            result.setdefault(field, {})[bytes(pair.get(1, b"")).decode()] = _value(pair.get(2, b""), code[1:])
        else:
            value = _value(raw, code)
            if (name, field) in _INLINE:
                result.update(value)
            elif value not in ("", 0, None) or (field in _KEPT_ZEROS and value == 0):
                result[field] = value
    return result


def _value(raw: Any, code: str) -> Any:
    if code == "s":
        return bytes(raw).decode()
    if code == "i":
        number = raw if isinstance(raw, int) else 0
        return number - (1 << 64) if number >= 1 << 63 else number
    if code == "b":
        return bool(raw)
    if code == "y":
        return base64.b64encode(raw).decode()
    if code == "d":
        return int.from_bytes(raw, "little")
    return _message(raw, code)


def _time(body: bytes) -> str | None:
    parts = dict(fields(body))
    if not parts:
        return None
    moment = datetime.fromtimestamp(parts.get(1, 0), UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _micro_time(body: bytes) -> str | None:
    parts = dict(fields(body))
    if not parts:
        return None
    moment = datetime.fromtimestamp(parts.get(1, 0), UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S") + f".{parts.get(2, 0) // 1000:06d}Z"


def _int_or_string(body: bytes) -> int | str:
    parts = dict(fields(body))
    return bytes(parts.get(3, b"")).decode() if parts.get(1) else _value(parts.get(2, 0), "i")


def _quantity(body: bytes) -> str:
    return bytes(dict(fields(body)).get(1, b"")).decode()


def _raw_json(body: bytes) -> Any:
    raw = bytes(dict(fields(body)).get(1, b""))
    return orjson.loads(raw) if raw else None


_SPECIAL = {
    "meta.v1.Time": _time,
    "meta.v1.MicroTime": _micro_time,
    "meta.v1.FieldsV1": _raw_json,
    "util.intstr.IntOrString": _int_or_string,
    "api.resource.Quantity": _quantity,
    "runtime.RawExtension": _raw_json,
}
_INLINE = frozenset(
    {
        ("core.v1.Volume", "volumeSource"),
        ("core.v1.PersistentVolumeSpec", "persistentVolumeSource"),
        ("core.v1.Probe", "handler"),
        ("core.v1.EphemeralContainer", "ephemeralContainerCommon"),
        ("core.v1.ConfigMapEnvSource", "localObjectReference"),
        ("core.v1.SecretEnvSource", "localObjectReference"),
        ("core.v1.ConfigMapKeySelector", "localObjectReference"),
        ("core.v1.SecretKeySelector", "localObjectReference"),
        ("core.v1.ConfigMapVolumeSource", "localObjectReference"),
        ("core.v1.ConfigMapProjection", "localObjectReference"),
        ("core.v1.SecretProjection", "localObjectReference"),
        ("admissionregistration.v1.RuleWithOperations", "rule"),
        ("networking.v1.IngressRule", "ingressRuleValue"),
    }
)
"""Messages whose fields JSON shows in their parent."""
_RENAMED = {"Webhooks": "webhooks", "aPIGroup": "apiGroup"}
