"""The columns of every kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from labs.api.clock import age
from labs.api.resources import Resource

Obj = dict[str, Any]
Cell = Callable[[Obj], Any]


class Columns(NamedTuple):
    """Column headers, and the cells of an object."""

    definitions: list[dict[str, Any]]
    makers: tuple[Cell, ...]

    def cells(self, obj: Obj) -> list[Any]:
        """One row."""
        return [make(obj) for make in self.makers]


def _definition(name: str, kind: str = "string", priority: int = 0) -> dict[str, Any]:
    form = "name" if name == "Name" else ""
    return {"name": name, "type": kind, "format": form, "description": "", "priority": priority}


def columns_of(resource: Resource) -> Columns:
    """The columns of a resource."""
    return Columns(
        [_definition("Name"), _definition("Age")],
        (lambda o: o["metadata"]["name"], lambda o: age(o["metadata"].get("creationTimestamp"))),
    )
