"""The formats that a schema may ask of strings and whole numbers; one not known here asks for nothing, as in Kubernetes."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from ipaddress import IPv4Address, IPv6Address

from labs.api.addresses import prefix

_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt]([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)",
    re.ASCII,
)
_BITS = {"int32": 32, "int64": 64}


def fits(text: str, form: str) -> bool:
    """Whether a string has a format."""
    reader = _READERS.get(form.replace("-", ""))
    if reader is None:
        return True
    try:
        return bool(reader(text))
    except ValueError:
        return False


def in_range(number: float, form: str) -> bool:
    """Whether a whole number fits into a format's bits: those of an int64 where none is asked for."""
    bits = _BITS.get(form, 64)
    return -(1 << bits - 1) <= number < 1 << bits - 1


def _is_time(text: str) -> bool:
    found = _TIME.fullmatch(text)
    return bool(found and date.fromisoformat(found[1]))


_READERS: dict[str, Callable[[str], object]] = {
    "cidr": prefix,
    "datetime": _is_time,
    "ipv4": lambda text: str(IPv4Address(text)),
    "ipv6": lambda text: "%" not in text and str(IPv6Address(text)),
}
