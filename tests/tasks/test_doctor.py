"""What `lso doctor` recommends after a failure depends on the class of the error, not on how its sentence is worded."""

from pathlib import Path

import pytest

from lso.objectives.failures import ScoreError
from lso.tasks.doctor import check_run
from lso.vae import runs
from lso.vae.errors import DataError, DivergedError
from lso.vae.runs import Run

SEARCH = {"status": "running", "sentence": "", "config": {}, "search": {"budget": 3}, "sought": {}}


def failed_search(path: Path, error: Exception | None) -> Run:
    """A search that an error ended, or, without one, too many failed calls of its score."""
    run = runs.create(path, "search", SEARCH)
    if error is None:
        runs.update_run(run, status="failed", sentence="Too many calls failed.")
    else:
        runs.record_end(run, error)
    return Run(path)


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (ScoreError("any words"), "With the score corrected: lso optimize --resume"),
        (None, "With the score corrected: lso optimize --resume"),
        (DivergedError("any words"), "lower --learning-rate"),
        (DataError("the score was not finite"), "LSO_DEBUG=1"),
    ],
)
def test_the_remedy_follows_the_class_of_the_error(tmp_path: Path, error: Exception | None, remedy: str) -> None:
    found = check_run(failed_search(tmp_path / "found", error).path)[0]
    assert found.level == "problem" and remedy in found.remedy


def test_the_error_of_an_earlier_session_is_forgotten(tmp_path: Path) -> None:
    run = failed_search(tmp_path / "found", DataError("no file"))
    assert run.info["error"] == "DataError"
    runs.update_run(run, seconds=1.0)
    assert run.info["error"] == "DataError"
    runs.update_run(run, status="running")
    assert "error" not in run.info
