"""Drift: where a switch does not hold what was programmed. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set
from typing import Final, NamedTuple, Protocol

from sdn.openflow.groups import GroupContent, installed_content, wanted_content
from sdn.openflow.match import unpack_match
from sdn.openflow.pack import installed_key_bytes
from sdn.openflow.values import InstalledGroup
from sdn.pipeline.render import actions_text, match_text, term_text
from sdn.pipeline.tables import PIPELINE
from sdn.program import Program

SHOWN: Final = 5
"""Buckets that are named where a group differs in some."""


class Installed(Protocol):
    """A flow as a switch reports it."""

    @property
    def table(self) -> int:
        """Number of its table."""

    @property
    def priority(self) -> int:
        """Its priority."""

    @property
    def match(self) -> bytes:
        """Its canonical match bytes."""

    @property
    def cookie(self) -> int:
        """Owner and content."""


def key_of(flow: Installed) -> bytes:
    """An installed flow's key, as programs use it."""
    return installed_key_bytes(flow.table, flow.priority, flow.match)


class Drift(NamedTuple):
    """One flow or group that was not as programmed: ``missing``, ``altered`` (same rule, other content) or ``foreign``."""

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
        key = key_of(flow)
        seen.add(key)
        entry = program.get(key)
        if entry is None:
            name = PIPELINE.tables[flow.table].name if flow.table < len(PIPELINE.tables) else str(flow.table)
            found.append(Drift(now, "foreign", name, f"cookie {flow.cookie:#x}, {foreign_match(flow.match)}", ""))
        elif entry.cookie != flow.cookie:
            found.append(_drift(program, key, "altered", now))
    missing = (entry.key for entry in program.entries() if entry.key not in seen and entry.key not in refused)
    return found + [_drift(program, key, "missing", now) for key in missing]


def foreign_match(match: bytes) -> str:
    """A match read back from a switch as text; as hexadecimal where a field of it is not one of ours."""
    try:
        return ",".join(term_text(PIPELINE, term) for term in unpack_match(match)) or "*"
    except (KeyError, ValueError):
        return match.hex()


def _drift(program: Program, key: bytes, kind: str, now: float) -> Drift:
    entry = program.get(key)
    assert entry is not None
    text = f"{match_text(PIPELINE, entry.flow)} -> {actions_text(PIPELINE, entry.flow)}"
    return Drift(now, kind, PIPELINE.tables[entry.flow.table].name, text, str(entry.flow.origin))


def compare_groups(program: Program, installed: Iterable[InstalledGroup], now: float) -> list[Drift]:
    """Groups that are missing, hold something else than they should (``altered``), or that nobody asked for."""
    held = {each.id: installed_content(each) for each in installed}
    found = []
    for (_, origin), groups in program.groups.items():
        for group in groups:
            there, wanted = held.pop(group.id, None), wanted_content(group)
            if there is None:
                found.append(Drift(now, "missing", "groups", f"group {group.id}", str(origin)))
            elif there != wanted:
                text = f"group {group.id}: {'; '.join(_differences(there, wanted))}"
                found.append(Drift(now, "altered", "groups", text, str(origin)))
    found.sort(key=lambda drift: drift.flow)
    return found + [Drift(now, "foreign", "groups", f"group {number}", "") for number in sorted(held)]


def _differences(held: GroupContent, wanted: GroupContent) -> Iterator[str]:
    """How a group differs from what it should be: what it lacks, what it has too much, what says something else."""
    if held._replace(buckets={}) != wanted._replace(buckets={}):
        yield "chooses otherwise"
    numbers = {
        "lacks": wanted.buckets.keys() - held.buckets.keys(),
        "has of nobody's": held.buckets.keys() - wanted.buckets.keys(),
        "has altered": {n for n, each in held.buckets.items() if wanted.buckets.get(n, each) != each},
    }
    for what, those in numbers.items():
        if those:
            more = f" and {len(those) - SHOWN} more" if len(those) > SHOWN else ""
            yield f"{what} buckets {', '.join(map(str, sorted(those)[:SHOWN]))}{more}"
