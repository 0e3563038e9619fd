from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator

import pytest

from labs.kubelet import netns
from labs.realkube import BinariesMissingError, RealApi
from tests.cluster.small_cluster import SmallCluster, sweep, unique_name


@pytest.fixture(scope="session", autouse=True)
def _swept() -> None:
    if os.geteuid() == 0:
        sweep()


@pytest.fixture
def new_netns() -> Iterator[Callable[[], str]]:
    """Makes network namespaces with unique names; all are removed after the test."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    made: list[str] = []

    def make() -> str:
        name = unique_name()
        made.append(name)
        netns.create(name)
        return name

    yield make
    for name in made:
        netns.delete(name)


ASKED_OF_BOTH = ("test_controllers", "test_kubelet")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Have what depends on the API server's answers also run with a real one, marked ``kube``."""
    if "cluster" in metafunc.fixturenames:
        both = metafunc.module.__name__.rpartition(".")[2] in ASKED_OF_BOTH
        servers = ["embedded", *([pytest.param("real", marks=pytest.mark.kube)] if both else [])]
        metafunc.parametrize("cluster", servers, indirect=True, scope="package")


@pytest.fixture(scope="package")
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallCluster]:
    """A running cluster of two nodes, shared: tests keep to namespaces of their own.

    With the embedded API server, or with a real one where its programs are found.
    """
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    api = None
    if request.param == "real":
        try:
            api = RealApi()
        except BinariesMissingError as missing:
            pytest.skip(str(missing))
    with SmallCluster(tmp_path_factory.mktemp("cluster"), nodes=2, api=api) as running:
        yield running


@pytest.fixture
def space(cluster: SmallCluster) -> Iterator[str]:
    """A namespace of the shared cluster, with everything in it gone after the test."""
    name = cluster.namespace(f"t{secrets.token_hex(4)}")
    yield name
    cluster.empty(name)
