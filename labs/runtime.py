"""Bringing a lab up: underlay, switches, API and everything that works on it, as much as possible at once."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any

from labs import configuration, crds, parts, ready, requirements, routers, switches, teardown
from labs import state as states
from labs.errors import LabError, UsageError, explained
from labs.processes import Running, Table, strangers
from labs.progress import Progress
from labs.state import State
from labs.wish import REAL, Wish, kube_for, topology_for
from ncp.kube.client import ApiError, Kube
from topologies import bgp, build, document
from topologies.spec import Topology


def up(state: State, wish: Wish, progress: Progress | None = None) -> bool:
    """Bring a lab up and return when it is ready; returns whether anything had to be started.

    A lab that runs already is left alone. What a killed lab left behind is removed first, but not its API's objects:
    pods come back with the addresses they had.

    Raises:
        UsageError: the wish or the machine is not fit for a lab.
        LabError: something did not come up; what was started is stopped again unless ``wish.keep``.
    """
    progress = progress or Progress()
    requirements.check()
    topology, kube = topology_for(state, wish), kube_for(state, wish)
    routers.check(topology)
    states.check_paths(state, list(topology.links()))
    _check_alone(state)
    known = states.prepare(state)
    with states.locked(state), explained(), ExitStack() as undo:
        if _runs(state):
            _check_healthy(state, topology)
            return False
        undo.callback(_undo, state, known)
        teardown.clear(state, Progress())
        if wish.keep:
            undo.pop_all()
        _Start(state, topology, kube, wish, progress).run()
        undo.pop_all()
    return True


def _undo(state: State, known: bool) -> None:
    """After a failed start nothing runs; a lab that was there before keeps its files, its objects among them."""
    teardown.clear(state, Progress())
    if not known:
        states.remove(state)


def _runs(state: State) -> bool:
    running = tuple(Table(state))
    return bool(states.read_record(state).get("up") and running) and all(one.alive for one in running)


def _check_healthy(state: State, topology: Topology) -> None:
    for node in topology.nodes:
        if not ready.agent_connected(state, node.name):
            log = state.log(parts.agent(node.name))
            raise LabError(f"the lab runs, but the agent of {node.name} is not connected to its switch; see {log}")
    if not ready.api_answers(state):
        raise LabError(f"the lab runs, but its API does not answer; see {state.logs}")


def _check_alone(state: State) -> None:
    if others := strangers(state):
        raise UsageError(
            f"--state {state.root}: its id {state.lab} is also that of the lab in {min(others)}; use another"
        )


@dataclass
class _Start:
    """One start of a lab."""

    state: State
    topology: Topology
    kube: str
    wish: Wish
    progress: Progress

    def __post_init__(self) -> None:
        before = states.read_record(self.state).get("ports", {})
        self.port = parts.ports(parts.listeners(self.topology), before)
        self.table = Table(self.state)
        self.waiter = ready.Waiter(self.state)
        self.pool = ThreadPoolExecutor(2 * len(self.topology.links()) + 4, thread_name_prefix="lab-up")

    def run(self) -> None:
        """Everything, in as few rounds as what needs what allows."""
        with self.pool:
            try:
                self._write()
                self._all(self._api, self._underlay_and_switches)
                commands = parts.control_commands(self.state, self.topology, self.port, real=self.kube == REAL)
                started = {command.name: self.table.start(command) for command in commands}
                self._all(*self._awaiting(started))
            except BaseException:
                self.waiter.give_up()
                raise
        states.remember(self.state, up=True)

    def _write(self) -> None:
        states.remember(self.state, up=False, kube=self.kube, ports=self.port)
        for stale in (self.state.nodes, self.state.sandboxes):  # of switches and namespaces that are gone
            shutil.rmtree(stale, ignore_errors=True)
        states.write_json(self.state.topology, document.render(self.topology))
        states.write_json(self.state.kubelet, parts.kubelet_config(self.state, self.topology))
        parts.install_cni(self.state)
        parts.write_external(self.state, self.topology)
        if self.wish.config or not self.state.ini.exists():
            configuration.write(self.state, self.topology, self.wish.config)
        self.blocks = configuration.blocks(self.state)

    def _all(self, *jobs: Callable[[], None]) -> None:
        """Run jobs at once; the first that fails ends the wait for the others."""
        futures: list[Future[None]] = [self.pool.submit(job) for job in jobs]
        done, _ = wait(futures, return_when=FIRST_EXCEPTION)
        for future in done:
            future.result()

    def _underlay_and_switches(self) -> None:
        with self.progress.step(f"underlay of {self.topology.name}"):
            build.build(self.topology, self.state.lab, ExitStack(), self.blocks)  # teardown finds it by the lab's id
        underlay = [self._underlay_switch] if switches.has_switch(self.topology) else []
        routing = [self._router(owner) for owner in bgp.speakers(self.topology)]
        self._all(*underlay, *(self._switch(node.name) for node in self.topology.nodes), *routing)

    def _switch(self, node: str) -> Callable[[], None]:
        def start() -> None:
            with self.progress.step(f"switch of {node}"):
                self._start_switch(node)
                switches.connect(self.state, self.topology, node)

        return start

    def _underlay_switch(self) -> None:
        with self.progress.step("switch of the underlay"):
            self._start_switch(switches.UNDERLAY)

    def _start_switch(self, owner: str) -> None:
        switches.create_database(self.state, self.topology, owner)
        server = self.table.start(switches.database_command(self.state, owner))
        self.waiter.until("the database answers", self.state.node(owner).database.exists, [server])
        self.table.start(switches.switch_command(self.state, owner))
        switches.await_configured(self.state, owner)

    def _router(self, owner: str) -> Callable[[], None]:
        def start() -> None:
            with self.progress.step(f"routing of {owner}"):
                routers.start(self.state, self.topology, self.table, self.waiter, owner)

        return start

    def _api(self) -> None:
        with self.progress.step(f"Kubernetes API ({self.kube})"):
            server = self._real_api() if self.kube == REAL else self._embedded_api()
        with self.progress.step("custom resources"), closing(Kube.connect(str(self.state.kubeconfig))) as kube:
            try:
                self.waiter.until("the API serves the lab's custom resources", lambda: crds.defined(kube), [server])
            except ApiError as error:
                raise LabError(f"the API refuses a custom resource of the lab: {error}") from error

    def _embedded_api(self) -> Running:
        server = self.table.start(parts.api_command(self.state, self.port[parts.API]))
        self.waiter.until("the API answers", lambda: ready.api_answers(self.state), [server])
        return server

    def _real_api(self) -> Running:
        """etcd, then kube-apiserver, which is returned."""
        for command, is_ready in parts.real_api(self.state, self.port[parts.API]):
            running = self.table.start(command)
            self.waiter.until(f"{command.name} is ready", is_ready, [running])
        return running

    def _awaiting(self, started: Mapping[str, Running]) -> list[Callable[[], None]]:
        def job(text: str, what: str, condition: Callable[[], object], *needs: str) -> Callable[[], None]:
            def await_it() -> None:
                with self.progress.step(text):
                    self.waiter.until(what, condition, [started[name] for name in needs])

            return await_it

        names = {node.name for node in self.topology.nodes}
        since = time.time()
        return [
            job("manager", "the manager is ready", lambda: ready.health(self.port[parts.MANAGER]), parts.MANAGER),
            job(
                "nodes Ready",
                "every node is Ready",
                lambda: names <= (ready.nodes_ready(self.state, since) or set()),
                *(parts.KUBELET, parts.CLUSTER),
            ),
            *(
                job(f"agent of {name}", f"{name} is programmed", _programmed(self.state, name), parts.agent(name))
                for name in sorted(names)
            ),
        ]


def _programmed(state: State, node: str) -> Callable[[], Any]:
    return lambda: ready.agent_ready(state, node)
