"""What a match says, however it is written: which bits of what are compared with which value."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import netaddr

from sdn.openflow.fields import ALIASES, field
from sdn.pipeline.flow import Term


def meaning(terms: Iterable[Term]) -> dict[str, tuple[int, int]]:
    """Value and mask per field; all registers are one field of 512 bits."""
    meant: dict[str, tuple[int, int]] = {}
    for name, value, mask in terms:
        name = ALIASES.get(name, name)
        own = field(name).ones if mask is None else mask
        shift = 0
        for prefix, size in (("xxreg", 128), ("xreg", 64), ("reg", 32)):
            if name.startswith(prefix):
                shift, name = 512 - size * (int(name.removeprefix(prefix)) + 1), "registers"
                break
        values, masks = meant.get(name, (0, 0))
        meant[name] = (values | value << shift, masks | own << shift)
    return {name: both for name, both in meant.items() if both[1]}


def number(value: Any) -> int:
    """A number from os-ken's way to show a value of a field."""
    if isinstance(value, int):
        return value
    if "." in value or value.count(":") != 5 or "::" in value:
        return int(netaddr.IPAddress(value))
    return int(netaddr.EUI(value))


def os_ken_terms(match: Any) -> list[Term]:
    """The terms of an os-ken OFPMatch."""
    found: list[Term] = []
    for name, value in match.iteritems():
        if isinstance(value, tuple):
            found.append((name, number(value[0]), number(value[1])))
        else:
            found.append((name, number(value), None))
    return found
