"""Rows of ``ncp get policies``, ``rules`` and ``firewall-log``. Pure, but for asking the agents."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import click

from firewall.order import Priorities, rank
from firewall.rules import Section
from ncp.cli import nodeapi
from ncp.cli.rows import errors_of
from ncp.cli.world import World
from ncp.node.enforced import POLICY_KINDS
from ncp.translate.objects import REALISATION, annotation

Row = dict[str, Any]


def policies(world: World) -> list[Row]:
    """Every policy in the order it is asked: what it is about, and whether it is realised."""
    intent = world.translation.intent
    objects = {
        f"{kind}/{each['metadata'].get('namespace', '')}/{each['metadata']['name']}": each
        for kind in POLICY_KINDS
        for each in world.objects.get(kind, ())
    }
    found = []
    for key, section in sorted(intent.sections.items(), key=lambda item: _order(item[1], intent.firewall.priorities)):
        policy = objects.get(key)
        selected = [
            port.name
            for port in intent.ports.values()
            if any(
                g.contains(port.identity, dict(intent.namespaces.get(port.identity.namespace, ())))
                for g in section.targets()
            )
        ]
        found.append(
            {
                "kind": section.source.kind,
                "namespace": section.source.namespace or None,
                "name": section.source.name,
                "tier": section.tier,
                "priority": section.priority if section.tier in ("Admin", "Application", "Baseline") else None,
                "pods": len(selected),
                "isolates": sorted(section.isolates),
                "rules": dict(sorted(Counter(rule.direction for rule in section.rules).items())),
                "established": section.established or intent.firewall.established,
                "realised": (annotation(policy, REALISATION) if policy else None)
                or ("-" if policy is None else "Realizing"),
                "errors": errors_of(policy) if policy else {},
            }
        )
    return found


def _order(section: Section, priorities: Priorities) -> tuple[int, int, str]:
    return rank(section, priorities), section.priority, section.key


def rules(state: Path | None, node: str, policy: str) -> list[Row]:
    """Every rule's counters, added up over nodes (or of one node).

    Raises:
        click.ClickException: a policy is asked for of which there are none.
    """
    if policy.count("/") > 1 or policy.endswith("/"):
        raise click.BadParameter(f"{policy!r} is not NAME or NAMESPACE/NAME", param_hint="--policy")
    found: dict[tuple[str, str, str, str], Row] = {}
    named: set[str] = set()
    for answer in nodeapi.ask("/v1/rules", state, node):
        for each in answer["rules"]:
            origin = each["origin"]
            full = [
                f"{origin['namespace']}/{name}" for name in origin["name"].split(",")
            ]  # policies share an isolation
            named.update(full)
            if policy and not any(policy in (name, name.rpartition("/")[2]) for name in full):
                continue
            key = (origin["kind"], origin["namespace"], origin["name"], each["rule"])
            row = found.setdefault(
                key,
                {
                    "kind": origin["kind"], "namespace": origin["namespace"] or None, "name": origin["name"],
                    "rule": each["rule"], "action": each["action"], "hits": 0, "sessions": 0, "packets": 0, "bytes": 0,
                    "nodes": [],
                },
            )  # fmt: skip
            for name in ("hits", "sessions", "packets", "bytes"):
                row[name] += each[name]
            row["nodes"].append(answer["node"])
    if policy and not found:
        known = ", ".join(sorted(name.removeprefix("/") for name in named)) or "none"
        raise click.ClickException(f"no rules of a policy {policy!r} here; there are: {known}")
    return [found[key] for key in sorted(found)]


def firewall_log(state: Path | None, node: str) -> list[Row]:
    """The latest lines of every node's firewall log (or of one node's), oldest first."""
    lines = (
        {"node": answer["node"], **line}
        for answer in nodeapi.ask("/v1/firewall-log", state, node)
        for line in answer["lines"]
    )
    return sorted(lines, key=lambda row: float(row["at"]))
