"""What `ncp get` looks at: the cluster's objects, the network they stand for, and the agents of this host."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ncp.cli import nodeapi
from ncp.kube.client import Kube
from ncp.kube.errors import NotFound
from ncp.kube.listing import everything
from ncp.kube.resources import ROUTERS
from ncp.settings import Settings, load, parse
from ncp.translate.fabric import fabric_of
from ncp.translate.intent import Translation, translated

Json = dict[str, Any]
SYSTEM_CONFIG = Path("/etc/ncp/ncp.ini")


@dataclass(frozen=True, slots=True)
class World:
    """One look at a cluster. ``silent`` are nodes whose agents are on this host and do not answer, and why."""

    settings: Settings
    translation: Translation
    objects: Mapping[str, Sequence[Json]]  # by kind
    agents: Mapping[str, Json]
    silent: Mapping[str, str]
    state: Path | None = None

    def ask(self, resource: str) -> dict[str, Json]:
        """What the agents that answer say to something more than their status, by node."""
        return nodeapi.survey(self.state, resource)[0] if self.agents else {}

    @property
    def pods(self) -> Sequence[Json]:
        """Every pod."""
        return self.objects["Pod"]

    @property
    def nodes(self) -> Sequence[Json]:
        """Every node."""
        return self.objects["Node"]

    @property
    def namespaces(self) -> Sequence[Json]:
        """Every namespace."""
        return self.objects["Namespace"]


def look(kubeconfig: str | None, state: Path | None) -> World:
    """Read the objects and ask the agents.

    Raises:
        AccessError, ApiError, SettingsError: the cluster cannot be reached, or its configuration is wrong.
    """
    path = nodeapi.kubeconfig(kubeconfig, state)
    kube = Kube.connect(path)
    settings = configuration(state)
    objects = everything(kube)
    translation = translated(fabric_of(settings), objects)
    try:
        objects[ROUTERS.kind] = kube.list(ROUTERS)[0]
    except NotFound:
        objects[ROUTERS.kind] = []
    agents, silent = nodeapi.survey(state) if _is_ours(path, state) else ({}, {})
    return World(settings, translation, objects, agents, silent, state)


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
