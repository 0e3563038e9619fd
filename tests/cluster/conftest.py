from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator

import pytest

from labs.kubelet import netns
from tests.cluster.small_cluster import SmallCluster


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


@pytest.fixture(scope="package")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallCluster]:
    """A running cluster of two nodes, shared: tests keep to namespaces of their own."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    with SmallCluster(tmp_path_factory.mktemp("cluster"), nodes=2) as running:
        yield running


@pytest.fixture
def space(cluster: SmallCluster) -> Iterator[str]:
    """A namespace of the shared cluster, with everything in it gone after the test."""
    name = cluster.namespace(f"t{secrets.token_hex(4)}")
    yield name
    cluster.empty(name)
