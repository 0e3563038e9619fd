"""The custom resources that every lab has from the start, as ``deploy/crds`` defines them."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import yaml

from ncp.kube.client import Kube, Unavailable
from ncp.kube.resources import CUSTOM_RESOURCE_DEFINITIONS

MANIFESTS = ("securitypolicy.yaml", "addressbinding.yaml", "staticroute.yaml")
OWNER = "ncp-lab"
"""Whose fields the definitions are, in ``managedFields``."""


def definitions() -> Iterator[dict[str, Any]]:
    """The definitions as objects."""
    for name in MANIFESTS:
        yield yaml.load((files("deploy") / "crds" / name).read_text(), yaml.CSafeLoader)


def defined(kube: Kube) -> bool:
    """Whether the API serves the definitions, made or brought up to date by this call.

    A server that has them as they are changes nothing, so this may be asked again and again.

    Raises:
        ApiError: it refuses one.
    """
    try:
        return all(_served(_apply(kube, each)) for each in definitions())
    except Unavailable:
        return False


def _apply(kube: Kube, definition: dict[str, Any]) -> dict[str, Any]:
    name = definition["metadata"]["name"]
    return kube.patch(CUSTOM_RESOURCE_DEFINITIONS, name, body=definition, kind="apply", field_manager=OWNER, force=True)


def _served(definition: dict[str, Any]) -> bool:
    conditions = (definition.get("status") or {}).get("conditions") or ()
    return any(each["type"] == "Established" and each["status"] == "True" for each in conditions)
