"""Test results as JUnit XML, which every CI system reads. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple
from xml.etree import ElementTree


class Outcome(NamedTuple):
    """One test: ``failure`` is empty where it passed, else what was wrong in one line; ``details`` are more lines; ``skipped``
    says why it was not run."""

    suite: str
    name: str
    seconds: float = 0.0
    failure: str = ""
    details: str = ""
    skipped: str = ""


def document(name: str, outcomes: Iterable[Outcome]) -> str:
    """The XML of some outcomes, grouped by their suites."""
    suites: dict[str, list[Outcome]] = {}
    for each in outcomes:
        suites.setdefault(each.suite, []).append(each)
    root = ElementTree.Element(
        "testsuites", {"name": name, **_counts(each for some in suites.values() for each in some)}
    )
    for suite, tests in suites.items():
        element = ElementTree.SubElement(root, "testsuite", {"name": _clean(suite), **_counts(tests)})
        for test in tests:
            attributes = {"classname": _clean(suite), "name": _clean(test.name), "time": f"{test.seconds:.3f}"}
            case = ElementTree.SubElement(element, "testcase", attributes)
            if test.skipped:
                ElementTree.SubElement(case, "skipped", {"message": _clean(test.skipped)})
            if test.failure:
                failure = ElementTree.SubElement(
                    case, "failure", {"message": _clean(test.failure), "type": "disagreement"}
                )
                failure.text = _clean(test.details)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _counts(tests: Iterable[Outcome]) -> dict[str, str]:
    listed = list(tests)
    return {
        "tests": str(len(listed)),
        "failures": str(sum(bool(each.failure) for each in listed)),
        "errors": "0",
        "skipped": str(sum(bool(each.skipped) for each in listed)),
        "time": f"{sum(each.seconds for each in listed):.3f}",
    }


def _clean(text: str) -> str:
    """Without what XML 1.0 cannot hold."""
    return "".join(each for each in text if each in "\t\n" or (each >= " " and each not in "\ufffe\uffff" and not "\ud800" <= each <= "\udfff"))  # fmt: skip
