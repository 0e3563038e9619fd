"""Flows as node agents list them, filtered by who asked for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import click

from ncp.cli import nodeapi

Row = dict[str, Any]


class OriginFilter(NamedTuple):
    """An origin by kind and name; a missing part is None and matches any."""

    kind: str | None = None
    namespace: str | None = None
    name: str | None = None

    def accepts(self, origin: Row) -> bool:
        """Whether an origin is meant. Kinds compare without case."""
        return (
            (self.kind is None or origin["kind"].lower() == self.kind.lower())
            and (self.namespace is None or origin["namespace"] == self.namespace)
            and (self.name is None or origin["name"] == self.name)
        )


class Wanted(NamedTuple):
    """Which flows are asked for. ``table`` is a name or a number, or empty."""

    origin: OriginFilter
    table: str = ""
    ill: bool = False

    def accepts(self, flow: Row) -> bool:
        """Whether a flow is one of them."""
        return (
            self.origin.accepts(flow["origin"])
            and self.table in ("", flow["table_name"], str(flow["table"]))
            and not (self.ill and flow["state"] in ("ok", "learned"))
        )


def parse_origin(text: str) -> OriginFilter:
    """``KIND``, ``KIND/NAME`` or ``KIND/NAMESPACE/NAME``; empty accepts all.

    Raises:
        click.BadParameter: it has another form.
    """
    parts = text.split("/") if text else []
    if len(parts) > 3 or not all(parts):
        raise click.BadParameter(f"{text!r} is not KIND, KIND/NAME or KIND/NAMESPACE/NAME", param_hint="--origin")
    if len(parts) == 3:
        return OriginFilter(*parts)
    return OriginFilter(parts[0] if parts else None, None, parts[1] if len(parts) == 2 else None)


def collect(state: Path | None, node: str, wanted: Wanted) -> list[Row]:
    """The flows of every agent on this host that are wanted, by node, table and falling priority.

    Raises:
        AgentError: no agent is within reach.
        click.BadParameter: there is no such table.
    """
    answers = list(nodeapi.ask("/v1/flows", state, node))
    listed = [{"node": answer["node"], **flow} for answer in answers for flow in answer["flows"]]
    if wanted.table and listed:
        names = dict.fromkeys(flow["table_name"] for flow in sorted(listed, key=lambda flow: flow["table"]))
        if not any(wanted.table in (flow["table_name"], str(flow["table"])) for flow in listed):
            raise click.BadParameter(
                f"no flow is in a table {wanted.table!r}; there are: {', '.join(names)}", param_hint="--table"
            )
    kept = [flow for flow in listed if wanted.accepts(flow)]
    return sorted(kept, key=lambda flow: (flow["node"], flow["table"], -flow["priority"], flow["match"]))


def origin_text(origin: Row) -> str:
    """An origin for people: ``Pod default/web (detail)``."""
    where = f"{origin['namespace']}/{origin['name']}" if origin.get("namespace") else origin["name"]
    detail = f" ({origin['detail']})" if origin.get("detail") else ""
    return f"{origin['kind']} {where}{detail}".strip()
