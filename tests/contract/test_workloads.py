"""What the server fills in, hands out and refuses for pods, services and workloads."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from .client import Client, Object
from .concessions import Server
from .shapes import apps, config_map, core, deployment, pod, service


def test_a_pod_is_defaulted(api: Client, ns: str) -> None:
    made = api.post(core(ns, "pods"), pod("web")).must(201).body
    spec, (container,) = made["spec"], made["spec"]["containers"]

    assert spec["restartPolicy"] == "Always"
    assert spec["dnsPolicy"] == "ClusterFirst"
    assert spec["schedulerName"] == "default-scheduler"
    assert spec["terminationGracePeriodSeconds"] == 30
    assert spec["enableServiceLinks"] is True
    assert spec["securityContext"] == {}
    assert spec["priority"] == 0
    assert spec["preemptionPolicy"] == "PreemptLowerPriority"
    assert {toleration["key"] for toleration in spec["tolerations"]} == {
        "node.kubernetes.io/not-ready",
        "node.kubernetes.io/unreachable",
    }
    assert container["ports"] == [{"containerPort": 80, "protocol": "TCP"}]
    assert container["imagePullPolicy"] == "IfNotPresent"
    assert container["terminationMessagePath"] == "/dev/termination-log"
    assert container["terminationMessagePolicy"] == "File"
    assert container["resources"] == {}
    assert made["status"] == {"phase": "Pending", "qosClass": "BestEffort"}


def test_an_untagged_image_is_always_pulled(api: Client, ns: str) -> None:
    containers = [{"name": "a", "image": "web"}, {"name": "b", "image": "web:latest"}]
    spec = api.post(core(ns, "pods"), pod("web", containers=containers)).must(201).body["spec"]
    assert [container["imagePullPolicy"] for container in spec["containers"]] == ["Always", "Always"]


def test_probes_are_defaulted(api: Client, ns: str) -> None:
    probe = {"httpGet": {"port": 80}}
    containers = [{"name": "a", "image": "web:1", "readinessProbe": probe}]
    spec = api.post(core(ns, "pods"), pod("web", containers=containers)).must(201).body["spec"]
    assert spec["containers"][0]["readinessProbe"] == {
        "httpGet": {"path": "/", "port": 80, "scheme": "HTTP"},
        "timeoutSeconds": 1,
        "periodSeconds": 10,
        "successThreshold": 1,
        "failureThreshold": 3,
    }


def test_quality_of_service_follows_the_resources(api: Client, ns: str) -> None:
    def quality(name: str, resources: Object) -> str:
        containers = [{"name": "a", "image": "web:1", "resources": resources}]
        made = api.post(core(ns, "pods"), pod(name, containers=containers)).must(201).body
        return str(made["status"]["qosClass"])

    some = {"cpu": "100m", "memory": "64Mi"}
    assert quality("burstable", {"requests": some}) == "Burstable"
    assert quality("guaranteed", {"limits": some}) == "Guaranteed"


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"containers": []}, "spec.containers"),
        ({"containers": [{"name": "UPPER", "image": "web:1"}]}, "spec.containers[0].name"),
        ({"containers": [{"name": "a"}]}, "spec.containers[0].image"),
        (
            {"containers": [{"name": "a", "image": "x"}, {"name": "a", "image": "x"}]},
            "spec.containers[1].name",
        ),
        (
            {"containers": [{"name": "a", "image": "x", "ports": [{"containerPort": 70000}]}]},
            "spec.containers[0].ports[0].containerPort",
        ),
        (
            {"containers": [{"name": "a", "image": "x", "ports": [{"containerPort": 1, "protocol": "ICMP"}]}]},
            "spec.containers[0].ports[0].protocol",
        ),
        ({"restartPolicy": "Sometimes"}, "spec.restartPolicy"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_pod_is_validated(api: Client, ns: str, spec: Object, field: str) -> None:
    refused = api.post(core(ns, "pods"), pod("web", **spec)).must(422, "Invalid")
    assert field in refused.fields
    assert refused.body["message"].startswith('Pod "web" is invalid: ')
    assert refused.body["details"]["kind"] == "Pod"


@pytest.mark.parametrize("name", ["Upper", "under_score", "-dash", "dot.", "x" * 254])
def test_names_are_validated(api: Client, ns: str, name: str) -> None:
    assert api.post(core(ns, "configmaps"), config_map(name)).must(422, "Invalid").fields == {"metadata.name"}


def test_a_name_is_required(api: Client, ns: str) -> None:
    assert "metadata.name" in api.post(core(ns, "configmaps"), {"data": {}}).must(422, "Invalid").fields


def test_labels_are_validated(api: Client, ns: str) -> None:
    for labels in ({"bad key": "x"}, {"a": "bad value"}, {"a": "x" * 64}):
        refused = api.post(core(ns, "configmaps"), config_map("one", labels=labels)).must(422, "Invalid")
        assert refused.fields == {"metadata.labels"}


def test_fields_have_types(api: Client, ns: str) -> None:
    api.post(core(ns, "configmaps"), {"metadata": {"name": "one"}, "data": "text"}).must(400, "BadRequest")
    api.post(apps(ns, "deployments"), {**deployment("web"), "spec": {"replicas": "many"}}).must(400, "BadRequest")


# --- services


def in_ranges(address: str) -> int:
    """Return the family of a cluster address that lies in the lab's service ranges."""
    parsed = ipaddress.ip_address(address)
    assert any(parsed in ipaddress.ip_network(net) for net in ("10.96.0.0/16", "fd00:10:96::/112")), address
    return parsed.version


def test_a_service_gets_an_address_and_defaults(api: Client, ns: str) -> None:
    made = api.post(core(ns, "services"), service("web", {"port": 80})).must(201).body["spec"]

    assert in_ranges(made["clusterIP"]) == 4
    assert made["clusterIPs"] == [made["clusterIP"]]
    assert (made["ipFamilies"], made["ipFamilyPolicy"]) == (["IPv4"], "SingleStack")
    assert made["type"] == "ClusterIP"
    assert made["sessionAffinity"] == "None"
    assert made["ports"] == [{"port": 80, "targetPort": 80, "protocol": "TCP"}]


def test_a_dual_stack_service_has_both_families(api: Client, ns: str) -> None:
    made = api.post(core(ns, "services"), service("web", ipFamilyPolicy="PreferDualStack")).must(201).body["spec"]
    assert [in_ranges(address) for address in made["clusterIPs"]] == [4, 6]
    assert made["ipFamilies"] == ["IPv4", "IPv6"]

    wanted = service("six", ipFamilyPolicy="RequireDualStack", ipFamilies=["IPv6"])
    six = api.post(core(ns, "services"), wanted).must(201).body["spec"]
    assert [in_ranges(address) for address in six["clusterIPs"]] == [6, 4]
    single = api.post(core(ns, "services"), service("only-six", ipFamilies=["IPv6"])).must(201).body["spec"]
    assert [in_ranges(address) for address in single["clusterIPs"]] == [6]


def test_a_headless_service_has_no_address(api: Client, ns: str) -> None:
    made = api.post(core(ns, "services"), service("web", clusterIP="None")).must(201).body["spec"]
    assert (made["clusterIP"], made["clusterIPs"]) == ("None", ["None"])


def test_node_ports_are_handed_out_and_given_back(api: Client, ns: str) -> None:
    path = core(ns, "services")
    made = api.post(path, service("web", {"port": 80}, type="NodePort")).must(201).body["spec"]
    (port,) = made["ports"]
    assert 30000 <= port["nodePort"] <= 32767
    assert made["externalTrafficPolicy"] == "Cluster"

    taken = service("other", {"port": 80, "nodePort": port["nodePort"]}, type="NodePort")
    refused = api.post(path, taken).must(422, "Invalid")
    assert refused.fields == {"spec.ports[0].nodePort"}
    assert "provided port is already allocated" in refused.body["message"]
    api.delete(path + "/web").must(200)
    api.post(path, taken).must(201)


def test_a_node_port_outside_the_range_is_refused(api: Client, ns: str) -> None:
    body = service("web", {"port": 80, "nodePort": 80}, type="NodePort")
    assert api.post(core(ns, "services"), body).must(422, "Invalid").fields == {"spec.ports[0].nodePort"}


def test_a_cluster_address_is_taken_once(api: Client, ns: str) -> None:
    path = core(ns, "services")
    address = api.post(path, service("web")).must(201).body["spec"]["clusterIP"]
    refused = api.post(path, service("other", clusterIP=address)).must(422, "Invalid")
    assert refused.fields & {"spec.clusterIP", "spec.clusterIPs"}
    assert "provided IP is already allocated" in refused.body["message"]
    api.post(path, service("outside", clusterIP="192.0.2.1")).must(422, "Invalid")


def test_a_cluster_address_stays(api: Client, ns: str) -> None:
    api.post(core(ns, "services"), service("web")).must(201)
    change = {"spec": {"clusterIP": "10.96.77.77", "clusterIPs": ["10.96.77.77"]}}
    api.merge(core(ns, "services") + "/web", change).must(422, "Invalid")


def test_a_replace_that_names_no_address_keeps_it(server: Server, ns: str) -> None:
    server.needs("services keep their addresses when replaced")
    api, path = server.client, core(ns, "services")
    made = api.post(path, service("web")).must(201).body
    replaced = api.put(path + "/web", service("web") | {"metadata": made["metadata"]}).must(200).body
    assert replaced["spec"]["clusterIP"] == made["spec"]["clusterIP"]


def test_a_service_changes_its_type_and_back(api: Client, ns: str) -> None:
    path = core(ns, "services") + "/web"
    api.post(core(ns, "services"), service("web")).must(201)
    balanced = api.merge(path, {"spec": {"type": "LoadBalancer"}}).must(200).body["spec"]
    assert balanced["ports"][0]["nodePort"]
    plain = api.merge(path, {"spec": {"type": "ClusterIP"}}).must(200).body["spec"]
    assert "nodePort" not in plain["ports"][0]
    assert "externalTrafficPolicy" not in plain


def test_what_only_a_load_balancer_has_goes_with_the_type_but_its_status_is_the_writers(api: Client, ns: str) -> None:
    path = core(ns, "services") + "/web"
    spec = {"type": "LoadBalancer", "externalTrafficPolicy": "Local"}
    made = api.post(core(ns, "services"), service("web", **spec)).must(201).body["spec"]
    assert made["healthCheckNodePort"] not in (0, made["ports"][0]["nodePort"])
    balancer = {"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}}
    assert api.merge(path + "/status", balancer).must(200).body["status"] == balancer["status"]
    assert api.merge(path, {"spec": {"sessionAffinity": "ClientIP"}}).must(200).body["status"] == balancer["status"]

    plain = api.merge(path, {"spec": {"type": "ClusterIP"}}).must(200).body
    assert plain["status"] == balancer["status"]
    assert not {"healthCheckNodePort", "externalTrafficPolicy", "allocateLoadBalancerNodePorts"} & plain["spec"].keys()


def test_the_class_of_a_load_balancer_stays_as_long_as_the_type(server: Server, ns: str) -> None:
    server.needs("load balancer classes")
    api, path = server.client, core(ns, "services") + "/web"
    api.post(core(ns, "services"), service("web", type="LoadBalancer", loadBalancerClass="example.com/a")).must(201)
    changed = api.merge(path, {"spec": {"loadBalancerClass": "example.com/b"}}).must(422, "Invalid").body
    assert changed["details"]["causes"][0]["field"] == "spec.loadBalancerClass"
    api.merge(path, {"spec": {"loadBalancerClass": None}}).must(422, "Invalid")
    assert "loadBalancerClass" not in api.merge(path, {"spec": {"type": "NodePort"}}).must(200).body["spec"]
    again = {"spec": {"type": "LoadBalancer", "loadBalancerClass": "example.com/b"}}
    assert api.merge(path, again).must(200).body["spec"]["loadBalancerClass"] == "example.com/b"


def test_session_affinity_is_defaulted(api: Client, ns: str) -> None:
    made = api.post(core(ns, "services"), service("web", sessionAffinity="ClientIP")).must(201).body["spec"]
    assert made["sessionAffinityConfig"] == {"clientIP": {"timeoutSeconds": 10800}}


@pytest.mark.parametrize(
    ("ports", "spec", "field"),
    [
        ([{"port": 0}], {}, "spec.ports[0].port"),
        ([{"port": 80}, {"port": 81}], {}, "spec.ports[0].name"),
        ([{"port": 80, "name": "a"}, {"port": 80, "name": "b"}], {}, "spec.ports[1]"),
        ([{"port": 80, "name": "a"}, {"port": 81, "name": "a"}], {}, "spec.ports[1].name"),
        ([{"port": 80, "protocol": "ICMP"}], {}, "spec.ports[0].protocol"),
        ([{"port": 80}], {"type": "Other"}, "spec.type"),
        ([{"port": 80}], {"sessionAffinity": "Other"}, "spec.sessionAffinity"),
        ([{"port": 80}], {"type": "ExternalName"}, "spec.externalName"),
        ([{"port": 80}], {"loadBalancerSourceRanges": ["10.0.0.0/8"]}, "spec.LoadBalancerSourceRanges"),
        (
            [{"port": 80}],
            {"type": "LoadBalancer", "loadBalancerSourceRanges": ["10.0.0.0/8", "10.0.0.1"]},
            "spec.LoadBalancerSourceRanges",
        ),
        ([{"port": 80}], {"externalIPs": ["nonsense"]}, "spec.externalIPs[0]"),
    ],
)
def test_a_service_is_validated(api: Client, ns: str, ports: list[Object], spec: Object, field: str) -> None:
    assert field in api.post(core(ns, "services"), service("web", *ports, **spec)).must(422, "Invalid").fields


def test_internal_traffic_policy(server: Server, ns: str) -> None:
    server.needs("internalTrafficPolicy")
    body = service("web", internalTrafficPolicy="Local")
    assert server.client.post(core(ns, "services"), body).must(201).body["spec"]["internalTrafficPolicy"] == "Local"


# --- workloads


def test_a_deployment_is_defaulted(api: Client, ns: str) -> None:
    made = api.post(apps(ns, "deployments"), deployment("web")).must(201).body["spec"]
    assert made["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}}
    assert made["revisionHistoryLimit"] == 10
    assert made["progressDeadlineSeconds"] == 600
    assert made["template"]["spec"]["restartPolicy"] == "Always"
    assert made["template"]["metadata"]["labels"] == {"app": "web"}


def test_a_selector_must_match_its_template_and_stays(api: Client, ns: str) -> None:
    body = deployment("web")
    body["spec"]["template"]["metadata"]["labels"] = {"app": "other"}
    assert "spec.template.metadata.labels" in api.post(apps(ns, "deployments"), body).must(422, "Invalid").fields

    api.post(apps(ns, "deployments"), deployment("web")).must(201)
    change = {"spec": {"selector": {"matchLabels": {"app": "web", "more": "x"}}}}
    assert api.merge(apps(ns, "deployments") + "/web", change).must(422, "Invalid").status == 422


@pytest.mark.parametrize(
    ("plural", "kind", "extra", "defaults"),
    [
        ("replicasets", "ReplicaSet", {}, {"replicas": 1}),
        (
            "statefulsets",
            "StatefulSet",
            {"serviceName": "web"},
            {
                "replicas": 1,
                "podManagementPolicy": "OrderedReady",
                "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
            },
        ),
        ("daemonsets", "DaemonSet", {}, {"revisionHistoryLimit": 10}),
    ],
)
def test_the_other_workloads(
    api: Client, ns: str, plural: str, kind: str, extra: Object, defaults: dict[str, Any]
) -> None:
    body = {**deployment("web"), "kind": kind}
    body["spec"] = {name: body["spec"][name] for name in ("selector", "template")} | extra
    made = api.post(apps(ns, plural), body).must(201).body
    assert {name: made["spec"][name] for name in defaults} == defaults
    assert made["metadata"]["generation"] == 1


def test_a_job_makes_its_own_selector(api: Client, ns: str) -> None:
    path = f"/apis/batch/v1/namespaces/{ns}/jobs"
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": "x:1"}]}}
    made = api.post(path, {"metadata": {"name": "once"}, "spec": {"template": template}}).must(201).body
    uid = made["metadata"]["uid"]
    assert uid in made["spec"]["selector"]["matchLabels"].values()
    labels = made["spec"]["template"]["metadata"]["labels"]
    assert made["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert "once" in labels.values()
    assert (made["spec"]["completions"], made["spec"]["parallelism"], made["spec"]["backoffLimit"]) == (1, 1, 6)


def test_a_cron_job(server: Server, ns: str) -> None:
    server.needs("batch/v1 cron jobs")
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": "x:1"}]}}
    body = {
        "metadata": {"name": "often"},
        "spec": {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": template}}},
    }
    made = server.client.post(f"/apis/batch/v1/namespaces/{ns}/cronjobs", body).must(201).body
    assert (made["spec"]["concurrencyPolicy"], made["spec"]["suspend"]) == ("Allow", False)


def test_endpoint_slices(server: Server, ns: str) -> None:
    version = "v1" if server.has("discovery.k8s.io/v1") else "v1beta1"
    body = {
        "metadata": {"name": "web-x", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.4.0.2"], "conditions": {"ready": True}}],
        "ports": [{"name": "http", "port": 80}],
    }
    path = f"/apis/discovery.k8s.io/{version}/namespaces/{ns}/endpointslices"
    made = server.client.post(path, body).must(201).body
    assert made["ports"] == [{"name": "http", "port": 80, "protocol": "TCP"}]
    assert made["endpoints"][0]["addresses"] == ["10.4.0.2"]
    bad = {**body, "metadata": {"name": "bad"}, "addressType": "IPv6"}
    assert server.client.post(path, bad).must(422, "Invalid").fields == {"endpoints[0].addresses[0]"}


def test_secrets_take_plain_text(api: Client, ns: str) -> None:
    body = {"metadata": {"name": "s"}, "stringData": {"password": "hunter2"}}
    made = api.post(core(ns, "secrets"), body).must(201).body
    assert made["data"] == {"password": "aHVudGVyMg=="}
    assert made["type"] == "Opaque"
    assert "stringData" not in made
