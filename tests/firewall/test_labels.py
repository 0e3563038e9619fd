from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firewall.labels import EVERYTHING, OPERATORS, Requirement, Selector, labels_of
from firewall.reading import Unreadable, selector
from firewall.rules import Identity, PodGroup

LABELS = {"app": "web", "empty": ""}


def expression(key, operator, values=()):
    return {"key": key, "operator": operator, **({"values": list(values)} if values else {})}


@pytest.mark.parametrize(
    ("key", "operator", "values", "holds"),
    [
        ("app", "In", ["web"], True),
        ("app", "In", ["api", "web"], True),
        ("app", "In", ["api"], False),
        ("app", "In", ["Web"], False),
        ("empty", "In", [""], True),
        ("gone", "In", [""], False),
        ("gone", "In", ["web"], False),
        ("app", "NotIn", ["api"], True),
        ("app", "NotIn", ["api", "web"], False),
        ("empty", "NotIn", [""], False),
        ("gone", "NotIn", ["web"], True),
        ("gone", "NotIn", [""], True),
        ("app", "Exists", [], True),
        ("empty", "Exists", [], True),
        ("gone", "Exists", [], False),
        ("app", "DoesNotExist", [], False),
        ("empty", "DoesNotExist", [], False),
        ("gone", "DoesNotExist", [], True),
    ],
)
def test_an_operator_holds_of_present_empty_and_missing_labels(key, operator, values, holds):
    read = selector({"matchExpressions": [expression(key, operator, values)]}, "s")
    assert read.selects(LABELS) is holds


@pytest.mark.parametrize("value", [None, {}, {"matchLabels": {}}, {"matchLabels": None, "matchExpressions": []}])
def test_a_selector_without_conditions_selects_everything(value):
    assert selector(value, "s") == EVERYTHING
    assert EVERYTHING.selects({})
    assert EVERYTHING.selects(LABELS)


@pytest.mark.parametrize(
    ("labels", "selected"),
    [
        ({"app": "web", "stage": "front"}, True),
        ({"app": "web", "stage": "back"}, False),
        ({"app": "api", "stage": "front"}, False),
        ({"stage": "front"}, False),
        ({"app": "web"}, False),
        ({"app": "web", "stage": "front", "old": "yes"}, False),
    ],
)
def test_every_condition_must_hold(labels, selected):
    read = selector(
        {
            "matchLabels": {"app": "web"},
            "matchExpressions": [expression("stage", "In", ["front"]), expression("old", "DoesNotExist")],
        },
        "s",
    )
    assert read.selects(labels) is selected


def test_conditions_that_contradict_each_other_select_nothing():
    read = selector({"matchExpressions": [expression("app", "Exists"), expression("app", "DoesNotExist")]}, "s")
    assert not read.selects({})
    assert not read.selects({"app": "web"})


def test_a_selector_is_the_same_however_it_is_written():
    one = selector({"matchLabels": {"a": "1", "b": "2"}}, "s")
    other = selector({"matchExpressions": [expression("b", "In", ["2", "2"])], "matchLabels": {"a": "1"}}, "s")
    assert one == other == Selector((Requirement("a", "In", frozenset("1")), Requirement("b", "In", frozenset("2"))))


def test_labels_become_a_value_that_does_not_depend_on_their_order():
    assert labels_of({"b": "2", "a": "1"}) == labels_of({"a": "1", "b": "2"}) == (("a", "1"), ("b", "2"))
    assert labels_of(None) == labels_of({}) == ()


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"matchExpressions": [expression("a", "Like", ["x"])]}, r"s\.matchExpressions\[0\]\.operator: 'Like'"),
        ({"matchExpressions": [expression("a", "in", ["x"])]}, r"operator: 'in'; allowed: In, NotIn, Exists"),
        ({"matchExpressions": [{"key": "a"}]}, r"s\.matchExpressions\[0\]\.operator: None"),
        ({"matchExpressions": [expression("a", "Exists"), expression("b", "In")]}, r"\[1\]\.values: \[\].*In"),
        ({"matchExpressions": [expression("a", "NotIn")]}, r"values: \[\].*NotIn: at least one"),
        ({"matchExpressions": [expression("a", "Exists", ["x"])]}, r"values: \['x'\].*Exists: none"),
        ({"matchExpressions": [expression("a", "DoesNotExist", ["x"])]}, r"values: \['x'\].*DoesNotExist: none"),
        ({"matchExpressions": [{"operator": "Exists"}]}, r"\[0\]\.key: None"),
        ({"matchExpressions": [expression("", "Exists")]}, r"\[0\]\.key: ''"),
        ({"matchExpressions": [{"key": "a", "operator": "In", "values": "x"}]}, r"\[0\]\.values: 'x' is not a list"),
        ({"matchExpressions": {"key": "a"}}, r"s\.matchExpressions: .* is not a list"),
        ({"matchLabels": ["app"]}, r"s\.matchLabels: \['app'\] is not an object"),
        ("app=web", r"s: 'app=web' is not an object"),
    ],
)
def test_a_selector_that_makes_no_sense_is_refused_by_field_and_value(value, said):
    with pytest.raises(Unreadable, match=said):
        selector(value, "s")


@pytest.mark.parametrize(
    ("group", "members"),
    [
        (PodGroup(), {"red/web", "red/db", "blue/web"}),
        (PodGroup("red"), {"red/web", "red/db"}),
        (PodGroup("red", pods=selector({"matchLabels": {"app": "web"}}, "s")), {"red/web"}),
        (PodGroup(namespaces=selector({"matchLabels": {"team": "b"}}, "s")), {"blue/web"}),
        (PodGroup(pods=selector({"matchLabels": {"app": "web"}}, "s")), {"red/web", "blue/web"}),
        (PodGroup(namespaces=selector({"matchLabels": {"team": "c"}}, "s")), set()),
    ],
)
def test_a_group_is_of_one_namespace_or_of_those_that_are_selected(group, members):
    spaces = {"red": {"team": "a"}, "blue": {"team": "b"}}
    pods = [("red", "web"), ("red", "db"), ("blue", "web")]
    found = {f"{ns}/{app}" for ns, app in pods if group.contains(Identity(ns, labels_of({"app": app})), spaces[ns])}
    assert found == members


keys, values = st.sampled_from("abc"), st.sampled_from(["", "x", "y"])
expressions = st.sampled_from(OPERATORS).flatmap(
    lambda operator: st.builds(
        expression,
        keys,
        st.just(operator),
        st.just([]) if operator in ("Exists", "DoesNotExist") else st.lists(values, min_size=1, max_size=2),
    )
)
selectors = st.fixed_dictionaries(
    {}, optional={"matchLabels": st.dictionaries(keys, values), "matchExpressions": st.lists(expressions, max_size=3)}
)


def second_opinion(written, labels) -> bool:
    """The same question, answered from the JSON by counting what stands against it."""
    against = [pair for pair in written.get("matchLabels", {}).items() if pair not in labels.items()]
    for each in written.get("matchExpressions", []):
        present = [value for key, value in labels.items() if key == each["key"]]
        listed = [value for value in present if value in each.get("values", [])]
        meets = {"In": listed, "NotIn": not listed, "Exists": present, "DoesNotExist": not present}
        against += [] if meets[each["operator"]] else [each]
    return not against


@given(selectors, st.dictionaries(keys, values))
@settings(deadline=None)
def test_a_selector_selects_what_a_second_evaluation_selects(written, labels):
    assert selector(written, "s").selects(labels) is second_opinion(written, labels)
