"""The result of a CNI ADD, in the shape of each version of the specification (section 5, "Success")."""

from __future__ import annotations

from typing import Any, NamedTuple

from ipam.address import Address, Interface

DEFAULT = {4: "0.0.0.0/0", 6: "::/0"}


class PortConfig(NamedTuple):
    """What the control plane decided for a pod. ``gateways`` has at most one per family; ``mtu`` is the pod's."""

    vni: int
    mac: str
    addresses: tuple[Interface, ...]
    gateways: tuple[Address, ...]
    mtu: int


def add_result(
    version: str, port: PortConfig, *, interface: str, interface_mac: str, ifname: str, netns: str
) -> dict[str, Any]:
    """The result for a pod with a cable from ``ifname`` in ``netns`` to ``interface`` on the node."""
    gateways = {gateway.family: str(gateway) for gateway in port.gateways}
    pod: dict[str, Any] = {"name": ifname, "mac": port.mac, "sandbox": netns}
    if version >= "1.1.0":
        pod["mtu"] = port.mtu
    return {
        "cniVersion": version,
        "interfaces": [{"name": interface, "mac": interface_mac}, pod],
        "ips": [_ip(version, address, gateways.get(address.family)) for address in port.addresses],
        "routes": [{"dst": DEFAULT[family], "gw": gateway} for family, gateway in sorted(gateways.items())],
        "dns": {},
    }


def previous_addresses(config: dict[str, Any]) -> frozenset[str]:
    """The addresses an earlier ADD returned, from a configuration's ``prevResult``; empty when it has none."""
    previous = config.get("prevResult") or {}
    return frozenset(str(ip.get("address", "")) for ip in previous.get("ips") or ())


def _ip(version: str, address: Interface, gateway: str | None) -> dict[str, Any]:
    found: dict[str, Any] = {"interface": 1, "address": str(address)}
    if gateway is not None:
        found["gateway"] = gateway
    if version < "1.0.0":
        found["version"] = str(address.family)
    return found
