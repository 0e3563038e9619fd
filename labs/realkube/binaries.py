"""Where kube-apiserver and etcd are, and which versions they have."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

BUILD = "labs/build_kube_apiserver.sh"


class BinariesMissingError(LookupError):
    """No directory holds both kube-apiserver and etcd; the message lists where was looked and how to get them."""


class Binaries(NamedTuple):
    """The two programs of a control plane and their (major, minor, patch) versions."""

    kube_apiserver: Path
    etcd: Path
    version: tuple[int, int, int]
    etcd_version: tuple[int, int, int]


def find_binaries(environment: Mapping[str, str] = os.environ) -> Binaries:
    """Return the first pair found: ``KUBEBUILDER_ASSETS``, then ``PATH``, then our cache (newest version first).

    Raises BinariesMissingError when there is none, and when ``KUBEBUILDER_ASSETS`` is set but incomplete: a person who
    names a directory wants that one, not another.
    """
    assets = environment.get("KUBEBUILDER_ASSETS", "")
    if assets:
        pair = _pair_in(Path(assets))
        if pair is None:
            raise BinariesMissingError(f"KUBEBUILDER_ASSETS={assets} does not hold both kube-apiserver and etcd")
        return _identify(*pair)
    for pair in _candidates(environment):
        return _identify(*pair)
    raise BinariesMissingError(
        "no kube-apiserver with etcd: KUBEBUILDER_ASSETS is not set, PATH has not both, and the cache "
        f"{cache_directory(environment)} is empty; `make kube-apiserver` ({BUILD}) builds them"
    )


def cache_directory(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the directory below which the build script keeps one directory per version."""
    xdg = environment.get("XDG_CACHE_HOME") or str(Path(environment.get("HOME") or Path.home()) / ".cache")
    return Path(environment.get("NCP_CACHE") or Path(xdg) / "open-ncp") / "kube"


def _candidates(environment: Mapping[str, str]) -> Iterator[tuple[Path, Path]]:
    path = environment.get("PATH", os.defpath)
    server, etcd = shutil.which("kube-apiserver", path=path), shutil.which("etcd", path=path)
    if server and etcd:
        yield Path(server), Path(etcd)
    versions = sorted(cache_directory(environment).glob("[0-9]*"), key=_version_of_name, reverse=True)
    yield from filter(None, map(_pair_in, versions))


def _pair_in(directory: Path) -> tuple[Path, Path] | None:
    server, etcd = directory / "kube-apiserver", directory / "etcd"
    return (server, etcd) if os.access(server, os.X_OK) and os.access(etcd, os.X_OK) else None


def _version_of_name(directory: Path) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", directory.name))


def _identify(kube_apiserver: Path, etcd: Path) -> Binaries:
    return Binaries(kube_apiserver, etcd, _version(kube_apiserver), _version(etcd))


def _version(program: Path) -> tuple[int, int, int]:
    answer = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=30, check=False)
    found = re.search(r"(\d+)\.(\d+)\.(\d+)", answer.stdout)
    if found is None:
        raise BinariesMissingError(f"{program} --version answers no version: {(answer.stdout + answer.stderr)[:200]!r}")
    return int(found[1]), int(found[2]), int(found[3])
