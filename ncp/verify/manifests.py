"""Policies in the files people apply with ``kubectl``. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

from ncp.verify.errors import Refused
from ncp.verify.policies import RESOURCES, key_of

Json = dict[str, Any]
NAMESPACE = "default"
"""Where a policy goes that names no namespace."""


def policies_in(text: str, name: str) -> list[Json]:
    """The policies in a file's text, which is YAML or JSON; ``name`` is the file's, for errors.

    Raises:
        Refused: it holds something else, or nothing; the message names the document, the field and what is allowed.
    """
    try:
        documents = [each for each in yaml.safe_load_all(text) if each is not None]
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date that no calendar has
        raise Refused(f"{name}: not YAML: {' '.join(str(error).split())}") from error
    found = [
        _policy(each, f"{name}: document {number}")
        for number, document in enumerate(documents, 1)
        for each in _items(document, f"{name}: document {number}")
    ]
    if not found:
        raise Refused(f"{name}: holds no policy; allowed: at least one of {', '.join(RESOURCES)}")
    return found


def once(policies: list[Json]) -> dict[str, Json]:
    """Policies by key.

    Raises:
        Refused: two have the same name.
    """
    found: dict[str, Json] = {}
    for each in policies:
        if key_of(each) in found:
            raise Refused(f"{key_of(each)} is given twice; allowed: once")
        found[key_of(each)] = each
    return found


def _items(document: Any, where: str) -> Iterator[Any]:
    if isinstance(document, dict) and str(document.get("kind", "")).endswith("List"):
        items = document.get("items")
        if not isinstance(items, list):
            raise Refused(f"{where}: items: {items!r}; allowed: a list")
        yield from items
    else:
        yield document


def _policy(value: Any, where: str) -> Json:
    if not isinstance(value, dict):
        raise Refused(f"{where}: {value!r}; allowed: an object of kind {', '.join(RESOURCES)}")
    resource = RESOURCES.get(str(value.get("kind")))
    if resource is None:
        raise Refused(f"{where}: kind: {value.get('kind')!r}; allowed: {', '.join(RESOURCES)}")
    if value.get("apiVersion") != resource.api_version:
        raise Refused(f"{where}: apiVersion: {value.get('apiVersion')!r}; allowed: {resource.api_version}")
    meta = value.get("metadata") or {}
    if not isinstance(value.get("metadata", {}), dict | None):
        raise Refused(f"{where}: metadata: {value['metadata']!r}; allowed: a mapping")
    named, space = meta.get("name"), meta.get("namespace")
    if not isinstance(named, str) or not named or "/" in named:
        raise Refused(f"{where}: metadata.name: {named!r}; allowed: the policy's name")
    if space and (not isinstance(space, str) or "/" in space):
        raise Refused(f"{where}: metadata.namespace: {space!r}; allowed: a namespace's name")
    if not resource.namespaced:
        return value | {"metadata": {key: each for key, each in meta.items() if key != "namespace"}}
    return value | {"metadata": {**meta, "namespace": space or NAMESPACE}}
