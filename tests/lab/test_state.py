"""The state directory, and the processes recorded in it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from labs import processes, state
from labs.errors import LabError, UsageError, with_tail
from labs.processes import Command, Table
from labs.state import State

SLEEP = (sys.executable, "-c", "import time; print('awake', flush=True); time.sleep(600)")
STUBBORN = (
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)",
)


@pytest.fixture
def place(tmp_path):
    found = State(tmp_path / "lab")
    state.prepare(found)
    yield found
    processes.stop(processes.belonging(found))


def await_output(place, name, text):
    while text not in place.log(name).read_text():
        pass


def test_the_directory_is_given_or_in_the_environment_or_the_default(tmp_path):
    assert state.locate(tmp_path, {"NCP_LAB_STATE": "/elsewhere"}).root == tmp_path
    assert state.locate(None, {"NCP_LAB_STATE": "/elsewhere"}).root == Path("/elsewhere")
    assert state.locate(None, {}).root == Path("/var/lib/ncp-lab")


def test_each_directory_is_a_lab_of_its_own():
    first, second = State(Path("/a/lab")), State(Path("/b/lab"))
    assert first.lab != second.lab
    assert first.lab == State(Path("/a/lab")).lab
    assert len(first.lab) == 4
    assert int(first.lab, 16) >= 0


def test_a_directory_that_up_made_is_removed_whole(tmp_path):
    place = State(tmp_path / "made")
    assert state.prepare(place) is False
    assert state.prepare(place) is True
    place.ini.write_text("x")
    state.remove(place)
    assert not place.root.exists()


def test_a_directory_that_was_there_stays(tmp_path):
    place = State(tmp_path)
    state.prepare(place)
    (tmp_path / "notes.txt").write_text("mine")
    state.remove(place)
    assert [one.name for one in tmp_path.iterdir()] == ["notes.txt"]


def test_a_directory_with_other_things_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(UsageError, match=r"not a lab's directory and not empty \(it holds 'thesis.tex'\)"):
        state.prepare(State(tmp_path))
    assert [one.name for one in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_path_too_long_for_sockets_is_refused(tmp_path):
    with pytest.raises(UsageError, match="characters too long for the unix sockets"):
        state.check_paths(State(tmp_path / ("x" * 100)), ["node1"])


def test_a_record_cut_short_counts_as_none(place):
    place.record.write_text('{"ports": {"ap')
    assert state.read_record(place) == {}


def test_a_second_command_on_the_same_lab_is_refused(place):
    with state.locked(place), pytest.raises(LabError, match="another `ncp lab` command is at work"):
        with state.locked(place):
            pass
    with state.locked(place):
        pass


def test_a_started_process_is_found_again_by_another_table(place):
    started = Table(place).start(Command("sleeper", SLEEP, {"COLOUR": "blue"}))
    await_output(place, "sleeper", "awake")
    found = Table(place).get("sleeper")
    assert found == started
    assert found.alive
    assert (started.pid, started.started) in processes.belonging(place)
    processes.kill(found)
    assert not found.alive


def test_starting_again_counts(place):
    table = Table(place)
    first = table.start(Command("sleeper", SLEEP))
    processes.kill(first)
    again = table.start(first.command)
    assert (first.restarts, again.restarts) == (0, 1)
    assert again.pid != first.pid


def test_an_unrecorded_process_is_found_by_its_environment(place):
    running = Table(place).start(Command("sleeper", SLEEP))
    place.processes.unlink()
    assert (running.pid, running.started) in processes.belonging(place)
    assert running.pid not in {pid for pid, _ in processes.belonging(State(place.root / "other"))}


def test_the_caller_and_its_parents_are_never_among_them(place, monkeypatch):
    code = f"""
import sys
from pathlib import Path
from labs import processes
from labs.state import State
print(len(processes.belonging(State(Path({str(place.root)!r})))))
"""
    environment = {**os.environ, processes.OWNER: str(place.root)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0"


def test_a_process_deaf_to_sigterm_is_killed(place):
    running = Table(place).start(Command("deaf", STUBBORN))
    await_output(place, "deaf", "deaf")
    assert processes.stop([(running.pid, running.started)], grace=0.2) == 1
    assert not running.alive


def test_a_recycled_pid_is_never_signalled(place):
    bystander = subprocess.Popen(SLEEP, stdout=subprocess.DEVNULL)
    try:
        assert processes.stop([(bystander.pid, processes.start_time(bystander.pid) - 1)]) == 0
        assert bystander.poll() is None
    finally:
        bystander.send_signal(signal.SIGKILL)
        bystander.wait()


def test_a_process_that_ended_at_once_counts_as_dead(place, monkeypatch):
    monkeypatch.setattr(processes, "start_time", lambda pid: 0)
    assert not Table(place).start(Command("brief", ("true",))).alive


def test_a_program_that_is_not_there_is_an_error(place):
    with pytest.raises(LabError, match=r"cannot start ghost: /no/such/program"):
        Table(place).start(Command("ghost", ("/no/such/program",)))


def test_the_last_line_of_an_error_is_the_error(place):
    place.log("api").write_text("one\ntwo\n")
    assert with_tail("api died", place.log("api")).splitlines()[-2:] == ["  two", "api died"]
    assert "wrote no log" in with_tail("api died", place.log("nothing"))
