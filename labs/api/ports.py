"""Ports as objects name them: protocols, numbers and names, with the sentences about what is wrong with one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

PROTOCOLS = ("TCP", "UDP", "SCTP")
LONGEST_NAME = 15


def number_fault(port: Any) -> str:
    """The sentence about what is wrong with a port's number; empty if nothing is."""
    if isinstance(port, int) and 1 <= port <= 65535:
        return ""
    return "must be between 1 and 65535, inclusive"


def name_faults(name: str) -> Iterator[str]:
    """A sentence for each thing that is wrong with a port's name (RFC 6335, in lower case)."""
    if len(name) > LONGEST_NAME:
        yield f"must be no more than {LONGEST_NAME} characters"
    if not re.fullmatch("[-a-z0-9]+", name):
        yield "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)"
    if not re.search("[a-z]", name):
        yield "must contain at least one letter (a-z)"
    if "--" in name:
        yield "must not contain consecutive hyphens"
    if name.startswith("-") or name.endswith("-"):
        yield "must not begin or end with a hyphen"
