"""Black-box searches are compared by what their reports say."""

from pathlib import Path

import pytest

import lso
from lso.reports.comparison import compare_searches, key_numbers_table, read_search_numbers
from lso.vae.errors import RunError, UsageError
from lso.vae.runs import Run, create
from tests.lso.black_box_cases import far, noted, objective, unfitted
from tests.lso.reports.test_search_report import page

__all__ = ["unfitted"]
pytestmark = pytest.mark.usefixtures("unfitted")


def reported(folder: Path, seed: int = 0, **options: object) -> Run:
    result = lso.optimize(objective(**options), "random", 5, seed=seed, out=folder)  # type: ignore[arg-type]
    noted([result], folder)
    return Run(folder)


@pytest.mark.usefixtures("charts")
def test_two_searches_stand_side_by_side(tmp_path: Path) -> None:
    runs = [reported(tmp_path / name, seed) for seed, name in enumerate(("one", "two"))]
    text = page(compare_searches(runs, tmp_path / "both"))
    assert "distinct valid objects scored" in text and text.count("data:image/png") == 2
    table = key_numbers_table(read_search_numbers(runs))
    assert list(table.columns) == ["number", "one", "two"] and "Medians over seeds" in table.note
    assert ["calls, all seeds", "5", "5"] in table.rows


def test_other_objectives_and_gradient_searches_are_refused(tmp_path: Path) -> None:
    one, other = reported(tmp_path / "one"), reported(tmp_path / "other", score=far)
    with pytest.raises(UsageError, match="different objectives"):
        compare_searches([one, other], tmp_path / "both")
    run = create(tmp_path / "gradient", "search", {"status": "finished", "sentence": ""})
    (run.path / "report.json").write_text("{}")
    with pytest.raises(UsageError, match="cannot be compared"):
        compare_searches([one, run], tmp_path / "both")


@pytest.mark.parametrize(
    ("facts", "hint"), [({"sought": {}}, "lso optimize --resume"), ({}, r"result\.report\(folder\)")]
)
def test_a_search_without_report_says_how_to_get_one(tmp_path: Path, facts: dict[str, object], hint: str) -> None:
    run = create(tmp_path / "found", "search", {"status": "running", "sentence": "", "search": {"budget": 3}, **facts})
    with pytest.raises(RunError, match=rf"(?s)no readable report\.json.*{hint}"):
        read_search_numbers([run])
