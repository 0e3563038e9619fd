"""Smallest valid objects of the kinds that the contract speaks about, and their paths."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from .client import Client, Object

NAMESPACES = "/api/v1/namespaces"
NODES = "/api/v1/nodes"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


def core(ns: str, plural: str) -> str:
    """Return the path of a core collection in a namespace."""
    return f"/api/v1/namespaces/{ns}/{plural}"


def apps(ns: str, plural: str) -> str:
    return f"/apis/apps/v1/namespaces/{ns}/{plural}"


def network_policies(ns: str) -> str:
    return f"/apis/networking.k8s.io/v1/namespaces/{ns}/networkpolicies"


def leases(ns: str) -> str:
    return f"/apis/coordination.k8s.io/v1/namespaces/{ns}/leases"


def config_map(name: str, data: dict[str, str] | None = None, **metadata: Any) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, **metadata},
        "data": {"a": "1"} if data is None else data,
    }


def pod(name: str, **spec: Any) -> Object:
    """Return a pod with the label app=NAME and one container."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"containers": [{"name": "main", "image": "web:1", "ports": [{"containerPort": 80}]}], **spec},
    }


def service(name: str, *ports: Object, **spec: Any) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": list(ports) or [{"port": 80}], **spec},
    }


def deployment(name: str, replicas: int = 1) -> Object:
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "main", "image": "web:1"}]},
            },
        },
    }


def network_policy(name: str, **spec: Any) -> Object:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name},
        "spec": {"podSelector": {}, **spec},
    }


def crd(group: str, kind: str, schema: Object | None = None, *, scope: str = "Namespaced", **version: Any) -> Object:
    """Return a definition of ``kind`` in ``group`` with one version, v1; without a schema it keeps every field."""
    plural = kind.lower() + "s"
    schema = schema or {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": scope,
            "names": {"plural": plural, "singular": kind.lower(), "kind": kind, "listKind": f"{kind}List"},
            "versions": [
                {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}, **version}
            ],
        },
    }


def custom(definition: Object, ns: str = "") -> str:
    """Return the path of a definition's collection."""
    spec = definition["spec"]
    return f"/apis/{spec['group']}/v1/{f'namespaces/{ns}/' if ns else ''}{spec['names']['plural']}"


def await_answer(api: Client, path: str, status: int = 200, seconds: float = 20) -> None:
    """Wait until a path answers with ``status``."""
    eventually(lambda: api.get(path).status == status, f"{path} answers {status}", seconds)


def eventually(condition: Callable[[], bool], what: str, seconds: float = 20) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"after {seconds} s it is still not so that {what}"
        time.sleep(0.05)
