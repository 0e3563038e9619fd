"""Truth tables, suites and replayed cases as text, JSON and JUnit."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from ncp.probe.model import Probe, Verdict
from ncp.verify import report, reporting
from ncp.verify.cases import cases
from ncp.verify.ground import example
from ncp.verify.replay import Replayed
from ncp.verify.suite import Asked
from tests.verify.builders import result

DENIED = ("NetworkPolicy x/deny isolates ingress",)
GOOD = result("no", why="deny", causes=DENIED)
OPEN = result(probe=Probe("y/b", "z/c", 4, "tcp", 80))
WRONG = result("no", "yes", "yes", "deny", DENIED, Probe("z/c", "x/a", 4, "tcp", 80))
NAMES = ["x/a", "y/b", "z/c"]


@pytest.fixture
def said(capsys, monkeypatch):
    """What was printed, on a terminal wide enough."""
    monkeypatch.setenv("COLUMNS", "160")
    return lambda: capsys.readouterr().out


# -- truth tables ---------------------------------------------------------------------------------------------------


def test_a_table_shows_marks_who_turns_away_and_each_disagreement_in_words(said):
    report.show([GOOD, OPEN, WRONG], NAMES, "table", 1.0)
    text = said()
    rows = {line.split()[2]: line for line in text.splitlines() if line.startswith("│")}
    marks = {name: [part.strip() for part in row.split("│")[2:-1]] for name, row in rows.items()}
    assert marks == {"x/a": ["—", "", ""], "y/b": ["○", "—", "●"], "z/c": ["✗", "", "—"]}
    assert "in each cell: tcp/80 IPv4" in text
    assert f"{DENIED[0]}  ○ no" in text
    assert "disagree z/c -> x/a tcp/80 IPv4\n   expected: no (deny)\n     traced: yes ()\n   observed: yes ()\n" in text
    assert text.endswith("3 probes: intent, flows and wire agree on 2\n")


def test_wide_names_each_probe_that_is_turned_away_and_all_stages(said):
    stages = ("egress of y/b: allow", "ingress of x/a: drop")
    staged = GOOD._replace(expected=GOOD.expected._replace(stages=stages))
    report.show([staged, OPEN], NAMES, "wide", 1.0)
    text = said()
    assert "y/b -> x/a tcp/80 IPv4" in text
    assert all(stage in text for stage in stages)


def test_more_disagreements_than_fit_are_counted(said):
    report.show([WRONG] * 25, NAMES, "table", 1.0)
    text = said()
    assert text.count("disagree z/c") == report.SHOWN
    assert "and 5 more\n" in text


def test_json_has_every_probe(said):
    report.show([GOOD, WRONG], NAMES, "json", 1.23456)
    body = json.loads(said())
    assert {key: body[key] for key in ("probes", "disagree", "seconds")} == {
        "probes": 2,
        "disagree": 1,
        "seconds": 1.235,
    }
    assert [each["agrees"] for each in body["results"]] == [True, False]
    assert body["results"][0]["expected"] == {"answer": "no", "why": "deny", "causes": list(DENIED), "stages": []}


def test_junit_has_a_test_for_every_pair(said):
    report.show([GOOD, OPEN, WRONG, WRONG], NAMES, "junit", 3.0)
    root = ElementTree.fromstring(said().encode())
    assert (root.get("tests"), root.get("failures"), root.get("time")) == ("3", "1", "3.000")
    (failure,) = root.iter("failure")
    assert failure.get("message") == "2 of 2 probes disagree; the first: z/c -> x/a tcp/80 IPv4"
    assert "observed: yes" in failure.text


def test_the_wrong_policy_named_for_the_right_answer_disagrees():
    named = result("no", causes=DENIED)
    assert named.agrees
    assert not named._replace(traced=Verdict("no", "", ("NetworkPolicy x/other isolates ingress",))).agrees


# -- suites ---------------------------------------------------------------------------------------------------------

AGREED = Asked("plain", "apply", 144, (), (), 0.5)
DISAGREED = Asked("egress", "apply", 144, (WRONG,), (Path("verify-cases/c.yaml"),), 0.5)
FAILED = Asked("egress", "delete", 0, (), (), 1.0, "node1 [fd00::1] lacks 3 flows [/x]")
SKIPPED = Asked("order", "", 0, (), (), 0.0, skipped="SecurityPolicy is not served by this cluster")


def test_a_suite_that_agrees(said):
    reporting.show_suite([AGREED, AGREED], "table", 61.2)
    assert said() == "1 of 1 cases agree: 2 steps, 288 probes, 61 s\n"


def test_a_suite_that_does_not_says_what_where_and_in_which_file(said):
    reporting.show_suite([AGREED, DISAGREED, FAILED], "wide", 2.0)
    text = said()
    assert "1 of 144 probes disagree" in text
    assert "saved: verify-cases/c.yaml" in text
    assert "z/c -> x/a tcp/80 IPv4" in text
    assert text.count("node1 [fd00::1] lacks 3 flows [/x]") == 2
    assert text.endswith("1 of 2 cases agree: 3 steps, 288 probes, 2 s\n")


def test_a_case_that_was_not_asked_does_not_agree(said):
    reporting.show_suite([AGREED, SKIPPED], "table", 2.0)
    assert said() == (
        "1 skipped: SecurityPolicy is not served by this cluster\n"
        "1 of 2 cases agree, 1 skipped: 1 steps, 144 probes, 2 s\n"
    )


def test_a_suite_as_json(said):
    reporting.show_suite([AGREED, DISAGREED, FAILED, SKIPPED], "json", 2.0)
    body = json.loads(said())
    results = body.pop("results")
    assert body == {
        "cases": 3, "skipped": 1, "failed": 1, "steps": 3, "probes": 288, "disagree": 1, "seconds": 2.0,
    }  # fmt: skip
    assert [each["case"] for each in results] == ["plain", "egress", "egress", "order"]
    assert results[1]["saved"] == ["verify-cases/c.yaml"]
    assert results[2]["problem"].startswith("node1")
    assert results[3]["skipped"].startswith("SecurityPolicy")


def test_a_suite_as_junit(said):
    reporting.show_suite([AGREED, DISAGREED, FAILED, SKIPPED], "junit", 2.0)
    root = ElementTree.fromstring(said().encode())
    assert [each.get("name") for each in root.iter("testcase")] == ["plain", "egress", "order"]
    assert (root.get("failures"), root.get("skipped")) == ("1", "1")
    (failure,) = root.iter("failure")
    assert failure.get("message") == "apply: 1 of 144 probes disagree"
    assert "egress, delete: node1" in failure.text


def test_the_list_of_cases(said):
    every = cases(example())
    reporting.show_cases(every, "table")
    text = said()
    assert text.endswith(f"{len(every)} cases, {sum(len(case.steps) for case in every)} steps\n")
    reporting.show_cases(every, "json")
    body = json.loads(said())
    assert [each["name"] for each in body] == [case.name for case in every]
    assert body[0] == {"name": "plain", "covers": [[]], "steps": [step.name for step in every[0].steps]}
    reporting.show_cases(every[:3], "junit")
    assert ElementTree.fromstring(said().encode()).get("tests") == "3"


# -- replayed cases -------------------------------------------------------------------------------------------------

REPLAYED = [Replayed("a.yaml", Verdict("no"), GOOD), Replayed("b.yaml", Verdict("no", "deny"), WRONG)]


def test_replayed_cases_as_text(said):
    reporting.show_replayed(REPLAYED, "table")
    text = said()
    assert text.startswith("agree a.yaml\ndisagree b.yaml\n  the file expects: no (deny)\n  z/c -> x/a tcp/80 IPv4\n")
    assert "observed: yes" in text


def test_a_case_that_three_agree_on_but_not_the_file_is_not_good(said):
    other = Replayed("c.yaml", Verdict("yes"), GOOD)
    assert not other.is_good
    reporting.show_replayed([other], "table")
    assert said().startswith("disagree c.yaml\n")


def test_replayed_cases_for_machines(said):
    reporting.show_replayed(REPLAYED, "json")
    assert [(each["file"], each["wanted"], each["good"]) for each in json.loads(said())] == [
        ("a.yaml", "no", True),
        ("b.yaml", "no", False),
    ]
    reporting.show_replayed(REPLAYED, "junit")
    root = ElementTree.fromstring(said().encode())
    (failure,) = root.iter("failure")
    assert failure.get("message") == "expected no; flows say yes, the wire says yes"
