"""The toy latent search: roles, what is measured, claims on scripted outcomes, and what is kept on disk."""

import dataclasses
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lso.tasks.papers import image_targets as kept
from lso.tasks.papers import image_targets as toy
from lso.tasks.papers.claims import judge_claims
from lso.tasks.papers.image_targets_report import (
    MEASURES,
    _panels,
    iteration_table,
    model_table,
    threshold_table,
    thresholds,
    write_image_targets_report,
)
from lso.tasks.training.experiment import train
from lso.tasks.training.plan import plan
from lso.vae.errors import RunError, UsageError
from lso.vae.runs import Run

SETTINGS = {"architecture": {"latent_dim": 3, "width": 8}, "protocol": {"epochs": 1}, "data": {"limit": 200}}
CONFIG = toy.BenchmarkConfig(targets=4, thresholds=(0.5, 0.0), lr=0.05, window=5, max_steps=40, controls=("sgd",))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    root = tmp_path_factory.mktemp("models")
    names = {"vae": "vae", "se": "ne-vae-se", "aggressive": "aggressive:budget=2", "beta": "beta-vae:beta=0.9"}
    return [train(method, settings=SETTINGS, out=root / name, device="cpu") for name, method in names.items()]


@pytest.mark.parametrize(
    ("method", "role", "annealed"),
    [
        ("vae", "vae", False),
        ("vae-anneal", "vae", True),
        ("ne-vae-se", "se", True),
        ("ne-vae-se+aggressive:budget=2", "", True),
        ("aggressive:anneal=10", "aggressive", True),
        ("beta-vae:beta=0.9,anneal=8.9", "beta", True),
        ("beta-vae:beta=0.8", "", False),
        ("skip-vae", "", False),
    ],
)
def test_runs_stand_for_the_rows_of_the_paper(method: str, role: str, annealed: bool) -> None:
    config = plan({"method": method, "data": {"task": "omniglot"}})
    assert (toy.role_of(config), toy.is_annealed(config)) == (role, annealed)
    assert toy.role_of(plan({"method": method})) == ""  # the digits


def test_only_trainings_on_the_same_data_are_compared(models: list[Run], tmp_path: Path) -> None:
    toy.check_same_images(models)
    with pytest.raises(UsageError, match="no models given"):
        toy.check_same_images([])
    with pytest.raises(UsageError, match="named twice"):
        toy.check_same_images([models[0], models[0]])
    other = train("vae", settings={**SETTINGS, "data": {"limit": 100}}, out=tmp_path / "other", device="cpu")
    with pytest.raises(RunError, match=r"other data than .*\nGive runs of the same task"):
        toy.check_same_images([models[0], other])


def test_an_outcome_is_what_lies_between_the_two_starts(models: list[Run]) -> None:
    images = toy.target_images(models[1], CONFIG)
    found = toy.benchmark(models[1], images, CONFIG, device="cpu")
    assert found.thresholds == (0.5, 0.0) and found.gap.shape == (2, 4) and found.free_running is None
    torch.testing.assert_close(found.gap, (found.loss[..., 0] - found.loss[..., 1]).abs())
    model = models[1].model()
    decoded = found.decoded
    assert decoded.shape == (4, 2, 1, 8, 8)
    error = (decoded - images[:, None].float()).square().sum((2, 3, 4))
    torch.testing.assert_close(error.double(), found.loss[-1], rtol=1e-4, atol=1e-4)
    distance = (decoded[:, 0] - decoded[:, 1]).square().sum((1, 2, 3))
    torch.testing.assert_close(distance.double(), found.distance_decoded[-1], rtol=1e-3, atol=1e-5)
    assert set(found.controls) == {"sgd"} and found.active_units <= model.latent_dim


def test_outcomes_are_kept_and_only_those_of_the_same_weights_and_settings_are_used(
    models: list[Run], tmp_path: Path
) -> None:
    images = toy.target_images(models[0], CONFIG)
    found = toy.benchmark(models[0], images, CONFIG, device="cpu")
    assert kept.read_outcome(models[0], CONFIG, tmp_path) is None
    kept.write_outcome(found, models[0], CONFIG, tmp_path)
    again = kept.read_outcome(models[0], CONFIG, tmp_path)
    settled = float(found.together[-1, 0]) if found.together_reached[-1, 0] else None
    there = kept.published_count(models[0], tmp_path, CONFIG)
    assert there.steps == settled and not there.again and (settled is not None or "met the cap of 40" in there.why)
    assert kept.published_count(models[1], tmp_path, CONFIG).why == "not searched yet"
    other = kept.published_count(models[0], tmp_path)
    assert other.again and other.why.startswith("searched with other settings (targets 4, not 50; thresholds")
    assert again is not None and torch.equal(again.gap, found.gap) and again.thresholds == found.thresholds
    assert kept.read_outcome(models[0], dataclasses.replace(CONFIG, max_steps=45), tmp_path) is None
    assert kept.read_interrupted(models[0], CONFIG, tmp_path) is None
    double = Run(Path(shutil.copytree(models[1].path, tmp_path / "elsewhere" / models[0].path.name)))
    kept.write_outcome(found, double, CONFIG, tmp_path)  # another model of the same name
    assert kept.read_outcome(models[0], CONFIG, tmp_path) is not None
    path = next((tmp_path / "outcomes").glob(f"{models[0].path.name}-{kept._weights(models[0])[:8]}*"))
    content = torch.load(path, weights_only=True)
    content["key"] = content["key"].replace(', "as_one": true', "")  # as earlier versions wrote it
    torch.save(content, path)
    assert kept.read_outcome(models[0], CONFIG, tmp_path) is not None
    assert kept.read_outcome(models[0], dataclasses.replace(CONFIG, as_one=False), tmp_path) is None


def test_without_all_as_one_and_controls_the_searches_end_where_they_did(models: list[Run], tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, controls=())
    images = toy.target_images(models[0], config)
    whole, each = (
        toy.benchmark(models[0], images, dataclasses.replace(config, as_one=one), device="cpu") for one in (True, False)
    )
    assert torch.equal(each.steps, whole.steps) and torch.equal(each.reached, whole.reached)
    torch.testing.assert_close(each.loss, whole.loss, rtol=1e-5, atol=1e-5)
    (line,), (counted,) = iteration_table([each]).rows, iteration_table([whole]).rows
    assert line[-2:] == ["–", "–"] and "–" not in counted and line[:-2] == counted[:-2]
    assert whole.finished and not whole.controls
    assert "Controls" not in write_image_targets_report({0.05: [whole]}, images, config, tmp_path).read_text()
    with pytest.raises(UsageError, match="adamw"):
        toy.BenchmarkConfig(controls=("adamw",))


def test_a_damaged_outcome_is_told_in_two_lines_and_not_searched_over(models: list[Run], tmp_path: Path) -> None:
    run = models[0]
    found = toy.benchmark(run, toy.target_images(run, CONFIG), CONFIG, device="cpu")
    kept.write_outcome(found, run, CONFIG, tmp_path)
    (path,) = (tmp_path / "outcomes").iterdir()
    whole, values = path.read_bytes(), torch.load(path, weights_only=True)
    at = whole.index(found.gap.numpy().tobytes())
    damaged = [b"", whole[:-200], b"PK" + bytes(40), whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]]
    others: list[dict[str, Any]] = [{"key": 3}, {"key": "[1]"}, {"gap": 1.0}, {"gap": found.gap[0]}]
    others += [{"loss": found.gap}, {"controls": {"sgd": {}}}, {"thresholds": ()}, {"further": 1}]
    others += [{"part": {"steps": 1}}]
    for change in others:
        buffer = io.BytesIO()
        torch.save(values | change, buffer)
        damaged.append(buffer.getvalue())
    for raw in damaged:
        path.write_bytes(raw)
        with pytest.raises(RunError, match=r"cannot be read as an outcome .*\n.*remove it, and the search is"):
            kept.read_outcome(run, CONFIG, tmp_path)
        assert str(path) in kept.published_count(run, tmp_path, CONFIG).why  # a table is shown all the same
        assert kept.published_count(run, tmp_path, dataclasses.replace(CONFIG, lr=0.5)).again
    path.write_bytes(whole)
    assert kept.read_outcome(run, CONFIG, tmp_path) is not None


@pytest.mark.parametrize("calls", [2, 6])
def test_a_search_that_was_cut_goes_on_to_the_same_outcome(models: list[Run], tmp_path: Path, calls: int) -> None:
    """After two looks at the clock Adam is under way, after six the control."""
    images, left = toy.target_images(models[0], CONFIG), iter([False] * calls)
    whole = toy.benchmark(models[0], images, CONFIG, device="cpu")
    cut = toy.benchmark(models[0], images, CONFIG, device="cpu", stop=lambda step: next(left, True))
    kept.write_outcome(cut, models[0], CONFIG, tmp_path)
    assert not cut.finished and not cut.controls and kept.read_outcome(models[0], CONFIG, tmp_path) is None
    begun = kept.read_interrupted(models[0], CONFIG, tmp_path)
    assert begun is not None and begun.finished == (calls == 6)
    resumed = toy.benchmark(models[0], images, CONFIG, device="cpu", begun=begun)
    assert resumed.finished and torch.equal(resumed.loss, whole.loss) and torch.equal(resumed.steps, whole.steps)
    assert torch.equal(resumed.controls["sgd"]["gap"], whole.controls["sgd"]["gap"])


def scripted(role: str, **values: Any) -> toy.TargetOutcome:
    """An outcome of three thresholds and 40 targets with given levels at each threshold, and a little noise."""
    noise = 0.01 * torch.randn(3, 40, generator=torch.Generator().manual_seed(len(role)), dtype=torch.float64)

    def lines(name: str, default: tuple[float, ...] = (1.0, 1.0, 1.0)) -> Tensor:
        return torch.tensor(values.get(name, default), dtype=torch.float64)[:, None] + noise

    steps = torch.full((3, 40, 2), values.get("steps", 100)) + torch.arange(40)[:, None] % 7
    return toy.TargetOutcome(
        name=role,
        role=role,
        method=role,
        latent_dim=3,
        active_units=2,
        thresholds=(0.01, 0.005, 0.0),
        gap=lines("gap").abs(),
        distance_active=lines("active"),
        distance_dead=lines("dead"),
        distance_decoded=lines("decoded").abs(),
        loss=torch.ones(3, 40, 2, dtype=torch.float64),
        steps=steps,
        reached=torch.ones(3, 40, 2, dtype=torch.bool),
        together=torch.full((3, 2), 100),
        together_reached=torch.ones(3, 2, dtype=torch.bool),
        controls={},
        free_running=None,
        decoded=torch.rand(40, 2, 1, 8, 8),
        finished=True,
    )


def test_claims_hold_fail_or_stay_open_as_the_numbers_say() -> None:
    outcomes = [
        scripted("se", gap=(0.5, 0.5, 0.5), active=(2.0, 1.5, 1.0), dead=(1.0, 1.0, 1.0), steps=100),
        scripted("vae", gap=(1.0, 0.4, 1.0), active=(1.0, 1.0, 1.0), dead=(1.0, 2.0, 3.0), steps=300),
        scripted("beta", active=(1.0, 3.0, 1.0), dead=(1.0, 1.0, 1.0), steps=200),
        scripted("aggressive", active=(1.0, 0.5, 0.2), dead=(1.0, 1.0, 1.0), steps=300),
    ]
    found = {claim.claim: claim.judgement for claim in judge_claims(outcomes)}

    def of(*words: str) -> str:
        (match,) = [judgement for claim, judgement in found.items() if all(word in claim for word in words)]
        return match

    assert of("smaller", "than for VAE at 0.01") == "holds" and of("smaller", "VAE at 0.005") == "does not hold"
    assert of("NE-VAE se: the code distance", "shrinks", "all") == "holds"
    assert of("VAE: the code distance", "grows", "all") == "holds"
    assert of("VAE: the code distance", "grows", "active dimensions alone") == "undecided"
    assert of("aggressive: the code distance", "all") == "does not hold"
    assert of("VAE: the code distance", "grows", "dead dimensions alone") == "holds"
    assert of("rises and falls", "active dimensions alone") == "holds"
    assert of("NE-VAE se takes fewer steps than beta") == "holds"
    assert of("VAE takes fewer steps than aggressive") == "undecided"
    assert len(found) == 6 + 9 + 3 + 3 + 3


def test_the_end_distance_of_beta_is_judged_against_that_of_se_by_target_and_by_dimension() -> None:
    """Two active and one dead dimension in se, one and two in beta: of either kind a dimension's share counts."""
    se = scripted("se", active=(1.0, 1.0, 1.0), dead=(1.0, 1.0, 1.0))
    beta = dataclasses.replace(scripted("beta", active=(9.0, 9.0, 0.7), dead=(9.0, 9.0, 1.6)), active_units=1)

    def told(*outcomes: toy.TargetOutcome) -> dict[str, str]:
        ends = [claim for claim in judge_claims(outcomes) if "stays above that of NE-VAE se" in claim.claim]
        return {claim.claim.rpartition(", ")[2]: claim.judgement for claim in ends}

    assert told(se, beta) == {
        "all dimensions": "holds",  # 2.3 against 2.0
        "per active dimension": "holds",  # 0.7 against 0.5
        "per dead dimension": "does not hold",  # 0.8 against 1.0
    }
    (whole,) = [one for one in judge_claims([se, beta]) if "above" in one.claim and "all dimensions" in one.claim]
    difference = (beta.distance_active + beta.distance_dead - se.distance_active - se.distance_dead)[-1]
    assert whole.intervals[0].mean == pytest.approx(float(difference.mean()))
    awake = dataclasses.replace(se, active_units=3, distance_dead=torch.full_like(se.distance_dead, torch.nan))
    assert told(awake, beta) == {"all dimensions": "holds", "per active dimension": "holds"}
    assert not told(se, scripted("vae"))


def test_a_claim_is_judged_on_the_targets_that_got_there(tmp_path: Path) -> None:
    se, vae = scripted("se", gap=(0.5, 0.5, 0.5)), scripted("vae", gap=(1.0, 1.0, 1.0))
    vae.reached[1, 1:], se.reached[2, 5:] = False, False
    found = {claim.claim: claim for claim in judge_claims([se, vae])}
    (late,) = [claim for text, claim in found.items() if "at 0.005" in text]
    assert late.judgement == "not reached" and late.evidence == "1 of 40 targets met it before the cap"
    (cut,) = [one for one in judge_claims([se, dataclasses.replace(vae, finished=False)]) if "at 0.005" in one.claim]
    assert cut.evidence == "1 of 40 targets met it before the search was cut off"
    (some,) = [claim for text, claim in found.items() if "shrinks" in text and "all dimensions" in text]
    assert some.evidence.endswith("too few to judge, over 5 of 40 targets") and some.judgement == "undecided"
    assert not some.intervals
    vae.reached[2], se.reached[2] = False, False
    (steps,) = [claim for claim in judge_claims([se, vae]) if "fewer steps" in claim.claim]
    assert steps.judgement == "not reached" and steps.evidence == "0 of 80 searches met it before the cap"
    vae.gap[0, 0] = torch.nan  # a search that broke down
    assert {claim.judgement for claim in judge_claims([se, vae]) if "at 0.01" in claim.claim} == {"undecided"}
    write_image_targets_report({0.01: [se, vae]}, torch.rand(40, 1, 8, 8), toy.BenchmarkConfig(), tmp_path)
    assert json.loads((tmp_path / "report.json").read_text())["learning_rates"]["0.01"][1]["gap"][0][0] is None


def test_the_rise_is_judged_by_wider_intervals_as_its_threshold_was_chosen() -> None:
    (found,) = [claim for claim in judge_claims([scripted("beta", active=(1.0, 3.0, 1.0))]) if "active" in claim.claim]
    assert "largest mean at 0.005" in found.claim and found.judgement == "holds"
    beta = scripted("beta", active=(1.0, 3.0, 1.0))
    measured = [f.name for f in dataclasses.fields(beta) if isinstance(getattr(beta, f.name), Tensor)]
    more = {name: getattr(beta, name)[[0, 1, 1, 2]] for name in measured if name != "decoded"}
    wide = dataclasses.replace(beta, thresholds=(0.01, 0.005, 0.002, 0.0), **more)
    (narrow, wider) = [
        next(claim for claim in judge_claims([one]) if "active" in claim.claim).intervals[0] for one in (beta, wide)
    ]
    assert wider.high - wider.low > narrow.high - narrow.low


def test_no_largest_mean_is_named_where_nothing_is_judged() -> None:
    beta = scripted("beta", active=(1.0, 3.0, 1.0))
    beta.reached[2] = False
    assert {(claim.judgement, "largest" in claim.claim) for claim in judge_claims([beta])} == {("not reached", False)}


def test_of_two_runs_of_one_role_the_annealed_one_stands_for_it_and_is_named() -> None:
    plain = dataclasses.replace(scripted("vae"), name="plain", annealed=False)
    (found, *_) = judge_claims([plain, dataclasses.replace(plain, name="other", annealed=True)])
    assert found.claim.startswith("VAE [other]: the code distance")
    assert judge_claims([plain])[0].claim.startswith("VAE (not annealed): the code distance")


@pytest.mark.parametrize("units", [0, 3])
def test_a_distance_over_no_dimension_is_none_not_zero(units: int, tmp_path: Path) -> None:
    empty = "distance_dead" if units else "distance_active"
    none: Any = {empty: torch.full((3, 40), torch.nan)}
    vae = dataclasses.replace(scripted("vae"), active_units=units, **none)
    column = 2 + list(MEASURES).index(empty)
    assert [row[column] for row in threshold_table([vae]).rows] == ["none"] * 3
    (claim,) = judge_claims([vae])
    assert "none of them" in claim.claim and claim.judgement != "not reached"
    title = MEASURES[empty]
    figure = thresholds(_panels([vae, scripted("se")]))
    (axis,) = [axis for axis in figure.axes if axis.get_title("left") == title]
    assert [line.get_label() for line in axis.lines if not str(line.get_label()).startswith("_")] == ["se"]


def test_a_threshold_that_was_not_met_is_hollow_or_a_gap() -> None:
    vae = scripted("vae")
    vae.reached[1, :5], vae.reached[2] = False, False
    axis = thresholds(_panels([vae])).axes[0]
    line, hollow = axis.lines
    shown = np.asarray(line.get_ydata())
    assert np.isfinite(shown).tolist() == [True, True, False] and np.asarray(hollow.get_xdata()).tolist() == [1, 2]
    assert threshold_table([vae]).rows[2][2:6] == ["–"] * 4


def test_an_autoregressive_model_is_also_measured_by_its_own_draws(tmp_path: Path) -> None:
    network = {"name": "he2019-small", "latent_dim": 2, "width": 4}
    run = train("vae", settings={**SETTINGS, "architecture": network}, out=tmp_path / "ar", device="cpu")
    config = dataclasses.replace(CONFIG, targets=2, max_steps=5)
    found = toy.benchmark(run, toy.target_images(run, config), config, device="cpu")
    assert found.free_running is not None and found.free_running.shape == (2, 2)
    assert bool((found.free_running >= 0).all()) and not torch.equal(found.free_running, found.loss[-1])


@pytest.mark.usefixtures("charts")
def test_the_page_shows_every_model_and_says_where_the_cap_came_first(tmp_path: Path) -> None:
    se, vae = scripted("se"), scripted("vae")
    vae.reached[2, :5] = False
    assert [row[-1] for row in threshold_table([se, vae]).rows] == ["–"] * 5 + ["10 of 80"]
    page = write_image_targets_report(
        {0.01: [se, vae], 0.03: [se, vae]}, torch.rand(40, 1, 8, 8), toy.BenchmarkConfig(), tmp_path
    )
    text = page.read_text()
    assert "free-running" not in " ".join(model_table([se, vae]).columns) and "NE-VAE se" in text
    assert "Learning rate 0.03" in text and "10 of 80" in text and "16,200" in text and "data:image/png" in text
    assert (tmp_path / "report.json").is_file()
