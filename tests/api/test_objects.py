from __future__ import annotations

import pytest

from tests.api.client import MERGE, Client
from tests.api.conftest import deployment, pod


def test_a_created_pod_has_identity_defaults_and_no_status_of_its_author(client: Client, ns: str) -> None:
    made = client.ok("POST", f"/api/v1/namespaces/{ns}/pods", {**pod("a"), "status": {"phase": "Running"}})
    assert made["metadata"]["uid"]
    assert made["metadata"]["namespace"] == ns
    assert made["metadata"]["creationTimestamp"].endswith("Z")
    assert made["status"] == {"phase": "Pending", "qosClass": "BestEffort"}
    spec = made["spec"]
    assert (spec["restartPolicy"], spec["dnsPolicy"], spec["serviceAccountName"]) == (
        "Always",
        "ClusterFirst",
        "default",
    )
    assert spec["containers"][0]["imagePullPolicy"] == "IfNotPresent"
    assert client.ok("GET", f"/api/v1/namespaces/{ns}/pods/a") == made


def test_names_are_generated(client: Client, ns: str) -> None:
    names = {
        client.ok("POST", f"/api/v1/namespaces/{ns}/configmaps", {"metadata": {"generateName": "c-"}})["metadata"][
            "name"
        ]
        for _ in range(5)
    }
    assert len(names) == 5
    assert all(len(name) == 7 and name.startswith("c-") for name in names)


def test_a_taken_name_an_absent_name_and_an_absent_namespace_are_named(client: Client, ns: str) -> None:
    path = f"/api/v1/namespaces/{ns}/configmaps"
    client.ok("POST", path, {"metadata": {"name": "c"}})
    taken = client.refused(409, "POST", path, {"metadata": {"name": "c"}})
    assert (taken["reason"], taken["message"]) == ("AlreadyExists", 'configmaps "c" already exists')
    absent = client.refused(404, "GET", f"/apis/apps/v1/namespaces/{ns}/deployments/x")
    assert (absent["reason"], absent["message"]) == ("NotFound", 'deployments.apps "x" not found')
    assert absent["details"] == {"name": "x", "group": "apps", "kind": "deployments"}
    nowhere = client.refused(404, "POST", "/api/v1/namespaces/nowhere/configmaps", {"metadata": {"name": "c"}})
    assert nowhere["message"] == 'namespaces "nowhere" not found'


def test_an_outdated_update_conflicts_and_a_current_one_does_not(client: Client, ns: str) -> None:
    path = f"/api/v1/namespaces/{ns}/configmaps"
    first = client.ok("POST", path, {"metadata": {"name": "c"}, "data": {"a": "1"}})
    second = client.ok("PUT", f"{path}/c", {**first, "data": {"a": "2"}})
    assert int(second["metadata"]["resourceVersion"]) > int(first["metadata"]["resourceVersion"])
    clash = client.refused(409, "PUT", f"{path}/c", {**first, "data": {"a": "3"}})
    assert clash["reason"] == "Conflict"
    assert clash["message"] == (
        'Operation cannot be fulfilled on configmaps "c": the object has been modified; '
        "please apply your changes to the latest version and try again"
    )
    del first["metadata"]["resourceVersion"]
    assert client.ok("PUT", f"{path}/c", {**first, "data": {"a": "4"}})["data"] == {"a": "4"}
    other = {**second, "metadata": {**second["metadata"], "uid": "another"}}
    assert "Precondition failed: UID" in client.refused(409, "PUT", f"{path}/c", other)["message"]


def test_a_lease_is_updated_with_its_resource_version_only(client: Client, ns: str) -> None:
    path = f"/apis/coordination.k8s.io/v1/namespaces/{ns}/leases"
    lease = client.ok("POST", path, {"metadata": {"name": "l"}, "spec": {"holderIdentity": "a"}})
    client.ok("PUT", f"{path}/l", {**lease, "spec": {"holderIdentity": "b"}})
    client.refused(409, "PUT", f"{path}/l", {**lease, "spec": {"holderIdentity": "c"}})
    client.refused(422, "PUT", f"{path}/l", {"metadata": {"name": "l"}, "spec": {"holderIdentity": "d"}})


def test_an_update_that_changes_nothing_is_no_new_version(client: Client, ns: str) -> None:
    path = f"/apis/apps/v1/namespaces/{ns}/deployments"
    first = client.ok("POST", path, deployment("d"))
    assert client.ok("PUT", f"{path}/d", first) == first


def test_status_and_spec_are_written_apart(client: Client, ns: str) -> None:
    path = f"/apis/apps/v1/namespaces/{ns}/deployments"
    made = client.ok("POST", path, deployment("d", replicas=2))
    assert made["metadata"]["generation"] == 1
    both = {**made, "spec": {**made["spec"], "replicas": 5}, "status": {"replicas": 9}}
    after_status = client.ok("PUT", f"{path}/d/status", both)
    assert (after_status["spec"]["replicas"], after_status["status"]) == (2, {"replicas": 9})
    assert after_status["metadata"]["generation"] == 1
    both["metadata"] = after_status["metadata"]
    both["status"] = {"replicas": 1}
    after_spec = client.ok("PUT", f"{path}/d", both)
    assert (after_spec["spec"]["replicas"], after_spec["status"]) == (5, {"replicas": 9})
    assert after_spec["metadata"]["generation"] == 2
    patched = client.ok("PATCH", f"{path}/d", {"status": {"replicas": 0}}, media=MERGE)
    assert patched["status"] == {"replicas": 9}


def test_a_dry_run_leaves_nothing(client: Client, ns: str) -> None:
    path = f"/api/v1/namespaces/{ns}/configmaps"
    assert client.ok("POST", f"{path}?dryRun=All", {"metadata": {"name": "c"}})["metadata"]["uid"]
    client.refused(404, "GET", f"{path}/c")
    client.ok("POST", path, {"metadata": {"name": "c"}, "data": {"a": "1"}})
    assert client.ok("PATCH", f"{path}/c?dryRun=All", {"data": {"a": "2"}}, media=MERGE)["data"] == {"a": "2"}
    client.ok("DELETE", f"{path}/c?dryRun=All")
    assert client.ok("GET", f"{path}/c")["data"] == {"a": "1"}


@pytest.mark.parametrize(
    ("path", "body", "field", "words"),
    [
        (
            "/api/v1/namespaces/{ns}/configmaps",
            {"metadata": {"name": "Bad_Name"}},
            "metadata.name",
            "RFC 1123 subdomain",
        ),
        ("/api/v1/namespaces", {"metadata": {"name": "a.b"}}, "metadata.name", "RFC 1123 label"),
        ("/api/v1/namespaces/{ns}/configmaps", {"metadata": {}}, "metadata.name", "name or generateName is required"),
        (
            "/api/v1/namespaces/{ns}/configmaps",
            {"metadata": {"name": "c", "labels": {"a": "no spaces"}}},
            "metadata.labels",
            "a valid label must be",
        ),
        ("/api/v1/namespaces/{ns}/pods", pod("p", containers=[]), "spec.containers", "Required value"),
        (
            "/api/v1/namespaces/{ns}/pods",
            pod("p", containers=[{"name": "a", "image": "x"}, {"name": "a", "image": "x"}]),
            "spec.containers[1].name",
            "Duplicate value",
        ),
        (
            "/api/v1/namespaces/{ns}/pods",
            pod("p", containers=[{"name": "a", "image": "x", "ports": [{"containerPort": 70000}]}]),
            "spec.containers[0].ports[0].containerPort",
            "must be between 1 and 65535, inclusive",
        ),
        ("/api/v1/namespaces/{ns}/services", {"metadata": {"name": "s"}, "spec": {}}, "spec.ports", "Required value"),
        (
            "/apis/apps/v1/namespaces/{ns}/deployments",
            deployment("d", selector={"matchLabels": {"app": "other"}}),
            "spec.template.metadata.labels",
            "`selector` does not match template `labels`",
        ),
    ],
)
def test_what_is_wrong_is_named_with_its_field(
    client: Client, ns: str, path: str, body: dict[str, object], field: str, words: str
) -> None:
    status = client.refused(422, "POST", path.format(ns=ns), body)
    assert status["reason"] == "Invalid"
    causes = {cause["field"]: cause["message"] for cause in status["details"]["causes"]}
    assert words in causes[field]
    assert f"{field}: {causes[field]}" in status["message"]


def test_immutable_fields_stay(client: Client, ns: str) -> None:
    client.ok("POST", f"/api/v1/namespaces/{ns}/pods", pod("p"))
    client.ok("POST", f"/apis/apps/v1/namespaces/{ns}/deployments", deployment("d"))
    change = {"spec": {"hostNetwork": True}}
    said = client.refused(422, "PATCH", f"/api/v1/namespaces/{ns}/pods/p", change, media=MERGE)["message"]
    assert said.startswith('Pod "p" is invalid: spec: Forbidden: pod updates may not change fields other than')
    image = {"spec": {"containers": [{"name": "main", "image": "web:2"}]}}
    strategic = "application/strategic-merge-patch+json"
    client.ok("PATCH", f"/api/v1/namespaces/{ns}/pods/p", image, media=strategic)
    change = {"spec": {"selector": {"matchLabels": {"app": "e"}}, "template": {"metadata": {"labels": {"app": "e"}}}}}
    path = f"/apis/apps/v1/namespaces/{ns}/deployments/d"
    assert "spec.selector: Invalid value" in client.refused(422, "PATCH", path, change, media=MERGE)["message"]


def test_unknown_fields_are_dropped_warned_about_or_refused(client: Client, ns: str) -> None:
    path, body = f"/apis/apps/v1/namespaces/{ns}/deployments", deployment("d", replcas=2)
    strict = client.refused(400, "POST", f"{path}?fieldValidation=Strict", body)
    assert strict["message"].endswith('strict decoding error: unknown field "spec.replcas"')
    warned = client.ask("POST", f"{path}?fieldValidation=Warn", body)
    assert warned.headers["warning"] == '299 - "unknown field \\"spec.replcas\\""'
    assert "replcas" not in warned.body["spec"]
    client.ok("DELETE", f"{path}/d")
    assert "warning" not in client.ask("POST", f"{path}?fieldValidation=Ignore", body).headers


def test_a_value_of_the_wrong_type_is_refused(client: Client, ns: str) -> None:
    path = f"/apis/apps/v1/namespaces/{ns}/deployments"
    said = client.refused(400, "POST", path, deployment("d", replicas="three"))["message"]
    assert "cannot unmarshal string into Go struct field spec.replicas of type int" in said


def test_a_body_of_another_kind_or_no_body_is_refused(client: Client, ns: str) -> None:
    path = f"/api/v1/namespaces/{ns}/configmaps"
    client.refused(400, "POST", path, pod("p"))
    client.refused(400, "POST", path, "{not json")
    client.refused(400, "POST", path, "[]")
    wrong = {"metadata": {"name": "c", "namespace": "elsewhere"}}
    assert "does not match the namespace" in client.refused(400, "POST", path, wrong)["message"]


def test_a_scheduled_pod_waits_for_its_kubelet_and_an_unscheduled_one_does_not(client: Client, ns: str) -> None:
    path = f"/api/v1/namespaces/{ns}/pods"
    client.ok("POST", path, pod("free"))
    client.ok("DELETE", f"{path}/free")
    client.refused(404, "GET", f"{path}/free")
    client.ok("POST", path, pod("bound"))
    client.ok("POST", f"{path}/bound/binding", {"target": {"kind": "Node", "name": "n1"}})
    again = client.refused(409, "POST", f"{path}/bound/binding", {"target": {"kind": "Node", "name": "n2"}})
    assert 'pod bound is already assigned to node "n1"' in again["message"]
    going = client.ok("DELETE", f"{path}/bound?gracePeriodSeconds=7")
    assert going["metadata"]["deletionGracePeriodSeconds"] == 7
    assert going["metadata"]["deletionTimestamp"]
    shorter = client.ok("DELETE", f"{path}/bound?gracePeriodSeconds=2")
    assert shorter["metadata"]["deletionGracePeriodSeconds"] == 2
    longer = client.ok("DELETE", f"{path}/bound?gracePeriodSeconds=60")
    assert longer["metadata"]["deletionGracePeriodSeconds"] == 2
    client.ok("DELETE", f"{path}/bound", {"gracePeriodSeconds": 0, "preconditions": {"uid": going["metadata"]["uid"]}})
    client.refused(404, "GET", f"{path}/bound")


def test_a_deletion_meant_for_another_object_is_refused(client: Client, ns: str) -> None:
    path = f"/api/v1/namespaces/{ns}/configmaps"
    made = client.ok("POST", path, {"metadata": {"name": "c"}})
    client.refused(409, "DELETE", f"{path}/c", {"preconditions": {"uid": "another"}})
    client.refused(409, "DELETE", f"{path}/c", {"preconditions": {"resourceVersion": "1"}})
    gone = client.ok("DELETE", f"{path}/c", {"preconditions": {"uid": made["metadata"]["uid"]}})
    assert (gone["status"], gone["details"]["kind"]) == ("Success", "configmaps")


def test_a_finalizer_holds_an_object_until_it_is_taken_off(client: Client, ns: str) -> None:
    path = f"/api/v1/namespaces/{ns}/configmaps"
    client.ok("POST", path, {"metadata": {"name": "c", "finalizers": ["example.com/hold"]}})
    marked = client.ok("DELETE", f"{path}/c")
    assert marked["metadata"]["deletionTimestamp"]
    assert client.ok("GET", f"{path}/c")["metadata"]["finalizers"] == ["example.com/hold"]
    client.ok("PATCH", f"{path}/c", {"metadata": {"finalizers": None}}, media=MERGE)
    client.refused(404, "GET", f"{path}/c")


def test_a_collection_is_deleted_by_selector(client: Client, ns: str) -> None:
    path = f"/api/v1/namespaces/{ns}/configmaps"
    for name, tier in (("a", "x"), ("b", "x"), ("c", "y")):
        client.ok("POST", path, {"metadata": {"name": name, "labels": {"tier": tier}}})
    client.ok("DELETE", f"{path}?labelSelector=tier%3Dx")
    assert [item["metadata"]["name"] for item in client.ok("GET", path)["items"]] == ["c"]


def test_events_are_one_set_with_two_faces(client: Client, ns: str) -> None:
    core, new = f"/api/v1/namespaces/{ns}/events", f"/apis/events.k8s.io/v1/namespaces/{ns}/events"
    about = {"kind": "Pod", "name": "p", "namespace": ns}
    event = {"metadata": {"name": "e"}, "involvedObject": about, "reason": "Tried", "message": "it did", "count": 2}
    client.ok("POST", core, event)
    seen = client.ok("GET", f"{new}/e")
    assert (seen["apiVersion"], seen["note"], seen["regarding"], seen["deprecatedCount"]) == (
        "events.k8s.io/v1", "it did", about, 2,
    )  # fmt: skip
    selected = client.ok("GET", f"{core}?fieldSelector=involvedObject.name%3Dp,reason%3DTried")
    assert [item["metadata"]["name"] for item in selected["items"]] == ["e"]
    assert client.ok("GET", f"{core}?fieldSelector=involvedObject.name%3Dq")["items"] == []


def test_secrets_take_plain_text_and_scale_reads_and_writes_replicas(client: Client, ns: str) -> None:
    secret = {"metadata": {"name": "s"}, "stringData": {"a": "b"}}
    made = client.ok("POST", f"/api/v1/namespaces/{ns}/secrets", secret)
    assert (made["data"], made["type"]) == ({"a": "Yg=="}, "Opaque")
    path = f"/apis/apps/v1/namespaces/{ns}/deployments"
    client.ok("POST", path, deployment("d"))
    scale = client.ok("GET", f"{path}/d/scale")
    assert (scale["spec"], scale["status"]) == ({"replicas": 1}, {"replicas": 0, "selector": "app=d"})
    client.ok("PUT", f"{path}/d/scale", {**scale, "spec": {"replicas": 4}})
    assert client.ok("GET", f"{path}/d")["spec"]["replicas"] == 4
    client.refused(409, "PUT", f"{path}/d/scale", {**scale, "spec": {"replicas": 5}})
    assert client.ok("PATCH", f"{path}/d/scale", {"spec": {"replicas": 0}}, media=MERGE)["spec"] == {"replicas": 0}


def test_paths_that_lead_nowhere_are_404_and_wrong_methods_405(client: Client, ns: str) -> None:
    for path in ("/api/v1/nothings", "/apis/none/v1/x", f"/api/v1/namespaces/{ns}/nodes", "/whatever"):
        client.refused(404, "GET", path)
    client.refused(405, "POST", f"/api/v1/namespaces/{ns}/configmaps/c", {})
    client.ok("POST", f"/api/v1/namespaces/{ns}/pods", pod("p"))
    client.refused(501, "POST", f"/api/v1/namespaces/{ns}/pods/p/exec")
