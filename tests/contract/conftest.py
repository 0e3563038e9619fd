"""Both servers, started once each, and a fresh namespace for every test."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from labs.realkube import BinariesMissingError, RealApi

from .client import Client, Kubectl
from .concessions import Server

EMBEDDED_HISTORY = 500  # changes it remembers for watches: few, so that a test can make it forget

_untested: list[str] = []


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Ask every test of this directory of both servers; those of the real one carry the mark ``kube``."""
    if "server" in metafunc.fixturenames:
        real = pytest.param("real", marks=pytest.mark.kube)
        metafunc.parametrize("server", ["embedded", real], indirect=True, scope="session")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for reason in _untested:
        terminalreporter.write_sep("!", "the contract was NOT asked of a real kube-apiserver", red=True, bold=True)
        terminalreporter.write_line(reason)


@pytest.fixture(scope="session")
def embedded_server() -> Iterator[Server]:
    from labs.api.testing import EmbeddedApi

    with EmbeddedApi(history=EMBEDDED_HISTORY) as api:
        yield Server("embedded", None, Client(api.kubeconfig), api.kubeconfig, window=EMBEDDED_HISTORY + 1)


@pytest.fixture(scope="session")
def real_api() -> Iterator[RealApi]:
    try:
        api = RealApi()
    except BinariesMissingError as missing:
        # `make test-kube` must not pass without having asked.
        if os.environ.get("NCP_REQUIRE_KUBE"):
            pytest.fail(str(missing))
        if not _untested:
            _untested.append(str(missing))
        pytest.skip(str(missing))
    with api:
        yield api


@pytest.fixture(scope="session")
def real_server(real_api: RealApi) -> Server:
    api = real_api
    return Server("real", api.version, Client(api.kubeconfig), api.kubeconfig, api.check, api.etcd)


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Server:
    """One of the two; each is started when first wanted and kept, in whatever order the tests come."""
    chosen: Server = request.getfixturevalue(f"{request.param}_server")
    chosen.check()
    return chosen


@pytest.fixture
def api(server: Server) -> Client:
    return server.client


@pytest.fixture
def ns(api: Client) -> str:
    """A fresh namespace's name."""
    name = f"c-{uuid.uuid4().hex[:10]}"
    api.post("/api/v1/namespaces", {"metadata": {"name": name}}).must(201)
    return name


@pytest.fixture(scope="session")
def kubectl_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where kubectl keeps what it discovered: shared, for asking again would take longer than the tests."""
    return tmp_path_factory.mktemp("kubectl")


@pytest.fixture
def kubectl(server: Server, ns: str, kubectl_home: Path) -> Kubectl:
    return Kubectl(server.kubeconfig, ns, kubectl_home)
