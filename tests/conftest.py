"""Data for tests, how many tests went without, and one thread for all."""

import gc
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from tests.annotations import check_once
from tests.charts import leave_charts_unrendered

if TYPE_CHECKING:  # imported here, the package would escape the checks of its annotations
    from lso.vae.runs import Run

MISSING = "no test data: "

check_once()
gc.disable()  # what is imported stays: to look for garbage in it meanwhile is a third of the time that importing takes


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


def pytest_configure(config: pytest.Config) -> None:
    """Processes that share the tests have one thread each, of any library, and so has what they start."""
    if getattr(config.option, "numprocesses", None):
        os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_finish() -> None:
    """What has been imported stays, so that looking for garbage in it again and again would be a tenth of the time."""
    gc.collect()
    gc.freeze()
    gc.enable()
    gc.set_threshold(10_000, 20, 20)


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Networks this small are faster on one thread, by far where the machine is shared."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def same_draws() -> None:
    """What a test draws without a generator does not depend on the tests before it, which differ between processes."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True, scope="session")
def render() -> Iterator[Callable[..., bytes]]:
    """What renders a chart: two thirds of the time of a small training, so that only tests that ask for it have it."""
    from lso.reports import images

    rendering = images.figure_png
    with pytest.MonkeyPatch.context() as patch:
        leave_charts_unrendered(patch)
        yield rendering


@pytest.fixture
def charts(render: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports have their charts."""
    monkeypatch.setattr("lso.reports.images.figure_png", render)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> "Run":
    """A run of three epochs on the digits, four latents. Do not write into it."""
    from lso.tasks.training.experiment import train

    out = tmp_path_factory.mktemp("trained") / "digits"
    settings = {"architecture": {"latent_dim": 4, "width": 32}, "protocol": {"epochs": 3}}
    return train("vae:anneal=1", settings=settings, out=out, device="cpu")


@pytest.fixture
def forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Modules that a test writes and imports are not there for the next one, which may use their names."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = terminalreporter.stats.get("skipped", [])
    skipped = sum(MISSING in str(report.longrepr) for report in reports)
    terminalreporter.write_line(f"data tests skipped: {skipped} (data folder: {data_folder()})")
