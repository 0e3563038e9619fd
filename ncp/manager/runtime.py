"""Options changed without a restart: the NCPSetting called ``ncp-setting``, followed while this replica leads.

Whether the resource is served may change at any time, so its definition is watched, and the objects while there is
one. An object that is wrong changes nothing: what held before goes on, and the object says why. ``status.applied`` is
what holds, so that a new leader of an object that has become wrong goes on as well.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from ncp.kube.client import Kube
from ncp.kube.custom import CustomReflector
from ncp.kube.errors import ApiError, Unavailable
from ncp.kube.resources import Resource
from ncp.settings_options import OPTIONS

log = logging.getLogger(__name__)

NCP_SETTINGS: Final = Resource("vmware.com", "v1alpha1", "ncpsettings", "NCPSetting", False)
NAME: Final = "ncp-setting"
"""The one object that counts."""
RUN_TIME: Final = {option.name: option for option in OPTIONS if option.runtime}
APPLIED: Final = "SETTING_APPLIED"
INVALID: Final = "SETTING_INVALID"
IGNORED: Final = "SETTING_IGNORED"
SOON: Final = 0.05
RETRY: Final = 2.0
Json = dict[str, Any]


class Overrides(NamedTuple):
    """Options that hold at run time instead of the file's, by name."""

    values: Mapping[str, Any]


class Verdict(NamedTuple):
    """What is asked for, and what is wrong with it: with any problem, nothing of it holds."""

    values: Json
    problems: tuple[str, ...]


def judge(asked: object, where: str = "spec") -> Verdict:
    """Read options as an object gives them. The API server's schema may be another than ours, so anything may come."""
    if asked is None:
        return Verdict({}, ())
    if not isinstance(asked, dict):
        return Verdict({}, (f"{where} is not an object",))
    values, problems = {}, []
    for name, value in asked.items():
        option = RUN_TIME.get(name)
        if option is None:
            problems.append(f"{where}.{name}: no option of this name changes at run time; those are {_all()}")
            continue
        text = value if isinstance(value, str) else json.dumps(value)
        try:
            values[name] = option.kind.parse(text)
        except ValueError as error:
            problems.append(f"{where}.{name} = {text}: {error}; allowed: {option.kind.allowed}")
    return Verdict({} if problems else values, tuple(problems))


def applied(setting: Json) -> Json:
    """The options that an NCPSetting's status says to hold; none where it says nothing usable."""
    status = setting.get("status")
    return judge(status.get("applied") if isinstance(status, dict) else None, "status.applied").values


class RunTimeSettings:
    """Reports what holds whenever it changes; writes on the objects what became of them.

    ``settled`` is set once the first answer is known and reported.
    """

    def __init__(self, kube: Kube, *, leading: Callable[[], bool], report: Callable[[Overrides], None]):
        self._kube, self._leading, self._report = kube, leading, report
        self._wake = threading.Event()
        self._stopping = False
        self._objects = CustomReflector(kube, NCP_SETTINGS, self._changed)
        self._held: Json = {}
        self._uid = ""  # of the object that what holds comes from
        self._told: tuple[str, ...] = ()  # the last status written, and on what
        self._ignored: set[str] = set()  # uids of other objects, told so
        self._behind = False  # something is still to be written
        self._thread = threading.Thread(target=self._run, name="run-time-settings", daemon=True)
        self.settled = threading.Event()

    def start(self) -> None:
        """Begin to watch."""
        self._objects.start()
        self._thread.start()

    def stop(self) -> None:
        """End; nothing is reported or written after this returns."""
        self._stopping = True
        self._wake.set()
        self._thread.join(timeout=5.0)
        self._objects.stop()

    def _changed(self, key: tuple[str, str], old: Json | None, new: Json | None) -> None:
        self._wake.set()

    def _run(self) -> None:
        while not self._stopping:
            try:
                self._look()
            except Exception:  # an object in a shape nobody foresaw must not end the watch over the next one
                log.exception("NCPSetting could not be read; what held goes on")
            self._wake.wait(SOON if not self.settled.is_set() else RETRY if self._behind else None)
            self._wake.clear()

    def _look(self) -> None:
        """Compare what there is with what holds; whatever happened in between, the same comes out."""
        known = self._objects.synced.is_set()  # asked before the store is read: the list may come in between
        found = self._objects.store.get(("", NAME))
        self._behind = False
        verdict = self._hold(found)
        if known:
            self.settled.set()
        if found is not None:
            self._tell(found, verdict)
        self._ignore_others()

    def _hold(self, found: Json | None) -> Verdict:
        """Report what holds with the object as it is, if that is new."""
        verdict = judge(found.get("spec")) if found else Verdict({}, ())
        uid = found["metadata"]["uid"] if found else ""
        values = verdict.values
        if found is not None and verdict.problems:
            values = self._held if uid == self._uid else applied(found)
        self._uid = uid
        if values != self._held:
            self._held = values
            log.info("set at run time: %s", _listed(values))
            self._report(Overrides(values))
        return verdict

    def _tell(self, found: Json, verdict: Verdict) -> None:
        """Write what became of the object that counts, where its status says something else."""
        meta, shown = found["metadata"], found.get("status") or {}
        reason = INVALID if verdict.problems else APPLIED
        message = f"{'; '.join(verdict.problems)}; it stays at: " if verdict.problems else ""
        message += _listed(self._held)
        wanted = {
            "type": "Applied",
            "status": "False" if verdict.problems else "True",
            "reason": reason,
            "message": message,
            "observedGeneration": meta.get("generation", 0),
        }
        held = next((each for each in shown.get("conditions") or () if each.get("type") == "Applied"), {})
        told = (meta["uid"], json.dumps(shown, sort_keys=True), json.dumps([wanted, self._held], sort_keys=True))
        if (wanted.items() <= held.items() and shown.get("applied", {}) == self._held) or told == self._told:
            return  # a schema that keeps no status must not make us write for ever
        same = held.get("status") == wanted["status"]
        since = held.get("lastTransitionTime") if same else None
        condition = wanted | {"lastTransitionTime": since or datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}
        values = {name: self._held.get(name) for name in RUN_TIME}  # None takes a former value out
        status = {"applied": values, "conditions": [condition]}
        body = {"metadata": {"uid": meta["uid"]}, "status": status}
        if self._write(lambda: self._kube.patch(NCP_SETTINGS, NAME, body=body, subresource="status")):
            self._told = told
            self._record(found, reason, message)

    def _ignore_others(self) -> None:
        objects = self._objects.store.items()
        others = {obj["metadata"]["uid"]: obj for key, obj in objects if key != ("", NAME)}
        self._ignored &= others.keys()
        for uid, obj in others.items():
            text = f"the NCPSetting that counts is called {NAME}; this one changes nothing"
            if uid not in self._ignored and self._record(obj, IGNORED, text):
                self._ignored.add(uid)

    def _record(self, about: Json, reason: str, message: str) -> bool:
        """An Event for people; whether it is dealt with."""
        kind = "Normal" if reason == APPLIED else "Warning"
        log.log(logging.INFO if reason == APPLIED else logging.WARNING, "%s: %s", reason, message)
        return self._write(
            lambda: self._kube.event(about, reason=reason, message=message, type=kind, component="ncp-manager")
        )

    def _write(self, call: Callable[[], object]) -> bool:
        """Whether a write is dealt with: a refusal would only repeat itself, silence is asked again."""
        if not self._leading():
            return False
        try:
            call()
        except Unavailable as error:
            log.info("NCPSetting: %s; trying again", error)
            self._behind = True
            return False
        except ApiError as error:
            log.warning("NCPSetting: what became of it could not be written: %s", error)
        return True


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in sorted(values.items())) or "the values of ncp.ini"


def _all() -> str:
    return ", ".join(sorted(RUN_TIME))
