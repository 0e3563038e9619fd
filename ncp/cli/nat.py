"""Rows of ``ncp get nat``: who is whom outside, and what came of it. Pure, but for asking the agents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ncp.cli import nodeapi

Row = dict[str, Any]


def nat(state: Path | None, node: str, namespace: str) -> list[Row]:
    """A row for each translation of each node that lets out, or may; of other nodes, those that translated something.

    Args:
        state: the lab's directory.
        node: only this one's; empty: all.
        namespace: only what is this namespace's, its own and that of its services and bindings; empty: all.

    Raises:
        AgentError: no agent is within reach.
    """
    found = (
        {"node": answer["node"], "active": answer["active"], "namespace": _namespace(each["origin"]), **each}
        for answer in nodeapi.ask("/v1/nat", state, node)
        for each in answer["translations"]
        if answer["lets_out"] or each["hits"]
    )
    kept = [row for row in found if not namespace or row["namespace"] == namespace]
    return sorted(kept, key=lambda row: (not row["active"], row["node"]))


def _namespace(origin: Row) -> str | None:
    return (origin["name"] if origin["kind"] == "Namespace" else origin["namespace"]) or None
