"""Reports on black-box searches: planted truths are found, and page, JSON and table say the same."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import lso
from lso.analysis.black_box_summary import BlackBoxSummary, black_box_summary
from lso.analysis.diagnosis import diagnose, diagnostics_from_report
from lso.decoders.decoder import Decoder
from lso.objectives.latent_objective import LatentObjective
from lso.reports.black_box_report import black_box_report, write_black_box
from lso.reports.black_box_tables import black_box_key_number_table
from lso.reports.tables import number
from lso.vae.checkpoint import Codes
from lso.vae.config.architectures import architecture
from lso.vae.errors import UsageError
from lso.vae.models.vae import build
from tests.lso.black_box_cases import (
    BEST,
    DEAD,
    SCALES,
    far,
    fitted_once,
    objective,
    search,
    seeds,
    summary,
    uncharted,
    unfitted,
    uniform,
)
from tests.lso.example_decoders import draws
from tests.lso.reports.test_search_report import page

__all__ = ["fitted_once", "uncharted", "unfitted"]


def levels_of(found: BlackBoxSummary) -> dict[str, str]:
    return {check.name: check.level for check in found.verdict.checks}


@pytest.mark.usefixtures("fitted_once")
def test_the_planted_dead_dimension_is_named_and_kept_apart() -> None:
    found = summary().main
    assert found.dimensions.dead == [DEAD] and found.agreement is not None
    pairs, z = found.agreement.pairs[0], torch.stack([result.best_z for result in seeds()])
    apart = torch.stack([z[0] - z[1], z[0] - z[2], z[1] - z[2]]).square()
    assert pairs.other == pytest.approx(float(apart[:, DEAD].median()))
    assert found.lengthscale is not None and int(found.lengthscale.argmax()) == DEAD


@pytest.mark.usefixtures("fitted_once", "charts")
def test_page_and_json_and_table_say_the_same(tmp_path: Path) -> None:
    where = black_box_report(seeds(), tmp_path, best_possible=0.0, verdict="Posterior collapse.", extra={"a": "b"})
    text, numbers = page(where), json.loads((tmp_path / "report.json").read_text(), parse_constant=pytest.fail)
    names = ("best-objects", "whether-to-believe-it", "progress", "sensitivity-to-the-seed", "surrogate")
    for section in (*names, "activity-per-dimension", "typicality", "settings", "where-it-came-from"):
        assert f'<h2 id="{section}">' in text
    assert text.count("data:image/png") == 5 + 10 and where.stat().st_size < 1_500_000
    best = max(result.best_value for result in seeds())
    assert numbers["groups"][0]["best"] == pytest.approx(best, rel=1e-5) and number(best) in text
    assert numbers["verdict"]["level"] == "doubt" and "the training reported" in numbers["verdict"]["sentence"]
    table = {row[0]: row[1] for row in black_box_key_number_table(summary()).rows}
    assert table["best value, best seed"] == number(numbers["essence"]["best value, best seed"])
    assert table["unique, all seeds"] == "72"


@pytest.mark.slow
@pytest.mark.usefixtures("unfitted", "charts")
def test_the_page_of_a_long_search_is_small(tmp_path: Path) -> None:
    assert search(budget=2000).report(tmp_path / "mine.html").stat().st_size < 3_000_000


@pytest.mark.usefixtures("unfitted")
def test_one_search_is_reported_in_two_lines_without_codes(tmp_path: Path) -> None:
    where = seeds()[0].report(tmp_path / "mine.html")
    assert where == tmp_path / "mine.html" and "There is nothing to compare" in page(where)
    numbers = json.loads((tmp_path / "mine.json").read_text())
    assert numbers["groups"][0]["dimensions"]["redraw"][DEAD] == 0
    assert numbers["groups"][0]["agreement"] is None


@pytest.mark.usefixtures("unfitted")
def test_a_box_of_six_without_a_guard_is_not_believed() -> None:
    found = black_box_summary([search(uniform, score=far, bounds=6.0, seed=seed) for seed in range(2)])
    assert found.verdict.level == "doubt" and "2 of 2 best codes are atypical" in found.verdict.sentence
    assert levels_of(summary())["typicality"] == "fine"


def test_a_constant_score_is_flat_and_not_believed() -> None:
    result = search(uniform, score=lambda x: torch.ones(len(x)))
    found = black_box_summary([result])
    assert levels_of(found)["progress"] == "doubt" and levels_of(found)["surrogate"] == "care"
    assert "there is nothing to predict" in found.verdict.sentence and "nan" not in found.verdict.sentence


@pytest.mark.usefixtures("unfitted", "uncharted")
def test_duplicates_and_invalid_objects_are_counted(tmp_path: Path) -> None:
    def coarse(z: Tensor) -> list[str]:
        return [f"{'+' if row[0] > 0 else '-'}{int(row[1].abs())}" for row in z]

    def score(texts: list[str]) -> list[float | None]:
        return [None if text[0] == "-" else float(text[1]) for text in texts]

    aim = LatentObjective(Decoder(coarse, latent_dim=3), score, on="objects", maximize=True)
    results = [lso.optimize(aim, "random", 50, patience=30, seed=seed) for seed in range(2)]
    found = black_box_summary(results)
    for name in ("calls", "unique", "duplicate", "invalid"):
        assert found.main.total(name) == sum(int(result.counters[name]) for result in results)
    assert levels_of(found)["calls"] == "doubt"
    assert [one.text for one in found.top[:2]] == ["+2", "+1"] or found.top[0].text == "+3"
    assert len({one.text for one in found.top}) == len(found.top)
    text = page(black_box_report(results, tmp_path))
    assert "<td>+1</td>" in text and "decoded to data already seen" in text


@pytest.mark.usefixtures("unfitted")
def test_searches_that_stay_with_their_design_are_marked() -> None:
    def best_first(history: Any, n: int, seed: int) -> Tensor:
        return torch.full((n, 4), BEST).double() + (0.0 if len(history.z) == 0 else 1.0) * draws(n, 4, seed=seed % 97)

    found = black_box_summary([search(best_first)])
    assert found.main.traces[0].in_design and levels_of(found)["progress"] == "care"


@pytest.mark.usefixtures("unfitted")
def test_searches_that_never_leave_their_design_are_marked() -> None:
    aim = objective()
    found = black_box_summary([lso.optimize(aim, "turbo", 2 * aim.dim)])  # its design has two points a dimension
    progress = found.verdict.check("progress")
    assert progress.level == "care" and "0 of 1 searches improved" in progress.found
    assert "1 ended within it and only drew at random" in progress.found
    told = diagnostics_from_report(json.loads(json.dumps(found.to_json())))
    assert any("spent their budget within the initial design" in cause.found for cause in diagnose(told))


@pytest.mark.usefixtures("unfitted")
def test_optimizers_stand_side_by_side_and_the_first_is_reported_on(tmp_path: Path) -> None:
    results = [search(uniform, budget=12), *seeds()[:2]]
    found = black_box_summary(results, names=["box", "a", "a"])
    assert [group.name for group in found.groups] == ["box", "a"] and found.main.name == "box"
    text = page(write_black_box(found, tmp_path))
    assert "Side by side" in text and f"a: {found.groups[1].verdict.sentence[:40]}" in text


@pytest.mark.usefixtures("unfitted")
def test_the_trainings_codes_come_in_and_a_collapse_is_not_believed() -> None:
    mean = draws(40, 4) * torch.tensor([1.0, 1e-3, 1e-3, 1e-3])
    codes = Codes(mean, torch.full_like(mean, -1.0), torch.tensor(SCALES).double())
    found = black_box_summary([search(budget=12)], codes=codes, verdict="Posterior collapse: 1 of 4.")
    assert found.main.dimensions.active_units == 1 and found.main.mutual_information is not None
    assert levels_of(found)["model"] == "doubt"


@pytest.mark.usefixtures("unfitted")
def test_nothing_valid_is_still_a_report(tmp_path: Path) -> None:
    def broken(x: Tensor) -> Tensor:
        raise ValueError("no licence")

    result = lso.optimize(objective(broken), "random", 5, patience=8, max_failures=20)
    text = page(result.report(tmp_path))
    assert "no licence" in text and "No object was valid." in text and "do not believe" in text


@pytest.mark.usefixtures("unfitted", "uncharted")
def test_a_score_that_fails_now_and_then_is_counted_with_its_first_error(tmp_path: Path) -> None:
    def flaky(x: Tensor) -> Tensor:
        if len(x) > 1 or float(x.sum()) < 0:
            raise ConnectionError("the instrument does not answer")
        return x.flatten(1).sum(1)

    result = lso.optimize(objective(flaky), "random", 5, batch=4)
    failed = result.counters["failed"]
    assert failed > 0
    assert f"{failed} failed (first: ConnectionError: the instrument does not answer (" in page(result.report(tmp_path))


@pytest.mark.usefixtures("unfitted", "uncharted")
def test_images_are_shown_and_atypical_ones_framed(tmp_path: Path) -> None:
    decoder = Decoder(build(architecture("mlp", latent_dim=4, width=16), False, (1, 8, 8)))
    aim = LatentObjective(decoder, lambda x: x.flatten(1).mean(1), space=lso.LatentSpace(4, bounds=8.0))
    result = lso.optimize(aim, lso.black_box.ask_tell.BlackBox("box", aim.space, uniform, maximize=False), 12)
    text = page(result.report(tmp_path))
    assert text.count("outline: 2px solid") > 0 and "atypical" in text


def test_different_objectives_are_refused() -> None:
    with pytest.raises(UsageError, match="2 objectives"):
        black_box_summary([seeds()[0], search(score=lambda x: x.flatten(1).sum(1), budget=3)])
    with pytest.raises(UsageError, match="no search"):
        black_box_summary([])
