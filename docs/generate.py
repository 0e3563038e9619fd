"""Write the generated documents, or (``--check``) fail when one is out of step with what it is made from."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from ncp.settings import render_markdown as configuration
from sdn.pipeline.render import markdown
from sdn.pipeline.tables import PIPELINE

HERE = Path(__file__).parent
DOCUMENTS: dict[str, Callable[[], str]] = {
    "pipeline.md": lambda: markdown(PIPELINE),
    "configuration.md": configuration,
}


def main(arguments: list[str]) -> int:
    """Exit code 1 where ``--check`` finds a document out of step."""
    stale = []
    for name, render in DOCUMENTS.items():
        path, wanted = HERE / name, render()
        if not path.exists() or path.read_text() != wanted:
            stale.append(name)
            if "--check" not in arguments:
                path.write_text(wanted)
    if stale and "--check" in arguments:
        sys.stderr.write(f"out of step: {', '.join(f'docs/{name}' for name in stale)}; run `make docs`\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
