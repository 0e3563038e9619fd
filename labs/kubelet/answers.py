"""What a responder says, over any protocol: pure functions from a request to an answer."""

from __future__ import annotations

import re
from ipaddress import IPv6Address
from typing import NamedTuple

_REQUEST = re.compile(rb"^([A-Z]+) (\S+) HTTP/1\.([01])\r?$")
_LENGTH = re.compile(rb"^content-length:\s*(\d+)\s*$", re.IGNORECASE | re.MULTILINE)
_CLOSE = re.compile(rb"^connection:\s*close\s*$", re.IGNORECASE | re.MULTILINE)
_KEEP = re.compile(rb"^connection:\s*keep-alive\s*$", re.IGNORECASE | re.MULTILINE)
_LONGEST = 1 << 20  # bytes of a line or a request's head before the peer is hung up on


class Exchange(NamedTuple):
    """One request taken from a stream: how many bytes it was, what was asked, the answer, and whether to hang up."""

    size: int
    asked: str
    answer: bytes
    close: bool


def peer_text(host: str, port: int) -> str:
    """``192.0.2.1:80`` or ``[2001:db8::1]:80``; an IPv4 peer of a dual-stack socket is shown as IPv4."""
    host = plain_address(host)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def plain_address(host: str) -> str:
    """``host`` without a zone, and as IPv4 where it is a mapped one."""
    if ":" not in host:
        return host
    address = IPv6Address(host.partition("%")[0])
    return str(address.ipv4_mapped or address)


def message(payload: bytes, name: str, peer: str) -> bytes:
    """The answer to one datagram, SCTP message or line: the pod's name, or for ``/clientip`` whom the pod saw."""
    return (peer if payload.strip() == b"/clientip" else name).encode()


def exchange(buffer: bytes, name: str, peer: str) -> Exchange | None:
    """Answer the first request in ``buffer``, HTTP or a plain line; None when it is not complete yet."""
    end = buffer.find(b"\n")
    if end < 0:
        return Exchange(len(buffer), "overlong line", b"", True) if len(buffer) > _LONGEST else None
    line = buffer[:end]
    request = _REQUEST.match(line)
    if request is None:
        text = line.strip().decode("utf-8", "replace")
        return Exchange(end + 1, text, message(line, name, peer) + b"\n", False)
    return _http(buffer, request, name, peer)


def _http(buffer: bytes, request: re.Match[bytes], name: str, peer: str) -> Exchange | None:
    # A head may end its lines with a bare newline (RFC 9112 2.2), as someone typing into nc does.
    blank = re.search(rb"\r?\n\r?\n", buffer)
    if blank is None:
        return Exchange(len(buffer), "overlong request", b"", True) if len(buffer) > _LONGEST else None
    head = buffer[: blank.end()].replace(b"\r", b"")
    length = _LENGTH.search(head)
    size = blank.end() + (int(length[1]) if length else 0)
    if len(buffer) < size:
        return None
    method, target, minor = request[1], request[2].decode("utf-8", "replace"), request[3]
    asked = f"{method.decode()} {target}"
    body = _page(target, asked, name, peer).encode()
    close = bool(_CLOSE.search(head)) or (minor == b"0" and not _KEEP.search(head)) or b"chunked" in head.lower()
    top = (
        f"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {len(body)}\r\n"
        f"Connection: {'close' if close else 'keep-alive'}\r\n\r\n"
    ).encode()
    return Exchange(size, asked, top + (b"" if method == b"HEAD" else body), close)


def _page(target: str, asked: str, name: str, peer: str) -> str:
    path = target.partition("?")[0]
    if path == "/hostname":
        return name
    if path == "/clientip":
        return peer
    return f"{name}\n{asked}\n"
