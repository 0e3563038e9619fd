"""Settings that change while the manager runs: a real API server, a real manager, no restart."""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import ncp
from labs.realkube import BinariesMissingError, RealApi
from ncp.__main__ import run as command_line
from ncp.kube import reflector
from ncp.kube.client import Kube
from ncp.kube.custom import is_served
from ncp.kube.errors import ApiError, Invalid, NotFound
from ncp.kube.resources import CUSTOM_RESOURCE_DEFINITIONS, EVENTS, SERVICE_ACCOUNTS
from ncp.manager.runtime import NAME, NCP_SETTINGS, RUN_TIME, applied, judge
from tests.manager.conftest import INI, Client, eventually

MANIFEST = Path(ncp.__file__).parents[1] / "deploy" / "crds" / "ncpsetting.yaml"
ON = INI + "[k8s]\nenable_ncp_setting_crd = True\n"
OPTION = "ip_reallocation_time"
DEFINITION = f"{NCP_SETTINGS.plural}.{NCP_SETTINGS.group}"
FROM_FILE = 60.0


def definition() -> dict[str, Any]:
    return yaml.safe_load(MANIFEST.read_text())


def loose() -> dict[str, Any]:
    """Somebody else's definition of the same resource, which lets anything in."""
    found = definition()
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    found["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = anything
    return found


class Cluster:
    """The cluster with NCPSetting in it, and a namespace whose pods come and go."""

    def __init__(self, client: Client):
        self.client, self.kube, self._pods = client, client.kube, 0

    def define(self, obj: dict[str, Any] | None = None) -> None:
        self.kube.create(CUSTOM_RESOURCE_DEFINITIONS, obj or definition())
        eventually(
            lambda: is_served(self.kube.get(CUSTOM_RESOURCE_DEFINITIONS, DEFINITION), NCP_SETTINGS.version),
            "it is served",
        )

    def set(self, spec: Any, name: str = NAME) -> None:
        try:
            self.kube.patch(NCP_SETTINGS, name, body=[{"op": "replace", "path": "/spec", "value": spec}], kind="json")
        except NotFound:
            made = {
                "apiVersion": NCP_SETTINGS.api_version,
                "kind": "NCPSetting",
                "metadata": {"name": name},
                "spec": spec,
            }
            self.kube.create(NCP_SETTINGS, made)

    def unset(self) -> None:
        self.kube.delete(NCP_SETTINGS, NAME)

    def condition(self, **wanted: str) -> dict[str, Any]:
        def look() -> dict[str, Any]:
            status = self.kube.get(NCP_SETTINGS, NAME).get("status") or {}
            found = {c["type"]: c for c in status.get("conditions", ())}.get("Applied", {})
            return found if found and wanted.items() <= found.items() else {}

        return eventually(look, f"condition {wanted}")

    def says(self, status: str, text: str) -> dict[str, Any]:
        """The condition, once it has a status and a text in its message."""
        return eventually(
            lambda: (found := self.condition(status=status)) and text in found["message"] and found, f"it says {text!r}"
        )

    def events(self, name: str = NAME) -> list[tuple[str, str]]:
        found, _ = self.kube.list(EVENTS, "default")
        return [(each["reason"], each["type"]) for each in found if each["involvedObject"]["name"] == name]

    def rest(self) -> float:
        """How long the addresses of a pod rest that is deleted now, in seconds; 0 when they do not."""
        if not self._pods:
            self.client.namespace("a")
        self._pods += 1
        name = f"p{self._pods}"
        self.client.pod("a", name)
        addresses = {each.split("/")[0] for each in self.client.addresses("a", name)}
        self.client.delete_pod("a", name)
        released = time.time()
        ends = eventually(lambda: [t for a, t in resting(self.client).items() if a in addresses], "a rest", 3)
        return max(ends) - released

    def rests(self, seconds: float) -> None:
        """Addresses released from now on rest so long, within a moment of the change."""
        eventually(lambda: abs(self.rest() - seconds) < 2, f"addresses rest {seconds} s")


def resting(client: Client) -> dict[str, float]:
    return json.loads(client.annotations("a").get("ncp/resting", "{}"))


@pytest.fixture
def cluster(client: Client) -> Cluster:
    return Cluster(client)


def test_a_change_holds_at_once_and_deletion_brings_the_files_value_back(cluster: Cluster):
    cluster.define()
    with cluster.client.manager(ON):
        cluster.rests(FROM_FILE)
        running = resting(cluster.client)
        for seconds in (300, 7):
            cluster.set({OPTION: seconds})
            cluster.says("True", f"{OPTION} = {seconds}")
            assert abs(cluster.rest() - seconds) < 2, "the first pod after the status says so"
        assert running.items() <= resting(cluster.client).items(), "rests that had begun keep their end"
        cluster.set({})
        cluster.says("True", "the values of ncp.ini")
        assert applied(cluster.kube.get(NCP_SETTINGS, NAME)) == {}
        assert abs(cluster.rest() - FROM_FILE) < 2
        cluster.set({OPTION: 200})
        cluster.rests(200)
        cluster.unset()
        cluster.rests(FROM_FILE)
        assert ("SETTING_APPLIED", "Normal") in cluster.events()


def test_without_rest_an_address_is_free_at_once(cluster: Cluster):
    cluster.define()
    cluster.set({OPTION: 0})
    with cluster.client.manager(ON):
        cluster.condition(status="True")
        cluster.client.namespace("a")
        cluster.client.pod("a", "p")
        cluster.client.addresses("a", "p")
        cluster.client.delete_pod("a", "p")
        cluster.client.pod("a", "q")
        cluster.client.addresses("a", "q")
        assert resting(cluster.client) == {}


def test_the_definition_may_come_and_go_while_the_manager_runs(cluster: Cluster):
    with cluster.client.manager(ON) as service:
        cluster.rests(FROM_FILE)
        for seconds in (200, 300):
            cluster.define()
            cluster.set({OPTION: seconds})
            cluster.rests(seconds)
            cluster.kube.delete(CUSTOM_RESOURCE_DEFINITIONS, DEFINITION)
            cluster.rests(FROM_FILE)
            eventually(lambda: NCP_SETTINGS not in {each.resource for each in reflector.running}, "nobody asks for it")
        assert [check() for check in (*service.live().values(), *service.ready().values())] == [None] * 3


def test_only_where_the_file_allows_it(cluster: Cluster):
    cluster.define()
    cluster.set({OPTION: 7})
    with cluster.client.manager(INI):
        assert abs(cluster.rest() - FROM_FILE) < 2
    assert "status" not in cluster.kube.get(NCP_SETTINGS, NAME)


def test_the_command_line_shows_what_holds_and_where_it_comes_from(cluster: Cluster, tmp_path: Path, capfd):
    file = tmp_path / "ncp.ini"

    def shown(ini: str = ON, *more: str) -> tuple[int, str]:
        file.write_text(ini)
        where = ("--kubeconfig", cluster.client.kubeconfig)
        code = command_line(["config", "show", str(file), "--live", *where, "--given", "-o", "json", *more])
        said = capfd.readouterr()
        assert code == 0, said.err
        rows = {row["option"]: row for row in json.loads(said.out)}
        return (rows[OPTION]["value"], rows[OPTION]["from"]) if OPTION in rows else (-1, "")

    assert shown() == (-1, ""), "nothing is served, and the file leaves it out"
    cluster.define()
    with cluster.client.manager(ON):
        cluster.set({OPTION: 7})
        cluster.says("True", f"{OPTION} = 7")
    assert shown() == (7, "NCPSetting")
    assert shown(INI) == (-1, ""), "the file does not allow it"
    cluster.unset()
    assert shown(ON.replace("[nsx_v3]", f"[nsx_v3]\n{OPTION} = 9")) == (9, "file")
    assert command_line(["config", "show", "--kubeconfig", "x"]) == 2
    assert "give them with --live" in capfd.readouterr().err


def test_an_object_of_another_name_changes_nothing_and_is_told(cluster: Cluster):
    cluster.define()
    cluster.set({OPTION: 7}, "other")
    with cluster.client.manager(ON):
        eventually(lambda: ("SETTING_IGNORED", "Warning") in cluster.events("other"), "an event")
        assert abs(cluster.rest() - FROM_FILE) < 2


@pytest.mark.parametrize("value", [-1, 86401, "5", 2.5, [5], True])
def test_the_schema_refuses_a_wrong_value(cluster: Cluster, value: Any):
    cluster.define()
    with pytest.raises(Invalid):
        cluster.set({OPTION: value})


def test_the_schema_knows_every_option_that_changes_at_run_time_and_no_other(cluster: Cluster):
    schema = definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    assert schema["spec"]["properties"].keys() == schema["status"]["properties"]["applied"]["properties"].keys()
    assert schema["spec"]["properties"].keys() == RUN_TIME.keys()
    cluster.define()
    cluster.set({OPTION: 7, "pool_algorithm": "ROUND_ROBIN"})
    assert cluster.kube.get(NCP_SETTINGS, NAME)["spec"] == {OPTION: 7}


MALFORMED = {
    "out of range": ({OPTION: 86401}, f"spec.{OPTION} = 86401: it is out of range; allowed: 0 to 86400"),
    "negative": ({OPTION: -1}, "out of range"),
    "a fraction": ({OPTION: 2.5}, f"spec.{OPTION} = 2.5: it is not a whole number"),
    "a word": ({OPTION: "soon"}, f"spec.{OPTION} = soon: it is not a whole number"),
    "a list": ({OPTION: [5]}, "not a whole number"),
    "a truth": ({OPTION: True}, "not a whole number"),
    "unknown": ({"pool_algorithm": "IP_HASH", OPTION: 5}, f"spec.pool_algorithm: no option of this name .* {OPTION}"),
    "no options at all": ([OPTION], "spec is not an object"),
}


def test_a_malformed_object_says_why_and_what_held_before_stays(cluster: Cluster):
    cluster.define(loose())
    with cluster.client.manager(ON):
        cluster.set({OPTION: 86401})
        assert cluster.says("False", "out of range")["reason"] == "SETTING_INVALID"
        assert abs(cluster.rest() - FROM_FILE) < 2, "nothing held before but the file's value"
        cluster.set({OPTION: 200})
        cluster.says("True", f"{OPTION} = 200")
        for spec, text in MALFORMED.values():
            cluster.set(spec)
            said = cluster.says("False", text.partition(".*")[0])
            assert said["message"].endswith(f"it stays at: {OPTION} = 200")
        assert abs(cluster.rest() - 200) < 2
        assert ("SETTING_INVALID", "Warning") in cluster.events()
    with cluster.client.manager(ON, "two"):  # knows the former value from the object alone
        assert abs(cluster.rest() - 200) < 2
        cluster.unset()
        cluster.set({OPTION: "soon"})
        cluster.says("False", "it stays at: the values of ncp.ini")
        cluster.rests(FROM_FILE)


@pytest.mark.parametrize("case", MALFORMED)
def test_what_is_malformed_gives_no_value(case: str):
    verdict = judge(MALFORMED[case][0])
    assert verdict.values == {}
    assert len(verdict.problems) == 1
    assert re.search(MALFORMED[case][1], verdict.problems[0])


def test_a_new_leader_measures_rests_by_what_holds_at_run_time(cluster: Cluster):
    cluster.define()
    cluster.set({OPTION: 5000})
    with cluster.client.manager(ON):
        cluster.rests(5000)
        before = resting(cluster.client)
    with cluster.client.manager(ON, "two"):
        cluster.client.namespace("b")
        cluster.client.has("ncp/segments", "b")
        assert cluster.rest() > 4990
        assert before.items() <= resting(cluster.client).items(), "60 s would have cut them short"


def test_a_status_that_says_so_already_is_not_written_again(cluster: Cluster):
    cluster.define()
    cluster.set({OPTION: 7})
    with cluster.client.manager(ON):
        cluster.says("True", f"{OPTION} = 7")
    before = cluster.kube.get(NCP_SETTINGS, NAME)
    with cluster.client.manager(ON, "two"):
        cluster.rests(7)
        assert cluster.kube.get(NCP_SETTINGS, NAME) == before
        changed = copy.deepcopy(before["status"])
        changed["conditions"][0]["status"] = "False"
        cluster.kube.patch(NCP_SETTINGS, NAME, body={"status": changed}, subresource="status")
        cluster.condition(status="True")


def test_where_no_status_is_kept_a_change_is_told_once(cluster: Cluster):
    """Somebody else's definition may have no status; then there are events, and the log."""
    bare = loose()
    del bare["spec"]["versions"][0]["subresources"]
    cluster.define(bare)
    with cluster.client.manager(ON):
        cluster.set({OPTION: 7})
        cluster.rests(7)
        for name in "bcd":
            cluster.set({}, name)
            eventually(lambda name=name: cluster.events(name), "it was looked at")
        assert cluster.events() == [("SETTING_APPLIED", "Normal")]
        (event,) = (e for e in cluster.kube.list(EVENTS, "default")[0] if e["involvedObject"]["name"] == NAME)
        assert event["count"] == 1


def test_a_manager_that_may_not_read_settings_decides_by_the_file(cluster: Cluster, monkeypatch: pytest.MonkeyPatch):
    """An installation whose roles are older than the option."""
    real = Kube.list

    def refused(self: Kube, res: Any, *rest: Any, **more: Any) -> Any:
        if res == CUSTOM_RESOURCE_DEFINITIONS:
            raise ApiError(403, "Forbidden", "customresourcedefinitions is forbidden")
        return real(self, res, *rest, **more)

    monkeypatch.setattr(Kube, "list", refused)
    monkeypatch.setattr("ncp.manager.term.SETTLE", 0.3)
    with cluster.client.manager(ON):
        assert abs(cluster.rest() - FROM_FILE) < 2


@pytest.fixture
def real_client() -> Iterator[Client]:
    """A client of a real kube-apiserver, with every right."""
    try:
        server = RealApi()
    except BinariesMissingError as missing:
        if os.environ.get("NCP_REQUIRE_KUBE"):
            pytest.fail(str(missing))
        pytest.skip(str(missing))
    with server:
        found = Client(str(server.kubeconfig))
        yield found
        found.kube.close()


def as_the_manager(admin: Client, directory: Path) -> Client:
    """A client with the rights that deploy/rbac.yaml gives to the manager, and no other."""
    roles = MANIFEST.parents[1] / "rbac.yaml"
    subprocess.run(
        ["kubectl", "--kubeconfig", admin.kubeconfig, "apply", "-f", roles], check=True, capture_output=True, timeout=60
    )
    asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 600}}
    path = SERVICE_ACCOUNTS.path("kube-system", "ncp-manager", "token")
    issued = admin.kube._json("POST", path, asked)
    config = yaml.safe_load(Path(admin.kubeconfig).read_text())
    (user,) = config["users"]
    user["user"] = {"token": issued["status"]["token"]}
    for cluster in config["clusters"]:
        if authority := cluster["cluster"].get("certificate-authority"):
            cluster["cluster"]["certificate-authority"] = str(Path(admin.kubeconfig).parent / authority)
    (directory / "kubeconfig").write_text(yaml.safe_dump(config))
    return Client(str(directory / "kubeconfig"))


@pytest.mark.kube
def test_on_a_real_server_with_the_rights_that_are_deployed(real_client: Client, tmp_path: Path):
    cluster = Cluster(real_client)
    with as_the_manager(real_client, tmp_path).manager(ON):
        cluster.rests(FROM_FILE)
        cluster.define()
        cluster.set({OPTION: 200})
        cluster.says("True", f"{OPTION} = 200")
        cluster.rests(200)
        with pytest.raises(Invalid, match="86400"):
            cluster.set({OPTION: 86401})
        eventually(lambda: ("SETTING_APPLIED", "Normal") in cluster.events(), "an event")
        cluster.kube.delete(CUSTOM_RESOURCE_DEFINITIONS, DEFINITION)
        cluster.rests(FROM_FILE)
