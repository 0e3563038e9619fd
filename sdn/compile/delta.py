"""What changed between two intents, and the pieces of a program. Pure."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field, fields
from typing import TypeAlias

Piece: TypeAlias = tuple[str, Hashable]
"""A part of a program: its kind, and what it is about. See :mod:`sdn.compile.pieces`."""


@dataclass(frozen=True, slots=True)
class Delta:
    """What changed, by name; ``exits``: another node is the way out; ``settings`` is everything else that is not a map."""

    ports: frozenset[str] = field(default_factory=frozenset)
    switches: frozenset[int] = field(default_factory=frozenset)
    nodes: frozenset[str] = field(default_factory=frozenset)
    sections: frozenset[str] = field(default_factory=frozenset)
    namespaces: frozenset[str] = field(default_factory=frozenset)
    services: frozenset[str] = field(default_factory=frozenset)
    bindings: frozenset[str] = field(default_factory=frozenset)
    settings: bool = False
    exits: bool = False

    def __or__(self, other: Delta) -> Delta:
        return Delta(*(getattr(self, each.name) | getattr(other, each.name) for each in fields(self)))

    def __bool__(self) -> bool:
        return any(getattr(self, each.name) for each in fields(self))
