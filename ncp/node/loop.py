"""The one thread that owns a node's translation and program, and keeps its switch in step with them.

Inputs only say "look again" and may come from any thread: a Kubernetes object changed, the attached ports changed, the
switch came or went. The thread takes everything that has gathered, recomputes what it touches, sends one atomic bundle
and tells those who wait. Nothing is sent before the first full list of every kind and the attached ports are known, so a
restart changes nothing on a switch that is already right.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass

from ncp.node.audit import Drift, compare, compare_groups, key_of
from ncp.node.caches import Caches
from ncp.node.enforced import Enforced
from ncp.node.inbox import Inbox
from ncp.node.natstats import exhaustion, grown, without_port
from ncp.node.seats import Seat, Seats
from ncp.node.standing import Standing
from ncp.node.zones import zones_of_new_ports, zones_of_old_ports
from ncp.translate.intent import KINDS, Fabric, Key, Translation, apply_all, start
from ncp.translate.objects import Object
from sdn.compile.delta import Delta
from sdn.compile.pieces import Attachments
from sdn.model import Intent, Origin, Problem
from sdn.openflow.pack import flow_key_bytes
from sdn.openflow.session import Switch
from sdn.openflow.values import BundleRefused, InstalledFlow, SwitchGone, SwitchTimeout
from sdn.ovsdb.appctl import Appctl, AppctlError
from sdn.pipeline.flow import Flow
from sdn.pipeline.tables import is_firewall, is_learned
from sdn.program import Changes, Program, against, build, empty, update

log = logging.getLogger(__name__)

RETRY = 1.0
"""Seconds before a change that a switch did not acknowledge is tried again."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One exchange with the switch, for metrics and logs."""

    reason: str  # "change", "connect" or "audit"
    added: int
    deleted: int
    seconds: float  # from the change computed to the switch's acknowledgement
    since_event: float  # from the oldest event it answers to the acknowledgement


class Loop:
    """Keeps one switch in step with the cluster."""

    def __init__(
        self,
        node: str,
        owner: int,
        fabric: Fabric,
        switch: Switch,
        *,
        audit_interval: float = 20.0,
        connections: Callable[[], str] | None = None,
        appctl: Appctl,
        resets: bool = False,
        on_outcome: Callable[[Outcome], None] = lambda outcome: None,
        on_problems: Callable[[list[Problem]], None] = lambda problems: None,
        on_enforced: Callable[[Mapping[str, int]], None] = lambda policies: None,
        on_measured: Callable[[str, float], None] = lambda policy, seconds: None,
        on_exhausted: Callable[[Mapping[Origin, int]], None] = lambda dropped: None,
    ) -> None:
        self.node = node
        self.translation: Translation = start(fabric)
        self.program: Program = empty(node, owner)
        self.drift: list[Drift] = []
        self.last_audit = 0.0
        self.ready = threading.Event()  # the switch holds the program for the first time
        self._switch = switch
        self._caches = Caches(appctl, switch)
        self._standing = Standing(connections or (lambda: appctl.call("dpctl/dump-conntrack")), switch, resets)
        self._enforced = Enforced(on_enforced, on_measured)
        self._audit_interval = audit_interval
        self._on_outcome = on_outcome
        self._on_problems = on_problems
        self._on_exhausted = on_exhausted
        self._condition = threading.Condition()
        self._inbox = Inbox()
        self._waiting_for = set(KINDS)
        self._seats = Seats()
        self._built = False
        self._since = 0.0  # when the oldest event of the present exchange came
        self._taken = 0  # number of the newest thing that is in the program
        self._caught_up = False  # the switch holds the program but for what is in the inbox
        self._in_step = False  # ... and the inbox is empty
        self._new_switch = True  # it has come, with whatever it has, and was not compared with the program yet
        self._refused: dict[bytes, tuple[int, Problem]] = {}
        # Numbers of the newest thing asked, on the switch, and obeyed by its cache and the connections it tracks.
        self._asked = self._answered = self._settled = 0
        self._realised: Attachments = {}  # as of the last acknowledgement, as is the next
        self._acknowledged: Program = self.program
        self.fault = ""  # why the last exchange failed by a fault of ours; empty: it did not
        self._checked: Program | None = None  # the program that was last found to be equal to a full recompute
        self._audited: Program | None = None  # the one of the last audit
        self._reported: list[Problem] | None = None
        self._without_port: Mapping[Origin, int] = {}  # packets dropped as no port was left, as of the last look
        self._exhausted: list[Problem] = []  # who lost some between the last two
        self._thread = threading.Thread(target=self._run, name=f"loop-{node}", daemon=True)

    # -- inputs, from any thread ------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop after the exchange that is under way."""
        with self._condition:
            self._inbox.stop = True
            self._condition.notify_all()
        self._thread.join(timeout=15)

    def changed(self, kind: str, key: Key, obj: Object | None) -> None:
        """A Kubernetes object is now ``obj`` (None: gone)."""
        at = time.monotonic()
        self._put(lambda inbox: inbox.objects.__setitem__((kind, key), (obj, at)))

    def synced(self, kind: str) -> None:
        """Every object of a kind that existed at start has been given to :meth:`changed`."""
        self._put(lambda inbox: inbox.synced.add(kind))

    def attached(self, attachments: Mapping[str, Seat]) -> None:
        """The ports attached to the switch are now these, by the name of the logical port."""
        self._put(lambda inbox: setattr(inbox, "attachments", dict(attachments)))

    def connected(self) -> None:
        """The switch is there, with whatever flows it has."""
        self._new_switch = True
        self._put(lambda inbox: setattr(inbox, "resync", True))

    def audit(self) -> None:
        """Compare with the switch now instead of at the next interval."""
        self._put(lambda inbox: setattr(inbox, "audit", True))

    def _put(self, change: Callable[[Inbox], object]) -> int:
        """Put something into the inbox; its number, which :attr:`_answered` reaches once the switch has it."""
        with self._condition:
            self._asked += 1
            self._inbox.since = self._inbox.since or time.monotonic()
            self._inbox.last = self._asked
            change(self._inbox)
            self._condition.notify_all()
            return self._asked

    # -- waiting, from any thread -----------------------------------------------------------------------------------

    def realised(self, name: str, ofport: int) -> bool:
        """Whether the switch has acknowledged the flows of a port attached there."""
        there = self._realised.get(name) == ofport and ("port", name) in self._acknowledged.pieces
        return there and self._switch.connected

    def wait_realised(self, name: str, ofport: int, deadline: float) -> bool:
        """Wait until :meth:`realised` or ``deadline`` (time.monotonic)."""
        return self._wait(lambda: self.realised(name, ofport), deadline)

    def withdraw(self, name: str, sandbox: str, deadline: float) -> bool:
        """Take a local port's flows from the switch although a sandbox is still attached; wait for the acknowledgement."""
        asked = self._put(lambda inbox: inbox.withdraw.__setitem__(name, sandbox))
        return self._wait(lambda: self._answered >= asked and name not in self._realised, deadline)

    def wait_idle(self, deadline: float) -> bool:
        """Wait until everything given so far is on the switch."""
        return self._wait(lambda: self._in_step and not self._inbox, deadline)

    def wait_other(self, intent: Intent, seconds: float) -> bool:
        """Wait until the intent is another than this one, at most so long."""
        return self._wait(lambda: self.translation.intent is not intent, time.monotonic() + seconds)

    def _wait(self, condition: Callable[[], bool], deadline: float) -> bool:
        with self._condition:
            while not condition():
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                self._condition.wait(left)
            return True

    def problems(self) -> list[Problem]:
        """Everything that could not be translated, compiled or installed."""
        refused = [problem for _, problem in self._refused.values()]
        return [*self.translation.all_problems(), *self.program.all_problems(), *refused, *self._exhausted]

    def waiting(self) -> int:
        """How many objects wait to be looked at."""
        return len(self._inbox.objects)

    @property
    def is_in_step(self) -> bool:
        """Whether the switch has acknowledged the whole program."""
        return self._in_step

    @property
    def carries(self) -> bool:
        """Whether the switch is there, and has held a program since it came."""
        return self._switch.connected and not self._new_switch

    @property
    def given(self) -> int:
        """Number of the newest thing given."""
        return self._asked

    @property
    def settled(self) -> int:
        """Number of the newest thing given that packets obey, as everything before: the switch has acknowledged it, its cache follows,
        and the connections it tracks have been looked through."""
        return self._settled

    # -- the thread -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        next_audit = time.monotonic() + self._audit_interval
        retry_at: float | None = None
        while True:
            with self._condition:
                wake = min(next_audit, retry_at) if retry_at is not None else next_audit
                while not self._inbox and (left := wake - time.monotonic()) > 0:
                    self._condition.wait(left)
                inbox, self._inbox = self._inbox, Inbox()
                if inbox:
                    self._in_step = False
            if inbox.stop:
                return
            now = time.monotonic()
            due = inbox.audit or now >= next_audit
            if due:
                next_audit = now + self._audit_interval
            resync = inbox.resync or (retry_at is not None and now >= retry_at)
            try:
                retry_at = self._step(inbox, resync=resync, audit=due)
                self.fault = ""
            except Exception as error:  # a fault of ours must not end the thread that keeps the network
                log.exception("node %s: an exchange failed; building the program anew", self.node)
                self.fault = f"{type(error).__name__}: {error}"
                self._take_back(inbox)
                with self._condition:
                    self._condition.wait_for(lambda: self._inbox.stop, RETRY)
                retry_at = time.monotonic()
            with self._condition:
                self._condition.notify_all()

    def _take_back(self, inbox: Inbox) -> None:
        """Put what an exchange failed over back, beneath what came since, and forget the program it may have left half."""
        self._built = self._caught_up = False
        with self._condition:
            now = self._inbox
            now.objects = {**inbox.objects, **now.objects}
            now.synced |= inbox.synced
            now.withdraw = {**inbox.withdraw, **now.withdraw}
            now.attachments = inbox.attachments if now.attachments is None else now.attachments

    def _step(self, inbox: Inbox, *, resync: bool, audit: bool) -> float | None:
        self._since = inbox.since or time.monotonic()
        self._taken = max(self._taken, inbox.last)
        changes = self._recompute(inbox)
        if not self._built or not self._switch.connected:
            self._caught_up = False
            return None
        try:
            if resync or not self._caught_up:
                self._realised = {}
                self._bring_in_step("connect")
            else:
                self._send(changes, "change", self._acknowledged.claims)
            if audit and self._caught_up:
                self._audit(at_once=inbox.audit)
        except (SwitchGone, SwitchTimeout, AppctlError) as error:
            log.warning(
                "node %s: the switch did not take a change (%s); comparing again when it answers", self.node, error
            )
            self._caught_up = False
            return time.monotonic() + RETRY
        self._tell_problems()
        return None

    def _recompute(self, inbox: Inbox) -> Changes:
        """Bring translation and program up to date; the difference is empty until the program is first built."""
        before = self.translation.intent
        self.translation, delta = apply_all(
            self.translation, ((kind, key, obj) for (kind, key), (obj, _) in inbox.objects.items())
        )
        for (kind, key), (obj, at) in inbox.objects.items():
            self._enforced.seen(kind, key, obj, at)
        self._standing.concern(before, self.translation.intent, delta)
        self._waiting_for -= inbox.synced
        delta |= Delta(ports=self._seats.take(inbox.attachments, inbox.withdraw))
        if self._seats.attached is None or self._waiting_for:
            return Changes()
        if not self._built:
            self.program = build(self.translation.intent, self.node, self.program.owner, self._seats.attached)
            self._built = True
            return Changes()
        if not delta:
            return Changes()
        self.program, changes = update(self.program, self.translation.intent, self._seats.attached, delta)
        return changes

    def _bring_in_step(self, reason: str) -> None:
        self._refused = {}
        self._caches.look()
        held = self._programmed()
        self._without_port, self._exhausted = without_port(self.program, held), []
        installed = {key_of(flow): flow.cookie for flow in held}
        self._standing.everything()
        self._send(against(self.program, installed, self._switch.groups()), reason, installed)
        self._caught_up, self._new_switch = True, False
        self.ready.set()

    def _send(self, changes: Changes, reason: str, installed: Container[bytes]) -> None:
        """Bring the switch from what is installed (by key) to the program, and connections with it."""
        started = time.monotonic()
        changes = sent = self._without_refused(changes)
        policed = reason == "connect" or bool(self.program.rules.sections or self._acknowledged.rules.sections)
        while changes:
            try:
                # A port number is also the port's conntrack zone: whoever had it before must leave nothing behind.
                self._switch.flush(zones_of_new_ports(changes, installed))
                sent = self._caches.renewing(changes, policed=policed)
                self._switch.apply(sent)
                self._switch.flush(zones_of_old_ports(changes))
                break
            except BundleRefused as refusal:
                keys = self._refuse(refusal)
                if not keys:
                    raise SwitchGone(str(refusal)) from refusal
                changes = self._without_refused(changes)
        if changes:
            now = time.monotonic()
            outcome = Outcome(reason, len(changes.add), len(changes.delete), now - started, now - self._since)
            self._on_outcome(outcome)
        with self._condition:
            self._realised = dict(self._seats.attached or {})
            self._acknowledged, self._answered = self.program, self._taken
            self._in_step = not self._inbox
            self._condition.notify_all()  # a CNI call waits; the rest of the exchange is not its concern
        if sent is not changes:
            self._caches.obey()
        self._standing.settle(self.program, self.translation.intent, self._seats.attached or {})
        self._enforced.acknowledged(self.program.rules, time.monotonic())
        self._settled = self._taken

    def _refuse(self, refusal: BundleRefused) -> set[bytes]:
        """Set aside the flows a switch refused, each with a problem on its origin, so that the rest goes out."""
        found = set()
        for each in refusal.errors:
            entry = self.program.get(flow_key_bytes(each.subject)) if isinstance(each.subject, Flow) else None
            if entry is None or is_firewall(entry.flow.table):
                continue  # without a rule of the firewall the rest must not go out: it might let something through
            problem = Problem(entry.flow.origin, "FLOW_REFUSED", f"Open vSwitch refused a flow: {each.reason}")
            self._refused[entry.key] = (entry.cookie, problem)
            found.add(entry.key)
        return found

    def _without_refused(self, changes: Changes) -> Changes:
        if not self._refused:
            return changes
        current = {key: value for key, value in self._refused.items() if _is(self.program, key, value[0])}
        self._refused = current
        return changes._replace(add=tuple(entry for entry in changes.add if entry.key not in current))

    def _audit(self, *, at_once: bool) -> None:
        # A full recompute of a large cluster takes a second, in which no change is looked at: it waits until there are none.
        calm, self._audited = self.program is self._audited, self.program
        if self.program is not self._checked and (calm or at_once):
            fresh = build(self.translation.intent, self.node, self.program.owner, self._seats.attached or {})
            if (fresh.claims, fresh.groups) != (self.program.claims, self.program.groups):
                log.error("node %s: incremental program differs from a full recompute; adopting the latter", self.node)
                self.program = fresh
            self._checked = self.program
        installed = self._programmed()
        groups = self._switch.groups()
        found = [
            *compare(self.program, installed, set(self._refused), time.time()),
            *compare_groups(self.program, groups, time.time()),
        ]
        if found:
            log.warning("node %s: %d flows and groups were not as programmed; repairing", self.node, len(found))
            self.drift = [*self.drift, *found][-200:]
            held = {key_of(flow): flow.cookie for flow in installed}
            self._send(against(self.program, held, groups), "audit", held)
        self._look_for_ports(installed)
        self.last_audit = time.time()

    def _look_for_ports(self, installed: list[InstalledFlow]) -> None:
        """Say who has lost packets since the last look because no port was left, and take back what was said of others."""
        now = without_port(self.program, installed)
        dropped, self._without_port = grown(self._without_port, now), now
        self._exhausted = exhaustion(dropped)
        if dropped:
            self._on_exhausted(dropped)

    def _programmed(self) -> list[InstalledFlow]:
        """What the switch holds, but for what it noted itself."""
        return [flow for flow in self._switch.flows() if not is_learned(flow.table)]

    def _tell_problems(self) -> None:
        problems = self.problems()
        if problems != self._reported:
            self._reported = problems
            self._on_problems(problems)


def _is(program: Program, key: bytes, cookie: int) -> bool:
    entry = program.get(key)
    return entry is not None and entry.cookie == cookie
