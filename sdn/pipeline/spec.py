"""What a register field and a table are, and the laws a pipeline obeys.

The laws (checked when a :class:`Pipeline` is made, so a wrong definition cannot be imported):

1. names are unique, and every field and table says what it is for;
2. no field leaves its register, and no two fields share a bit;
3. tables are numbered by their position; a packet only ever moves to a later table;
4. every table says what a miss does: go on to a later table, or drop for a declared reason;
5. what a table matches, writes and goes to is declared, and :meth:`Pipeline.check` refuses flows that do otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from sdn.pipeline.flow import (
    CheckPacketLarger,
    Controller,
    CopyField,
    Ct,
    Flow,
    Goto,
    Resubmit,
    SetField,
    Term,
)

METADATA: Final = 16
"""In place of a register's number."""


class PipelineError(ValueError):
    """A pipeline definition, or a flow, that breaks a law; the message names it."""


@dataclass(frozen=True, slots=True)
class RegField:
    """A named run of bits ``low..high`` (inclusive) of register ``reg``, or of the ``span`` registers from it on. After the last
    register (15) stands OpenFlow's metadata, as wide as two."""

    name: str
    reg: int
    low: int
    high: int
    doc: str
    span: int = 1  # 1, 2 or 4 registers of 32 bits, seen as one

    @property
    def register(self) -> str:
        """The register's field name, such as ``reg2``, ``xreg5`` (reg10 and reg11), ``xxreg1`` (reg4 to reg7) or ``metadata``."""
        if self.reg == METADATA:
            return "metadata"
        return f"{'x' * (self.span.bit_length() - 1)}reg{self.reg // self.span}"

    @property
    def bits(self) -> int:
        """Width in bits."""
        return self.high - self.low + 1

    @property
    def mask(self) -> int:
        """The field's bits within its register."""
        return ((1 << self.bits) - 1) << self.low

    def _shifted(self, value: int) -> int:
        if not 0 <= value < 1 << self.bits:
            raise PipelineError(f"field {self.name}: {value} does not fit {self.bits} bits")
        return value << self.low

    def match(self, value: int) -> Term:
        """The match term for this field being ``value``."""
        mask = None if self.bits == 32 * self.span else self.mask
        return (self.register, self._shifted(value), mask)

    def set(self, value: int) -> SetField:
        """The action that writes ``value`` into this field alone."""
        mask = None if self.bits == 32 * self.span else self.mask
        return SetField(self.register, self._shifted(value), mask)


@dataclass(frozen=True, slots=True)
class Miss:
    """What happens to a packet no flow of a table matches: go on to ``table``, or drop, counted under ``reason``.

    ``back`` is for a table that others resubmit to: with nothing found, the packet goes on where it came from.
    """

    table: str = ""
    reason: str = ""
    back: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """One stage. ``observes`` is what a traceflow reports of a packet that was seen here.

    A ``learned`` table holds flows that the switch makes itself, from packets, or the node as it goes: no program has them.
    """

    name: str
    doc: str
    matches: frozenset[str]
    goes_to: tuple[str, ...]
    miss: Miss
    observes: str
    writes: frozenset[str] = field(default_factory=frozenset)
    learned: bool = False


@dataclass(frozen=True)
class Pipeline:
    """All fields, drop reasons and tables, in order.

    Raises:
        PipelineError: a law of this module is broken.
    """

    fields: tuple[RegField, ...]
    drops: tuple[tuple[str, str], ...]  # (reason, meaning)
    tables: tuple[Table, ...]

    def __post_init__(self) -> None:
        self._check_fields()
        self._check_tables()

    def _check_fields(self) -> None:
        used: dict[tuple[int, int], str] = {}
        for f in self.fields:
            if not f.doc:
                raise PipelineError(f"field {f.name} is not documented")
            if f.span not in (1, 2, 4) or f.reg % f.span or not 0 <= f.low <= f.high < 32 * f.span:
                raise PipelineError(f"field {f.name}: bits {f.low}..{f.high} leave a {32 * f.span}-bit register")
            for bit in range(f.low, f.high + 1):
                place = (f.reg + f.span - 1 - bit // 32, bit % 32)  # the first register holds the highest bits
                if other := used.get(place):
                    raise PipelineError(f"fields {other} and {f.name} share bit {place[1]} of reg{place[0]}")
                used[place] = f.name
        _unique("field", (f.name for f in self.fields))

    def _check_tables(self) -> None:
        _unique("table", (t.name for t in self.tables))
        _unique("drop reason", (reason for reason, _ in self.drops))
        reasons = {reason for reason, _ in self.drops}
        names = {f.name for f in self.fields}
        for position, table in enumerate(self.tables):
            if not table.doc or not table.observes:
                raise PipelineError(f"table {table.name} is not documented")
            later = {t.name for t in self.tables[position + 1 :]}
            for target in (*table.goes_to, *filter(None, [table.miss.table])):
                if target not in later:
                    raise PipelineError(f"table {table.name} goes to {target}, which is not a later table")
            if [bool(table.miss.table), bool(table.miss.reason), table.miss.back].count(True) != 1:
                raise PipelineError(f"table {table.name} must declare a miss: a table, a drop reason, or the way back")
            if table.miss.reason and table.miss.reason not in reasons:
                raise PipelineError(f"table {table.name}: drop reason {table.miss.reason} is not declared")
            for name in table.matches | table.writes:
                if _is_register(name) and name not in names:
                    raise PipelineError(f"table {table.name} names {name}; registers are spoken of by field")

    @cached_property
    def numbers(self) -> dict[str, int]:
        """Table numbers by name."""
        return {table.name: number for number, table in enumerate(self.tables)}

    @cached_property
    def by_field(self) -> dict[str, RegField]:
        """Register fields by name."""
        return {f.name: f for f in self.fields}

    def check(self, flow: Flow) -> None:
        """Hold one flow against the definition.

        Raises:
            PipelineError: it matches, writes or goes to what its table does not declare.
        """
        if not 0 <= flow.table < len(self.tables):
            raise PipelineError(f"{flow.origin}: table {flow.table} does not exist")
        table = self.tables[flow.table]
        for name, _, mask in flow.match:
            for spoken in self._spoken(name, mask):
                if spoken not in table.matches:
                    raise PipelineError(f"{flow.origin}: table {table.name} may not match {spoken}")
        for action in flow.actions:
            for name, mask in _written(action):
                for spoken in self._spoken(name, mask):
                    if spoken not in table.writes:
                        raise PipelineError(f"{flow.origin}: table {table.name} may not write {spoken}")
            if isinstance(action, Goto | Resubmit | Ct) and action.table is not None:
                target = self.tables[action.table].name
                allowed = {*table.goes_to, table.miss.table}
                if target not in allowed:
                    raise PipelineError(f"{flow.origin}: table {table.name} may not go to {target}")
            if isinstance(action, Controller) and not action.userdata:
                raise PipelineError(f"{flow.origin}: a packet sent to the controller must say why")

    def _spoken(self, name: str, mask: int | None) -> Iterable[str]:
        """A register's bits, by the names of the fields they belong to; anything else, by its own name."""
        if not _is_register(name):
            return (name,)
        found = [f for f in self.fields if f.register == name and (mask is None or f.mask & mask)]
        covered = sum(f.mask for f in found)
        if not found or (mask is not None and covered & mask != mask):
            return (name,)
        return tuple(f.name for f in found)


def _is_register(name: str) -> bool:
    return name == "metadata" or (name.lstrip("x").startswith("reg") and name[-1].isdigit())


def _written(action: object) -> tuple[tuple[str, int | None], ...]:
    match action:
        case SetField(name, _, mask):
            return ((name, mask),)
        case CopyField(_, target, bits, _, offset):
            mask = ((1 << bits) - 1) << offset
            return ((target, mask),)
        case CheckPacketLarger(_, name, offset):
            return ((name, 1 << offset),)
        case Ct():
            return tuple(written for each in action.actions for written in _written(each))
        case _:
            return ()


def _unique(what: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise PipelineError(f"{what} {name} is declared twice")
        seen.add(name)
