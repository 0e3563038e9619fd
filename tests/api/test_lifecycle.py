"""What happens by itself: ends of namespaces, garbage collection, restarts."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from labs.api.testing import EmbeddedApi
from tests.api.client import MERGE, Client
from tests.api.conftest import pod


def test_a_namespace_begins_with_a_service_account_and_its_name_as_label(client: Client, ns: str) -> None:
    client.until(f"/api/v1/namespaces/{ns}/serviceaccounts/default", lambda answer: answer.status == 200)
    made = client.ok("GET", f"/api/v1/namespaces/{ns}")
    assert made["metadata"]["labels"] == {"kubernetes.io/metadata.name": ns}
    assert made["spec"]["finalizers"] == ["kubernetes"]


def test_a_namespace_ends_when_everything_in_it_has(client: Client, ns: str) -> None:
    path = f"/api/v1/namespaces/{ns}"
    client.ok("POST", f"{path}/configmaps", {"metadata": {"name": "held", "finalizers": ["example.com/hold"]}})
    client.ok("POST", f"{path}/configmaps", {"metadata": {"name": "free"}})
    client.ok("POST", f"{path}/pods", pod("p"))
    client.ok("POST", f"{path}/pods/p/binding", {"target": {"name": "n1"}})
    going = client.ok("DELETE", path)
    assert (going["status"]["phase"], bool(going["metadata"]["deletionTimestamp"])) == ("Terminating", True)
    client.until_gone(f"{path}/configmaps/free")
    client.until(f"{path}/pods/p", lambda answer: "deletionTimestamp" in answer.body["metadata"])
    late = client.refused(403, "POST", f"{path}/configmaps", {"metadata": {"name": "late"}})
    assert "because it is being terminated" in late["message"]
    client.refused(409, "DELETE", path)
    client.ok("DELETE", f"{path}/pods/p?gracePeriodSeconds=0")
    client.ok("PATCH", f"{path}/configmaps/held", {"metadata": {"finalizers": None}}, media=MERGE)
    client.until_gone(path)
    client.ok("POST", "/api/v1/namespaces", {"metadata": {"name": ns}})
    assert client.ok("GET", f"{path}/configmaps")["items"] == []


def test_the_namespaces_of_the_cluster_stay(client: Client) -> None:
    said = client.refused(403, "DELETE", "/api/v1/namespaces/default")
    assert said["message"] == 'namespaces "default" is forbidden: this namespace may not be deleted'


def owned(client: Client, ns: str, name: str, owners: list[dict[str, Any]], **meta: Any) -> dict[str, Any]:
    refs = [
        {"apiVersion": "v1", "kind": "ConfigMap", "name": o["metadata"]["name"], "uid": o["metadata"]["uid"],
         "blockOwnerDeletion": True}
        for o in owners
    ]  # fmt: skip
    body = {"metadata": {"name": name, "ownerReferences": refs, **meta}}
    return client.ok("POST", f"/api/v1/namespaces/{ns}/configmaps", body)


def test_dependents_go_with_their_last_owner(client: Client, ns: str) -> None:
    path = f"/api/v1/namespaces/{ns}/configmaps"
    first, second = owned(client, ns, "first", []), owned(client, ns, "second", [])
    middle = owned(client, ns, "middle", [first, second])
    owned(client, ns, "leaf", [middle])
    client.ok("DELETE", f"{path}/first")
    client.until(f"{path}/middle", lambda answer: len(answer.body["metadata"]["ownerReferences"]) == 1)
    client.ok("DELETE", f"{path}/second")
    client.until_gone(f"{path}/middle")
    client.until_gone(f"{path}/leaf")


def test_a_dependent_of_nobody_goes(client: Client, ns: str) -> None:
    owned(client, ns, "lost", [{"metadata": {"name": "never", "uid": "never"}}])
    client.until_gone(f"/api/v1/namespaces/{ns}/configmaps/lost")


def test_orphans_stay_without_their_owner(client: Client, ns: str) -> None:
    path = f"/api/v1/namespaces/{ns}/configmaps"
    owned(client, ns, "child", [owned(client, ns, "parent", [])])
    client.ok("DELETE", f"{path}/parent", {"propagationPolicy": "Orphan"})
    client.until_gone(f"{path}/parent")
    assert "ownerReferences" not in client.ok("GET", f"{path}/child")["metadata"]


def test_in_the_foreground_dependents_go_first(client: Client, ns: str) -> None:
    path = f"/api/v1/namespaces/{ns}/configmaps"
    parent = owned(client, ns, "parent", [])
    owned(client, ns, "child", [parent], finalizers=["example.com/hold"])
    waiting = client.ok("DELETE", f"{path}/parent?propagationPolicy=Foreground")
    assert waiting["metadata"]["finalizers"] == ["foregroundDeletion"]
    client.until(f"{path}/child", lambda answer: "deletionTimestamp" in answer.body["metadata"])
    assert client.ask("GET", f"{path}/parent").status == 200
    client.ok("PATCH", f"{path}/child", {"metadata": {"finalizers": None}}, media=MERGE)
    client.until_gone(f"{path}/parent")


def test_what_was_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    with EmbeddedApi(tmp_path / "data") as api:
        client = Client(api.url)
        path, acknowledged = "/api/v1/namespaces/default/configmaps", []

        def write() -> None:
            for number in range(2000):
                try:
                    answer = client.ask("POST", path, {"metadata": {"name": f"c{number:04}"}})
                except OSError:
                    return
                acknowledged.append(answer.body["metadata"])

        writer = threading.Thread(target=write)
        writer.start()
        while len(acknowledged) < 50:
            writer.join(0.01)
        api.kill()
        writer.join()
        api.start()
        held = {item["metadata"]["name"]: item["metadata"] for item in client.ok("GET", path)["items"]}
        assert len(acknowledged) >= 50
        assert all(held[meta["name"]] == meta for meta in acknowledged)
        newest = client.ok("POST", path, {"metadata": {"name": "after"}})["metadata"]["resourceVersion"]
        assert int(newest) > max(int(meta["resourceVersion"]) for meta in acknowledged)


def test_deletions_under_way_are_finished_after_a_restart(tmp_path: Path) -> None:
    with EmbeddedApi(tmp_path / "data") as api:
        client = Client(api.url)
        client.ok("POST", "/api/v1/namespaces", {"metadata": {"name": "going"}})
        path = "/api/v1/namespaces/going/configmaps"
        client.ok("POST", path, {"metadata": {"name": "held", "finalizers": ["example.com/hold"]}})
        client.ok("DELETE", "/api/v1/namespaces/going")
        api.kill()
        api.start()
        client.ok("PATCH", f"{path}/held", {"metadata": {"finalizers": None}}, media=MERGE)
        client.until_gone("/api/v1/namespaces/going")


def test_a_directory_is_used_by_one_server_at_a_time(tmp_path: Path) -> None:
    with EmbeddedApi(tmp_path / "data"), pytest.raises(RuntimeError, match="another API server uses"):
        EmbeddedApi(tmp_path / "data").__enter__()


def test_what_is_no_database_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "objects.sqlite").write_bytes(b"this is not a database, whatever its name says" * 50)
    with pytest.raises(RuntimeError, match="does not hold a database of this server"):
        EmbeddedApi(tmp_path).__enter__()


def test_the_server_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    script = "import os; from labs.api.testing import EmbeddedApi; api = EmbeddedApi(); api.start(); print(api.pid); os.kill(os.getpid(), 9)"
    done = subprocess.run(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"},
    )
    server, end = int(done.stdout), time.monotonic() + 10
    while Path(f"/proc/{server}/cmdline").exists() and b"labs.api" in Path(f"/proc/{server}/cmdline").read_bytes():
        assert time.monotonic() < end, "the server outlives its parent"
        time.sleep(0.02)
