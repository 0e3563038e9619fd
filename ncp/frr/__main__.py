"""``python -m ncp.frr stop RUNDIR``: end the daemons of a directory, which outlive who started them."""

from __future__ import annotations

import sys
from pathlib import Path

from ncp.frr.daemons import stop


def main(arguments: list[str]) -> int:
    """0: none of them runs any more; 2: wrong usage."""
    if len(arguments) != 2 or arguments[0] != "stop":
        sys.stderr.write("usage: python -m ncp.frr stop RUNDIR\n")
        return 2
    ended = stop(Path(arguments[1]))
    sys.stdout.write(f"ended: {', '.join(ended) or 'none ran'}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
