"""How the plugin and ``ncp node`` talk: one call per connection, unparsed there, ready to print back.

There: the length in bytes of what follows, a newline, the call's ``CNI_…`` variables as ``NAME=VALUE`` with a NUL after
each, one more NUL, and standard input as it is. Back: exit code, a space, the length of what follows, a newline, and
what to print.

The plugin starts for every pod, and a third of a pod's start would be its imports. So this module and
:mod:`ncp.cni.__main__` import C modules only: ``_socket`` and ``posix`` under ``socket`` and ``os``, which bring along
``selectors``, ``enum`` and ``re``.
"""

from __future__ import annotations

import _socket
import posix

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing alone costs milliseconds at run time
    from collections.abc import Callable, Mapping

SOCKET = "/run/ncp/cni.sock"
TIMEOUT = 60.0  # seconds, unless the network configuration has "timeout"
GRACE = 5.0  # seconds the client waits longer than the server tries
MAX_CALL = 1 << 20  # bytes
MAX_STDIN = MAX_CALL // 2  # the rest is for the environment, of which one variable has at most 128 KiB
MAX_HEADER = 32  # bytes
_CHUNK = 1 << 16


class NotACall(ValueError):
    """What came is not in the form above."""


def call(environ: Mapping[bytes, bytes], stdin: bytes) -> bytes:
    """A call as it goes over the socket, header and all."""
    variables = b"".join(b"%b=%b\0" % pair for pair in environ.items() if pair[0].startswith(b"CNI_"))
    body = variables + b"\0" + stdin
    return b"%d\n%b" % (len(body), body)


def of_call(body: bytes) -> tuple[dict[str, str], bytes]:
    """Variables and standard input of a call without its header.

    Raises:
        NotACall: it has another form.
    """
    if body.startswith(b"\0"):
        return {}, body[1:]
    variables, end, stdin = body.partition(b"\0\0")
    pairs = [pair.partition(b"=") for pair in variables.split(b"\0")]
    if not end or not all(equals for _, equals, _ in pairs):
        raise NotACall("no variables that end in two NUL")
    return {name.decode("utf-8", "replace"): value.decode("utf-8", "replace") for name, _, value in pairs}, stdin


def length(header: bytes) -> int:
    """The length a call's header announces.

    Raises:
        NotACall: no number of at most :data:`MAX_CALL`.
    """
    if not header.endswith(b"\n") or not header[:-1].isdigit() or int(header) > MAX_CALL:
        raise NotACall(f"expected a length of at most {MAX_CALL} and a newline, got {header!r}")
    return int(header)


def reply(code: int, output: bytes) -> bytes:
    """A reply as it goes over the socket."""
    return b"%d %d\n%b" % (code, len(output), output)


def ask(path: str, sent: bytes, timeout: float) -> tuple[int, bytes] | None:
    """Send a call to the server at ``path``; its exit code and what to print, None when it hung up before.

    ``timeout`` is how long to wait, in seconds, for anything to come.

    Raises:
        OSError: nobody answers there, or not in time.
    """
    connection = connect(path)
    try:
        connection.settimeout(timeout)
        connection.sendall(sent)
        chunks = []
        while chunk := connection.recv(_CHUNK):
            chunks.append(chunk)
    finally:
        connection.close()
    header, newline, output = b"".join(chunks).partition(b"\n")
    code, _, announced = header.partition(b" ")
    if not newline or not code.isdigit() or not announced.isdigit() or int(announced) != len(output):
        return None
    return int(code), output


def connect(path: str) -> _socket.socket:
    """A connection to the unix socket at ``path``, which may be longer than a socket address holds.

    Raises:
        OSError: nobody listens there.
    """
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        with_short_path(path, connection.connect)
    except OSError:
        connection.close()
        raise
    return connection


def with_short_path(path: str, use: Callable[[str], object]) -> None:
    """Call ``use`` with a name of ``path`` that fits a socket address (108 bytes): by way of its open directory."""
    if len(path.encode("utf-8", "surrogateescape")) < 100:
        use(path)
        return
    directory, _, name = path.rpartition("/")
    descriptor = posix.open(directory or ".", posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC)
    try:
        use(f"/proc/self/fd/{descriptor}/{name}")
    finally:
        posix.close(descriptor)
