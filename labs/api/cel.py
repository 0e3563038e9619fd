"""What expressions mean: the part of CEL, with Kubernetes' functions, that rules of definitions mostly keep to.

Understood are fields and indices, comparison, logic and choice, ``in``, ``has()``, ``size()``, ``startsWith()``,
``endsWith()``, ``contains()``, the macros ``all()`` and ``exists()``, and of Kubernetes' own functions ``isCIDR()`` and
``isIP()``. An expression with anything else in it is refused as a whole, before it is evaluated.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from functools import cache, partial
from ipaddress import IPv6Address, ip_address
from typing import Any

from labs.api.addresses import prefix
from labs.api.expressions import Call, Constant, Field, Name, Node, NotUnderstood, parsed

Scope = Mapping[str, Any]


class Unanswerable(ValueError):
    """An expression has no value for these names: it asks for an absent field, or compares what has no order."""


@cache
def understood(text: str) -> Node:
    """The tree of an expression that can be evaluated.

    Raises:
        NotUnderstood: it is not CEL, or CEL beyond what this module's docstring names.
    """
    try:
        tree = parsed(text)
        _check(tree, frozenset({"self"}))
    except RecursionError as error:
        raise NotUnderstood("it is nested too deeply") from error
    return tree


def _check(node: Node, names: frozenset[str]) -> None:
    match node:
        case Name(name) if name not in names:
            raise NotUnderstood(f"{name!r} is not understood")
        case Field(owner, _) | Call("has", (Field(owner, _),)):
            _check(owner, names)
        case Call(".all" | ".exists", (whole, Name(variable), test)):
            _check(whole, names)
            _check(test, names | {variable})
        case Call(function, arguments):
            if _ARGUMENTS.get(function, len(arguments)) != len(arguments) or function not in _UNDERSTOOD:
                raise NotUnderstood(f"{function!r} of {len(arguments)} is not understood")
            for each in arguments:
                _check(each, names)


def value(node: Node, scope: Scope) -> Any:
    """The value of an understood expression where names stand for these values.

    Raises:
        Unanswerable: it has none.
    """
    match node:
        case Constant(constant):
            return constant
        case Name(name):
            return scope[name]
        case Field(owner, name):
            return _entry(value(owner, scope), name)
        case Call("has", (Field(owner, name),)):
            return name in _typed(value(owner, scope), dict)
        case Call("&&" | "||" as sign, arguments):
            return _all_or_any(sign == "&&", (partial(value, each, scope) for each in arguments))
        case Call(".all" | ".exists" as macro, (whole, Name(variable), test)):
            scopes = [{**scope, variable: item} for item in _typed(value(whole, scope), list, dict)]
            return _all_or_any(macro == ".all", (partial(value, test, inner) for inner in scopes))
        case Call("?:", (condition, chosen, other)):
            return value(chosen if _typed(value(condition, scope), bool) else other, scope)
        case Call("[]", items):
            return [value(each, scope) for each in items]
        case Call(function, arguments):
            return _FUNCTIONS[function](*(value(each, scope) for each in arguments))


def _all_or_any(every: bool, tests: Iterable[Callable[[], Any]]) -> bool:
    """Whether all (or any) tests hold; one that has no answer counts only where no other decides."""
    unanswered = None
    for test in tests:
        try:
            if _typed(test(), bool) is not every:
                return not every
        except Unanswerable as error:
            unanswered = error
    if unanswered is not None:
        raise unanswered
    return every


def _typed(thing: Any, *types: type) -> Any:
    """The thing, if it is of one of these types exactly: a truth value is no number here."""
    if type(thing) not in types:
        raise Unanswerable("no such overload")
    return thing


def _entry(whole: Any, key: Any) -> Any:
    if isinstance(_typed(whole, dict, list), list):
        if not 0 <= _typed(key, int) < len(whole):
            raise Unanswerable(f"index out of bounds: {key}")
    elif key not in whole:
        raise Unanswerable(f"no such key: {key}")
    return whole[key]


def _equal(one: Any, other: Any) -> bool:
    return bool(one == other) and isinstance(one, bool) is isinstance(other, bool)


def _ordered(order: Callable[[Any, Any], bool], one: Any, other: Any) -> bool:
    types = (str,) if isinstance(one, str) else (int, float)
    return order(_typed(one, *types), _typed(other, *types))


def _text_test(test: Callable[[str, str], bool], text: Any, part: Any) -> bool:
    return test(_typed(text, str), _typed(part, str))


def _within(item: Any, whole: Any) -> bool:
    return any(_equal(item, each) for each in _typed(whole, list, dict))


def _size(whole: Any) -> int:
    return len(_typed(whole, str, list, dict))


def _is_cidr(text: Any) -> bool:
    """As netip.ParsePrefix: neither an IPv4 address within an IPv6 one nor a length with leading zeros."""
    found = prefix(_typed(text, str))
    return found is not None and text.endswith(f"/{found.network.prefixlen}") and not _mapped(found)


def _is_ip(text: Any) -> bool:
    try:
        return "%" not in _typed(text, str) and not _mapped(ip_address(text))
    except ValueError as error:
        if isinstance(error, Unanswerable):
            raise
        return False


def _mapped(address: object) -> bool:
    return isinstance(address, IPv6Address) and address.ipv4_mapped is not None


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "!": lambda truth: not _typed(truth, bool),
    "==": _equal,
    "!=": lambda one, other: not _equal(one, other),
    "<": partial(_ordered, operator.lt),
    "<=": partial(_ordered, operator.le),
    ">": partial(_ordered, operator.gt),
    ">=": partial(_ordered, operator.ge),
    "in": _within,
    "[_]": _entry,
    "size": _size,
    ".size": _size,
    ".startsWith": partial(_text_test, str.startswith),
    ".endsWith": partial(_text_test, str.endswith),
    ".contains": partial(_text_test, str.__contains__),
    "isCIDR": _is_cidr,
    "isIP": _is_ip,
}
_ARGUMENTS = {".startsWith": 2, ".endsWith": 2, ".contains": 2}
_ARGUMENTS |= dict.fromkeys(("size", ".size", "isCIDR", "isIP"), 1)
"""How many arguments a function takes that is called by its name; operators get theirs from how they are written."""
_UNDERSTOOD = {*_FUNCTIONS, "&&", "||", "?:", "[]"}
