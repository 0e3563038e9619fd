"""Controller revisions: the templates a stateful set or daemon set has had, by hash (apps/v1 ControllerRevision)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import NamedTuple

from labs.cluster.pods import Json, digest, owned_by, reference_to
from labs.cluster.writes import Create, Delete, Patch, Write
from ncp.kube.resources import Resource

CONTROLLER_REVISIONS = Resource("apps", "v1", "controllerrevisions", "ControllerRevision", True)
HASH = "controller-revision-hash"


class History(NamedTuple):
    """The revision of the present template, those known before, and what to write for them."""

    update: str  # name of the revision of the present template
    templates: dict[str, Json]  # revision name → pod template
    writes: list[Write]


def history(owner: Json, revisions: Sequence[Json], in_use: set[str]) -> History:
    """Find or make the revision of ``owner``'s template; forget the oldest beyond its limit that no pod uses."""
    template = owner["spec"]["template"]
    mine = sorted((each for each in revisions if owned_by(each, owner)), key=lambda each: int(each.get("revision", 0)))
    templates = {each["metadata"]["name"]: each["data"]["spec"]["template"] for each in mine}
    name = f"{owner['metadata']['name']}-{digest(_plain(template))}"
    found = next((each for each in mine if _plain(each["data"]["spec"]["template"]) == _plain(template)), None)
    latest = int(mine[-1].get("revision", 0)) if mine else 0
    writes: list[Write] = []
    if found is None:
        writes.append(Create(CONTROLLER_REVISIONS, _revision(owner, name, latest + 1)))
        templates[name] = template
    else:
        name = found["metadata"]["name"]
        if int(found.get("revision", 0)) < latest:  # the template went back to an earlier one
            writes.append(Patch(CONTROLLER_REVISIONS, found, {"revision": latest + 1}))
    unused = [each for each in mine if each["metadata"]["name"] not in in_use | {name}]
    spare = len(unused) - int(owner["spec"].get("revisionHistoryLimit", 10))
    writes += [Delete(CONTROLLER_REVISIONS, each) for each in unused[: max(0, spare)]]
    return History(name, templates, writes)


def mark(revision: str, owner: Json) -> str:
    """What pods of a revision carry in their ``controller-revision-hash`` label."""
    return revision if owner["kind"] == "StatefulSet" else revision.removeprefix(f"{owner['metadata']['name']}-")


def _plain(template: Json) -> Json:
    """The template without the mark that says a revision replaces rather than merges it."""
    return {name: value for name, value in template.items() if name != "$patch"}


def _revision(owner: Json, name: str, number: int) -> Json:
    labels = dict(owner["spec"]["template"].get("metadata", {}).get("labels") or {})
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {
            "name": name,
            "namespace": owner["metadata"]["namespace"],
            "labels": {**labels, HASH: mark(name, owner)},
            "ownerReferences": [reference_to(owner)],
        },
        "data": {"spec": {"template": {**copy.deepcopy(owner["spec"]["template"]), "$patch": "replace"}}},
        "revision": number,
    }
