"""Failures as the API states them: each becomes a ``Status`` object with the words kubectl prints."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple


class Cause(NamedTuple):
    """One reason inside a failure: a machine word, a sentence, and the field it is about."""

    reason: str
    message: str
    field: str


class ApiError(Exception):
    """A request that cannot be served; ``status`` is the HTTP code, ``reason`` the API's word for it."""

    def __init__(
        self,
        status: int,
        reason: str,
        message: str,
        *,
        name: str = "",
        group: str = "",
        kind: str = "",
        uid: str = "",
        causes: Iterable[Cause] = (),
        retry_after: int = 0,
    ) -> None:
        super().__init__(message)
        self.status, self.reason, self.message = status, reason, message
        self.name, self.group, self.kind, self.uid = name, group, kind, uid
        self.causes, self.retry_after = tuple(causes), retry_after

    def body(self) -> dict[str, Any]:
        """The ``Status`` object to answer with."""
        details: dict[str, Any] = {
            key: value
            for key, value in (("name", self.name), ("group", self.group), ("kind", self.kind), ("uid", self.uid))
            if value
        }
        if self.causes:
            details["causes"] = [
                {k: v for k, v in (("reason", c.reason), ("message", c.message), ("field", c.field)) if v}
                for c in self.causes
            ]
        if self.retry_after:
            details["retryAfterSeconds"] = self.retry_after
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            **({"details": details} if details else {}),
            "code": self.status,
        }


def qualified(plural: str, group: str) -> str:
    """``deployments.apps``, or ``pods`` for the core group: how messages name a resource."""
    return f"{plural}.{group}" if group else plural


def not_found(plural: str, group: str, name: str) -> ApiError:
    """404 for an object that does not exist."""
    message = f'{qualified(plural, group)} "{name}" not found'
    return ApiError(404, "NotFound", message, name=name, group=group, kind=plural)


def no_such_path() -> ApiError:
    """404 for a path or resource the server does not know."""
    return ApiError(404, "NotFound", "the server could not find the requested resource")


def already_exists(plural: str, group: str, name: str) -> ApiError:
    """409 for a create whose name is taken."""
    message = f'{qualified(plural, group)} "{name}" already exists'
    return ApiError(409, "AlreadyExists", message, name=name, group=group, kind=plural)


def conflict(plural: str, group: str, name: str, why: str) -> ApiError:
    """409 for an update made on an outdated or replaced object."""
    message = f'Operation cannot be fulfilled on {qualified(plural, group)} "{name}": {why}'
    return ApiError(409, "Conflict", message, name=name, group=group, kind=plural)


def forbidden(plural: str, group: str, name: str, why: str, causes: Sequence[Cause] = ()) -> ApiError:
    """403 for what a rule of the cluster refuses."""
    message = f'{qualified(plural, group)} "{name}" is forbidden: {why}'
    return ApiError(403, "Forbidden", message, name=name, group=group, kind=plural, causes=causes)


def bad_request(message: str) -> ApiError:
    """400 for a request that cannot be read."""
    return ApiError(400, "BadRequest", message)


def gone(message: str) -> ApiError:
    """410 for a resourceVersion or continue token older than the history kept."""
    return ApiError(410, "Expired", message)


def invalid(kind: str, group: str, name: str, causes: Sequence[Cause]) -> ApiError:
    """422 with every field at fault; one cause is printed inline, several in brackets, as kubectl users know it."""
    sentences = [f"{c.field}: {c.message}" for c in causes]
    listed = sentences[0] if len(sentences) == 1 else f"[{', '.join(sentences)}]"
    message = f'{qualified(kind, group)} "{name}" is invalid: {listed}'
    return ApiError(422, "Invalid", message, name=name, group=group, kind=kind, causes=causes)


def required(field: str, why: str = "") -> Cause:
    """A field that must be given and is not."""
    return Cause("FieldValueRequired", f"Required value{': ' + why if why else ''}", field)


def wrong(field: str, value: Any, why: str) -> Cause:
    """A field whose value breaks a rule."""
    return Cause("FieldValueInvalid", f"Invalid value: {shown(value)}: {why}", field)


def unsupported(field: str, value: Any, allowed: Iterable[str]) -> Cause:
    """A field whose value is not among the allowed ones."""
    listed = ", ".join(f'"{item}"' for item in sorted(allowed))
    return Cause("FieldValueNotSupported", f"Unsupported value: {shown(value)}: supported values: {listed}", field)


def duplicate(field: str, value: Any) -> Cause:
    """A list entry that may occur once only."""
    return Cause("FieldValueDuplicate", f"Duplicate value: {shown(value)}", field)


def denied(field: str, why: str) -> Cause:
    """A field that may not be set or changed here."""
    return Cause("FieldValueForbidden", f"Forbidden: {why}", field)


def shown(value: Any) -> str:
    """A value as error messages quote it."""
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "null"
    return str(value) if isinstance(value, int | float) else str(value).replace("'", '"')
