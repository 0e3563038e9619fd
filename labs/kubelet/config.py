"""What the lab's kubelets are told: their nodes, the CNI plugin, and where they keep things."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import orjson

Json = dict[str, Any]


class ConfigError(ValueError):
    """The configuration cannot be used; the text names the file, the field, its value and what is allowed."""


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """One node: a network namespace (empty: this process's own) with addresses, and its CNI server's socket."""

    name: str
    netns: str
    addresses: tuple[str, ...]
    cni_socket: str
    labels: dict[str, str]
    taints: tuple[Json, ...]
    annotations: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Config:
    """The kubelets' configuration."""

    nodes: dict[str, NodeSpec]
    cni_command: tuple[str, ...]
    cni_config: Json
    pod_netns_prefix: str
    pod_logs: Path
    state: Path
    max_parallel: int


def load(path: Path) -> Config:
    """Read the JSON file ``path``. Raises :class:`ConfigError`."""
    try:
        content = orjson.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: a JSON object is needed, not {type(content).__name__}")
    return parse(content, str(path))


def parse(content: Json, where: str = "configuration") -> Config:
    """The configuration in ``content``; see :func:`load`."""
    unknown = sorted(content.keys() - _FIELDS.keys())
    if unknown:
        raise ConfigError(f"{where}: unknown field {unknown[0]!r}; known are {', '.join(sorted(_FIELDS))}")
    values = {name: _take(content, name, kind, where) for name, kind in _FIELDS.items()}
    nodes = [_node(each, f"{where}: nodes[{index}]") for index, each in enumerate(values["nodes"])]
    if not nodes:
        raise ConfigError(f"{where}: nodes is empty; at least one node is needed")
    if len({node.name for node in nodes}) != len(nodes):
        raise ConfigError(f"{where}: nodes has one name twice")
    if not values["cni_command"]:
        raise ConfigError(f"{where}: cni_command is empty; the CNI plugin's path is needed")
    if values["max_parallel"] < 1:
        raise ConfigError(f"{where}: max_parallel is {values['max_parallel']}; 1 or more is needed")
    return Config(
        nodes={node.name: node for node in nodes},
        cni_command=tuple(values["cni_command"]),
        cni_config=values["cni_config"],
        pod_netns_prefix=values["pod_netns_prefix"],
        pod_logs=Path(values["pod_logs"]),
        state=Path(values["state"]),
        max_parallel=values["max_parallel"],
    )


_FIELDS: dict[str, tuple[type, Any]] = {
    "nodes": (list, None),
    "cni_command": (list, None),
    "cni_config": (dict, None),
    "pod_netns_prefix": (str, None),
    "pod_logs": (str, None),
    "state": (str, None),
    "max_parallel": (int, 8),
}
_NODE_FIELDS: dict[str, tuple[type, Any]] = {
    "name": (str, None),
    "netns": (str, ""),
    "addresses": (list, None),
    "cni_socket": (str, ""),
    "labels": (dict, {}),
    "taints": (list, []),
    "annotations": (dict, {}),
}


def _take(content: Json, name: str, kind: tuple[type, Any], where: str) -> Any:
    value = content.get(name, kind[1])
    if not isinstance(value, kind[0]):
        held = "missing" if name not in content else f"{value!r}"
        raise ConfigError(f"{where}: {name} is {held}; a {kind[0].__name__} is needed")
    return value


def _node(content: Any, where: str) -> NodeSpec:
    if not isinstance(content, dict):
        raise ConfigError(f"{where} is {content!r}; an object with at least name and addresses is needed")
    unknown = sorted(content.keys() - _NODE_FIELDS.keys())
    if unknown:
        raise ConfigError(f"{where}: unknown field {unknown[0]!r}; known are {', '.join(sorted(_NODE_FIELDS))}")
    values = {name: _take(content, name, kind, where) for name, kind in _NODE_FIELDS.items()}
    try:
        addresses = tuple(str(ip_address(each)) for each in values["addresses"])
    except ValueError as error:
        raise ConfigError(f"{where}: addresses is {values['addresses']!r}: {error}") from error
    return NodeSpec(
        values["name"],
        values["netns"],
        addresses,
        values["cni_socket"],
        values["labels"],
        tuple(values["taints"]),
        values["annotations"],
    )
