"""What can go wrong when talking to the Kubernetes API."""

from __future__ import annotations

from typing import Any

import orjson


class ApiError(Exception):
    """The API server refused a request, or could not be reached.

    ``status`` is the HTTP status (0: no answer came), ``reason`` the machine-readable word of the API
    (``NotFound``, ``Conflict``, ...), ``message`` is for people.
    """

    def __init__(self, status: int, reason: str, message: str):
        super().__init__(status, reason, message)
        self.status = status
        self.reason = reason
        self.message = message

    def __str__(self) -> str:
        return f"{self.message} ({self.reason}, HTTP {self.status})" if self.status else self.message


class NotFound(ApiError):
    """404: no such object, or no such kind."""


class Conflict(ApiError):
    """409: the object changed since it was read."""


class AlreadyExists(Conflict):
    """409: an object of that name is there already."""


class Gone(ApiError):
    """410: that resourceVersion is no longer known; list anew."""


class Invalid(ApiError):
    """422: the object fails the API's validation; the message names the field."""


class Unavailable(ApiError):
    """No answer (refused, reset, timed out: status 0), or the server asks to come back later (429, 502-504)."""


_BY_STATUS: dict[int, type[ApiError]] = {
    404: NotFound,
    409: Conflict,
    410: Gone,
    422: Invalid,
    429: Unavailable,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
}


def from_status(status: dict[str, Any], http_status: int = 0) -> ApiError:
    """The error that a ``Status`` object stands for."""
    code = int(status.get("code") or http_status)
    reason = str(status.get("reason") or code)
    message = str(status.get("message") or f"the API server answered {code}")
    kind = AlreadyExists if reason == "AlreadyExists" else _BY_STATUS.get(code, ApiError)
    return kind(code, reason, message)


def from_response(http_status: int, body: bytes, request: str) -> ApiError:
    """The error that an HTTP answer stands for; ``request`` names what was asked."""
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        parsed = None
    if isinstance(parsed, dict) and (parsed.get("kind") == "Status" or "message" in parsed):
        error = from_status(parsed, http_status)
        error.message = f"{request}: {error.message}"
        return error
    text = body[:200].decode("utf-8", "replace").strip() or "no explanation"
    return from_status({"message": f"{request}: {text}"}, http_status)


def unavailable(request: str, error: Exception) -> Unavailable:
    """The error for a request that got no answer; ``request`` names the server and what was asked of it."""
    return Unavailable(0, "Unavailable", f"{request}: no answer: {_cause(error)}")


def _cause(error: BaseException) -> str:
    """The innermost reason that says something: "Connection refused" rather than three layers around it."""
    text = str(error) or type(error).__name__
    while True:
        inner = getattr(error, "reason", None)
        inner = inner if isinstance(inner, BaseException) else error.__cause__
        if inner is None:
            break
        error = inner
        if isinstance(error, OSError):
            text = error.strerror or str(error) or text
    return text
