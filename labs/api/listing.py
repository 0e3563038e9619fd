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
    after = _read_token(token) if token else None
    if after is None and rv not in ("", "0"):
        _check_version(store, scope, rv, match)
    found: list[Entry] = []
    rest = 0
    for entry in store.entries(scope.resource.store, scope.namespace, after):
        if not scope.holds(entry):
            continue
        if limit and len(found) == limit:
            rest += 1
        else:
            found.append(entry)
    if not rest:
        return Page(found, store.rv)
    plain = scope.labels is None and scope.fields is None
    last = found[-1].key
    mark = base64.urlsafe_b64encode(orjson.dumps([store.rv, last.namespace, last.name])).decode()
    return Page(found, store.rv, mark, rest if plain else None)


def _check_version(store: Store, scope: Scope, rv: str, match: str) -> None:
    if not rv.isdigit():
        raise bad_request(f"resourceVersion: Invalid value: {rv!r}: must be a number")
    if int(rv) > store.rv:
        cause = Cause("ResourceVersionTooLarge", "Too large resource version", "")
        message = f"Too large resource version: {rv}, current: {store.rv}"
        raise ApiError(504, "Timeout", message, causes=[cause], retry_after=1)
    shelf = store.shelf(scope.resource.store)
    last = shelf.changes[-1].rv if shelf.changes else shelf.floor
    if match == "Exact" and int(rv) < last:
        raise gone(
            f"The resourceVersion for the provided list is too old: {rv} ({last}); this server lists the present only"
        )


def _read_token(token: str) -> tuple[str, str]:
    try:
        _, namespace, name = orjson.loads(base64.urlsafe_b64decode(token))
    except (binascii.Error, ValueError) as error:
        raise bad_request(f"continue key is not valid: {error}") from error
    return namespace, name
