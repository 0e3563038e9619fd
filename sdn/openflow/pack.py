"""Flows as OpenFlow 1.5 messages, and the two names a flow goes by: its key and its cookie.

Bulk messages are packed here with ``struct`` and plain byte strings because a codec of message objects is some fifty
times slower; the tests hold every encoding against that codec.
"""

from __future__ import annotations

from hashlib import blake2b
from struct import Struct
from typing import NamedTuple

from sdn.openflow.action import pack_actions, pack_instructions
from sdn.openflow.match import canonical_match, pack_match
from sdn.pipeline.flow import Flow

__all__ = [
    "ADD",
    "DELETE",
    "DELETE_STRICT",
    "MODIFY_STRICT",
    "Encoded",
    "canonical_match",
    "cookie_of",
    "encode",
    "flow_key_bytes",
    "flow_mod",
    "installed_key_bytes",
    "owner_of",
    "pack_actions",
    "pack_delete",
    "pack_delete_owned",
    "pack_flow",
    "pack_instructions",
    "pack_match",
]

OPENFLOW_15 = 6
FLOW_MOD = 14
ADD, MODIFY, MODIFY_STRICT, DELETE, DELETE_STRICT = range(5)
ANY = 0xFFFFFFFF  # any port, any group
ALL_TABLES = 0xFF
NO_BUFFER = 0xFFFFFFFF
OWNER_SHIFT = 48
OWNER_MASK = 0xFFFF << OWNER_SHIFT

# version, type, length, xid | cookie, cookie mask, table, command, idle, hard, priority, buffer, port, group, flags,
# importance
FLOW_MOD_HEADER = Struct("!BBHIQQBBHHHIIIHH")
_FLOW_MOD = FLOW_MOD_HEADER.pack
_MATCH = Struct("!HH").pack
_KEY = Struct("!BH").pack
_PADDING = tuple(bytes(-(4 + length) % 8) for length in range(8))


class Encoded(NamedTuple):
    """A flow ready for the wire: encode once, then compare (key, cookie) and send (body) at no further cost."""

    flow: Flow
    key: bytes
    cookie: int
    body: bytes  # match with header and padding, then instructions


def encode(flow: Flow, owner: int, cookie: int | None = None) -> Encoded:
    """Pack a flow; without ``cookie`` it gets ``owner << 48 | hash`` of key, instructions and origin.

    Raises ValueError, naming the flow, for what cannot be written in OpenFlow.
    """
    table, priority, terms, actions, origin = flow
    try:
        match, instructions = pack_match(terms), pack_instructions(actions)
    except (ValueError, KeyError) as error:
        raise ValueError(f"flow of {origin} in table {table}: {error}") from error
    key = _KEY(table, priority) + match
    body = _MATCH(1, len(match) + 4) + match + _PADDING[len(match) & 7] + instructions
    if cookie is None:
        content = blake2b(key[:3] + body + "\0".join(origin).encode(), digest_size=6).digest()
        cookie = owner << OWNER_SHIFT | int.from_bytes(content, "big")
    return Encoded(flow, key, cookie, body)


def flow_mod(encoded: Encoded, command: int = ADD, xid: int = 0) -> bytes:
    """The flow-mod message of an encoded flow. Adding over an existing flow keeps its counters, not its cookie."""
    flow, _, cookie, body = encoded
    # fmt: off
    return _FLOW_MOD(
        OPENFLOW_15, FLOW_MOD, 48 + len(body), xid, cookie, 0, flow.table, command, 0, 0, flow.priority, NO_BUFFER,
        ANY, ANY, 0, 0,
    ) + body
    # fmt: on


def pack_flow(flow: Flow, cookie: int, command: int = ADD, xid: int = 0) -> bytes:
    """A flow-mod message for one flow; raises ValueError as :func:`encode` does."""
    return flow_mod(encode(flow, 0, cookie), command, xid)


def pack_delete(table: int, priority: int, match: bytes, xid: int = 0) -> bytes:
    """A flow-mod message that deletes exactly the flow of this key (canonical match bytes), if it is there."""
    body = _MATCH(1, len(match) + 4) + match + _PADDING[len(match) & 7]
    # fmt: off
    return _FLOW_MOD(
        OPENFLOW_15, FLOW_MOD, 48 + len(body), xid, 0, 0, table, DELETE_STRICT, 0, 0, priority, NO_BUFFER,
        ANY, ANY, 0, 0,
    ) + body
    # fmt: on


def pack_delete_owned(owner: int, xid: int = 0) -> bytes:
    """A flow-mod message that deletes every flow of an owner, from every table."""
    cookie = owner << OWNER_SHIFT
    # fmt: off
    return _FLOW_MOD(
        OPENFLOW_15, FLOW_MOD, 56, xid, cookie, OWNER_MASK, ALL_TABLES, DELETE, 0, 0, 0, NO_BUFFER, ANY, ANY, 0, 0,
    ) + _MATCH(1, 4) + bytes(4)
    # fmt: on


def flow_key_bytes(flow: Flow) -> bytes:
    """What makes it the same rule for a switch: table, priority and canonical match."""
    return _KEY(flow.table, flow.priority) + pack_match(flow.match)


def installed_key_bytes(table: int, priority: int, match: bytes) -> bytes:
    """The same for a rule read back from a switch, with its canonical match."""
    return _KEY(table, priority) + match


def cookie_of(flow: Flow, owner: int) -> int:
    """The flow's cookie: its owner in the upper 16 bits, then 48 bits that change with anything about the flow.

    The lower bits hash key, instructions and origin, so equal cookies mean nothing has to be sent.
    """
    return encode(flow, owner).cookie


def owner_of(cluster: str) -> int:
    """The 16-bit mark, never 0, that the flows of a cluster carry in their cookies."""
    return int.from_bytes(blake2b(cluster.encode(), digest_size=8).digest(), "big") % 0xFFFF + 1
