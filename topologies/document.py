"""Topologies as JSON or YAML documents, with the field names of :mod:`topologies.spec`.

::

    name: pair
    networks: [{name: lan, prefixes: [192.168.50.0/24], mtu: 1500}]
    nodes:
      - {name: a, link: {network: lan, addresses: [192.168.50.11/24]}, roles: [exit]}
      - {name: b, link: {network: lan, addresses: [192.168.50.12/24]}, labels: {disk: ssd}}
    external: {link: {network: lan, addresses: [192.168.50.250/24]}, upstream: [203.0.113.1/24]}

An edge has ``roles: [edge]`` and ``uplinks: [{name: up0, link: {network: up, addresses: [192.168.10.11/24]}}]``; a network may have a
``vlan``; a router, and the external host, an ``asn`` with which it speaks BGP.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml

from ipam.address import parse_interface, parse_prefix
from topologies.spec import External, Link, Network, Node, Router, Topology, TopologyError, Uplink

Parsed = TypeVar("Parsed")


def load(path: Path) -> Topology:
    """Read a topology from a file; JSON is read as the YAML it is.

    Raises:
        TopologyError: the file cannot be read or its content is not a valid topology; the message starts with the path.
    """
    try:
        document = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise TopologyError(f"{path}: {error}") from error
    try:
        return parse(document)
    except TopologyError as error:
        raise TopologyError(f"{path}: {error}") from error


def parse(document: object) -> Topology:
    """A topology from a document's values.

    Raises:
        TopologyError: naming the object, the field and the value that is wrong.
    """
    fields = _fields("topology", document, {"name", "networks", "nodes", "external"}, {"routers", "summary"})
    name = str(fields["name"])
    where = f"topology {name}"
    return Topology(
        name=name,
        summary=str(fields.get("summary", "")),
        networks=_each(where, "networks", fields["networks"], _network),
        nodes=_each(where, "nodes", fields["nodes"], _node),
        routers=_each(where, "routers", fields.get("routers", []), _router),
        external=_external(fields["external"]),
    )


def render(topology: Topology) -> dict[str, Any]:
    """The document of a topology: :func:`parse` gives the same topology back."""
    return {
        "name": topology.name,
        "summary": topology.summary,
        "networks": [
            {"name": one.name, "prefixes": [str(prefix) for prefix in one.prefixes], "mtu": one.mtu, "vlan": one.vlan}
            for one in topology.networks
        ],
        "nodes": [
            {
                "name": one.name,
                "link": _render_link(one.link),
                "rack": one.rack,
                "labels": dict(one.labels),
                "roles": list(one.roles),
                "uplinks": [{"name": each.name, "link": _render_link(each.link)} for each in one.uplinks],
            }
            for one in topology.nodes
        ],
        "routers": [
            {"name": one.name, "links": [_render_link(link) for link in one.links], "asn": one.asn}
            for one in topology.routers
        ],
        "external": {
            "link": _render_link(topology.external.link),
            "upstream": [str(one) for one in topology.external.upstream],
            "asn": topology.external.asn,
        },
    }


def _render_link(link: Link) -> dict[str, Any]:
    return {"network": link.network, "addresses": [str(one) for one in link.addresses]}


def _network(document: object) -> Network:
    fields = _fields("network", document, {"name", "prefixes"}, {"mtu", "vlan"})
    where = f"network {fields['name']}"
    prefixes = _texts(where, "prefixes", fields["prefixes"], parse_prefix)
    return Network(
        str(fields["name"]), prefixes, _whole(where, fields, "mtu", 1500, " of bytes"), _whole(where, fields, "vlan", 0)
    )


def _node(document: object) -> Node:
    fields = _fields("node", document, {"name", "link"}, {"rack", "labels", "roles", "uplinks"})
    where = f"node {fields['name']}"
    labels = fields.get("labels", {})
    if not isinstance(labels, Mapping) or not all(isinstance(one, str) for pair in labels.items() for one in pair):
        raise TopologyError(f"{where}: labels: {labels!r}; wants texts by text (quote numbers and true/false)")
    return Node(
        str(fields["name"]),
        _link(where, fields["link"]),
        rack=str(fields.get("rack", "")),
        labels=dict(labels),
        roles=_texts(where, "roles", fields.get("roles", []), str),
        uplinks=_each(where, "uplinks", fields.get("uplinks", []), lambda one: _uplink(where, one)),
    )


def _uplink(where: str, document: object) -> Uplink:
    fields = _fields(f"{where}: uplink", document, {"name", "link"}, set())
    return Uplink(str(fields["name"]), _link(f"{where}: uplink {fields['name']}", fields["link"]))


def _router(document: object) -> Router:
    fields = _fields("router", document, {"name", "links"}, {"asn"})
    where = f"router {fields['name']}"
    links = _each(where, "links", fields["links"], lambda one: _link(where, one))
    return Router(str(fields["name"]), links, _whole(where, fields, "asn", 0))


def _external(document: object) -> External:
    fields = _fields("external", document, {"link"}, {"upstream", "asn"})
    upstream = _texts("external", "upstream", fields.get("upstream", []), parse_interface)
    return External(_link("external", fields["link"]), upstream, _whole("external", fields, "asn", 0))


def _link(where: str, document: object) -> Link:
    fields = _fields(f"{where}: link", document, {"network", "addresses"}, set())
    return Link(str(fields["network"]), _texts(where, "addresses", fields["addresses"], parse_interface))


def _fields(where: str, document: object, needed: set[str], optional: set[str]) -> Mapping[str, Any]:
    allowed = ", ".join(sorted(needed | optional))
    if not isinstance(document, Mapping):
        raise TopologyError(f"{where}: {document!r}; wants a mapping with the fields {allowed}")
    unknown = sorted(str(name) for name in document if name not in needed | optional)
    if unknown:
        raise TopologyError(f"{where}: unknown field {unknown[0]!r}; allowed: {allowed}")
    missing = sorted(needed - set(document))
    if missing:
        raise TopologyError(f"{where}: field {missing[0]!r} is missing; wants {', '.join(sorted(needed))}")
    return document


def _whole(where: str, fields: Mapping[str, Any], name: str, default: int, unit: str = "") -> int:
    value = fields.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool):
        raise TopologyError(f"{where}: {name}: {value!r}; wants a whole number{unit}")
    return value


def _each(where: str, name: str, value: object, make: Callable[[object], Parsed]) -> tuple[Parsed, ...]:
    if not isinstance(value, list):
        raise TopologyError(f"{where}: {name}: {value!r}; wants a list")
    return tuple(make(one) for one in value)


def _texts(where: str, name: str, value: object, make: Callable[[str], Parsed]) -> tuple[Parsed, ...]:
    def one(text: object) -> Parsed:
        try:
            return make(str(text))
        except ValueError as error:
            raise TopologyError(f"{where}: {name}: {error}") from error

    return _each(where, name, value, one)
