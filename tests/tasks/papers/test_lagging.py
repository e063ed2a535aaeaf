"""The lagging experiment, tiny: its trainings, stops that leave no trace, what is kept, what is claimed."""

import dataclasses
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from lso.tasks.datasets import synthetic_text as synthetic
from lso.tasks.papers import lagging
from lso.tasks.papers import lagging_metrics as lagging_measure
from lso.tasks.papers.lagging import LaggingConfig, Part, begin, parts
from lso.tasks.papers.lagging_metrics import FinalMetrics, Findings, PosteriorMeans, explore, staircase
from lso.tasks.papers.lagging_report import claim_table, ending_table, sentence, write_lagging_report
from lso.vae.checkpoint import load_model
from lso.vae.errors import RunError, UsageError
from lso.vae.runs import Run
from lso.vae.training import loop as training

TINY = LaggingConfig(limit=32, epochs=2, stages=(0, 1, 3), points=6, stride=2.0, moves=2)
SMALL = {"architecture": {"width": 6, "embedding": 6}}
FEW = {"vae": "vae", "aggressive": "aggressive:window=2,cap=4,patience=1,against=previous"}  # inner steps


@pytest.fixture(autouse=True, scope="module")
def fewer() -> Iterator[None]:
    """100 sequences in place of 20,000."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthetic, "SPLIT_SIZES", {"train": 64, "validation": 20, "test": 16})
        yield


def small(config: LaggingConfig = TINY) -> list[Part]:
    """The trainings of an experiment with small networks and few inner steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lagging, "METHODS", FEW)
        patch.setattr(lagging, "METHODS_OF_ONE", FEW)
        return parts(config, SMALL)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Findings]:
    """A whole experiment. Do not write into its folder."""
    root = tmp_path_factory.mktemp("lagging")
    planned = small()
    return root, explore(planned, TINY, begin(planned, root, "cpu"))


def place(true: list[float], encoder: list[float]) -> PosteriorMeans:
    return PosteriorMeans(true=torch.tensor(true).double(), encoder=torch.tensor(encoder).double())


def ending(part: Part, mi: float, at: PosteriorMeans) -> FinalMetrics:
    rest = {"kl": mi, "active_units": 1, "neg_elbo": 40.0, "inner_steps": 41.0, "seconds": 60.0}
    return FinalMetrics(part=part, mi=mi, place=at, aggressive_epochs=3, epochs=50, **rest)  # type: ignore[arg-type]


def test_the_trainings_are_those_of_the_paper() -> None:
    found = {part.planned.name: part for part in parts(LaggingConfig(seeds=2))}
    assert list(found) == [
        *("vae-s0", "aggressive-s0", "one-vae-s0", "one-aggressive-s0", "offset-vae-s0", "offset-aggressive-s0"),
        *("vae-s1", "aggressive-s1"),
    ]
    config = found["aggressive-s1"].planned.config
    assert config.method.params["window"] == 15 and config.method.params["against"] == "previous"
    assert (config.architecture.name, config.architecture.latent_dim, config.seed) == ("he2019-toy", 1, 1)
    assert found["offset-vae-s0"].planned.config.architecture.name == "he2019-toy-offset"
    alone = found["one-aggressive-s0"].planned.config
    assert (alone.data.limit, alone.protocol.batch_size) == (50, 50)  # the batch is all data, inner ones too


def test_stops_at_stages_leave_no_trace(done: tuple[Path, Findings], tmp_path: Path) -> None:
    root, _ = done
    part = small()[1]
    session = begin([part], tmp_path, "cpu")
    unbroken = training.train_model(part.planned.config, session.data(part), tmp_path / "unbroken")
    staged = Run(root / part.planned.name)
    rows = [[{**row, "seconds": 0} for row in run.metrics()] for run in (unbroken, staged)]
    assert rows[0] == rows[1] and staged.info["status"] == "finished"
    ours, theirs = (run.model().state_dict() for run in (unbroken, staged))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    stages = [load_model(lagging.stage_file(part, root, step)).state_dict() for step in TINY.stages]
    assert not torch.equal(stages[0]["encoder.head.weight"], stages[1]["encoder.head.weight"])


def test_everything_is_measured(done: tuple[Path, Findings]) -> None:
    _, found = done
    assert [(end.part.method, end.aggressive_epochs > 0) for end in found.endings] == [
        ("vae", False),
        ("aggressive", True),
    ]
    assert set(found.spaces) == {("plain", 0), ("offset", 0)} and not found.cut
    for rows in found.spaces.values():
        assert [[step for step, _ in stages] for stages in rows.values()] == [[0, 1, 3], [0, 1, 3]]
    assert all(len(path.true) == TINY.moves + 1 for path in found.paths.values())
    offset = found.spaces["offset", 0]["vae"][0][1]
    assert offset.encoder.abs().max() > 10 * found.spaces["plain", 0]["vae"][0][1].encoder.abs().max()


def test_what_is_done_is_kept(done: tuple[Path, Findings], monkeypatch: pytest.MonkeyPatch) -> None:
    root, first = done
    for module, name in (
        (training, "train_model"),
        (training, "resume_training"),
        (lagging_measure, "measure_posterior_means"),
    ):
        monkeypatch.setattr(module, name, None)
    again = explore(small(), TINY, begin(small(), root, "cpu"))
    assert [end.mi for end in again.endings] == [end.mi for end in first.endings]


@pytest.mark.parametrize("damage", [b"", b"PK" + bytes(30), b'{"mi": "much"}', b"[[[", None])
def test_what_is_damaged_of_it_is_measured_again(
    done: tuple[Path, Findings], tmp_path: Path, damage: bytes | None
) -> None:
    """None stands for numbers that do not fit each other, in files that can be read."""
    before, first = done
    root = Path(shutil.copytree(before, tmp_path / "lagging"))
    for path in [*root.glob("*/stages/*.npz"), *root.glob("*/stages/test.json")]:
        if damage is not None:
            path.write_bytes(damage)
        elif path.suffix == ".npz":
            np.savez(path, true=np.zeros(6), encoder=np.full(6, np.nan))
        else:
            path.write_text('{"mi": NaN, "kl": true, "neg_elbo": 1.0, "active_units": 1}')
    again = explore(small(), TINY, begin(small(), root, "cpu"))
    assert [end.mi for end in again.endings] == [end.mi for end in first.endings]
    for key, rows in first.spaces.items():
        for method, stages in rows.items():
            for (_, old), (_, new) in zip(stages, again.spaces[key][method], strict=True):
                assert torch.equal(old.true, new.true) and torch.equal(old.encoder, new.encoder)


def test_another_stride_measures_anew_without_training(
    done: tuple[Path, Findings], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, _ = done
    monkeypatch.setattr(training, "resume_training", None)
    finer = dataclasses.replace(TINY, stride=0.5)
    part = small(finer)[0]
    assert lagging_measure.measure_means(part, 1, finer, begin([part], root, "cpu")) is not None


def test_it_is_cut_by_the_clock_and_goes_on(tmp_path: Path) -> None:
    planned = small()[:1]
    session = begin(planned, tmp_path, "cpu", seconds=0.0)
    assert "time limit" in explore(planned, TINY, session).cut
    session.deadline = time.monotonic() + 1e6
    found = explore(planned, TINY, session)
    assert not found.cut and len(found.endings) == 1


def test_other_stages_or_settings_of_a_begun_folder_are_refused(done: tuple[Path, Findings]) -> None:
    root, _ = done
    other = dataclasses.replace(TINY, epochs=3)
    with pytest.raises(RunError, match=r"another training: protocol.epochs = 2, not 3"):
        begin(small(other), root, "cpu")
    with pytest.raises(UsageError, match="rising stages"):
        LaggingConfig(stages=(3, 3))


def test_a_stage_behind_a_begun_training_is_refused(tmp_path: Path) -> None:
    part = dataclasses.replace(small()[0], stages=(3,), whole=False)
    assert lagging.train_to_stages(part, begin([part], tmp_path, "cpu")) is None
    earlier = dataclasses.replace(part, stages=(1,))
    with pytest.raises(RunError, match="its weights at step 1 were not saved"):
        lagging.train_to_stages(earlier, begin([earlier], tmp_path, "cpu"))


@pytest.mark.usefixtures("charts")
def test_the_page_has_pictures_and_numbers(done: tuple[Path, Findings], tmp_path: Path) -> None:
    _, found = done
    page = write_lagging_report(found, TINY, tmp_path, ["Not the paper's size."])
    text, numbers = page.read_text(encoding="utf-8"), json.loads(page.with_suffix(".json").read_text(encoding="utf-8"))
    for words in ("Posterior mean space, seed 0", "offset initialization", "The path of one datum", "Not the paper"):
        assert words in text
    assert {path.name for path in tmp_path.glob("*.png")} == {
        "posterior-means-s0.png",
        "posterior-means-offset-s0.png",
        "one-datum.png",
    }
    assert len(numbers["endings"]) == 2 and len(numbers["spaces"]) == 12 and len(numbers["spaces"][0]["true"]) == 6


def test_claims_are_judged_over_seeds() -> None:
    vae, aggressive = parts(TINY)[:2]
    flat, right = place([0.1, -0.2, 0.3], [0.0, 1e-5, 0.0]), place([-1.0, 0.0, 1.0], [-0.9, 0.1, 1.1])
    good = [ending(vae, 0.01, flat), ending(aggressive, 1.2, right)]
    assert [row[0] for row in claim_table(Findings(endings=good)).rows] == ["holds", "holds"]
    bad = [*good, ending(vae, 0.3, right), ending(aggressive, 1.2, flat)]
    assert [row[0] for row in claim_table(Findings(endings=bad)).rows] == ["does not hold", "does not hold"]
    assert sentence(Findings(endings=bad)).startswith("Plain training collapses: does not hold (in 1 of 2 trainings)")
    assert claim_table(Findings()).rows[0][0] == "not reached"
    assert [row[-1] for row in ending_table(Findings(endings=bad)).rows] == ["yes", "yes", "no", "no"]


def test_a_staircase_has_the_encoders_moves_before_the_decoders() -> None:
    way = staircase(place([0.0, 1.0, 3.0], [0.0, 10.0, 20.0]))
    assert way.true.tolist() == [0, 0, 1, 1, 3] and way.encoder.tolist() == [0, 10, 10, 20, 20]


def test_the_correlation_of_what_does_not_vary_is_zero() -> None:
    assert place([0.0, 1.0], [2.0, 2.0]).correlation == 0 and place([0.0, 1.0], [2.0, 3.0]).correlation > 0.999
