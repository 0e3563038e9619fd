"""What several areas share: one three-node lab, started when the first test asks for it, gone at the end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.lab import Lab


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab(tmp_path_factory.mktemp("lab") / "state") as found:
        yield found


def pytest_terminal_summary(terminalreporter, exitstatus, config) -> None:
    """Say how to have the tests in this order again, also where the header is not shown."""
    if exitstatus != 0:
        terminalreporter.write_line(f"in this order again: --randomly-seed={config.option.randomly_seed}")
