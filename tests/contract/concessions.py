"""What an old Kubernetes cannot do: the only differences that the contract allows, by version.

The embedded server has no version here: it gets no concession.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from .client import Client

# What a test may ask for → the (major, minor) that brought it.
CONCESSIONS: dict[str, tuple[int, int]] = {
    "namespaces labelled with their name": (1, 21),
    "discovery.k8s.io/v1": (1, 21),
    "batch/v1 cron jobs": (1, 21),
    "policy/v1": (1, 21),
    "endPort of network policies": (1, 21),
    "internalTrafficPolicy": (1, 21),
    "load balancer classes": (1, 22),
    "server-side apply tracks subresources": (1, 22),
    "services keep their addresses when replaced": (1, 23),
    "field validation": (1, 25),
    "values of label selectors are checked": (1, 26),
    "validation rules": (1, 31),  # in force since 1.25; isCIDR() came with 1.31
}


class Server(NamedTuple):
    """A running server: which it is, its version (None: ours, which has everything), and the ways to ask it."""

    name: str
    version: tuple[int, int, int] | None
    client: Client
    kubeconfig: Path
    check: Callable[[], None] = lambda: None  # raises when the server has died
    etcd: Callable[[str, str], tuple[int, bytes]] | None = None
    window: int = 0  # so many changes push the first version out of the memory for watches

    def has(self, feature: str) -> bool:
        """Whether the server is new enough for a feature of the table."""
        since = CONCESSIONS[feature]
        return self.version is None or self.version[:2] >= since

    def needs(self, feature: str) -> None:
        """Skip the test where the server is too old for it."""
        if not self.has(feature):
            major, minor = CONCESSIONS[feature]
            pytest.skip(f"{feature} came with Kubernetes {major}.{minor}; this is {self.version}")
