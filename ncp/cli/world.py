"""What `ncp get` looks at: the cluster's objects, the network they stand for, and the agents of this host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ncp.cli import nodeapi
from ncp.kube.client import Kube
from ncp.kube.resources import NAMESPACES, NODES, PODS
from ncp.settings import Settings, load, parse
from ncp.translate.fabric import fabric_of
from ncp.translate.intent import Translation, apply_all, start

Json = dict[str, Any]
SYSTEM_CONFIG = Path("/etc/ncp/ncp.ini")


@dataclass(frozen=True, slots=True)
class World:
    """One look at a cluster. ``silent`` are nodes whose agents are on this host and do not answer, and why."""

    settings: Settings
    translation: Translation
    namespaces: tuple[Json, ...]
    nodes: tuple[Json, ...]
    pods: tuple[Json, ...]
    agents: Mapping[str, Json]
    silent: Mapping[str, str]


def look(kubeconfig: str | None, state: Path | None) -> World:
    """Read the objects and ask the agents.

    Raises:
        AccessError, ApiError, SettingsError: the cluster cannot be reached, or its configuration is wrong.
    """
    path = nodeapi.kubeconfig(kubeconfig, state)
    kube = Kube.connect(path)
    settings = configuration(state)
    objects = {kind: kube.list(res)[0] for kind, res in (("Namespace", NAMESPACES), ("Node", NODES), ("Pod", PODS))}
    keyed = [
        (kind, (each["metadata"].get("namespace", ""), each["metadata"]["name"]), each)
        for kind, items in objects.items()
        for each in items
    ]
    translation, _ = apply_all(start(fabric_of(settings)), keyed)
    agents, silent = nodeapi.survey(state) if _is_ours(path, state) else ({}, {})
    return World(
        settings,
        translation,
        tuple(objects["Namespace"]),
        tuple(objects["Node"]),
        tuple(objects["Pod"]),
        agents,
        silent,
    )


def configuration(state: Path | None) -> Settings:
    """The lab's ncp.ini, else the system's, else defaults."""
    for path in (nodeapi.state_directory(state) / "ncp.ini", SYSTEM_CONFIG):
        if path.exists():
            return load(path)
    return parse("", "(defaults)")


def _is_ours(path: str | None, state: Path | None) -> bool:
    """Whether the agents of this host belong to the cluster of that kubeconfig: same names prove nothing."""
    lab = nodeapi.state_directory(state) / "kubeconfig"
    if not lab.exists():
        return True  # a real node: its one agent serves the cluster it is in
    return path is not None and Path(path).expanduser().resolve() == lab.resolve()
