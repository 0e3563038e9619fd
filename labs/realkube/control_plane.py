"""How to run etcd and kube-apiserver for one lab, as plain commands.

Everything lives below ``STATE/kube`` (mode 0700). etcd listens on a unix socket there, so it needs no port and no
password of its own: whoever cannot enter the directory cannot reach it. kube-apiserver listens on one loopback port
with a certificate that it signs itself on its first start, and knows one user: ``ncp-lab`` of ``system:masters``,
by token.
"""

from __future__ import annotations

import base64
import http.client
import os
import secrets
import socket
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import yaml

from labs.realkube.binaries import Binaries

CONTEXT = "ncp-lab"
SERVICE_RANGES = "10.96.0.0/16,fd00:10:96::/112"
# Plugins that wait for parts of Kubernetes which a lab does not run; see the package's docstring.
ADMISSION_OFF = "ServiceAccount,TaintNodesByCondition"
_ETCD = "etcd.sock:0"  # etcd wants host:port even for unix://, and makes that very string the file's name
_ETCD_PEER = "etcd-peer.sock:0"
_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


class Command(NamedTuple):
    """One process of a control plane: run ``argv`` with ``env`` added, then await ``ready() is True``."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    ready: Callable[[], bool]


def commands(state: Path, binaries: Binaries, port: int) -> tuple[Command, Command]:
    """Return etcd's and kube-apiserver's commands, to be started in this order; each must be ready before the next.

    Writes the keys that both starts and restarts share (token, service account key) below ``state`` when they are
    not there yet. Stop them in the opposite order with SIGTERM; both also survive SIGKILL.
    """
    home = _home(state)
    token = _token(home)
    return (
        Command("etcd", _etcd_argv(home, binaries), _etcd_environment(), lambda: _etcd_ready(home)),
        Command(
            "kube-apiserver", _apiserver_argv(home, binaries, port), {}, lambda: _apiserver_ready(home, port, token)
        ),
    )


def write_kubeconfig(state: Path, port: int) -> Path:
    """Write ``STATE/kubeconfig`` (mode 0600, context ``ncp-lab``) and return its path.

    It names the certificate which kube-apiserver signs for itself, so it works from the moment that is ready.
    """
    home = _home(state)
    kubeconfig = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": CONTEXT,
        "clusters": [
            {
                "name": CONTEXT,
                "cluster": {
                    "server": f"https://127.0.0.1:{port}",
                    "certificate-authority": str(home / "certs" / "apiserver.crt"),
                },
            }
        ],
        "users": [{"name": CONTEXT, "user": {"token": _token(home)}}],
        "contexts": [{"name": CONTEXT, "context": {"cluster": CONTEXT, "user": CONTEXT, "namespace": "default"}}],
    }
    path = state.absolute() / "kubeconfig"
    _write_private(path, yaml.safe_dump(kubeconfig, sort_keys=False))
    return path


def _etcd_argv(home: Path, binaries: Binaries) -> tuple[str, ...]:
    # etcd leaves its sockets behind when it is killed, and does not start where they are.
    start = f'cd "$0" && rm -f {_ETCD} {_ETCD_PEER} && exec "$@"'
    argv = (
        *("sh", "-c", start, str(home), str(binaries.etcd.absolute())),
        "--name=lab",
        f"--data-dir={home / 'etcd'}",
        f"--listen-client-urls=unix://{_ETCD}",
        f"--advertise-client-urls=unix://{_ETCD}",
        f"--listen-peer-urls=unix://{_ETCD_PEER}",
        f"--initial-advertise-peer-urls=unix://{_ETCD_PEER}",
        f"--initial-cluster=lab=unix://{_ETCD_PEER}",
        "--logger=zap",
        "--log-level=warn",
    )
    # A lab's data need not outlive the machine, and a write to disk per object is what a pod would wait for.
    return (*argv, "--unsafe-no-fsync") if binaries.etcd_version >= (3, 5, 0) else argv


def _apiserver_argv(home: Path, binaries: Binaries, port: int) -> tuple[str, ...]:
    key = _service_account_key(home)
    argv = (
        # The socket's name is relative: that way its path may be longer than a socket's address.
        *("env", f"--chdir={home}", str(binaries.kube_apiserver.absolute())),
        f"--etcd-servers=unix://{_ETCD}",
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        f"--secure-port={port}",
        f"--cert-dir={home / 'certs'}",
        f"--token-auth-file={home / 'tokens.csv'}",
        "--authorization-mode=RBAC",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={key}",
        f"--service-account-signing-key-file={key}",
        f"--service-cluster-ip-range={SERVICE_RANGES}",
        # Endpoints may not hold a loopback address, so the server cannot list itself in `default/kubernetes`.
        "--endpoint-reconciler-type=none",
        f"--disable-admission-plugins={ADMISSION_OFF}",
        "--allow-privileged=true",
        "--profiling=false",
        "--shutdown-delay-duration=0s",
    )
    if binaries.version < (1, 21, 0):
        argv = (*argv, "--feature-gates=IPv6DualStack=true")
    return argv


def _etcd_environment() -> Mapping[str, str]:
    """Return what etcd 3.4 wants to hear before it starts on anything but amd64."""
    unsupported = {"aarch64": "arm64", "riscv64": "riscv64"}.get(os.uname().machine)
    return {"ETCD_UNSUPPORTED_ARCH": unsupported} if unsupported else {}


def _home(state: Path) -> Path:
    home = state.absolute() / "kube"
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    home.chmod(0o700)
    (home / "etcd").mkdir(exist_ok=True, mode=0o700)
    return home


def _token(home: Path) -> str:
    path = home / "tokens.csv"
    if not path.exists():
        _write_private(path, f'{secrets.token_urlsafe(24)},{CONTEXT},{CONTEXT},"system:masters"\n')
    return path.read_text().partition(",")[0]


def _service_account_key(home: Path) -> Path:
    """Make the key that signs service account tokens: an EC key on P-256.

    RFC 5915 makes the public half optional, and Go computes it, so a random number in a fixed frame is a whole key.
    """
    path = home / "service-account.key"
    if not path.exists():
        number = (1 + secrets.randbelow(_P256_ORDER - 1)).to_bytes(32, "big")
        der = bytes.fromhex("30310201010420") + number + bytes.fromhex("a00a06082a8648ce3d030107")
        body = base64.encodebytes(der).decode()
        _write_private(path, f"-----BEGIN EC PRIVATE KEY-----\n{body}-----END EC PRIVATE KEY-----\n")
    return path


def _write_private(path: Path, text: str) -> None:
    """Replace ``path`` in one step, readable by its owner only from the first byte."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    fresh.replace(path)


class _EtcdConnection(http.client.HTTPConnection):
    """HTTP over etcd's unix socket; the path may be longer than a socket's address allows, so go by descriptor."""

    def __init__(self, home: Path) -> None:
        super().__init__("etcd", timeout=2)
        self._directory = home

    def connect(self) -> None:
        directory = os.open(self._directory, os.O_PATH | os.O_DIRECTORY)
        try:
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(self.timeout)
            self.sock.connect(f"/proc/self/fd/{directory}/{_ETCD}")
        finally:
            os.close(directory)


def etcd_call(state: Path, path: str, body: str = "") -> tuple[int, bytes]:
    """Ask etcd's JSON gateway: POST when there is a body, else GET. Raises OSError when it is not listening."""
    connection = _EtcdConnection(state.absolute() / "kube")
    try:
        connection.request("POST" if body else "GET", path, body or None)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def _etcd_ready(home: Path) -> bool:
    try:
        status, body = etcd_call(home.parent, "/health")
    except (OSError, http.client.HTTPException):
        return False
    return status == 200 and b'"true"' in body


# /readyz is true a moment before the server has made its namespaces, and then nothing can be created in them.
_SIGNS_OF_LIFE = (
    "/readyz",
    *(f"/api/v1/namespaces/{name}" for name in ("kube-system", "kube-public", "kube-node-lease", "default")),
)


def _apiserver_ready(home: Path, port: int, token: str) -> bool:
    certificate = home / "certs" / "apiserver.crt"
    if not certificate.exists():
        return False
    try:
        context = ssl.create_default_context(cafile=str(certificate))
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=5, context=context)
        try:
            return all(_answers(connection, path, token) for path in _SIGNS_OF_LIFE)
        finally:
            connection.close()
    except (OSError, http.client.HTTPException):  # not listening yet, or the certificate is half written
        return False


def _answers(connection: http.client.HTTPConnection, path: str, token: str) -> bool:
    connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
    with connection.getresponse() as answer:
        answer.read()
        return answer.status == 200
