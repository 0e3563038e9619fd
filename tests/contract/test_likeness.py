"""The same objects given to both servers come back the same."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .client import Kubectl, Object
from .concessions import Server

SAMPLES = Path(__file__).parent / "samples.yaml"

# What each server makes up for itself: it must be there, whatever it says.
ITS_OWN = {
    *("uid", "creationTimestamp", "resourceVersion", "nodePort", "clusterIP", "clusterIPs", "healthCheckNodePort"),
    *("controller-uid",),
}
# Fields which Kubernetes 1.20 does not have and newer versions fill in; the pattern is matched against "Kind.path".
NEWER = re.compile(
    r"""(
        Service\.spec\.(internalTrafficPolicy|allocateLoadBalancerNodePorts|trafficDistribution)
      | DaemonSet\.spec\.updateStrategy\.rollingUpdate\.maxSurge
      | StatefulSet\.spec\.(persistentVolumeClaimRetentionPolicy|minReadySeconds|updateStrategy\..*)
      | StatefulSet\.status\.availableReplicas
      | Job\.spec\.(completionMode|podReplacementPolicy|suspend|manualSelector)
      | Job\.(metadata|spec\.template\.metadata)\.labels\.batch\.kubernetes\.io/(job-name|controller-uid)
      | Job\.spec\.selector\.matchLabels\.batch\.kubernetes\.io/controller-uid
      | Job\.status\.(ready|uncountedTerminatedPods)
      | Job\.metadata\.generation
      | NetworkPolicy\.status
      | (Pod\.spec|.*\.template\.spec)\.hostUsers
    )""",
    re.VERBOSE,
)
# Fields which old servers show and new ones do not.
OLDER = re.compile(
    r"""(
        DaemonSet\.metadata\.annotations\.deprecated\.daemonset\.template\.generation
      | Job\.spec\.selector\.matchLabels\.controller-uid
      | .*\.(template|volumeClaimTemplates\[\d+\])\.metadata\.creationTimestamp  # null, until 1.34
    )""",
    re.VERBOSE,
)


@pytest.mark.kube
def test_both_servers_store_the_same(embedded_server: Server, real_server: Server, tmp_path: Path) -> None:
    ours, real = (stored(server, tmp_path) for server in (embedded_server, real_server))
    assert ours.keys() == real.keys()
    different = [line for key in sorted(real) for line in differences(real[key], ours[key], key[0])]
    assert not different, "\n".join(different)


def stored(server: Server, home: Path) -> dict[tuple[str, str], Object]:
    """Apply the samples in a fresh namespace and return what the server made of them, by kind and name."""
    namespace = f"c-{uuid.uuid4().hex[:10]}"
    for create in (
        ("namespaces", namespace, "/api/v1"),
        ("serviceaccounts", "default", f"/api/v1/namespaces/{namespace}"),
    ):
        plural, name, prefix = create
        answer = server.client.post(f"{prefix}/{plural}", {"metadata": {"name": name}})
        assert answer.status in (201, 409), answer
    kubectl = Kubectl(server.kubeconfig, namespace, home)
    kubectl("apply", "-f", str(SAMPLES))
    items = json.loads(kubectl("get", "-f", str(SAMPLES), "-o", "json").out.replace(namespace, "NAMESPACE"))["items"]
    return {(item["kind"], item["metadata"]["name"]): item for item in items}


def differences(real: Any, ours: Any, path: str) -> Iterator[str]:
    """Yield one line per field that one server shows and the other does not, or shows otherwise."""
    if isinstance(real, dict) and isinstance(ours, dict):
        for field in sorted(real.keys() | ours.keys()):
            where = f"{path}.{field}"
            if (
                NEWER.fullmatch(where)
                or OLDER.fullmatch(where)
                or (field in ITS_OWN and field in real and field in ours)
            ):
                continue
            if field not in ours:
                yield f"{where}: only the real one shows {real[field]!r}"
            elif field not in real:
                yield f"{where}: only ours shows {ours[field]!r}"
            else:
                yield from differences(real[field], ours[field], where)
    elif isinstance(real, list) and isinstance(ours, list) and len(real) == len(ours):
        for number, (theirs, mine) in enumerate(zip(real, ours, strict=True)):
            yield from differences(theirs, mine, f"{path}[{number}]")
    elif real != ours:
        yield f"{path}: real {real!r}, ours {ours!r}"
