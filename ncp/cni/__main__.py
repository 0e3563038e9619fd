"""``ncp-cni``: the CNI plugin the kubelet's container runtime runs for every pod.

It checks the call, hands it to ``ncp node`` over a unix socket (key ``socket`` of the network configuration), and
prints what comes back. Standard library only, so that it starts in some twenty milliseconds.
"""

from __future__ import annotations

import json
import os
import sys

from ncp.cni import protocol
from ncp.cni.protocol import CniError

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing alone costs milliseconds at run time
    from typing import Any


def main() -> int:
    """Do one CNI call; the exit code. Whatever happens, standard output holds JSON as the specification wants it."""
    version = protocol.VERSIONS[-1]
    try:
        if os.environ.get("CNI_COMMAND") == "VERSION":
            reply: dict[str, Any] | None = {"cniVersion": version, "supportedVersions": list(protocol.VERSIONS)}
        else:
            config = protocol.parse_config(sys.stdin.read() if sys.stdin else "")
            asked = config.get("cniVersion", version)
            version = asked if asked in protocol.VERSIONS else version
            reply = ask(protocol.parse_request(os.environ, config))
    except CniError as error:
        return _fail(version, error)
    except Exception as error:  # a traceback on standard output would be no CNI error
        return _fail(version, CniError(protocol.INTERNAL, f"{type(error).__name__}: {error}"))
    if reply is not None:
        _print(reply)
    return 0


def ask(request: protocol.Request) -> dict[str, Any] | None:
    """Have ``ncp node`` do it.

    Raises:
        CniError: code 11 (50 for STATUS) when nobody answers, so that the runtime tries again; else what it says.
    """
    path = str(request.config.get("socket", protocol.SOCKET))
    away = protocol.UNAVAILABLE if request.command == "STATUS" else protocol.TRY_AGAIN_LATER
    try:
        connection = protocol.connect(path)
        with connection:
            connection.settimeout(request.timeout + protocol.GRACE)
            connection.sendall(request.line())
            line = connection.makefile("rb").readline(protocol.MAX_LINE)
    except OSError as error:
        raise CniError(away, f"ncp node does not answer at {path}", str(error)) from None
    try:
        reply = json.loads(line)
        failure = reply.get("error")
    except (ValueError, AttributeError):
        raise CniError(away, f"ncp node at {path} closed the connection without an answer") from None
    if failure is not None:
        raise CniError(int(failure["code"]), str(failure["msg"]), str(failure.get("details", "")))
    result: dict[str, Any] | None = reply.get("result")
    return result


def _fail(version: str, error: CniError) -> int:
    _print({"cniVersion": version, **error.fields()})
    return 1


def _print(value: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
