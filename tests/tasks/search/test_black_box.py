"""Black-box searches from names to a run folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from lso.black_box.runner import SearchCallback
from lso.results.export import read_evaluations
from lso.tasks.goals import Goal, SearchTarget
from lso.tasks.search import black_box
from lso.tasks.search.black_box import resume_black_box, search_black_box
from lso.tasks.search.options import BlackBoxConfig
from lso.vae.errors import RunError, UsageError
from lso.vae.runs import Run
from lso.vae.utils.files import Lock
from tests.vae.small import contents


def ink(pictures: Any) -> list[float | None]:
    return [float(picture.sum()) for picture in pictures]


def nothing(pictures: Any) -> list[float | None]:
    return [None for _ in pictures]


def known(count: int, seed: int) -> tuple[torch.Tensor, list[float]]:
    return torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed % 2**31)), [7.0] * count


@dataclass(frozen=True, slots=True, kw_only=True)
class Mine(SearchTarget):
    """A goal by value."""

    def goal(self, run: Run) -> Goal:
        return Goal(name=str(self.objective), score=globals()[str(self.objective)], maximize=True, known=known)


@pytest.fixture(autouse=True)
def unreported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave reports and their pictures out: each takes a second."""
    monkeypatch.setattr(black_box, "black_box_report", lambda *_, **__: None)
    monkeypatch.setattr(black_box, "write_search_files", lambda *_: None)
    monkeypatch.setattr(black_box, "SearchTarget", Mine)


@pytest.mark.parametrize("optimizer", ["gp", "thompson"])
def test_search_with_a_surrogate_of_decoded_objects_is_resumed_once_and_again(
    trained: Run, tmp_path: Path, optimizer: str
) -> None:
    config = BlackBoxConfig(optimizer=optimizer, surrogate="decoded", budget=4, batch=2)
    search_black_box(trained, Mine(objective="ink"), config, out=tmp_path / "a", device="cpu")
    resume_black_box(tmp_path / "a", changes={"budget": 6}, device="cpu", trust=True)
    resume_black_box(tmp_path / "a", device="cpu", trust=True)  # with the budget of the last time
    assert len(read_evaluations(tmp_path / "a")) == 6
    assert Run(tmp_path / "a").info["config"]["budget"] == 6


@pytest.mark.parametrize(
    "config", [{"optimizer": "gp", "options": {"initial": "ten"}}, {"optimizer": "cmaes", "surrogate": "decoded"}]
)
def test_wrong_option_leaves_no_folder_behind(trained: Run, tmp_path: Path, config: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        search_black_box(
            trained, Mine(objective="ink"), BlackBoxConfig(**config), seeds=2, out=tmp_path / "a", device="cpu"
        )
    assert not (tmp_path / "a").exists()


def test_reconstruction_in_processes_is_refused_and_leaves_no_folder_behind(trained: Run, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="in this process"):
        search_black_box(trained, SearchTarget(target="test:2"), BlackBoxConfig(workers=2), out=tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_several_searches_that_found_nothing_valid_say_so(trained: Run, tmp_path: Path) -> None:
    config = BlackBoxConfig(optimizer="random", budget=4, max_calls=4)
    found = search_black_box(trained, Mine(objective="nothing"), config, seeds=2, out=tmp_path / "a", device="cpu")
    assert found.info["status"] == "invalid"
    assert "best values none, none" in found.info["sentence"] and "calls invalid" in found.info["sentence"]


def test_a_second_process_is_refused_between_two_searches_too(trained: Run, tmp_path: Path) -> None:
    refused: list[str] = []

    def callback(name: str, _: Any) -> SearchCallback:
        before = contents(tmp_path)
        with pytest.raises(RunError, match="is at work in"):
            resume_black_box(tmp_path / "a", changes={"budget": 9}, device="cpu", trust=True)
        assert contents(tmp_path) == before
        refused.append(name)
        return SearchCallback()

    config = BlackBoxConfig(optimizer="random", budget=2)
    search_black_box(
        trained, Mine(objective="ink"), config, seeds=2, out=tmp_path / "a", device="cpu", callback=callback
    )
    assert refused == ["seed-0", "seed-1"]
    Lock(tmp_path / "a").release()


def test_known_values_are_told_with_the_part_of_the_prior(
    trained: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []
    monkeypatch.setattr(black_box, "write_search_files", lambda folder, result: told.append(result))
    config = BlackBoxConfig(optimizer="random", budget=2, known=5, prior_weight=0.5)
    search_black_box(trained, Mine(objective="ink"), config, out=tmp_path / "a", device="cpu")
    z, value = told[0].known, told[0].known_value
    assert len(z) == 5 and value.tolist() == pytest.approx((7 - 0.25 * z.square().sum(-1)).tolist())
