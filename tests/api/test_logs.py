from __future__ import annotations

import http.client
from collections.abc import Iterator
from pathlib import Path

import pytest

from labs.api.testing import EmbeddedApi
from tests.api.client import MERGE, Client
from tests.api.conftest import pod

PATH = "/api/v1/namespaces/default/pods"


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("logs")


@pytest.fixture(scope="module")
def api(logs: Path) -> Iterator[Client]:
    with EmbeddedApi(pod_logs=logs) as server:
        yield Client(server.url)


@pytest.fixture
def folder(api: Client, logs: Path, request: pytest.FixtureRequest) -> Path:
    """The log directory of a pod named as the test, with two containers."""
    name = request.node.name.replace("_", "-")[:60].strip("-")
    containers = [{"name": "main", "image": "x"}, {"name": "side", "image": "x"}]
    made = api.ok("POST", PATH, pod(name, containers=containers))
    return logs / f"default_{name}_{made['metadata']['uid']}"


def path_of(folder: Path) -> str:
    return f"{PATH}/{folder.name.split('_')[1]}/log"


def test_a_containers_lines_are_served(api: Client, folder: Path) -> None:
    folder.mkdir()
    (folder / "main.log").write_text("one\ntwo\nthree\n")
    path = path_of(folder)
    assert api.ok("GET", f"{path}?container=main") == b"one\ntwo\nthree\n"
    assert api.ok("GET", f"{path}?container=main&tailLines=2") == b"two\nthree\n"
    assert api.ok("GET", f"{path}?container=main&tailLines=0") == b""
    assert api.ok("GET", f"{path}?container=main&limitBytes=5") == b"one\nt"
    assert api.ok("GET", f"{path}?container=side") == b""


def test_what_has_no_log_says_why(api: Client, folder: Path) -> None:
    path = path_of(folder)
    said = api.refused(400, "GET", path)["message"]
    assert "a container name must be specified" in said
    assert "[main side]" in said
    assert "is not valid for pod" in api.refused(400, "GET", f"{path}?container=none")["message"]
    assert "is waiting to start" in api.refused(400, "GET", f"{path}?container=main")["message"]
    api.refused(404, "GET", f"{PATH}/nobody/log")


def test_a_log_is_followed_until_the_pod_is_gone(api: Client, folder: Path) -> None:
    folder.mkdir()
    file = folder / "main.log"
    file.write_text("one\n")
    pod_path = path_of(folder).removesuffix("/log")
    api.ok("PATCH", f"{pod_path}/status", {"status": {"phase": "Running"}}, media=MERGE)
    connection = http.client.HTTPConnection(api.host, api.port, timeout=20)
    connection.request("GET", f"{pod_path}/log?container=main&follow=true")
    response = connection.getresponse()
    assert response.readline() == b"one\n"
    with file.open("a") as stream:
        stream.write("two\n")
    assert response.readline() == b"two\n"
    api.ok("DELETE", pod_path)
    assert response.read() == b""
    connection.close()
