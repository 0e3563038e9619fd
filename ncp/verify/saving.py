"""Disagreements become case files: one for each kind of them in a table."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from ncp.probe.model import Result, is_host
from ncp.probe.site import Site
from ncp.verify.casefile import CaseFile, CasePod, write
from ncp.verify.minimise import minimal
from ncp.verify.policies import RESOURCES, plain

Json = dict[str, Any]
DIRECTORY: Final = Path("verify-cases")
"""Where case files go if nobody says where."""
_NAME: Final = "kubernetes.io/metadata.name"


def save(site: Site, results: Iterable[Result], directory: Path, prefix: str = "") -> list[Path]:
    """Write a case file for each kind of disagreement among some results; the files.

    Of one kind are probes of which everybody says the same, for the same reasons.

    Raises:
        OSError: the directory cannot be written.
    """
    kinds: dict[object, list[Result]] = {}
    for each in results:
        if not each.agrees:
            kinds.setdefault(_kind(each), []).append(each)
    written = []
    for alike in kinds.values():
        case = minimal(case_of(site, alike[0], alike[1:]))
        text = write(case)
        digest = hashlib.blake2b(text.encode(), digest_size=3).hexdigest()
        path = directory / f"{prefix}{re.sub('[^a-z0-9]+', '-', str(case.probe).lower())}-{digest}.yaml"
        directory.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        written.append(path)
    return written


def _kind(result: Result) -> object:
    asked = (result.expected, result.traced, result.observed)
    return tuple((verdict.answer, verdict.causes) for verdict in asked)


def case_of(site: Site, result: Result, alike: Iterable[Result] = ()) -> CaseFile:
    """A disagreement with all of the cluster around it."""
    intent = site.intent
    pods = {f"{pod['metadata']['namespace']}/{pod['metadata']['name']}": pod for pod in site.objects["Pod"]}
    return CaseFile(
        probe=result.probe,
        verdicts={"expected": result.expected, "traced": result.traced, "observed": result.observed},
        namespaces={
            name: {key: value for key, value in labels if key != _NAME} for name, labels in intent.namespaces.items()
        },
        pods=tuple(
            CasePod(
                name,
                pods[name]["metadata"].get("labels") or {},
                tuple(port for each in pods[name]["spec"].get("containers") or () for port in each.get("ports") or ()),
                port.node,
                tuple(map(str, port.addresses)),
            )
            for name, port in sorted(intent.ports.items())
            if name in pods
        ),
        policies=tuple(plain(each) for kind in RESOURCES for each in site.objects.get(kind, ())),
        hosts={name: tuple(map(str, end.addresses)) for name, end in site.endpoints.items() if is_host(name)},
        settings={"baseline_policy_type": site.translation.baseline, **intent.firewall.priorities._asdict()},
        versions=versions(site),
        also=tuple(str(each.probe) for each in alike),
    )


def versions(site: Site) -> dict[str, str]:
    """What was running."""
    switches = {str(status["ovs_version"]) for status in site.agents.values()}
    return {
        "ncp": importlib.metadata.version("open-ncp"),
        "openvswitch": ", ".join(sorted(switches)) or "unknown",
        "scapy": importlib.metadata.version("scapy"),
        "python": platform.python_version(),
        "kernel": platform.release(),
    }
