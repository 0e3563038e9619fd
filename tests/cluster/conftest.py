from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator

import pytest

from labs.kubelet import netns


@pytest.fixture
def new_netns() -> Iterator[Callable[[], str]]:
    """Makes network namespaces with unique names; all are removed after the test."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    made: list[str] = []

    def make() -> str:
        name = f"ncptest-{secrets.token_hex(4)}"
        made.append(name)
        netns.create(name)
        return name

    yield make
    for name in made:
        netns.delete(name)
