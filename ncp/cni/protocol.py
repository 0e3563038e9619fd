"""What the plugin and the server say to each other, and the CNI specification's part both need.

One request per connection: a line of JSON there, a line of JSON back, ``{"result": …}`` or ``{"error": {"code", "msg",
"details"}}``. Standard library only, and of that only what is cheap to import: the plugin starts for every pod.
See https://www.cni.dev/docs/spec/ sections 2 (execution protocol) and 5 (results, errors).
"""

from __future__ import annotations

import json
import os
import re
import socket

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing alone costs milliseconds at run time
    from collections.abc import Callable, Mapping
    from typing import Any

SOCKET = "/run/ncp/cni.sock"
TIMEOUT = 60.0  # seconds, unless the network configuration has "timeout"
GRACE = 5.0  # seconds the client waits longer than the server tries
MAX_LINE = 1 << 20  # bytes

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

    def line(self) -> bytes:
        """The request as it goes over the socket."""
        body = {name: getattr(self, name) for name in FIELDS}
        return json.dumps({**body, "config": self.config}).encode() + b"\n"

    @staticmethod
    def of_line(line: bytes) -> Request:
        """The request that came over the socket.

        Raises:
            CniError: not a request.
        """
        try:
            body = json.loads(line)
            request = Request(dict(body.pop("config")), **{name: body[name] for name in FIELDS})
            request.timeout = float(request.timeout)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CniError(DECODING_FAILURE, f"not a request: {type(error).__name__}: {error}") from error
        if not all(isinstance(getattr(request, name), str) for name in FIELDS if name != "timeout"):
            raise CniError(DECODING_FAILURE, "not a request: every field but timeout is a text")
        check(request)
        return request


def parse_config(text: str) -> dict[str, Any]:
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


def connect(path: str) -> socket.socket:
    """A connection to the unix socket at ``path``, which may be longer than a socket address holds.

    Raises:
        OSError: nobody listens there.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with_short_path(path, connection.connect)
    except OSError:
        connection.close()
        raise
    return connection


def with_short_path(path: str, use: Callable[[str], object]) -> None:
    """Call ``use`` with a name of ``path`` that fits a socket address (108 bytes): by way of its open directory."""
    if len(os.fsencode(path)) < 100:
        use(path)
        return
    directory, name = os.path.split(path)
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        use(f"/proc/self/fd/{descriptor}/{name}")
    finally:
        os.close(descriptor)


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
