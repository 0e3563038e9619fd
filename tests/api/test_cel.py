"""Expressions of rules: what they say of a value, and what is refused as not understood."""

from __future__ import annotations

from typing import Any

import pytest

from labs.api import cel
from labs.api.expressions import NotUnderstood

PORTS = {"start": 1, "end": 9, "name": "http", "tags": ["a", "b"], "by": {"x": 1}}


def asked(text: str, value: Any = PORTS) -> Any:
    return cel.value(cel.understood(text), {"self": value})


@pytest.mark.parametrize(
    "text",
    [
        "self.start < self.end",
        "self.end >= 9 && self.start <= 1 && !(self.start > 1)",
        "self.start == 1.0 && self.name != 'https' && self.start != true",
        "has(self.name) && !has(self.nothing)",
        "!has(self.nothing) || self.nothing > 3",
        "self.nothing > 3 || true",
        "!(self.nothing > 3 && false)",
        "has(self.nothing) ? self.nothing > 3 : self.start == 1",
        "false ? false : true ? true : false",
        "self.name in ['http', \"https\"] && !('c' in self.tags) && 'x' in self.by",
        "self.name.startsWith('ht') && self.name.endsWith('tp') && self.name.contains('tt')",
        "size(self.tags) == 2 && self.tags.size() == 2 && self.name.size() == 4 && size(self.by) == 1",
        "self.tags[0] == 'a' && self.by['x'] == 1 && self.by.x == 1",
        "self.tags.all(tag, tag.size() == 1 && tag != self.name)",
        "self.tags.exists(tag, tag == 'b') && !self.tags.exists(tag, tag == 'c')",
        "self.by.all(key, self.by[key] == 1)",
        "[].all(one, one.two) && [1, 2] == [1, 2]",
        "-1 < self.start && null == null",
        " self.start\n    ==\t1\n",
        "'a' < 'b'",
    ],
)
def test_what_holds(text: str) -> None:
    assert asked(text) is True


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("self.nothing == 1", "no such key: nothing"),
        ("self.nothing > 3 || false", "no such key: nothing"),
        ("self.tags.exists(tag, tag.size() > 3 || tag.x)", "no such overload"),
        ("self.tags[2] == 'c'", "index out of bounds: 2"),
        ("self.start < self.name", "no such overload"),
        ("self.start < true", "no such overload"),
        ("!self.start", "no such overload"),
        ("self.start ? true : false", "no such overload"),
        ("isCIDR(self.start)", "no such overload"),
        ("has(self.name.x)", "no such overload"),
    ],
)
def test_what_has_no_answer_says_why(text: str, why: str) -> None:
    with pytest.raises(cel.Unanswerable, match=why):
        asked(text)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("self == oldSelf", "'oldSelf'"),
        ("self.start + 1 == 2", "'+'"),
        ("self.name.matches('a+')", "'.matches'"),
        ("self.tags.map(tag, tag)", "'.map'"),
        ("self.tags.all('a', true)", "'.all'"),
        ("size(self, self)", "'size' of 2"),
        ("has(self)", "'has'"),
        ("has(self['x'])", "'has'"),
        ("quantity(self.name) > 1", "'quantity'"),
        ("self.?name", "'?'"),
        ("self.__if__ == 1", "'__if__'"),
        ("self.name == 'a\\n'", "'a"),
        ("self.name == r'a'", "r"),
        ("1u == 1", "1u"),
        ("self.tags.all(tag, other)", "'other'"),
        ("tag == 1", "'tag'"),
        ("(self", "ends too early"),
        ("(" * 1000 + "self" + ")" * 1000, "nested too deeply"),
        ("self self", "'self'"),
        ("", "ends too early"),
    ],
)
def test_what_is_beyond_that_part_is_refused_before_it_is_asked(text: str, what: str) -> None:
    with pytest.raises(NotUnderstood) as refused:
        cel.understood(text)
    assert what in str(refused.value)


ADDRESSES = [
    ("isCIDR(self)", ["10.0.0.0/8", "10.1.2.3/8", "0.0.0.0/0", "fd00::/8", "::/0", "::1/128"], True),
    (
        "isCIDR(self)",
        ["10.0.0.0", "10.0.0.0/33", "010.0.0.0/8", "10.0.0.0/08", "::ffff:10.0.0.0/104", "", "a/8"],
        False,
    ),
    ("isCIDR(self)", ["10.0.0.0/255.0.0.0", "fe80::1%eth0/64", " 10.0.0.0/8", "10.0.0.0/-1"], False),
    ("isIP(self)", ["10.0.0.0", "::1", "fd00::a"], True),
    ("isIP(self)", ["10.0.0.0/8", "10.0.0", "fe80::1%eth0", "::ffff:10.0.0.1", ""], False),
]


@pytest.mark.parametrize(("text", "value", "verdict"), [(t, v, verdict) for t, vs, verdict in ADDRESSES for v in vs])
def test_addresses(text: str, value: str, verdict: bool) -> None:
    assert asked(text, value) is verdict
