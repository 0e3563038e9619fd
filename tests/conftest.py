"""What several areas share: one three-node lab, started when the first test asks for it, gone at the end; manifests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.lab import Lab


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab(tmp_path_factory.mktemp("lab") / "state") as found:
        yield found


@pytest.fixture(scope="session")
def manifests() -> Path:
    """Real manifests that lie beside the project, or where NCP_MANIFESTS says."""
    given = os.environ.get("NCP_MANIFESTS")
    found = Path(given) if given else Path(__file__).parents[2] / "shared" / "manifests"
    if not found.is_dir():
        pytest.skip(f"no manifests at {found}; set NCP_MANIFESTS")
    return found


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Who asks for the shared lab needs one: the tests that run side by side are those that need none."""
    for item in items:
        if "lab" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.lab)


def pytest_terminal_summary(terminalreporter, exitstatus, config) -> None:
    """Say how to have the tests in this order again, also where the header is not shown."""
    if exitstatus != 0 and hasattr(config.option, "randomly_seed"):
        terminalreporter.write_line(f"in this order again: --randomly-seed={config.option.randomly_seed}")
