"""Labels and label selectors, as Kubernetes defines them (meta/v1 LabelSelector)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple, TypeAlias

Labels: TypeAlias = tuple[tuple[str, str], ...]
"""Key and value pairs, sorted by key."""

Operator: TypeAlias = Literal["In", "NotIn", "Exists", "DoesNotExist"]
OPERATORS: Final[tuple[Operator, ...]] = ("In", "NotIn", "Exists", "DoesNotExist")


def labels_of(pairs: Mapping[str, str] | None) -> Labels:
    """A mapping of labels as a value."""
    return tuple(sorted((pairs or {}).items()))


class Requirement(NamedTuple):
    """One condition on a label. ``values`` is empty for Exists and DoesNotExist."""

    key: str
    operator: Operator
    values: frozenset[str] = frozenset()

    def holds(self, labels: Mapping[str, str]) -> bool:
        """Whether labels meet it; a missing label is in no list, so NotIn holds of it."""
        if self.operator == "In":
            return labels.get(self.key) in self.values
        if self.operator == "NotIn":
            return labels.get(self.key) not in self.values
        return (self.key in labels) is (self.operator == "Exists")


class Selector(NamedTuple):
    """Conditions that must all hold; with none it selects everything."""

    requirements: tuple[Requirement, ...] = ()

    def selects(self, labels: Mapping[str, str]) -> bool:
        """Whether labels meet every condition."""
        return all(each.holds(labels) for each in self.requirements)


EVERYTHING: Final = Selector()
