"""docs/annotations.md names every annotation and every code that the code writes, and no other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import ncp

ROOT = Path(ncp.__file__).parents[1]
PAGE = (ROOT / "docs" / "annotations.md").read_text()
CODE = re.compile(r"[A-Z]+(?:_[A-Z]+)+")
ANNOTATION = re.compile(r"ncp/[a-z_]+(?:\.[a-z_]*)?")
PLACES_OF_CODES = ("ncp/manager", "ncp/node", "ncp/translate", "sdn/compile", "sdn/program.py")
PLACES_OF_NAMES = ("ncp", "sdn", "ipam", "firewall", "labs")
SAYING = {"Problem": 1, "Failure": 0, "Note": 0}
"""Where a call has its code."""


def modules(places: tuple[str, ...]) -> Iterator[tuple[Path, ast.Module]]:
    for place in places:
        path = ROOT / place
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            yield file, ast.parse(file.read_text())


def texts(places: tuple[str, ...]) -> set[str]:
    """Every string the code has, docstrings and comments aside, those that are parts of f-strings included."""
    found = set()
    for _, tree in modules(places):
        prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
                found.add(node.value)
    return found


def codes() -> set[str]:
    return {text for text in texts(PLACES_OF_CODES) if CODE.fullmatch(text)}


def annotations() -> set[str]:
    """Names, with ``ncp/error.<node>`` for the prefix that a node's name follows."""
    found = {text for text in texts(PLACES_OF_NAMES) if ANNOTATION.fullmatch(text)}
    return {name + "<node>" if name.endswith(".") else name for name in found}


def test_every_code_is_in_the_document_and_no_other():
    assert codes() == set(re.findall(rf"`({CODE.pattern})`", PAGE))
    assert len(codes()) > 20


def test_every_annotation_is_in_the_document_and_no_other():
    named = set(re.findall(r"`(ncp/[a-z_]+(?:\.(?:<node>|[a-z_]+))?)(?:: \"[^`]*)?`", PAGE))
    assert annotations() == named
    assert len(named) > 12


def test_whatever_can_go_wrong_has_a_code_that_is_written_out():
    """A code put together at run time would escape the document, and whoever searches for it."""
    said = 0
    for file, tree in modules(PLACES_OF_CODES):
        for node in ast.walk(tree):
            name = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
            if name not in SAYING or not isinstance(node, ast.Call) or len(node.args) <= SAYING[name]:
                continue
            code = node.args[SAYING[name]]
            where = f"{file.relative_to(ROOT)}:{node.lineno}"
            if isinstance(code, ast.Constant) and code.value:
                assert CODE.fullmatch(code.value), f"{where}: {code.value!r} is no code"
                said += 1
            else:
                assert isinstance(code, ast.Constant | ast.Name), f"{where}: the code is not written out"
    assert said > 15


def test_every_error_of_the_first_table_is_explained():
    """A code in the overview without its meaning helps nobody."""
    overview, _, rest = PAGE.partition("## Errors")[2].partition("Of what the manager decides:")
    explained = set(re.findall(rf"^\| `({CODE.pattern})`", rest, re.MULTILINE))
    assert set(re.findall(rf"`({CODE.pattern})`", overview)) <= explained
    assert codes() <= explained
