"""Tables: objects as rows with columns, the form ``kubectl get`` asks for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from labs.api.columns import Columns, columns_of
from labs.api.resources import Resource
from labs.api.store import Entry
from labs.api.views import metadata_only, whole
from labs.api.watch import Render


def table(
    entries: Sequence[Entry],
    resource: Resource,
    meta: dict[str, Any],
    version: str,
    include: str,
    *,
    headers: bool = True,
) -> bytes:
    """A meta.k8s.io Table of the objects; ``include`` says what of each object a row carries."""
    columns = columns_of(resource)
    head: dict[str, Any] = {"kind": "Table", "apiVersion": f"meta.k8s.io/{version}", "metadata": meta}
    head["columnDefinitions"] = columns.definitions if headers else []
    rows = b",".join([_row(entry, resource, columns, include) for entry in entries])
    return orjson.dumps(head)[:-1] + b',"rows":[' + rows + b"]}"


def _row(entry: Entry, resource: Resource, columns: Columns, include: str) -> bytes:
    cells = b'{"cells":' + orjson.dumps(columns.cells(entry.load()), default=str)
    if include == "None":
        return cells + b"}"
    body = whole(entry, resource) if include == "Object" else metadata_only(entry, resource)
    return cells + b',"object":' + body + b"}"


def watch_renderer(resource: Resource, version: str, include: str) -> Render:
    """Shows each event of a watch as a table of one row; only the first has the column headers."""
    shown = False

    def render(entry: Entry) -> bytes:
        nonlocal shown
        headers, shown = not shown, True
        return table([entry], resource, {"resourceVersion": str(entry.rv)}, version, include, headers=headers)

    return render
