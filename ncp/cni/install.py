"""Putting the plugin where a container runtime looks: its executable, and a network configuration list.

``python -m ncp.cni.install --bin /opt/cni/bin --conf /etc/cni/net.d`` on every node, before ``ncp node`` starts.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

import ncp
from ncp.cni import protocol

NAME = "ncp-cni"
CONFIG = "10-ncp.conflist"


def install(bin_directory: Path, conf_directory: Path | None, socket: str, *, name: str = "ncp") -> tuple[Path, ...]:
    """Write the executable and, unless its directory is None, the configuration; returns what was written.

    The executable starts this very Python isolated and without site-packages (``-IS``), which halves its start: the
    plugin needs the standard library and one directory. Files are replaced atomically; a runtime never sees half of one.

    Raises:
        OSError: a directory is missing or not writable.
    """
    root = Path(ncp.__file__).resolve().parent.parent
    program = (
        f"#!{sys.executable} -IS\n"
        "import sys\n"
        f"sys.path.insert(0, {str(root)!r})\n"
        "from ncp.cni.__main__ import main\n"
        "sys.exit(main())\n"
    )
    plugin = {"type": NAME, "socket": socket}
    config = {"cniVersion": protocol.VERSIONS[-1], "name": name, "plugins": [plugin]}
    written = [_replace(bin_directory / NAME, program, 0o755)]
    if conf_directory is not None:
        written.append(_replace(conf_directory / CONFIG, json.dumps(config, indent=2) + "\n", 0o644))
    return tuple(written)


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m ncp.cni.install", description=__doc__)
    parser.add_argument("--bin", type=Path, default=Path("/opt/cni/bin"), help="directory of CNI plugins")
    parser.add_argument("--conf", type=Path, default=Path("/etc/cni/net.d"), help="directory of network configurations")
    parser.add_argument("--socket", default=protocol.SOCKET, help="unix socket of ncp node")
    options = parser.parse_args(arguments)
    try:
        written = install(options.bin, options.conf, options.socket)
    except OSError as error:
        sys.stderr.write(f"cannot install the CNI plugin: {error}\n")
        return 1
    sys.stdout.writelines(f"{path}\n" for path in written)
    return 0


def _replace(path: Path, text: str, mode: int) -> Path:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text)
    draft.chmod(mode)
    draft.replace(path)
    return path


if __name__ == "__main__":
    sys.exit(main())
