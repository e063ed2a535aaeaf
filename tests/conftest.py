"""Data for tests, how many tests went without, and one thread for all."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

MISSING = "no test data: "


def data_folder() -> Path:
    """``$LSO_TEST_DATA``, else ``../shared/data`` beside the repository."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    return Path(os.environ.get("LSO_TEST_DATA") or beside)


@pytest.fixture(scope="session")
def data_path() -> Callable[[str], Path]:
    """A real data file by name; the test is skipped where it is not there."""

    def find(name: str) -> Path:
        path = data_folder() / name
        if not path.exists():
            pytest.skip(f"{MISSING}{name} is not in {data_folder()}; set LSO_TEST_DATA")
        return path

    return find


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Networks this small are faster on one thread, by far where the machine is shared."""
    torch.set_num_threads(1)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = terminalreporter.stats.get("skipped", [])
    skipped = sum(MISSING in str(report.longrepr) for report in reports)
    terminalreporter.write_line(f"data tests skipped: {skipped} (data folder: {data_folder()})")
