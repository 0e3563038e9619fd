"""A node's program: its flows by piece, incremental updates, and what must change on a switch to reach it.

Values in, values out. Maps are persistent (hash array mapped tries), so an update costs what it touches, not the world.
When two pieces want the same rule (same table, priority and match) with different effects, the piece that sorts first
has it and the other gets a :class:`Problem`: whatever the order of events, the same program comes out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple, TypeAlias

from immutables import Map

from sdn.compile import balancing
from sdn.compile.balancing import Balancing
from sdn.compile.delta import Delta, Piece
from sdn.compile.membership import Membership
from sdn.compile.pieces import Attachments, all_pieces, compile_piece, ruled_pieces, touched
from sdn.compile.ruleset import Ruleset, advance
from sdn.compile.services import Served, compile_member, compile_service
from sdn.model import Intent, Origin, Problem
from sdn.openflow.groups import installed_content, wanted_content
from sdn.openflow.message import DeleteGroup, GroupChange, InsertBuckets, RemoveBucket, SetGroup
from sdn.openflow.pack import Encoded, encode
from sdn.openflow.values import InstalledGroup
from sdn.pipeline.flow import Flow, GroupEntry

Rule: TypeAlias = tuple[int, int, bytes]
"""What names a rule to a switch: table, priority, canonical match bytes."""


FEW: Final = 4
"""Buckets taken out of a group one by one, a message each; of more the group is written anew, which is one message."""


def rule_of(key: bytes) -> Rule:
    """The rule a key stands for."""
    return key[0], int.from_bytes(key[1:3], "big"), key[3:]


class Changes(NamedTuple):
    """What to send to a switch, as one atomic bundle: flows to add or overwrite, rules to delete strictly, and groups."""

    add: tuple[Encoded, ...] = ()
    delete: tuple[Rule, ...] = ()
    groups: tuple[GroupChange, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.add or self.delete or self.groups)


@dataclass(frozen=True, slots=True)
class Program:
    """The flows that make the intent so on one node. Build with :func:`build`, change with :func:`update`."""

    node: str
    owner: int
    rules: Ruleset
    pieces: Map[Piece, tuple[Encoded, ...]]
    problems: Map[Piece, tuple[Problem, ...]]
    claims: Map[bytes, tuple[tuple[Piece, Encoded], ...]]  # by key, sorted by piece; the first is on the switch
    contested: Map[bytes, tuple[tuple[Piece, Encoded], ...]]  # of claims, those of several pieces
    balancing: Balancing
    groups: Map[Piece, tuple[GroupEntry, ...]]

    def __len__(self) -> int:
        return len(self.claims)

    def entries(self) -> Iterable[Encoded]:
        """Every flow that should be on the switch."""
        return (claim[0][1] for claim in self.claims.values())

    def get(self, key: bytes) -> Encoded | None:
        """The flow that should be on the switch under a key."""
        claim = self.claims.get(key)
        return claim[0][1] if claim else None

    def all_problems(self) -> list[Problem]:
        """What could not be realised, conflicts included."""
        found = [problem for problems in self.problems.values() for problem in problems]
        for claim in self.contested.values():
            winner = claim[0][1].flow.origin
            found += [
                _conflict(entry.flow.origin, winner) for _, entry in claim[1:] if entry.cookie != claim[0][1].cookie
            ]
        return list(dict.fromkeys(found))


def _conflict(loser: Origin, winner: Origin) -> Problem:
    plain = loser.about("")
    text = f"{plain} and {winner.about('')} claim the same address; the latter keeps it. Give {plain} another address."
    return Problem(plain, "ADDRESS_CONFLICT", text)


def empty(node: str, owner: int) -> Program:
    """The program of a node that has nothing."""
    return Program(node, owner, Ruleset(Membership(node)), Map(), Map(), Map(), Map(), Balancing(node), Map())


def build(intent: Intent, node: str, owner: int, attachments: Attachments) -> Program:
    """The full recompute: the program as if nothing had been there before."""
    everything = Delta(
        ports=frozenset(intent.ports),
        sections=frozenset(intent.sections),
        namespaces=frozenset(intent.namespaces),
        services=frozenset(intent.services),
    )
    nothing = empty(node, owner)
    rules, pieces = advance(nothing.rules, intent, everything)
    balanced, served = balancing.advance(nothing.balancing, intent, everything)
    nothing = replace(nothing, balancing=balanced)
    return _recompute(nothing, intent, rules, attachments, {*all_pieces(intent), *pieces, *served})[0]


def update(program: Program, intent: Intent, attachments: Attachments, delta: Delta) -> tuple[Program, Changes]:
    """The program after a change, and the difference; equal to a full recompute of ``intent``."""
    rules, pieces = advance(program.rules, intent, delta)
    pieces |= touched(intent, program.node, delta)
    balanced, served = balancing.advance(program.balancing, intent, delta)
    pieces |= served
    program = replace(program, balancing=balanced)
    if delta.settings or program.node in delta.nodes:
        pieces.update(ruled_pieces(rules))
        pieces |= balancing.pieces(balanced)
    return _recompute(program, intent, rules, attachments, pieces)


def _recompute(
    program: Program, intent: Intent, rules: Ruleset, attachments: Attachments, dirty: Iterable[Piece]
) -> tuple[Program, Changes]:
    pieces, problems, claims = program.pieces.mutate(), program.problems.mutate(), program.claims.mutate()
    before: dict[bytes, Encoded | None] = {}
    groups = program.groups.mutate()
    ungrouped: list[GroupEntry] = []
    regrouped: list[GroupEntry] = []
    for piece in dirty:
        if piece[0] == "service":
            flows, found, new_groups = _served(intent, program, piece[1])
            ungrouped += groups.get(piece, ())
            regrouped += new_groups
            _store(groups, piece, new_groups)
        elif piece[0] == "member":
            flows, found = _sent(intent, program, piece[1]), ()
        else:
            flows, found = compile_piece(piece, intent, rules, program.node, attachments)
        new, unwritable = _encoded(flows, program.owner)
        found += unwritable
        old = pieces.get(piece, ())
        _store(pieces, piece, new)
        _store(problems, piece, found)
        if new == old:
            continue
        for entry in old:
            _remember(before, claims, entry.key)
            rest = tuple(claim for claim in claims[entry.key] if claim[0] != piece)
            _store(claims, entry.key, rest)
        for entry in new:
            _remember(before, claims, entry.key)
            others = claims.get(entry.key, ())
            claims[entry.key] = tuple(sorted((*others, (piece, entry)), key=_by_piece)) if others else ((piece, entry),)
    contested = program.contested.mutate()
    for key in before:
        claim = claims.get(key, ())
        _store(contested, key, claim if len(claim) > 1 else ())
    maps = (pieces.finish(), problems.finish(), claims.finish(), contested.finish())
    after = Program(program.node, program.owner, rules, *maps, program.balancing, groups.finish())
    return after, _difference(before, after)._replace(groups=tuple(_group_changes(ungrouped, regrouped)))


def _served(intent: Intent, program: Program, name: Any) -> Served:
    return compile_service(intent, program.balancing, name) if program.node in intent.nodes else Served((), (), ())


def _sent(intent: Intent, program: Program, about: Any) -> tuple[Flow, ...]:
    return compile_member(program.balancing, about) if program.node in intent.nodes else ()


def _group_changes(old: Sequence[GroupEntry], new: Sequence[GroupEntry]) -> Iterable[GroupChange]:
    """What makes groups so, of all services at once: they may take each other's numbers. Groups come before those that name them,
    and go after them."""
    before, after = {each.id: each for each in old}, {each.id for each in new}
    yield from (change for each in new for change in _group_change(before.get(each.id), each))
    yield from (DeleteGroup(each.id) for each in reversed(old) if each.id not in after)


def _group_change(old: GroupEntry | None, new: GroupEntry) -> Iterable[GroupChange]:
    """Buckets that come, and a few that go, one by one, where all others stay what they are; else the group anew."""
    if old == new:
        return
    held = {each.id: each for each in old.buckets} if old else {}
    wanted = {each.id: each for each in new.buckets}
    if (
        old is None
        or old._replace(buckets=()) != new._replace(buckets=())
        or any(wanted.get(number, bucket) != bucket for number, bucket in held.items())
    ):
        yield SetGroup(new)
        return
    gone = [number for number in held if number not in wanted]
    if len(gone) > FEW:
        yield SetGroup(new)
        return
    yield from (RemoveBucket(new.id, new.kind, number) for number in gone)
    if more := tuple(each for number, each in wanted.items() if number not in held):
        yield InsertBuckets(new.id, new.kind, more)


def _encoded(flows: Iterable[Flow], owner: int) -> tuple[tuple[Encoded, ...], tuple[Problem, ...]]:
    done, problems = [], []
    for flow in flows:
        try:
            done.append(encode(flow, owner))
        except ValueError as error:
            problems.append(Problem(flow.origin, "FLOW_INVALID", str(error)))
    return tuple(done), tuple(problems)


def _by_piece(claim: tuple[Piece, Encoded]) -> tuple[str, str]:
    (kind, name), _ = claim
    return kind, str(name)


def _store(target, key, value) -> None:  # type: ignore[no-untyped-def]  # MapMutation is generic in ways mypy cannot follow
    if value:
        target[key] = value
    else:
        target.pop(key, None)


def _remember(before: dict[bytes, Encoded | None], claims, key: bytes) -> None:  # type: ignore[no-untyped-def]
    if key not in before:
        claim = claims.get(key)
        before[key] = claim[0][1] if claim else None


def _difference(before: Mapping[bytes, Encoded | None], after: Program) -> Changes:
    add, delete = [], []
    for key, old in before.items():
        new = after.get(key)
        if new is None:
            if old is not None:
                delete.append(rule_of(key))
        elif old is None or old.cookie != new.cookie:
            add.append(new)
    return Changes(tuple(add), tuple(delete))


def against(program: Program, installed: Mapping[bytes, int], groups: Iterable[InstalledGroup] = ()) -> Changes:
    """The difference between what a switch really holds (key → cookie, our own flows only; its groups) and the program."""
    add = tuple(entry for entry in program.entries() if installed.get(entry.key) != entry.cookie)
    delete = tuple(rule_of(key) for key in installed if key not in program.claims)
    held = {each.id: each for each in groups}
    wanted = [each for entries in program.groups.values() for each in entries]
    gone = held.keys() - {each.id for each in wanted}
    regrouped: list[GroupChange] = [SetGroup(each) for each in wanted if not is_so(each, held.get(each.id))]
    regrouped += [DeleteGroup(each) for each in sorted(gone)]
    return Changes(add, delete, tuple(regrouped))


def is_so(wanted: GroupEntry, held: InstalledGroup | None) -> bool:
    """Whether a switch holds a group as it should be."""
    return held is not None and installed_content(held) == wanted_content(wanted)
