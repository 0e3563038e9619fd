"""Calls a CNI plugin as a container runtime does (CNI specification 1.0.0, sections 2 and 5)."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson

Json = dict[str, Any]

INTERFACE = "eth0"
TIMEOUT = 60.0  # seconds; a runtime gives a plugin minutes, a lab wants to know sooner


class CniError(Exception):
    """The plugin failed; the text is what it said."""


class Attachment(NamedTuple):
    """Whose sandbox a call is about."""

    container_id: str
    netns: str  # path of the namespace; empty when it is gone
    namespace: str
    pod: str
    uid: str


def add(command: Sequence[str], config: Json, attachment: Attachment) -> tuple[str, ...]:
    """ADD: plug the sandbox, and return the pod's addresses without prefix length, in the plugin's order.

    Raises :class:`CniError`.
    """
    printed = _call("ADD", command, config, attachment)
    try:
        result = orjson.loads(printed)
        addresses = tuple(str(each["address"]).partition("/")[0] for each in result.get("ips") or ())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CniError(f"the CNI plugin's ADD printed no result: {printed[:200]!r}") from error
    if not addresses:
        raise CniError(f"the CNI plugin's ADD gave no address: {printed[:200]!r}")
    return addresses


def delete(command: Sequence[str], config: Json, attachment: Attachment) -> None:
    """DEL: unplug the sandbox; one that is not plugged is fine. Raises :class:`CniError`."""
    _call("DEL", command, config, attachment)


def _call(verb: str, command: Sequence[str], config: Json, attachment: Attachment) -> bytes:
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "CNI_COMMAND": verb,
        "CNI_CONTAINERID": attachment.container_id,
        "CNI_NETNS": attachment.netns,
        "CNI_IFNAME": INTERFACE,
        "CNI_PATH": os.path.dirname(command[0]),
        "CNI_ARGS": (
            f"IgnoreUnknown=1;K8S_POD_NAMESPACE={attachment.namespace};K8S_POD_NAME={attachment.pod};"
            f"K8S_POD_INFRA_CONTAINER_ID={attachment.container_id};K8S_POD_UID={attachment.uid}"
        ),
    }
    try:
        done = subprocess.run(
            command, input=orjson.dumps(config), env=environment, capture_output=True, timeout=TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise CniError(f"the CNI plugin's {verb} did not end within {TIMEOUT:.0f} s") from error
    except OSError as error:
        raise CniError(f"the CNI plugin cannot be started: {error}") from error
    if done.returncode != 0:
        raise CniError(f"the CNI plugin's {verb} failed: {_reason(done)}")
    return done.stdout


def _reason(done: subprocess.CompletedProcess[bytes]) -> str:
    """What a failed plugin said: its error result (section 5), or the end of what it wrote on stderr."""
    try:
        said = orjson.loads(done.stdout)
        text = ": ".join(str(said[part]) for part in ("msg", "details") if said.get(part))
    except (ValueError, AttributeError):
        text = ""
    return text or done.stderr.decode("utf-8", "replace").strip()[-500:] or f"exit code {done.returncode}"
