"""Drift: where a switch does not hold what was programmed. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Set
from typing import NamedTuple, Protocol

from sdn.pipeline.render import actions_text, match_text
from sdn.pipeline.tables import PIPELINE
from sdn.program import Program


class Installed(Protocol):
    """A flow as a switch reports it."""

    key: bytes
    cookie: int


class Drift(NamedTuple):
    """One flow that was not as programmed: ``missing``, ``altered`` (same rule, other content) or ``foreign``."""

    at: float  # seconds since the epoch
    kind: str
    table: str
    flow: str
    origin: str


def compare(program: Program, installed: Iterable[Installed], refused: Set[bytes], now: float) -> list[Drift]:
    """Every difference between what a switch holds and the program, flows it refused aside."""
    found = []
    seen = set()
    for flow in installed:
        seen.add(flow.key)
        entry = program.get(flow.key)
        if entry is None:
            table = flow.key[0]
            name = PIPELINE.tables[table].name if table < len(PIPELINE.tables) else str(table)
            found.append(Drift(now, "foreign", name, f"cookie {flow.cookie:#x}, match {flow.key[3:].hex()}", ""))
        elif entry.cookie != flow.cookie:
            found.append(_drift(program, flow.key, "altered", now))
    missing = (entry.key for entry in program.entries() if entry.key not in seen and entry.key not in refused)
    return found + [_drift(program, key, "missing", now) for key in missing]


def _drift(program: Program, key: bytes, kind: str, now: float) -> Drift:
    entry = program.get(key)
    assert entry is not None
    text = f"{match_text(PIPELINE, entry.flow)} -> {actions_text(PIPELINE, entry.flow)}"
    return Drift(now, kind, PIPELINE.tables[entry.flow.table].name, text, str(entry.flow.origin))
