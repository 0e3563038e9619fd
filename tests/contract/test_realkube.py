"""The real control plane itself: found where it should be, started, restarted, and gone without a trace."""

from __future__ import annotations

import contextlib
import uuid
from pathlib import Path

import pytest

from labs.realkube import BinariesMissingError, RealApi, commands, find_binaries, write_kubeconfig
from labs.realkube.binaries import cache_directory

from .client import Client
from .shapes import config_map, core


def install(directory: Path, version: str, *programs: str) -> Path:
    """Put programs there that know nothing but their version."""
    directory.mkdir(parents=True)
    for program in programs:
        (directory / program).write_text(f"#!/bin/sh\necho '{program} Version: v{version}'\n")
        (directory / program).chmod(0o755)
    return directory


BOTH = ("kube-apiserver", "etcd")


def environment(tmp_path: Path) -> dict[str, str]:
    return {"HOME": str(tmp_path / "home"), "PATH": str(tmp_path / "bin")}


def test_nothing_found_says_where_was_looked_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(BinariesMissingError, match="make kube-apiserver") as missing:
        find_binaries(environment(tmp_path))
    assert str(tmp_path / "home" / ".cache" / "open-ncp" / "kube") in str(missing.value)


def test_assets_go_before_path_before_cache(tmp_path: Path) -> None:
    env = environment(tmp_path)
    install(cache_directory(env) / "1.20.2", "1.20.2", *BOTH)
    assert find_binaries(env).version == (1, 20, 2)
    install(tmp_path / "bin", "1.25.1", *BOTH)
    assert find_binaries(env).version == (1, 25, 1)
    env["KUBEBUILDER_ASSETS"] = str(install(tmp_path / "assets", "1.30.0", *BOTH))
    found = find_binaries(env)
    assert (found.version, found.etcd_version) == ((1, 30, 0), (1, 30, 0))
    assert found.kube_apiserver == tmp_path / "assets" / "kube-apiserver"


def test_the_newest_of_the_cache_is_taken(tmp_path: Path) -> None:
    env = environment(tmp_path)
    for version in ("1.9.1", "1.20.2"):
        install(cache_directory(env) / version, version, *BOTH)
    install(cache_directory(env) / "1.30.0", "1.30.0", "etcd")  # half built
    assert find_binaries(env).version == (1, 20, 2)


def test_a_server_without_its_etcd_is_not_enough(tmp_path: Path) -> None:
    env = environment(tmp_path)
    env["KUBEBUILDER_ASSETS"] = str(install(tmp_path / "assets", "1.30.0", "kube-apiserver"))
    with pytest.raises(BinariesMissingError, match="does not hold both"):
        find_binaries(env)


def test_the_cache_can_be_elsewhere(tmp_path: Path) -> None:
    env = environment(tmp_path) | {"NCP_CACHE": str(tmp_path / "elsewhere")}
    install(tmp_path / "elsewhere" / "kube" / "1.20.2", "1.20.2", *BOTH)
    assert find_binaries(env).etcd == tmp_path / "elsewhere" / "kube" / "1.20.2" / "etcd"


@pytest.mark.parametrize(("version", "gated"), [("1.20.2", True), ("1.23.0", False), ("1.33.1", False)])
def test_flags_follow_the_version(tmp_path: Path, version: str, gated: bool) -> None:
    assets = install(tmp_path / "assets", version, *BOTH)
    binaries = find_binaries({"KUBEBUILDER_ASSETS": str(assets)})
    _, server = commands(tmp_path / "state", binaries, 6443)
    assert ("--feature-gates=IPv6DualStack=true" in server.argv) == gated


def test_secrets_are_private_and_stay_the_same(tmp_path: Path) -> None:
    first = write_kubeconfig(tmp_path, 6443)
    text = first.read_text()
    assert write_kubeconfig(tmp_path, 6443).read_text() == text
    assert first.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "kube").stat().st_mode & 0o777 == 0o700


@pytest.mark.kube
def test_a_crash_loses_nothing(real_api: RealApi) -> None:
    name = f"kept-{uuid.uuid4().hex[:8]}"
    made = Client(real_api.kubeconfig).post(core("default", "configmaps"), config_map(name)).must(201)
    real_api.restart()
    kept = Client(real_api.kubeconfig).get(core("default", "configmaps") + f"/{name}")
    assert kept.must(200).body == made.body


@pytest.mark.kube
def test_a_server_that_does_not_start_says_why_and_leaves_nothing(tmp_path: Path, real_api: RealApi) -> None:
    broken = tmp_path / "kube-apiserver"
    broken.write_text("#!/bin/sh\necho panic: no luck today\nexit 3\n")
    broken.chmod(0o755)
    server = RealApi(real_api.binaries._replace(kube_apiserver=broken))
    with pytest.raises(RuntimeError, match="panic: no luck today"):
        server.__enter__()
    assert not server.state.exists()
    assert str(server.state) not in "".join(command_lines())


def command_lines() -> list[str]:
    """Return the command line of every process, as far as they still have one."""
    lines = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # gone in the meantime
            lines.append(file.read_text())
    return lines


@pytest.mark.kube
def test_service_account_tokens_are_known_and_have_no_rights(real_api: RealApi) -> None:
    """That is what makes a lab on a real server a test of the roles in deploy/."""
    api = Client(real_api.kubeconfig)
    name = f"robot-{uuid.uuid4().hex[:8]}"
    api.post(core("default", "serviceaccounts"), {"metadata": {"name": name}}).must(201)
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 600}}
    issued = api.post(core("default", "serviceaccounts") + f"/{name}/token", request).must(201).body
    robot = api.as_bearer(issued["status"]["token"])
    refused = robot.get(core("default", "pods")).must(403, "Forbidden").body
    assert f'User "system:serviceaccount:default:{name}" cannot list resource "pods"' in refused["message"]
    api.as_bearer("nonsense").get(core("default", "pods")).must(401, "Unauthorized")
