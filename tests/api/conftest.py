from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from labs.api.testing import EmbeddedApi
from tests.api.client import Client

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def server() -> Iterator[EmbeddedApi]:
    with EmbeddedApi() as api:
        yield api


@pytest.fixture(scope="session")
def client(server: EmbeddedApi) -> Client:
    return Client(server.url)


@pytest.fixture
def ns(client: Client) -> Iterator[str]:
    """A namespace of the test's own, gone afterwards."""
    name = f"t{next(_numbers)}"
    client.ok("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    yield name
    client.ask("DELETE", f"/api/v1/namespaces/{name}")


@pytest.fixture
def kubectl(server: EmbeddedApi, ns: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Runs kubectl in the test's namespace; its output, or an AssertionError with what it said."""
    home = tmp_path_factory.mktemp("home")

    def run(*words: str, stdin: str = "", code: int = 0) -> str:
        environment = {**os.environ, "KUBECONFIG": str(server.kubeconfig), "HOME": str(home)}
        command = [os.environ.get("KUBECTL", "kubectl"), "-n", ns, *words]
        done = subprocess.run(command, input=stdin, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == code, f"{' '.join(command)}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    return run


def pod(name: str, **spec: Any) -> dict[str, Any]:
    """A small pod."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"containers": [{"name": "main", "image": "web:1"}], **spec},
    }


def deployment(name: str, **spec: Any) -> dict[str, Any]:
    """A small deployment."""
    labels = {"app": name}
    container = {
        "name": "main",
        "image": "web:1",
        "ports": [{"containerPort": 80}],
        "env": [{"name": "A", "value": "1"}],
    }
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": labels}, "template": template, **spec},
    }
