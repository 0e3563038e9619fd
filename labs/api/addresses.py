"""Networks in CIDR notation, read as Kubernetes reads them."""

from __future__ import annotations

import re
from ipaddress import IPv4Interface, IPv6Interface, ip_interface

_SHAPE = re.compile(r"[0-9A-Fa-f.:]+/[0-9]{1,3}")


def prefix(text: str) -> IPv4Interface | IPv6Interface | None:
    """The address and length of ``10.0.0.0/8`` or ``fd00::/8``, bits below the length kept; None if it is no CIDR.

    A netmask in place of the length, and an address with a zone, are none.
    """
    try:
        return ip_interface(text) if _SHAPE.fullmatch(text) else None
    except ValueError:
        return None
