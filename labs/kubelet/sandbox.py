"""What a kubelet must not forget about a pod it runs: one small file per pod, readable after any kind of death."""

from __future__ import annotations

import dataclasses
import logging
import os
from dataclasses import dataclass, field
from pathlib import Path

import orjson

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A pod's place on a node. ``netns`` is empty for a pod on the host's network.

    It is written down before the CNI plugin is called (``plugged`` false), so that whatever the plugin left behind can
    be taken away even when this process dies in between.
    """

    uid: str
    namespace: str
    name: str
    node: str
    container_id: str
    netns: str
    attempt: int = 0
    plugged: bool = False
    addresses: tuple[str, ...] = ()
    started: str = ""  # time of the containers' start, as the API writes it
    restarts: dict[str, int] = field(default_factory=dict)  # container name → how often


class Shelf:
    """The directory of sandbox files; used from many threads, one at a time per uid."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory

    def load(self) -> dict[str, Sandbox]:
        """All sandboxes by uid; a file that cannot be read is reported and put aside as ``*.broken``."""
        out = {}
        for path in sorted(self._directory.glob("*.json")):
            try:
                content = orjson.loads(path.read_bytes())
                sandbox = Sandbox(**{**content, "addresses": tuple(content["addresses"])})
            except (ValueError, TypeError, KeyError) as error:
                _log.error("%s is not a sandbox (%s); put aside", path, error)
                path.rename(path.with_suffix(".broken"))
                continue
            out[sandbox.uid] = sandbox
        return out

    def put(self, sandbox: Sandbox) -> None:
        """Write a sandbox down; a reader sees the old file or the new one, never half of it."""
        path = self._directory / f"{sandbox.uid}.json"
        temporary = path.with_suffix(".new")
        temporary.write_bytes(orjson.dumps(dataclasses.asdict(sandbox)))
        os.replace(temporary, path)

    def drop(self, uid: str) -> None:
        """Forget a sandbox; one that is not there is fine."""
        (self._directory / f"{uid}.json").unlink(missing_ok=True)
