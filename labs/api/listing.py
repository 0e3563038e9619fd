"""Lists: a page of the objects in scope, with the token that continues it."""

from __future__ import annotations

import base64
import binascii
from typing import NamedTuple

import orjson

from labs.api.errors import ApiError, Cause, bad_request, gone
from labs.api.store import Entry, Store
from labs.api.watch import Scope


class Page(NamedTuple):
    """Some objects, the resourceVersion they were read at, and how to go on."""

    entries: list[Entry]
    rv: int
    token: str = ""
    remaining: int | None = None

    def metadata(self) -> dict[str, object]:
        """The metadata of the list."""
        meta: dict[str, object] = {"resourceVersion": str(self.rv)}
        if self.token:
            meta["continue"] = self.token
            if self.remaining is not None:
                meta["remainingItemCount"] = self.remaining
        return meta


def page(store: Store, scope: Scope, *, limit: int, token: str, rv: str, match: str) -> Page:
    """The objects in scope, at most ``limit`` (0: all). 400 for a bad token, 410 for a state no longer kept."""
    moment, after = _read_token(token) if token else (_moment(store, scope, rv, match), None)
    try:
        entries = store.entries_at(scope.resource.store, moment, scope.namespace, after)
    except ValueError as error:
        what = "continue parameter" if token else "resourceVersion"
        raise gone(f"The provided {what} is too old to display a consistent list result: {error}") from error
    found: list[Entry] = []
    rest = 0
    for entry in entries:
        if not scope.holds(entry):
            continue
        if limit and len(found) == limit:
            rest += 1
        else:
            found.append(entry)
    if not rest:
        return Page(found, moment)
    plain = scope.labels is None and scope.fields is None
    last = found[-1].key
    mark = base64.urlsafe_b64encode(orjson.dumps([moment, last.namespace, last.name])).decode()
    return Page(found, moment, mark, rest if plain else None)


def _moment(store: Store, scope: Scope, rv: str, match: str) -> int:
    """The resourceVersion to list at: the newest, unless an exact one is asked for."""
    if rv in ("", "0"):
        return store.rv
    if not rv.isdigit():
        raise bad_request(f"resourceVersion: Invalid value: {rv!r}: must be a number")
    if int(rv) > store.rv:
        cause = Cause("ResourceVersionTooLarge", "Too large resource version", "")
        message = f"Too large resource version: {rv}, current: {store.rv}"
        raise ApiError(504, "Timeout", message, causes=[cause], retry_after=1)
    return int(rv) if match == "Exact" else store.rv


def _read_token(token: str) -> tuple[int, tuple[str, str]]:
    try:
        rv, namespace, name = orjson.loads(base64.urlsafe_b64decode(token))
    except (binascii.Error, ValueError) as error:
        raise bad_request(f"continue key is not valid: {error}") from error
    return int(rv), (namespace, name)
