"""``ncp-cni``: the CNI plugin the kubelet's container runtime runs for every pod.

It hands environment and standard input as they are to ``ncp node`` over a unix socket (key ``socket`` of the network
configuration), prints what comes back and ends with the code that comes back. What it must know itself, to answer when
nobody is there, it imports only then (see :mod:`ncp.cni.wire` for why).
"""

from __future__ import annotations

import posix
import sys

from ncp.cni import wire

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing alone costs milliseconds at run time
    from typing import Any


def main() -> int:
    """Do one CNI call; the exit code. Whatever happens, standard output holds JSON as the specification wants it."""
    environ, stdin, why = posix.environ, b"", ""
    try:
        if environ.get(b"CNI_COMMAND") != b"VERSION":
            stdin = sys.stdin.buffer.read() if sys.stdin else b""
            config = _decoded(stdin)
            if len(stdin) > wire.MAX_STDIN:
                why = f"the configuration has {len(stdin)} bytes, it takes at most {wire.MAX_STDIN}"
            elif config is not None:
                path = str(config.get("socket", wire.SOCKET))
                answer = wire.ask(path, wire.call(environ, stdin), _patience(config))
                if answer is not None:
                    return _print(*answer)
                why = "it closed the connection without an answer"
    except OSError as error:
        why = str(error)
    except Exception as error:  # a traceback on standard output would be no CNI error
        why = f"{type(error).__name__}: {error}"
    from ncp.cni import protocol

    return _print(*protocol.alone(environ, stdin, why))


def _decoded(stdin: bytes) -> dict[str, Any] | None:
    """The network configuration; None where it takes the whole ``json`` module to say what it is, or what is wrong.

    The scanner in C is what ``json`` itself uses. It tells of errors in ways that differ between versions of Python.
    """
    try:
        from _json import make_scanner

        config = make_scanner(_Scanned)(stdin.decode().lstrip(), 0)[0]  # type: ignore[arg-type]
    except (ImportError, StopIteration, SystemError, TypeError, ValueError):
        return None
    return config if isinstance(config, dict) else None


class _Scanned:
    """What the scanner asks of a decoder."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float
    memo: dict[str, str] = {}  # noqa: RUF012  (as in json.decoder)


def _patience(config: dict[str, Any]) -> float:
    timeout = config.get("timeout")
    if not isinstance(timeout, int | float) or not 0 < timeout <= 600:
        timeout = wire.TIMEOUT  # the server says what is wrong with it
    return timeout + wire.GRACE


def _print(code: int, output: bytes) -> int:
    sys.stdout.buffer.write(output)
    sys.stdout.buffer.flush()
    return code


if __name__ == "__main__":
    sys.exit(main())
