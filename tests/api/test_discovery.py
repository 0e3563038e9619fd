from __future__ import annotations

from labs.api.openapi_v2 import PROTOBUF
from labs.api.protobuf import fields
from labs.api.resources import BUILT_IN
from tests.api.client import Client

AGGREGATED = "application/json;g=apidiscovery.k8s.io;v={};as=APIGroupDiscoveryList,application/json"


def test_the_server_is_well_and_says_what_it_is(client: Client) -> None:
    for path in ("/healthz", "/livez", "/readyz"):
        assert client.ok("GET", path) == b"ok"
    for path in ("/version", "/version/"):
        assert client.ok("GET", path)["gitVersion"].startswith("v1.32")


def test_every_resource_is_found_in_the_old_discovery(client: Client) -> None:
    assert client.ok("GET", "/api")["versions"] == ["v1"]
    groups = {g["name"]: [v["version"] for v in g["versions"]] for g in client.ok("GET", "/apis")["groups"]}
    for resource in BUILT_IN:
        assert not resource.group or resource.version in groups[resource.group]
        root = f"/apis/{resource.group}" if resource.group else "/api"
        listed = {r["name"]: r for r in client.ok("GET", f"{root}/{resource.version}")["resources"]}
        assert listed[resource.plural]["kind"] == resource.kind
        assert listed[resource.plural]["namespaced"] is resource.namespaced


def test_every_resource_is_found_in_the_aggregated_discovery(client: Client) -> None:
    for version in ("v2", "v2beta1"):
        found = set()
        for path in ("/api", "/apis"):
            answer = client.ask("GET", path, accept=AGGREGATED.format(version))
            media = f"application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList"
            assert answer.headers["content-type"] == media
            for group in answer.body["items"]:
                for entry in group["versions"]:
                    name = group["metadata"].get("name", "")
                    found |= {(name, entry["version"], resource["resource"]) for resource in entry["resources"]}
        assert {(r.group, r.version, r.plural) for r in BUILT_IN} <= found


def test_shapes_are_described(client: Client) -> None:
    index = client.ok("GET", "/openapi/v3")["paths"]
    document = client.ok("GET", index["apis/apps/v1"]["serverRelativeURL"])
    schemas = document["components"]["schemas"]
    spec = schemas["io.k8s.DeploymentSpec"]
    assert spec["properties"]["replicas"] == {"type": "integer", "format": "int32"}
    mentioned = {name for name in schemas if name != "io.k8s.Deployment"}
    assert "io.k8s.PodSpec" in mentioned
    patch = document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"]
    assert {"fieldValidation", "dryRun"} <= {p["name"] for p in patch["parameters"]}
    client.refused(404, "GET", "/openapi/v3/apis/none/v1")


def test_the_v2_document_is_protobuf_for_those_who_ask(client: Client) -> None:
    answer = client.ask("GET", "/openapi/v2", accept="application/com.github.proto-openapi.spec.v2@v1.0+protobuf")
    assert answer.headers["content-type"] == PROTOBUF
    assert next(fields(answer.body)) == (1, b"2.0")
    assert client.ok("GET", "/openapi/v2")["swagger"] == "2.0"


def test_everything_is_allowed(client: Client) -> None:
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    body = {"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}}
    assert client.ok("POST", path, body)["status"] == {"allowed": True}
