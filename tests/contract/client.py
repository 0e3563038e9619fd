"""A small raw HTTP client and a kubectl runner: what the contract is asked through, with nothing of ours between."""

from __future__ import annotations

import base64
import copy
import functools
import json
import os
import queue
import re
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

import urllib3
import yaml

Object = dict[str, Any]

JSON = "application/json"
STRATEGIC = "application/strategic-merge-patch+json"
MERGE = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
APPLY = "application/apply-patch+yaml"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"


class Answer(NamedTuple):
    """What the server said: HTTP status, decoded body, headers."""

    status: int
    body: Any
    headers: Mapping[str, str]

    @property
    def rv(self) -> str:
        return str(self.body["metadata"]["resourceVersion"])

    @property
    def fields(self) -> set[str]:
        """The fields that an Invalid answer's causes name."""
        return {cause.get("field", "") for cause in self.body.get("details", {}).get("causes", [])}

    def must(self, status: int, reason: str = "") -> Answer:
        """Return self when the server answered so, else fail with what it said instead."""
        said = self.body if isinstance(self.body, dict) else {"message": str(self.body)}
        message = f"{self.status} {said.get('reason', '')}: {said.get('message', '')}"
        assert self.status == status, f"want {status}, got {message}"
        if reason:
            assert said.get("kind") == "Status", f"want a Status, got {said.get('kind')}"
            assert said.get("reason") == reason, f"want reason {reason}, got {message}"
            assert said.get("code") == status, f"want code {status} in the body, got {said.get('code')}"
            assert said.get("status") == "Failure"
        return self


class Watch:
    """An open watch: a thread reads lines, ``next`` waits for them."""

    def __init__(self, response: urllib3.BaseHTTPResponse) -> None:
        self._response = response
        self._lines: queue.Queue[bytes | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def next(self, seconds: float = 10) -> tuple[str, Object]:
        """Return the next event that is no bookmark: (type, object). Fails when none comes, or the stream ends."""
        while True:
            kind, thing = self.next_of_any_type(seconds)
            if kind != "BOOKMARK":
                return kind, thing

    def next_of_any_type(self, seconds: float = 10) -> tuple[str, Object]:
        try:
            line = self._lines.get(timeout=seconds)
        except queue.Empty:
            raise AssertionError(f"no event within {seconds} s") from None
        assert line is not None, "the server closed the watch"
        event = json.loads(line)
        return event["type"], event["object"]

    def ended(self, seconds: float = 10) -> bool:
        """Whether the server closes the stream within the time, whatever it still says before."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            try:
                if self._lines.get(timeout=left) is None:
                    return True
            except queue.Empty:
                break
        return False

    def _read(self) -> None:
        rest = b""
        try:
            for chunk in self._response.stream(65536, decode_content=True):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in filter(None, lines):
                    self._lines.put(line)
        except (urllib3.exceptions.HTTPError, OSError, ValueError, AttributeError):
            rest = b""  # closed under our feet, by the test's end
        self._lines.put(None)


class Client:
    """Raw requests to one server, as the kubeconfig's user."""

    def __init__(self, kubeconfig: Path) -> None:
        config = yaml.safe_load(Path(kubeconfig).read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0].get("user") or {}
        self.url = cluster["server"].rstrip("/")
        options: dict[str, Any] = {"maxsize": 16, "block": False, "retries": False}
        if self.url.startswith("https"):
            options |= {"cert_reqs": "CERT_REQUIRED"} | _authority(cluster)
        self._pool = urllib3.PoolManager(**options)
        self._headers = {"Authorization": f"Bearer {user['token']}"} if user.get("token") else {}

    def as_bearer(self, token: str) -> Client:
        """Return a client of the same server that shows this token."""
        other = copy.copy(self)
        other._headers = {"Authorization": f"Bearer {token}"}
        return other

    def request(
        self, method: str, path: str, body: Any = None, *, content: str = JSON, accept: str = JSON, **query: Any
    ) -> Answer:
        """Send one request; ``query`` names are Kubernetes' own, values are sent as they are (None is left out)."""
        payload = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        headers = self._headers | {"Accept": accept} | ({"Content-Type": content} if payload is not None else {})
        response = self._pool.request(method, self._address(path, query), body=payload, headers=headers, timeout=30)
        return Answer(response.status, _decoded(response), response.headers)

    def get(self, path: str, **query: Any) -> Answer:
        return self.request("GET", path, **query)

    def table(self, path: str, **query: Any) -> Object:
        """Return the collection or object as the Table kubectl asks for."""
        table: Object = self.request("GET", path, accept=TABLE, **query).must(200).body
        assert table["kind"] == "Table", f"want a Table, got {table['kind']}"
        return table

    def post(self, path: str, body: Any, **query: Any) -> Answer:
        return self.request("POST", path, body, **query)

    def put(self, path: str, body: Any, **query: Any) -> Answer:
        return self.request("PUT", path, body, **query)

    def delete(self, path: str, options: Object | None = None, **query: Any) -> Answer:
        return self.request("DELETE", path, options, **query)

    def merge(self, path: str, body: Any, **query: Any) -> Answer:
        return self.request("PATCH", path, body, content=MERGE, **query)

    def strategic(self, path: str, body: Any, **query: Any) -> Answer:
        return self.request("PATCH", path, body, content=STRATEGIC, **query)

    def json_patch(self, path: str, body: Any, **query: Any) -> Answer:
        return self.request("PATCH", path, body, content=JSON_PATCH, **query)

    def apply(self, path: str, body: Object, manager: str, *, force: bool = False, **query: Any) -> Answer:
        """Server-side apply ``body`` as ``manager``."""
        forced = {"force": "true"} if force else {}
        return self.request("PATCH", path, body, content=APPLY, fieldManager=manager, **forced, **query)

    @contextmanager
    def watch(self, path: str, *, accept: str = JSON, **query: Any) -> Iterator[Watch]:
        """Open a watch on a collection; it is closed at the end of the block."""
        address = self._address(path, {"watch": "true", "timeoutSeconds": 60, **query})
        response = self._pool.request(
            "GET", address, headers=self._headers | {"Accept": accept}, preload_content=False, timeout=60
        )
        try:
            if response.status != 200:
                Answer(response.status, json.loads(response.read()), response.headers).must(200)
            yield Watch(response)
        finally:
            _hang_up(response)

    def _address(self, path: str, query: Mapping[str, Any]) -> str:
        sent = {name: value for name, value in query.items() if value is not None}
        return f"{self.url}{path}" + (f"?{urlencode(sent)}" if sent else "")


def _decoded(response: urllib3.BaseHTTPResponse) -> Any:
    kind = response.headers.get("Content-Type", "")
    if "protobuf" in kind:
        return response.data
    text = response.data.decode()
    try:
        return json.loads(text) if "json" in kind else text
    except json.JSONDecodeError:
        return text  # a watch that was read to its end is JSON by its header, but one per line


def _hang_up(response: urllib3.BaseHTTPResponse) -> None:
    """End the connection now: a plain close would wait for the thread that is reading from it."""
    connection = response.connection
    sock = getattr(connection, "sock", None)
    if sock is not None:
        try:
            sock.shutdown(2)
        except OSError:
            return  # the other end was quicker
    response.release_conn()


def _authority(cluster: Object) -> dict[str, Any]:
    if "certificate-authority" in cluster:
        return {"ca_certs": cluster["certificate-authority"]}
    return {"ca_cert_data": base64.b64decode(cluster["certificate-authority-data"])}


class Output(NamedTuple):
    """What a kubectl call left: exit code, standard output and error."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def rows(self) -> list[list[str]]:
        """The table printed, as words."""
        return [line.split() for line in self.out.splitlines()]


class Kubectl:
    """kubectl on one server and namespace, as a person types it."""

    def __init__(self, kubeconfig: Path, namespace: str, home: Path) -> None:
        self._namespace = namespace
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "KUBECACHEDIR": str(home / "cache"),
            "KUBECONFIG": str(kubeconfig),
        }

    def __call__(self, *arguments: str, stdin: Any = None, fails: bool = False) -> Output:
        """Run one command; it must succeed, or fail when ``fails``. ``stdin`` may be objects, sent as one List."""
        text = stdin if stdin is None or isinstance(stdin, str) else _as_list(stdin)
        done = subprocess.run(
            self._argv(arguments), env=self._environment, input=text, capture_output=True, text=True, timeout=60
        )
        said = f"kubectl {' '.join(arguments)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert (done.returncode != 0) == fails, said
        return Output(done.returncode, done.stdout, done.stderr)

    @contextmanager
    def running(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """Run one command in the background (``get -w``), ended at the end of the block."""
        with tempfile.TemporaryFile("w+") as errors:
            child = subprocess.Popen(
                self._argv(arguments), env=self._environment, stdout=subprocess.PIPE, stderr=errors, text=True
            )
            try:
                yield child
            finally:
                child.kill()
                child.wait()
                if child.stdout:
                    child.stdout.close()

    def _argv(self, arguments: tuple[str, ...]) -> list[str]:
        return ["kubectl", "--namespace", self._namespace, *arguments]


def _as_list(objects: list[Object]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})


@functools.cache
def kubectl_minor() -> int:
    """The minor version of the kubectl at hand: 20 of Debian's 1.20, which lacks what came later."""
    said = subprocess.run(["kubectl", "version", "--client", "-o", "json"], capture_output=True, text=True, check=True)
    return int(re.sub(r"\D", "", json.loads(said.stdout)["clientVersion"]["minor"]))
