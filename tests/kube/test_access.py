from __future__ import annotations

import base64
import ssl
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import yaml

from ncp.kube import access
from ncp.kube.access import AccessError, load
from ncp.kube.client import Kube, Unavailable


def kubeconfig(path: Path, cluster: dict, user: dict) -> str:
    config = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [{"name": "k", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
    }
    path.write_text(yaml.safe_dump(config))
    return str(path)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory) -> Path:
    """A self-signed certificate for 127.0.0.1 with its key, in one file."""
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=test -addext"
    subprocess.run(
        [*command.split(), "subjectAltName=IP:127.0.0.1", "-keyout", path, "-out", path.with_suffix(".crt")],
        check=True,
        capture_output=True,
    )
    path.write_bytes(path.read_bytes() + path.with_suffix(".crt").read_bytes())
    return path


@pytest.fixture
def tls_server(certificate):
    """An HTTPS server that demands a client certificate and notes who came with what token."""
    seen: list[tuple[bool, str | None]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append((bool(self.connection.getpeercert()), self.headers.get("Authorization")))
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *args: object) -> None:
            """Silence."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(certificate))
    context.load_cert_chain(certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"https://127.0.0.1:{server.server_address[1]}", seen
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("inline", [True, False], ids=["data", "relative files"])
def test_certificates_from_a_kubeconfig_open_the_door(tls_server, certificate, tmp_path, inline):
    url, seen = tls_server
    pem = certificate.read_bytes()
    if inline:
        data = base64.b64encode(pem).decode()
        cluster = {"server": url, "certificate-authority-data": data}
        user = {"client-certificate-data": data, "client-key-data": data}
    else:
        (tmp_path / "both.pem").write_bytes(pem)
        cluster = {"server": url, "certificate-authority": "both.pem"}
        user = {"client-certificate": "both.pem", "client-key": "both.pem"}
    (tmp_path / "token").write_text("secret\n")
    user["tokenFile"] = "token"
    Kube.connect(kubeconfig(tmp_path / "config", cluster, user)).ping()
    assert seen == [(True, "Bearer secret")]


def test_a_server_nobody_vouches_for_is_refused(tls_server, tmp_path):
    url, seen = tls_server
    with pytest.raises(Unavailable, match="CERTIFICATE_VERIFY_FAILED"):
        Kube.connect(kubeconfig(tmp_path / "config", {"server": url}, {})).ping()
    assert not seen


def test_verification_can_be_switched_off(tls_server, certificate, tmp_path):
    url, seen = tls_server
    user = {"client-certificate": str(certificate), "client-key": str(certificate), "token": "t"}
    config = kubeconfig(tmp_path / "config", {"server": url, "insecure-skip-tls-verify": True}, user)
    Kube.connect(config).ping()
    assert seen == [(True, "Bearer t")]


def test_a_token_file_is_read_again_when_old(tmp_path, monkeypatch):
    token = tmp_path / "token"
    token.write_text("one")
    config = kubeconfig(tmp_path / "config", {"server": "http://x"}, {"tokenFile": str(token)})
    authorization = load(config).authorization
    assert authorization() == "Bearer one"
    token.write_text("two")
    assert authorization() == "Bearer one"
    monkeypatch.setattr(access, "TOKEN_FILE_AGE", -1.0)
    assert authorization() == "Bearer two"


def test_an_exec_plugin_is_left_to_the_kubernetes_package(tmp_path):
    plugin = tmp_path / "plugin"
    credential = '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"made"}}'
    plugin.write_text(f"#!/bin/sh\necho '{credential}'\n")
    plugin.chmod(0o755)
    user = {
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": str(plugin),
            "interactiveMode": "Never",
        }
    }
    config = kubeconfig(tmp_path / "config", {"server": "http://127.0.0.1:1"}, user)
    assert load(config).authorization() == "Bearer made"


def test_a_plain_kubeconfig_does_not_cost_the_package(tmp_path):
    config = kubeconfig(tmp_path / "config", {"server": "http://127.0.0.1:1"}, {"token": "t"})
    script = (
        "import sys; from ncp.kube.client import Kube; import ncp.kube.reflector;"
        f"Kube.connect({config!r}); print('kubernetes' in sys.modules, 'pydantic' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "is not YAML"),
        ("a: 1", "has no clusters"),
        ("{clusters: [], contexts: [], current-context: gone}", "no context named 'gone'"),
    ],
)
def test_a_bad_kubeconfig_is_named_with_what_is_wrong(tmp_path, content, says):
    path = tmp_path / "config"
    path.write_text(content)
    with pytest.raises(AccessError, match=says) as caught:
        load(str(path))
    assert str(path) in str(caught.value)


def test_no_kubeconfig_and_no_cluster(tmp_path, monkeypatch):
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(AccessError, match="--kubeconfig"):
        load()
    with pytest.raises(AccessError, match="No such file"):
        load(str(tmp_path / "absent"))
