from __future__ import annotations

import subprocess
import sys


def run(program: str) -> str:
    done = subprocess.run((sys.executable, "-c", program), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_eventlet_is_not_loaded_and_os_ken_still_works() -> None:
    program = """
import sdn.ovsdb.client, sys
from os_ken.lib import hub
import os_ken.controller.ofp_handler
seen = []
hub.joinall([hub.spawn(seen.append, 1)])
print(seen, sys.modules["eventlet"], "greenlet" in sys.modules)
"""
    assert run(program).split() == ["[1]", "None", "False"]


def test_descriptors_past_1023_do_not_stop_the_poller() -> None:
    program = """
import os, resource
import sdn.ovsdb, ovs.poller
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
read, write = os.pipe()
high = os.dup2(read, 2000)
os.write(write, b"x")
poller = ovs.poller.Poller()
poller.fd_wait(high, ovs.poller.POLLIN)
poller.timer_wait(5000)
poller.block()
print("woken")
"""
    assert run(program).strip() == "woken"
