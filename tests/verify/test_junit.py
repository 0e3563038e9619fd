"""JUnit documents are valid XML with true counts, whatever is in names and reasons."""

from __future__ import annotations

from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from ncp.verify.junit import Outcome, document

texts = st.text(st.characters(exclude_categories=()), max_size=8)
seconds = st.integers(0, 9999).map(lambda number: number / 1000)
outcomes = st.builds(Outcome, st.sampled_from(["one", "two"]) | texts, texts, seconds, texts, texts, texts)


def element(text):
    return ElementTree.fromstring(text.encode())


@given(st.lists(outcomes, max_size=6))
def test_any_outcome_is_valid_xml_with_true_counts(given_):
    root = element(document("all", given_))
    assert root.tag == "testsuites"
    for suite in (root, *root):
        cases = list(suite.iter("testcase"))
        assert int(suite.get("tests")) == len(cases)
        assert int(suite.get("failures")) == len([each for each in cases if each.find("failure") is not None])
        assert int(suite.get("skipped")) == len([each for each in cases if each.find("skipped") is not None])
        assert abs(float(suite.get("time")) - sum(float(each.get("time")) for each in cases)) < 0.01
    assert len(list(root.iter("testcase"))) == len(given_)
    assert len(list(root.iter("failure"))) == sum(bool(each.failure) for each in given_)
    assert len(list(root.iter("skipped"))) == sum(bool(each.skipped) for each in given_)


def test_a_document_says_what_happened():
    text = document(
        "ncp verify",
        [
            Outcome("x/a", "y/b", 0.25),
            Outcome("x/a", "y/c", 0.5, 'a "<&>" b', "line 1\nline 2"),
            Outcome("x/b", "y/c", skipped="not served"),
        ],
    )
    root = element(text)
    assert text.startswith('<?xml version="1.0" encoding="UTF-8"?>\n')
    assert root.attrib == {
        "name": "ncp verify", "tests": "3", "failures": "1", "errors": "0", "skipped": "1", "time": "0.750",
    }  # fmt: skip
    assert [suite.get("name") for suite in root] == ["x/a", "x/b"]
    good, bad = root[0]
    assert good.attrib == {"classname": "x/a", "name": "y/b", "time": "0.250"}
    assert len(good) == 0
    assert (bad[0].get("message"), bad[0].text) == ('a "<&>" b', "line 1\nline 2")
    assert root[1][0][0].get("message") == "not served"


def test_what_xml_cannot_hold_is_left_out_and_nothing_else():
    root = element(document("d", [Outcome("s", "a\0b\x1b[0m\ud800\ufffe ä\U0001f600", 0.0, "f", "tab\there")]))
    assert root[0][0].get("name") == "ab[0m ä\U0001f600"
    assert root[0][0][0].text == "tab\there"
