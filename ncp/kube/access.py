"""How to reach an API server: its address, what it is trusted by, and who we are.

Importing the ``kubernetes`` package costs 47 MB resident and half a second, which is more than half of what a node
agent may use. So a kubeconfig with plain credentials (certificates, a token, a token file) and the in-cluster service
account are read here; anything else (exec plugins, auth providers, passwords) is left to the package, which is
imported only then. See docs/decisions/0003-kubernetes-client.md.
"""

from __future__ import annotations

import base64
import os
import ssl
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
TOKEN_FILE_AGE: Final = 60.0  # seconds a token read from a file is used before it is read again
_PLAIN_USER: Final = {
    "client-certificate",
    "client-certificate-data",
    "client-key",
    "client-key-data",
    "token",
    "tokenFile",
}


class AccessError(Exception):
    """The kubeconfig is missing, unreadable or incomplete; the message names the file and the part."""


@dataclass(frozen=True, slots=True)
class Access:
    """What a connection needs. ``authorization`` is asked before each request (tokens are renewed)."""

    host: str
    tls: ssl.SSLContext | None
    authorization: Callable[[], str | None]
    server_name: str | None = None
    proxy: str | None = None
    source: str = ""


def load(kubeconfig: str | None = None) -> Access:
    """Access from the kubeconfig file, or as a pod of the cluster when no file is named.

    Raises:
        AccessError: no such file, not a kubeconfig, or not running in a cluster.
    """
    if kubeconfig:
        return _from_kubeconfig(Path(kubeconfig).expanduser())
    return _in_cluster()


def _in_cluster() -> Access:
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    token = SERVICE_ACCOUNT / "token"
    if not host or not token.exists():
        raise AccessError("no kubeconfig was named, and this is not a pod of a cluster: name one (--kubeconfig)")
    host = f"[{host}]" if ":" in host else host
    context = ssl.create_default_context(cafile=str(SERVICE_ACCOUNT / "ca.crt"))
    return Access(f"https://{host}:{port}", context, _FileToken(token), source=str(SERVICE_ACCOUNT))


def _from_kubeconfig(path: Path) -> Access:
    config = _read(path)
    context = _entry(config, "contexts", "context", config.get("current-context"), path)
    cluster = _entry(config, "clusters", "cluster", context.get("cluster"), path)
    user = _entry(config, "users", "user", context.get("user"), path) if context.get("user") else {}
    server = cluster.get("server")
    if not server:
        raise AccessError(f"{path}: cluster {context.get('cluster')!r} has no server address")
    if set(user) - _PLAIN_USER:
        return _through_package(path)
    base = path.parent
    tls = _tls(cluster, user, base, path) if server.startswith("https:") else None
    authorization: Callable[[], str | None] = _nobody
    if user.get("tokenFile"):
        authorization = _FileToken(base / user["tokenFile"])
    elif user.get("token"):
        authorization = _FixedToken(user["token"])
    return Access(
        server.rstrip("/"),
        tls,
        authorization,
        server_name=cluster.get("tls-server-name"),
        proxy=cluster.get("proxy-url"),
        source=str(path),
    )


def _read(path: Path) -> dict[str, Any]:
    import yaml  # only here: 2 MB

    try:
        config = yaml.load(path.read_bytes(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except OSError as error:
        raise AccessError(f"cannot read kubeconfig {path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise AccessError(f"{path} is not YAML: {error}") from error
    if not isinstance(config, dict) or "clusters" not in config:
        raise AccessError(f"{path} is not a kubeconfig: it has no clusters")
    return config


def _entry(config: dict[str, Any], plural: str, kind: str, name: str | None, path: Path) -> dict[str, Any]:
    entries = config.get(plural) or []
    for entry in entries:
        if entry.get("name") == name:
            return dict(entry.get(kind) or {})
    known = ", ".join(str(entry.get("name")) for entry in entries) or "none"
    raise AccessError(f"{path}: no {kind} named {name!r} (there are: {known})")


def _tls(cluster: dict[str, Any], user: dict[str, Any], base: Path, path: Path) -> ssl.SSLContext:
    try:
        ca = _content(cluster, "certificate-authority", base)
        context = ssl.create_default_context(cadata=ca.decode() if ca else None)
        if cluster.get("insecure-skip-tls-verify"):
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        certificate = _content(user, "client-certificate", base)
        key = _content(user, "client-key", base)
        if certificate:
            _load_certificate(context, certificate + b"\n" + (key or b""))
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise AccessError(f"{path}: certificates cannot be used: {error}") from error
    return context


def _load_certificate(context: ssl.SSLContext, pem: bytes) -> None:
    """The ssl module takes certificates from files only: the key is on disk for an instant, readable by us alone."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(pem)
        file.flush()
        context.load_cert_chain(file.name)


def _content(part: dict[str, Any], key: str, base: Path) -> bytes | None:
    if part.get(f"{key}-data"):
        return base64.b64decode(part[f"{key}-data"])
    if part.get(key):
        return (base / part[key]).read_bytes()
    return None


def _nobody() -> str | None:
    return None


class _FixedToken:
    def __init__(self, token: str):
        self._value = f"Bearer {token}"

    def __call__(self) -> str:
        return self._value


class _FileToken:
    """A token that is renewed on disk (bound service account tokens live for an hour)."""

    def __init__(self, path: Path):
        self._path = path
        self._value = ""
        self._read_at = 0.0

    def __call__(self) -> str:
        now = time.monotonic()
        if not self._value or now - self._read_at > TOKEN_FILE_AGE:
            try:
                self._value = f"Bearer {self._path.read_text().strip()}"
            except OSError as error:
                raise AccessError(f"cannot read token {self._path}: {error.strerror}") from error
            self._read_at = now
        return self._value


def _through_package(path: Path) -> Access:
    """Everything we do not read ourselves: exec plugins, auth providers, basic authentication."""
    from kubernetes import client, config

    settings = client.Configuration()
    try:
        config.load_kube_config(config_file=str(path), client_configuration=settings)
    except config.ConfigException as error:
        raise AccessError(f"{path}: {error}") from error
    tls = None
    if settings.host.startswith("https:"):
        tls = ssl.create_default_context(cafile=settings.ssl_ca_cert)
        if not settings.verify_ssl:
            tls.check_hostname = False
            tls.verify_mode = ssl.CERT_NONE
        if settings.cert_file:
            tls.load_cert_chain(settings.cert_file, settings.key_file)

    def authorization() -> str | None:
        held = settings.auth_settings().get("BearerToken")  # runs the renewal hook
        return held["value"] if held else settings.get_basic_auth_token()

    return Access(
        settings.host.rstrip("/"),
        tls,
        authorization,
        server_name=settings.tls_server_name,
        proxy=settings.proxy,
        source=str(path),
    )
