"""Expressions of the Common Expression Language (CEL), read into trees. What they mean is in :mod:`labs.api.cel`."""

from __future__ import annotations

import re
from typing import Any, NamedTuple, NoReturn, TypeAlias, Union

_TOKEN = re.compile(
    r"(?P<number>\d+(?:\.\d+)?)(?![\w.])|(?P<text>\"[^\"\\\n]*\"|'[^'\\\n]*')|(?P<name>[A-Za-z_]\w*)"
    r"|(?P<sign>&&|\|\||[=!<>]=|[-+*/%<>!?:()\[\],.])"
)
_BINDS = {"||": 1, "&&": 2, **dict.fromkeys(("==", "!=", "<", "<=", ">", ">=", "in"), 3)}
_BINDS |= dict.fromkeys("+-", 4) | dict.fromkeys("*/%", 5)
_CONSTANTS = {"true": True, "false": False, "null": None}


class Constant(NamedTuple):
    """A number, text, truth value or null."""

    value: Any


class Name(NamedTuple):
    """A name that stands for a value."""

    name: str


class Field(NamedTuple):
    """``owner.name``."""

    owner: Node
    name: str


class Call(NamedTuple):
    """A function or operator and what it is asked of; ``a.f(b)`` is ``.f`` of a and b.

    Signs that are not infix operators: ``[]`` a list of its arguments, ``[_]`` an index, ``?:`` a choice.
    """

    function: str
    arguments: tuple[Node, ...]


Node: TypeAlias = Union[Constant, Name, Field, Call]  # noqa: UP007 - the classes name it before it is made


class NotUnderstood(ValueError):
    """An expression with something in it that is not evaluated here; the message says what."""


def parsed(text: str) -> Node:
    """The tree of an expression.

    Raises:
        NotUnderstood: it is not CEL, or has literals beyond plain numbers and texts without escapes.
    """
    reader = _Reader(text)
    node = reader.expression()
    if reader.token:
        reader.refuse()
    return node


class _Reader:
    """Reads one expression; ``token`` is what comes next, empty at the end."""

    def __init__(self, text: str) -> None:
        self._text, self._end = text, 0
        self.kind = self.token = ""
        self._step()

    def _step(self) -> str:
        """Passes the next token, and returns it."""
        passed, rest = self.token, self._text[self._end :].lstrip()
        self._end = len(self._text) - len(rest)
        self.kind = self.token = ""
        if rest:
            found = _TOKEN.match(rest)
            if found is None or found.lastgroup is None:
                raise NotUnderstood(f"{rest[:20]!r} is not understood")
            self.kind, self.token = found.lastgroup, found[0]
            self._end += found.end()
        return passed

    def refuse(self) -> NoReturn:
        """What comes next cannot stand here."""
        raise NotUnderstood(f"{self.token!r} is not understood there" if self.token else "it ends too early")

    def _takes(self, sign: str) -> bool:
        taken = self.kind == "sign" and self.token == sign
        if taken:
            self._step()
        return taken

    def _wants(self, sign: str) -> None:
        if not self._takes(sign):
            self.refuse()

    def expression(self) -> Node:
        condition = self._operation(1)
        if not self._takes("?"):
            return condition
        chosen = self.expression()
        self._wants(":")
        return Call("?:", (condition, chosen, self.expression()))

    def _operation(self, least: int) -> Node:
        """Infix operators that bind at least so tightly, the left ones first."""
        left = self._unary()
        while self.kind != "text" and (binds := _BINDS.get(self.token, 0)) >= least:
            left = Call(self._step(), (left, self._operation(binds + 1)))
        return left

    def _unary(self) -> Node:
        if self._takes("!"):
            return Call("!", (self._unary(),))
        if self._takes("-"):
            if self.kind != "number":
                self.refuse()
            return Constant(-_number(self._step()))
        return self._member(self._primary())

    def _member(self, owner: Node) -> Node:
        """What follows a value: fields, calls on it, indices."""
        while True:
            if self._takes("["):
                owner = Call("[_]", (owner, self.expression()))
                self._wants("]")
            elif self._takes("."):
                name = self._identifier()
                owner = Call(f".{name}", (owner, *self._list(")"))) if self._takes("(") else Field(owner, name)
            else:
                return owner

    def _primary(self) -> Node:
        if self._takes("("):
            node = self.expression()
            self._wants(")")
            return node
        if self._takes("["):
            return Call("[]", self._list("]"))
        if self.kind == "number":
            return Constant(_number(self._step()))
        if self.kind == "text":
            return Constant(self._step()[1:-1])
        name = self._identifier()
        if name in _CONSTANTS:
            return Constant(_CONSTANTS[name])
        return Call(name, self._list(")")) if self._takes("(") else Name(name)

    def _identifier(self) -> str:
        # Kubernetes writes fields whose names are no identifiers as __dot__ and the like.
        if self.kind != "name" or self.token.startswith("__"):
            self.refuse()
        return self._step()

    def _list(self, closing: str) -> tuple[Node, ...]:
        items: list[Node] = []
        while not self._takes(closing):
            if items:
                self._wants(",")
            items.append(self.expression())
        return tuple(items)


def _number(text: str) -> int | float:
    return float(text) if "." in text else int(text)
