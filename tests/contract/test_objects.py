"""Objects by themselves: create, read, replace, delete, and what each refuses."""

from __future__ import annotations

import re

from .client import Client, Object
from .concessions import Server
from .shapes import NAMESPACES, NODES, await_answer, config_map, core, leases, network_policies, network_policy, pod


def test_a_created_object_gets_its_identity(api: Client, ns: str) -> None:
    meta = api.post(core(ns, "configmaps"), config_map("one")).must(201).body["metadata"]

    assert meta["namespace"] == ns
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", meta["uid"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", meta["creationTimestamp"])
    assert meta["resourceVersion"].isdigit()


def test_what_was_created_is_what_is_read(api: Client, ns: str) -> None:
    created = api.post(core(ns, "configmaps"), config_map("one", {"k": "v"})).must(201).body
    read = api.get(core(ns, "configmaps") + "/one").must(200).body

    assert read == created
    assert (read["kind"], read["apiVersion"], read["data"]) == ("ConfigMap", "v1", {"k": "v"})


def test_a_name_is_taken_once(api: Client, ns: str) -> None:
    api.post(core(ns, "configmaps"), config_map("one")).must(201)
    refused = api.post(core(ns, "configmaps"), config_map("one")).must(409, "AlreadyExists")

    assert refused.body["message"] == 'configmaps "one" already exists'
    assert refused.body["details"] == {"name": "one", "kind": "configmaps"}


def test_what_does_not_exist_is_not_found(api: Client, ns: str) -> None:
    path = core(ns, "configmaps") + "/none"
    for answer in (api.get(path), api.delete(path), api.merge(path, {"data": {"a": "2"}})):
        assert answer.must(404, "NotFound").body["details"] == {"name": "none", "kind": "configmaps"}
    assert api.get(path).body["message"] == 'configmaps "none" not found'


def test_a_group_has_its_name_in_not_found(api: Client, ns: str) -> None:
    missing = api.get(network_policies(ns) + "/none").must(404, "NotFound").body

    assert missing["message"] == 'networkpolicies.networking.k8s.io "none" not found'
    assert missing["details"] == {"name": "none", "group": "networking.k8s.io", "kind": "networkpolicies"}


def test_unknown_paths_are_404(api: Client, ns: str) -> None:
    assert api.get(core(ns, "nonsense")).status == 404
    assert api.get("/apis/nonsense.example/v1/things").status == 404


def test_generate_name_adds_five_letters(api: Client, ns: str) -> None:
    body = {"metadata": {"generateName": "web-"}, "data": {}}
    names = {api.post(core(ns, "configmaps"), body).must(201).body["metadata"]["name"] for _ in range(3)}

    assert len(names) == 3
    assert all(re.fullmatch(r"web-[a-z0-9]{5}", name) for name in names)


def test_replace_wants_the_current_version(api: Client, ns: str) -> None:
    path = core(ns, "configmaps") + "/one"
    stale = api.post(core(ns, "configmaps"), config_map("one")).must(201).body
    fresh = api.put(path, {**stale, "data": {"a": "2"}}).must(200)
    assert int(fresh.rv) > int(stale["metadata"]["resourceVersion"])

    refused = api.put(path, {**stale, "data": {"a": "3"}}).must(409, "Conflict")
    assert "the object has been modified" in refused.body["message"]
    assert api.get(path).body["data"] == {"a": "2"}


def test_replace_without_a_version_is_unconditional(api: Client, ns: str) -> None:
    api.post(core(ns, "configmaps"), config_map("one")).must(201)
    api.put(core(ns, "configmaps") + "/one", config_map("one", {"b": "2"})).must(200)

    assert api.get(core(ns, "configmaps") + "/one").body["data"] == {"b": "2"}


def test_replace_keeps_what_the_server_owns(api: Client, ns: str) -> None:
    was = api.post(core(ns, "configmaps"), config_map("one")).must(201).body["metadata"]
    now = api.put(core(ns, "configmaps") + "/one", config_map("one", {"b": "2"})).must(200).body["metadata"]

    assert (now["uid"], now["creationTimestamp"]) == (was["uid"], was["creationTimestamp"])


def test_a_write_that_changes_nothing_is_no_event(api: Client, ns: str) -> None:
    path = core(ns, "configmaps") + "/one"
    was = api.post(core(ns, "configmaps"), config_map("one")).must(201)

    assert api.put(path, was.body).must(200).rv == was.rv
    assert api.merge(path, {"data": {"a": "1"}}).must(200).rv == was.rv


def test_name_of_path_and_body_must_agree(api: Client, ns: str) -> None:
    api.post(core(ns, "configmaps"), config_map("one")).must(201)
    api.put(core(ns, "configmaps") + "/one", config_map("two")).must(400, "BadRequest")


def test_namespace_of_path_and_body_must_agree(api: Client, ns: str) -> None:
    api.post(core(ns, "configmaps"), config_map("one", namespace="elsewhere")).must(400, "BadRequest")


def test_a_body_that_is_no_json_is_a_bad_request(api: Client, ns: str) -> None:
    api.post(core(ns, "configmaps"), b"{").must(400, "BadRequest")


def test_an_unknown_content_type_is_415(api: Client, ns: str) -> None:
    answer = api.request("POST", core(ns, "configmaps"), config_map("one"), content="text/plain")
    answer.must(415, "UnsupportedMediaType")


def test_nothing_is_created_in_a_namespace_that_is_not(api: Client) -> None:
    refused = api.post(core("c-nowhere", "configmaps"), config_map("one")).must(404, "NotFound")
    assert refused.body["message"] == 'namespaces "c-nowhere" not found'
    assert api.get(core("c-nowhere", "configmaps")).must(200).body["items"] == []


def test_dry_run_answers_and_leaves_nothing(api: Client, ns: str) -> None:
    path = core(ns, "configmaps")
    api.post(path, config_map("ghost"), dryRun="All").must(201)
    api.get(path + "/ghost").must(404)

    was = api.post(path, config_map("one")).must(201)
    assert api.merge(path + "/one", {"data": {"a": "2"}}, dryRun="All").must(200).body["data"] == {"a": "2"}
    api.delete(path + "/one", dryRun="All").must(200)
    assert api.get(path + "/one").must(200).body == was.body


def test_dry_run_still_validates(api: Client, ns: str) -> None:
    api.post(core(ns, "configmaps"), config_map("Not_A_Name"), dryRun="All").must(422, "Invalid")


def test_delete_answers_with_a_status(api: Client, ns: str) -> None:
    uid = api.post(core(ns, "configmaps"), config_map("one")).must(201).body["metadata"]["uid"]
    gone = api.delete(core(ns, "configmaps") + "/one").must(200).body

    assert (gone["kind"], gone["status"]) == ("Status", "Success")
    assert gone["details"] == {"name": "one", "kind": "configmaps", "uid": uid}
    api.get(core(ns, "configmaps") + "/one").must(404)


def test_delete_preconditions(api: Client, ns: str) -> None:
    path = core(ns, "configmaps") + "/one"
    made = api.post(core(ns, "configmaps"), config_map("one")).must(201)
    wrong = {"preconditions": {"uid": "00000000-0000-0000-0000-000000000000"}}
    api.delete(path, wrong).must(409, "Conflict")
    api.delete(path, {"preconditions": {"resourceVersion": "1"}}).must(409, "Conflict")

    api.delete(path, {"preconditions": {"uid": made.body["metadata"]["uid"], "resourceVersion": made.rv}}).must(200)


def test_a_new_object_with_the_old_uid_is_a_conflict(api: Client, ns: str) -> None:
    path = core(ns, "configmaps") + "/one"
    old = api.post(core(ns, "configmaps"), config_map("one")).must(201).body["metadata"]["uid"]
    api.delete(path).must(200)
    api.post(core(ns, "configmaps"), config_map("one")).must(201)

    api.put(path, config_map("one", {"a": "2"}, uid=old)).must(409, "Conflict")
    assert api.merge(path, {"metadata": {"uid": old}, "data": {"a": "2"}}).status in (409, 422)
    assert api.get(path).body["data"] == {"a": "1"}


def test_delete_collection_takes_what_the_selector_takes(api: Client, ns: str) -> None:
    path = core(ns, "configmaps")
    for name, tier in (("one", "a"), ("two", "a"), ("three", "b")):
        api.post(path, config_map(name, labels={"tier": tier})).must(201)
    api.delete(path, labelSelector="tier=a").must(200)

    left = [item["metadata"]["name"] for item in api.get(path, labelSelector="tier").body["items"]]
    assert left == ["three"]


def test_finalizers_hold_an_object_until_they_are_gone(api: Client, ns: str) -> None:
    path = core(ns, "configmaps") + "/one"
    api.post(core(ns, "configmaps"), config_map("one", finalizers=["example.org/hold"])).must(201)
    held = api.delete(path).must(200).body
    assert held["metadata"]["deletionTimestamp"]
    assert held["metadata"]["deletionGracePeriodSeconds"] == 0
    assert api.get(path).must(200).body["metadata"]["finalizers"] == ["example.org/hold"]

    # A dying object takes no new finalizer, and goes with the last one.
    api.merge(path, {"metadata": {"finalizers": ["example.org/hold", "example.org/more"]}}).must(422, "Invalid")
    api.merge(path, {"metadata": {"finalizers": None}}).must(200)
    api.get(path).must(404)


def test_a_pod_on_a_node_dies_gracefully(api: Client, ns: str) -> None:
    path = core(ns, "pods") + "/web"
    api.post(core(ns, "pods"), pod("web", nodeName="n1", terminationGracePeriodSeconds=7)).must(201)
    dying = api.delete(path).must(200).body["metadata"]
    assert dying["deletionTimestamp"]
    assert dying["deletionGracePeriodSeconds"] == 7
    assert api.get(path).must(200).body["metadata"]["deletionTimestamp"] == dying["deletionTimestamp"]

    # The kubelet confirms with a grace of zero.
    api.delete(path, {"gracePeriodSeconds": 0, "preconditions": {"uid": dying["uid"]}}).must(200)
    api.get(path).must(404)


def test_a_pod_on_no_node_dies_at_once(api: Client, ns: str) -> None:
    api.post(core(ns, "pods"), pod("web")).must(201)
    api.delete(core(ns, "pods") + "/web").must(200)
    api.get(core(ns, "pods") + "/web").must(404)


def owned_by(owner: Object) -> list[Object]:
    """Return ownerReferences that let a dependent hold up its owner's foreground deletion."""
    identity = {"apiVersion": "v1", "kind": "ConfigMap", "name": owner["metadata"]["name"]}
    return [identity | {"uid": owner["metadata"]["uid"], "blockOwnerDeletion": True}]


def test_foreground_propagation_waits_for_the_dependents(api: Client, ns: str) -> None:
    """A server that leaves collecting to a controller waits for that; one that collects itself, for what is held."""
    path = core(ns, "configmaps")
    owner = api.post(path, config_map("one")).must(201).body
    held = config_map("two", ownerReferences=owned_by(owner), finalizers=["example.org/hold"])
    api.post(path, held).must(201)
    waiting = api.delete(path + "/one", {"propagationPolicy": "Foreground"}).must(200).body["metadata"]
    assert waiting["finalizers"] == ["foregroundDeletion"]
    assert waiting["deletionTimestamp"]
    api.get(path + "/one").must(200)

    api.merge(path + "/two", {"metadata": {"finalizers": None}}).must(200)
    assert api.merge(path + "/one", {"metadata": {"finalizers": None}}).status in (200, 404)
    await_answer(api, path + "/one", 404)


def test_orphan_propagation_waits_for_the_garbage_collector(api: Client, ns: str) -> None:
    path = core(ns, "configmaps") + "/one"
    api.post(core(ns, "configmaps"), config_map("one")).must(201)
    assert api.delete(path, propagationPolicy="Orphan").must(200).body["metadata"]["finalizers"] == ["orphan"]


def test_a_namespace_terminates_until_it_is_finalized(api: Client, ns: str) -> None:
    path = f"{NAMESPACES}/{ns}"
    api.post(core(ns, "configmaps"), config_map("held", finalizers=["example.org/hold"])).must(201)
    assert api.get(path).body["spec"] == {"finalizers": ["kubernetes"]}
    assert api.get(path).body["status"] == {"phase": "Active"}
    dying = api.delete(path).must(200).body
    assert dying["status"]["phase"] == "Terminating"
    assert dying["metadata"]["deletionTimestamp"]

    refused = api.post(core(ns, "configmaps"), config_map("late")).must(403, "Forbidden")
    assert "because it is being terminated" in refused.body["message"]
    assert refused.body["details"]["causes"][0]["reason"] == "NamespaceTerminating"

    api.merge(core(ns, "configmaps") + "/held", {"metadata": {"finalizers": None}}).must(200)
    # A controller's last word; a server that empties namespaces itself may have said it.
    assert api.put(path + "/finalize", {**dying, "spec": {"finalizers": []}}).status in (200, 404, 409)
    await_answer(api, path, 404)


def test_namespaces_carry_their_name_as_a_label(server: Server, ns: str) -> None:
    server.needs("namespaces labelled with their name")
    labels = server.client.get(f"{NAMESPACES}/{ns}").body["metadata"]["labels"]
    assert labels["kubernetes.io/metadata.name"] == ns


def test_the_usual_namespaces_are_there(api: Client) -> None:
    names = {item["metadata"]["name"] for item in api.get(NAMESPACES).must(200).body["items"]}
    assert {"default", "kube-system", "kube-public", "kube-node-lease"} <= names


def test_generation_counts_changes_of_spec_only(api: Client, ns: str) -> None:
    path = network_policies(ns) + "/np"
    made = api.post(network_policies(ns), network_policy("np")).must(201).body["metadata"]
    assert made["generation"] == 1
    labelled = api.merge(path, {"metadata": {"labels": {"a": "b"}}}).must(200).body["metadata"]
    assert labelled["generation"] == 1
    changed = api.merge(path, {"spec": {"podSelector": {"matchLabels": {"a": "b"}}}}).must(200).body["metadata"]
    assert changed["generation"] == 2


def test_leases_are_taken_by_comparing_versions(api: Client, ns: str) -> None:
    spec = {"holderIdentity": "one", "leaseDurationSeconds": 15, "renewTime": "2026-01-02T03:04:05.678901Z"}
    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "leader"}, "spec": spec}
    held = api.post(leases(ns), lease).must(201).body
    assert held["spec"] == spec

    taken = {**held, "spec": {**spec, "holderIdentity": "two", "leaseTransitions": 1}}
    api.put(leases(ns) + "/leader", taken).must(200)
    api.put(leases(ns) + "/leader", {**held, "spec": {**spec, "holderIdentity": "three"}}).must(409, "Conflict")
    assert api.get(leases(ns) + "/leader").body["spec"]["holderIdentity"] == "two"


def test_a_node_is_cluster_wide(api: Client, ns: str) -> None:
    node = {"metadata": {"name": ns, "labels": {"zone": "a"}}, "spec": {"podCIDR": "10.0.0.0/24"}}
    made = api.post(NODES, node).must(201).body
    assert "namespace" not in made["metadata"]

    status = {"status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.7"}]}}
    api.strategic(f"{NODES}/{ns}/status", status).must(200)
    assert api.get(f"{NODES}/{ns}").body["status"]["addresses"] == status["status"]["addresses"]
    api.delete(f"{NODES}/{ns}").must(200)
    api.get(f"{NODES}/{ns}").must(404)
