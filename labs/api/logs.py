"""Logs of pods, read from the files the kubelet writes: ``<namespace>_<pod>_<uid>/<container>.log``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from labs.api.calls import Call
from labs.api.errors import ApiError, bad_request
from labs.api.objects import Objects
from labs.api.store import Entry

POLL_SECONDS = 0.2
_CHUNK = 1 << 16


async def follow_log(
    objects: Objects, call: Call, directory: Path | None, stopping: asyncio.Event
) -> AsyncIterator[bytes]:
    """A container's log, from where the call wants it; with ``follow`` until the pod is gone."""
    resource, namespace, name, _, _ = call.target
    entry = objects.get(resource, namespace, name)
    file = _file(entry, call, directory)
    if call.flag("previous"):
        raise bad_request(f'previous terminated container in pod "{name}" not found')
    offset = _start(file, call.number("tailLines"))
    left = call.number("limitBytes")
    while True:
        chunk = _read(file, offset)
        if left is not None:
            chunk = chunk[:left]
            left -= len(chunk)
        if chunk:
            offset += len(chunk)
            yield chunk
        elif not call.flag("follow") or stopping.is_set() or _ended(objects, entry):
            return
        else:
            await asyncio.sleep(POLL_SECONDS)
        if left == 0:
            return


def _file(entry: Entry, call: Call, directory: Path | None) -> Path:
    """Which file is the log. 400 if the pod has no such container or does not run yet."""
    spec, pod = entry.load()["spec"], entry.key.name
    names = [c["name"] for c in (*spec.get("containers", ()), *spec.get("initContainers", ()))]
    wanted = call.query.get("container", "")
    if not wanted and len(spec.get("containers", ())) > 1:
        listed = " ".join(c["name"] for c in spec["containers"])
        raise bad_request(f"a container name must be specified for pod {pod}, choose one of: [{listed}]")
    container = wanted or names[0]
    if container not in names:
        raise bad_request(f"container {container} is not valid for pod {pod}")
    if directory is None:
        raise ApiError(501, "NotImplemented", "this server was started without --pod-logs, so it knows no logs")
    folder = directory / f"{entry.key.namespace}_{pod}_{entry.uid}"
    if not folder.is_dir() and entry.fields["status.phase"] == "Pending":
        raise bad_request(f'container "{container}" in pod "{pod}" is waiting to start: ContainerCreating')
    return folder / f"{container}.log"


def _start(file: Path, lines: int | None) -> int:
    """The offset where the last ``lines`` lines begin."""
    if lines is None or not file.exists():
        return 0
    body = file.read_bytes()
    if lines == 0:
        return len(body)
    parts = body.splitlines(keepends=True)
    return len(body) - sum(map(len, parts[-lines:]))


def _read(file: Path, offset: int) -> bytes:
    if not file.exists():
        return b""
    with file.open("rb") as stream:
        stream.seek(offset)
        return stream.read(_CHUNK)


def _ended(objects: Objects, entry: Entry) -> bool:
    now = objects.store.get(entry.key)
    return now is None or now.uid != entry.uid or now.fields["status.phase"] in ("Succeeded", "Failed")
