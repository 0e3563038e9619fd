from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from ncp.__main__ import COMMANDS, cli
from ncp.settings_docs import render_markdown


def test_help_names_every_command_and_imports_none():
    script = (
        "import sys; from ncp.__main__ import run; code = run(['--help']);"
        "heavy = {'rich', 'scapy', 'kubernetes', 'urllib3', 'os_ken', 'netaddr'} & set(sys.modules);"
        "print('heavy:', sorted(heavy), code)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("heavy: [] 0\n")
    for name in COMMANDS:
        assert re.search(rf"^  {name} ", done.stdout, re.MULTILINE)


@pytest.mark.parametrize("module", ["ncp.cli.node", "ncp.cli.manager"])
def test_long_running_commands_do_not_import_what_people_look_at(module):
    script = f"import sys, {module}; print(sorted({{'rich', 'scapy', 'kubernetes'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_there_and_has_help(ncp, name):
    told = ncp(name, "--help")
    assert told.code == 0
    assert told.out.startswith(f"Usage: ncp {name}")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("gte",), "did you mean 'get'?"),
        (("zzz",), "there are: get, probe, verify, lab"),
        (("get", "podz"), "did you mean 'pod"),
        (("get", "zzz"), "there are: pods, segments"),
        (("get", "pods", "-o", "xml"), "'xml' is not one of 'table', 'wide', 'json', 'yaml'"),
        (("config", "check"), "Missing argument 'FILE'"),
        (("--nope",), "No such option '--nope'"),
        ((), ""),
    ],
)
def test_wrong_usage_is_exit_code_2(ncp, arguments, says):
    told = ncp(*arguments)
    assert told.code == 2
    assert says in told.err
    assert "Traceback" not in told.err


def test_config_check_tells_every_mistake(ncp, tmp_path):
    path = tmp_path / "ncp.ini"
    path.write_text("[nsx_v3]\ncontainer_ip_block = 10.0.0.0/8\nsubnet_prefix = 99\n")
    told = ncp("config", "check", path)
    assert told.code == 2
    assert f"ncp: {path}: [nsx_v3] container_ip_block" in told.err
    assert "did you mean 'container_ip_blocks'?" in told.err
    assert "subnet_prefix = 99: it is out of range; allowed: 8 to 30" in told.err


def test_config_check_notes_what_has_no_effect(ncp, tmp_path):
    path = tmp_path / "ncp.ini"
    path.write_text("[nsx_v3]\noverlay_tz = tz\n[coe]\ncluster = blue\n")
    told = ncp("config", "check", path)
    assert told.code == 0
    assert told.out == f"{path}: good; 2 options given\n"
    assert told.err == "note: [nsx_v3] overlay_tz is accepted and has no effect yet\n"


def test_config_show(ncp, tmp_path):
    path = tmp_path / "ncp.ini"
    path.write_text("[coe]\ncluster = blue\n[nsx_v3]\ncontainer_ip_blocks = 10.4.0.0/16, fd00::/48\n")
    rows = {row["option"]: row for row in ncp("config", "show", path, "-o", "json").json}
    assert (rows["cluster"]["value"], rows["cluster"]["from"]) == ("blue", "file")
    assert rows["container_ip_blocks"]["value"] == ["10.4.0.0/16", "fd00::/48"]
    assert (rows["mtu"]["value"], rows["mtu"]["from"]) == (1500, "default")
    assert rows["update_timeout"]["value"] is None
    assert rows["vni_range"]["value"] == "5001-75000"
    assert len(ncp("config", "show", path, "--given", "-o", "json").json) == 2
    assert "k8scluster" in ncp("config", "show").out


def test_config_docs(ncp):
    assert ncp("config", "docs").out == render_markdown()


def test_version(ncp):
    rows = {row["component"]: row["version"] for row in ncp("version", "-o", "json").json}
    assert rows["ncp"]
    assert rows["python"] == ".".join(map(str, sys.version_info[:3]))


@pytest.fixture
def broken():
    """A command that fails in a way nobody foresaw."""

    @click.command("version")
    def command() -> None:
        raise KeyError("surprise")

    return command


def test_an_unforeseen_error_is_one_line_and_a_hint(ncp, broken, monkeypatch):
    monkeypatch.setattr("ncp.cli.version.command", broken)
    told = ncp("version")
    assert told.code == 1
    assert told.err == "ncp: unexpected error: KeyError: 'surprise' (NCP_DEBUG=1 shows where)\n"
    monkeypatch.setenv("NCP_DEBUG", "1")
    assert "Traceback" in ncp("version").err


def test_a_reader_that_leaves_early_is_no_error():
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as gone:
        script = "from ncp.__main__ import main; main(['config', 'docs'])"
        done = subprocess.run(
            [sys.executable, "-c", script], stdout=gone, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_program_is_installed():
    program = Path(sys.executable).with_name("ncp")
    done = subprocess.run([program, "config", "check", "/nonexistent"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "ncp: /nonexistent: cannot be read: No such file or directory\n"
    assert isinstance(cli, click.Group)
