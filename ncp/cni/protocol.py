"""The CNI specification's part that plugin and server both need: calls, their checks, their errors.

The plugin imports this only to answer alone: see :mod:`ncp.cni.wire`.
See https://www.cni.dev/docs/spec/ sections 2 (execution protocol) and 5 (results, errors).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from ncp.cni.wire import GRACE, SOCKET, TIMEOUT

__all__ = ["GRACE", "SOCKET", "TIMEOUT"]

VERSIONS = ("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
COMMANDS = ("ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION")
SINCE = {"CHECK": "0.4.0", "GC": "1.1.0", "STATUS": "1.1.0"}

# Error codes of the specification, then our own from 100.
INCOMPATIBLE_VERSION = 1
UNKNOWN_CONTAINER = 3
INVALID_ENVIRONMENT = 4
IO_FAILURE = 5
DECODING_FAILURE = 6
INVALID_CONFIG = 7
TRY_AGAIN_LATER = 11
UNAVAILABLE = 50
UNKNOWN_POD = 100
CONTAINER_IN_USE = 101
ATTACH_FAILED = 102
PLUMBING_FAILED = 103
NOT_OURS = 104
CHECK_FAILED = 105
INTERNAL = 999

_REQUIRED = {
    "ADD": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
    "CHECK": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
    "DEL": ("CNI_CONTAINERID", "CNI_IFNAME"),
}
_CONTAINER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]*")
_INTERFACE = re.compile(r"[^/:\s]{1,15}")
FIELDS = ("command", "container", "netns", "ifname", "namespace", "pod", "uid", "version", "timeout")


class CniError(Exception):
    """An error as CNI knows it: a code, a sentence, and optionally details."""

    def __init__(self, code: int, msg: str, details: str = "") -> None:
        super().__init__(msg)
        self.code = code
        self.msg = msg
        self.details = details

    def fields(self) -> dict[str, object]:
        """``code``, ``msg`` and, where there are, ``details``."""
        found: dict[str, object] = {"code": self.code, "msg": self.msg}
        if self.details:
            found["details"] = self.details
        return found


class Request:
    """One CNI call: what the environment and the network configuration say."""

    __slots__ = ("config", *FIELDS)

    command: str
    container: str
    netns: str
    ifname: str
    namespace: str
    pod: str
    uid: str
    version: str
    timeout: float
    config: dict[str, Any]

    def __init__(self, config: dict[str, Any] | None = None, **fields: object) -> None:
        self.config = config or {}
        for name in FIELDS:
            setattr(self, name, fields.get(name, ""))

    @property
    def iface_id(self) -> str:
        """``namespace/pod``, empty when the runtime did not say which pod it is."""
        return f"{self.namespace}/{self.pod}" if self.namespace and self.pod else ""


def parse_config(text: str | bytes) -> dict[str, Any]:
    """The network configuration from standard input.

    Raises:
        CniError: no JSON object, or a version this plugin does not speak.
    """
    try:
        config = json.loads(text)
    except ValueError as error:
        raise CniError(
            DECODING_FAILURE, "the network configuration on standard input is not JSON", str(error)
        ) from None
    if not isinstance(config, dict):
        raise CniError(DECODING_FAILURE, "the network configuration on standard input is not a JSON object")
    return config


def version_of(config: dict[str, Any]) -> str:
    """The ``cniVersion`` of a configuration.

    Raises:
        CniError: not one this plugin speaks.
    """
    version = config.get("cniVersion", VERSIONS[0])
    if version not in VERSIONS:
        raise CniError(INCOMPATIBLE_VERSION, f"cniVersion {version!r} is not one of {', '.join(VERSIONS)}")
    return str(version)


def parse_request(environ: Mapping[str, str], config: dict[str, Any]) -> Request:
    """The call that environment and configuration make.

    Raises:
        CniError: something is missing or malformed; the message names the variable or key.
    """
    command = environ.get("CNI_COMMAND", "")
    args = _arguments(environ.get("CNI_ARGS", ""))
    request = Request(
        config,
        command=command,
        container=environ.get("CNI_CONTAINERID", ""),
        netns=environ.get("CNI_NETNS", ""),
        ifname=environ.get("CNI_IFNAME", ""),
        namespace=args.get("K8S_POD_NAMESPACE", ""),
        pod=args.get("K8S_POD_NAME", ""),
        uid=args.get("K8S_POD_UID", ""),
        version=version_of(config),
        timeout=_timeout(config),
    )
    if not isinstance(config.get("name"), str) or not config["name"]:
        raise CniError(INVALID_CONFIG, 'the network configuration has no "name"')
    check(request)
    return request


def check(request: Request) -> None:
    """Refuse a call the specification does not allow.

    Raises:
        CniError: code 4 and the variable, or code 1 and the version.
    """
    command = request.command
    if command not in COMMANDS:
        raise CniError(INVALID_ENVIRONMENT, f"CNI_COMMAND is {command!r}, allowed are {', '.join(COMMANDS)}")
    since = SINCE.get(command)
    if since and VERSIONS.index(request.version) < VERSIONS.index(since):
        raise CniError(INCOMPATIBLE_VERSION, f"{command} needs cniVersion {since} or later, not {request.version}")
    given = {"CNI_CONTAINERID": request.container, "CNI_NETNS": request.netns, "CNI_IFNAME": request.ifname}
    missing = [name for name in _REQUIRED.get(command, ()) if not given[name]]
    if missing:
        raise CniError(INVALID_ENVIRONMENT, f"{command} needs {', '.join(missing)} in the environment")
    if request.container and not _CONTAINER.fullmatch(request.container):
        raise CniError(
            INVALID_ENVIRONMENT, f"CNI_CONTAINERID {request.container!r} has characters that are not allowed"
        )
    if request.ifname and (request.ifname in (".", "..") or not _INTERFACE.fullmatch(request.ifname)):
        raise CniError(
            INVALID_ENVIRONMENT,
            f"CNI_IFNAME {request.ifname!r} is no interface name (1 to 15 characters, no / : space)",
        )
    if command in ("ADD", "CHECK") and not request.iface_id:
        raise CniError(INVALID_ENVIRONMENT, f"{command} needs K8S_POD_NAMESPACE and K8S_POD_NAME in CNI_ARGS")


def alone(environ: Mapping[bytes, bytes], stdin: bytes, why: str) -> tuple[int, bytes]:
    """Exit code and output of a call that ``ncp node`` did not answer, for the reason ``why``.

    A call that is wrong is told so. Of any other the runtime learns to come again: code 11, or 50 for STATUS.
    """
    if environ.get(b"CNI_COMMAND") == b"VERSION":
        return succeeded({"cniVersion": VERSIONS[-1], "supportedVersions": list(VERSIONS)})
    named = {name.decode("utf-8", "replace"): value.decode("utf-8", "replace") for name, value in environ.items()}
    version = VERSIONS[-1]
    try:
        config = parse_config(stdin)
        version = reply_version(config)
        request = parse_request(named, config)
    except CniError as error:
        return failed(version, error)
    except Exception as error:  # a traceback on standard output would be no CNI error
        return failed(version, CniError(INTERNAL, f"{type(error).__name__}: {error}"))
    away = UNAVAILABLE if request.command == "STATUS" else TRY_AGAIN_LATER
    path = request.config.get("socket", SOCKET)
    return failed(version, CniError(away, f"ncp node does not answer at {path}", why))


def reply_version(config: dict[str, Any]) -> str:
    """The version to answer in: what was asked for, else the newest."""
    asked = config.get("cniVersion", VERSIONS[-1])
    return str(asked) if asked in VERSIONS else VERSIONS[-1]


def succeeded(result: dict[str, Any] | None) -> tuple[int, bytes]:
    """Exit code and output of a call that was done; commands without a result print nothing."""
    return 0, b"" if result is None else json.dumps(result).encode() + b"\n"


def failed(version: str, error: CniError) -> tuple[int, bytes]:
    """Exit code and output of a call that was not done."""
    return 1, json.dumps({"cniVersion": version, **error.fields()}).encode() + b"\n"


def _arguments(text: str) -> dict[str, str]:
    pairs = (pair.partition("=") for pair in text.split(";") if pair)
    found = {}
    for key, equals, value in pairs:
        if not equals:
            raise CniError(INVALID_ENVIRONMENT, f"CNI_ARGS has {key!r}, expected KEY=VALUE pairs separated by ;")
        found[key] = value
    return found


def _timeout(config: dict[str, Any]) -> float:
    timeout = config.get("timeout", TIMEOUT)
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout <= 600:
        raise CniError(
            INVALID_CONFIG, f'"timeout" of the network configuration is {timeout!r}, allowed: 0 < seconds <= 600'
        )
    return float(timeout)
