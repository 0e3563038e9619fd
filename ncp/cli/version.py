"""``ncp version``."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import subprocess

import click

from ncp.cli.output import Column, emit, output_option

COLUMNS = (Column("component"), Column("version"))


@click.command("version")
@output_option
def command(output: str) -> None:
    """Show the version of this program and what it runs on."""
    rows = [{"component": "ncp", "version": importlib.metadata.version("open-ncp")}]
    rows += [{"component": name, "version": importlib.metadata.version(name)} for name in ("os-ken", "ovs", "ovsdbapp")]
    rows.append({"component": "python", "version": platform.python_version()})
    rows.append({"component": "openvswitch", "version": _switch()})
    emit(rows, COLUMNS, output)


def _switch() -> str:
    program = shutil.which("ovs-vswitchd")
    if program is None:
        return "not installed"
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False, timeout=10).stdout
    return said.split("\n", 1)[0].rsplit(" ", 1)[-1]
