"""Labs that do not come up, or go down badly: nothing stays."""

import os
import signal
import subprocess
import sys

import pytest

from labs import processes, teardown
from labs.errors import UsageError
from labs.kubelet.netns import FILES, configure
from labs.processes import Table
from labs.runtime import up
from labs.state import State
from labs.wish import Wish
from topologies import build, netns
from topologies.plan import namespace

pytestmark = [pytest.mark.switch, pytest.mark.lab]
NCP = (sys.executable, "-m", "ncp", "lab")


@pytest.fixture
def place(tmp_path):
    found = State(tmp_path / "s")
    yield found
    teardown.down(found)


def traces(place):
    named = (*netns.with_prefix(f"ncp{place.lab}-"), *FILES.glob(f"ncp{place.lab}-*"))
    return (*named, *processes.belonging(place), *place.root.parent.glob("s*"))


def start(place, *options):
    return subprocess.Popen(
        [*NCP, "up", "--topology", "one-node", "--state", str(place.root), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that started the tests in the background has made them, and what they start, deaf to it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def read_until(stream, text):
    for line in stream:
        if text in line:
            return
    pytest.fail(f"it ended without saying {text!r}")


def test_down_without_a_lab_is_harmless(place):
    assert teardown.down(place) is False
    assert traces(place) == ()


def test_a_quiet_start_prints_the_kubeconfigs_path_and_nothing_else(place):
    starting = start(place, "-q")
    assert starting.communicate(timeout=60) == (f"{place.kubeconfig}\n", "")
    assert starting.returncode == 0


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_start_leaves_nothing(place, how):
    starting = start(place)
    read_until(starting.stderr, "switch of node1")
    starting.send_signal(how)
    _, said = starting.communicate(timeout=30)
    assert starting.returncode == 1
    assert "interrupted; what had been started was stopped and removed" in said
    assert traces(place) == ()


def test_a_killed_start_is_taken_down_even_without_its_records(place):
    starting = start(place)
    read_until(starting.stderr, "switch of node1")
    starting.kill()
    starting.communicate()
    assert netns.exists(namespace(place.lab, "node1"))
    configure(namespace(place.lab, "p-0"), {"resolv.conf": ""})  # as of a pod, had it come that far
    place.processes.unlink()
    assert teardown.down(place) is True
    assert traces(place) == ()


def test_a_start_that_fails_says_why_and_leaves_nothing(place, tmp_path):
    broken = tmp_path / "broken.ini"
    broken.write_text("[coe]\nclutser = x\n")
    starting = start(place, "--config", str(broken))
    _, said = starting.communicate(timeout=30)
    assert starting.returncode == 2
    assert "clutser" in said
    assert traces(place) == ()


def test_a_start_whose_part_dies_shows_the_end_of_its_log(place, monkeypatch):
    monkeypatch.setattr("labs.parts.python", lambda *words: ("sh", "-c", "echo no such luck; exit 3"))
    with pytest.raises(Exception, match=r"(?s)no such luck\napi died before the API answers"):
        up(place, Wish(topology="one-node"))
    assert traces(place) == ()


def test_another_labs_id_is_never_cleared_away(place, tmp_path):
    """Two directories may have the same id: four digits are few."""
    other = State(tmp_path / "other")
    other.root.mkdir()
    other.logs.mkdir()
    name = namespace(place.lab, "node1")
    netns.create(name)
    stranger = Table(other).start(processes.Command("stranger", ("sleep", "600"), netns=name))
    try:
        with pytest.raises(UsageError, match=f"is also that of the lab in {other.root}"):
            up(place, Wish(topology="one-node"))
        assert teardown.down(place) is False
        assert stranger.alive
        assert netns.exists(name)
    finally:
        processes.kill(stranger)
        build.remove(place.lab)


def test_a_machine_without_open_vswitch_is_told_what_to_install(place, tmp_path):
    (tmp_path / "bin").mkdir()
    for program in ("ip", "nsenter"):
        found = subprocess.run(["sh", "-c", f"command -v {program}"], capture_output=True, text=True).stdout.strip()
        (tmp_path / "bin" / program).symlink_to(found)
    environment = {**os.environ, "PATH": str(tmp_path / "bin")}
    command = [*NCP, "up", "--state", str(place.root)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30)
    assert done.returncode == 2
    assert "apt-get install openvswitch-switch" in done.stderr
    assert traces(place) == ()


def test_an_old_open_vswitch_is_refused(place, tmp_path):
    (tmp_path / "bin").mkdir()
    old = tmp_path / "bin" / "ovs-vswitchd"
    old.write_text("#!/bin/sh\necho 'ovs-vswitchd (Open vSwitch) 2.13.8'\n")
    old.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    command = [*NCP, "up", "--state", str(place.root)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30)
    assert done.returncode == 2
    assert "Open vSwitch 2.13 is too old, a lab needs 3.1 or newer" in done.stderr
