"""Cluster addresses and node ports of Services: given out, kept over updates, taken back when the Service is gone."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any

from labs.api.errors import Cause, denied, unsupported, wrong
from labs.api.store import Change, Entry

RANGES: dict[str, IPv4Network | IPv6Network] = {
    "IPv4": IPv4Network("10.96.0.0/16"),
    "IPv6": IPv6Network("fd00:10:96::/112"),
}
FIRST_GIVEN = 256
"""Offset of the first address given out unasked; those below are left for addresses chosen by people."""
NODE_PORTS = range(30000, 32768)
_FOR_OUTSIDE = ("externalTrafficPolicy", "healthCheckNodePort", "allocateLoadBalancerNodePorts")
"""Fields of Services that are reached from outside the cluster."""
_FOR_BALANCERS = ("loadBalancerClass", "allocateLoadBalancerNodePorts")
"""Fields that only a Service of type LoadBalancer may have; one that changes its type loses them unless they change as well."""
_DUAL = ("PreferDualStack", "RequireDualStack")


class Refused(Exception):
    """What a Service asks for cannot be given; ``cause`` says which field and why."""

    def __init__(self, cause: Cause) -> None:
        super().__init__(cause.message)
        self.cause = cause


class ServiceAddresses:
    """Which addresses and node ports are taken: learned from the Services themselves, so nothing can leak."""

    def __init__(self) -> None:
        self._addresses: dict[str, str] = {}
        self._ports: dict[tuple[str, int], str] = {}
        self._next = dict.fromkeys(RANGES, FIRST_GIVEN)
        self._next_port = NODE_PORTS.start

    def learn(self, change: Change) -> None:
        """Follows the stored Services: a listener of their store."""
        if change.old is not None:
            self._forget(change.old)
        if not change.gone:
            self.hold(change.entry)

    def hold(self, entry: Entry) -> None:
        """Takes what a stored Service has."""
        spec = entry.load().get("spec", {})
        self._addresses.update(dict.fromkeys(_addresses(spec), entry.uid))
        self._ports.update(dict.fromkeys(_node_ports(spec), entry.uid))

    def _forget(self, entry: Entry) -> None:
        spec = entry.load().get("spec", {})
        for address in _addresses(spec):
            self._addresses.pop(address, None)
        for port in _node_ports(spec):
            self._ports.pop(port, None)

    def give(self, obj: dict[str, Any], old: dict[str, Any] | None) -> None:
        """Completes a Service's spec with addresses and node ports, keeping those it had. Raises :class:`Refused`."""
        spec, before, uid = obj["spec"], (old or {}).get("spec", {}), obj["metadata"]["uid"]
        if spec["type"] == "ExternalName":
            for field in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
                spec.pop(field, None)
            return
        if before.get("type") != "ExternalName":
            _carry_over(spec, before)
        self._give_addresses(spec, before, uid)
        if spec["type"] in ("NodePort", "LoadBalancer"):
            self._give_node_ports(spec, before, uid)
        else:
            for field in _FOR_OUTSIDE:
                spec.pop(field, None)
            for port in spec.get("ports", ()):
                port.pop("nodePort", None)

    def _give_addresses(self, spec: dict[str, Any], before: dict[str, Any], uid: str) -> None:
        asked = spec.get("clusterIPs") or ([spec["clusterIP"]] if spec.get("clusterIP") else [])
        if spec.get("clusterIP") and asked[0] != spec["clusterIP"]:
            raise Refused(wrong("spec.clusterIPs", asked, "first value must match `clusterIP`"))
        had = before.get("clusterIPs")
        if had and asked and before["type"] != "ExternalName" and asked[0] != had[0]:
            raise Refused(wrong("spec.clusterIPs[0]", asked, "may not change once set"))
        families = _families(spec, asked)
        if asked[:1] == ["None"]:
            spec.update(clusterIP="None", clusterIPs=["None"], ipFamilies=families)
            return
        addresses = []
        for place, family in enumerate(families):
            address = asked[place] if place < len(asked) else ""
            addresses.append(self._claim(family, address, uid, place) if address else self._free(family))
        spec.update(clusterIP=addresses[0], clusterIPs=addresses, ipFamilies=families)

    def _claim(self, family: str, address: str, uid: str, place: int) -> str:
        field = f"spec.clusterIPs[{place}]"
        try:
            inside = ip_address(address) in RANGES[family]
        except ValueError:
            raise Refused(wrong(field, address, "must be a valid IP address")) from None
        if not inside:
            why = f"failed to allocate IP {address}: the provided IP ({address}) is not in the valid range. "
            raise Refused(wrong("spec.clusterIPs", [address], why + f"The range of valid IPs is {RANGES[family]}"))
        if self._addresses.get(address, uid) != uid:
            why = f"failed to allocate IP {address}: provided IP is already allocated"
            raise Refused(wrong("spec.clusterIPs", [address], why))
        return str(ip_address(address))

    def _free(self, family: str) -> str:
        network = RANGES[family]
        size = network.num_addresses - 2
        for step in range(size):
            offset = 1 + (self._next[family] + step - 1) % size
            address = str(network[offset])
            if address not in self._addresses:
                self._next[family] = offset + 1
                return address
        raise Refused(wrong("spec.clusterIPs", [], f"failed to allocate an IP: range {network} is full"))

    def _give_node_ports(self, spec: dict[str, Any], before: dict[str, Any], uid: str) -> None:
        given = set(_node_ports(spec))  # recorded when the Service is stored, so what is refused later takes nothing
        if spec["type"] == "LoadBalancer" and spec["externalTrafficPolicy"] == "Local":
            if not spec.get("healthCheckNodePort"):
                spec["healthCheckNodePort"] = before.get("healthCheckNodePort") or self._free_port("TCP", given)
            given.add(("TCP", spec["healthCheckNodePort"]))
        else:
            spec.pop("healthCheckNodePort", None)
        if spec["type"] == "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts") is False:
            return
        for place, port in enumerate(spec.get("ports", ())):
            wanted, protocol = port.get("nodePort", 0), port.get("protocol", "TCP")
            field = f"spec.ports[{place}].nodePort"
            if not wanted:
                port["nodePort"] = self._free_port(protocol, given)
                given.add((protocol, port["nodePort"]))
            elif wanted not in NODE_PORTS:
                why = f"provided port is not in the valid range. The range of valid ports is {NODE_PORTS[0]}-{NODE_PORTS[-1]}"
                raise Refused(wrong(field, wanted, why))
            elif self._ports.get((protocol, wanted), uid) != uid:
                raise Refused(wrong(field, wanted, "provided port is already allocated"))

    def _free_port(self, protocol: str, given: set[tuple[str, int]]) -> int:
        for step in range(len(NODE_PORTS)):
            port = NODE_PORTS[(self._next_port - NODE_PORTS.start + step) % len(NODE_PORTS)]
            if (protocol, port) not in self._ports and (protocol, port) not in given:
                self._next_port = port + 1
                return port
        raise Refused(denied("spec.ports", f"no free node port in {NODE_PORTS[0]}-{NODE_PORTS[-1]}"))


def leave_type(spec: dict[str, Any], before: dict[str, Any]) -> None:
    """Drops what only the former type of a Service had and the writer did not ask for anew."""
    if before.get("type") == "LoadBalancer" and spec.get("type") != "LoadBalancer":
        for field in _FOR_BALANCERS:
            if field in spec and spec[field] == before.get(field):
                del spec[field]


def _families(spec: dict[str, Any], asked: list[str]) -> list[str]:
    """The families a Service gets, in order; settles its ipFamilyPolicy."""
    families = list(spec.get("ipFamilies") or ())
    for family in families:
        if family not in RANGES:
            raise Refused(unsupported("spec.ipFamilies", family, RANGES))
    if not families:
        families = [f"IPv{ip_network(a).version}" for a in asked if a != "None" and _readable(a)]
    headless = asked[:1] == ["None"]
    policy = spec.get("ipFamilyPolicy")
    if policy is None:
        policy = "RequireDualStack" if headless and not spec.get("selector") else "SingleStack"
        spec["ipFamilyPolicy"] = policy
    if policy not in _DUAL:
        if policy != "SingleStack":
            raise Refused(unsupported("spec.ipFamilyPolicy", policy, ("SingleStack", *_DUAL)))
        if len(families) > 1:
            why = "must be RequireDualStack or PreferDualStack when multiple `ipFamilies` are specified"
            raise Refused(wrong("spec.ipFamilyPolicy", policy, why))
        return families or ["IPv4"]
    return families + [f for f in RANGES if f not in families]


def _readable(address: str) -> bool:
    try:
        ip_address(address)
    except ValueError:
        return False
    return True


def _carry_over(spec: dict[str, Any], before: dict[str, Any]) -> None:
    """What an update leaves out stays as it was, as far as the Server gave it."""
    if not spec.get("clusterIP") and not spec.get("clusterIPs") and before.get("clusterIPs"):
        spec["clusterIP"], spec["clusterIPs"] = before["clusterIP"], list(before["clusterIPs"])
    for field in ("ipFamilies", "ipFamilyPolicy"):
        if field not in spec and field in before:
            spec[field] = before[field]
    if spec.get("ipFamilyPolicy") == "SingleStack" and before.get("ipFamilyPolicy") in _DUAL:
        spec["ipFamilies"], spec["clusterIPs"] = spec["ipFamilies"][:1], spec["clusterIPs"][:1]
    had = {(p.get("protocol"), p.get("port")): p.get("nodePort") for p in before.get("ports", ())}
    for port in spec.get("ports", ()):
        kept = had.get((port.get("protocol"), port.get("port")))
        if kept and not port.get("nodePort") and spec["type"] in ("NodePort", "LoadBalancer"):
            port["nodePort"] = kept


def _addresses(spec: dict[str, Any]) -> Iterator[str]:
    return (address for address in spec.get("clusterIPs", ()) if address != "None")


def _node_ports(spec: dict[str, Any]) -> Iterator[tuple[str, int]]:
    yield from ((p.get("protocol", "TCP"), p["nodePort"]) for p in spec.get("ports", ()) if p.get("nodePort"))
    if spec.get("healthCheckNodePort"):
        yield "TCP", spec["healthCheckNodePort"]
