"""Models that are installed with the package: found by name, complete, as their cards say, never written to."""

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import lso
from lso.tasks.training.experiment import reload_dataset
from lso.tasks.training.plan import plan
from lso.vae import zoo
from lso.vae.errors import UsageError
from lso.vae.metrics.collapse import MIN_DIMENSION_NATS
from lso.vae.runs import MODEL, Run
from lso.vae.utils.integrity import find_damage

ROOT = Path(__file__).resolve().parents[2]
NAMES = zoo.zoo_names()


@pytest.fixture(autouse=True)
def untouched() -> Iterator[None]:
    """No test may change an installed model or leave a file beside it."""

    def state() -> dict[str, int]:
        return {str(path): path.stat().st_mtime_ns for path in zoo.FOLDER.rglob("*")}

    before = state()
    yield
    assert state() == before


def test_pairs_and_squares_are_there_and_small() -> None:
    assert NAMES == ["digits-alive", "digits-collapsed", "expressions-alive", "expressions-collapsed", "squares"]
    sizes = {name: sum(file.stat().st_size for file in (zoo.FOLDER / name).iterdir()) for name in NAMES}
    assert max(sizes.values()) <= 3_000_000 and sum(sizes.values()) <= 10_000_000, sizes


@pytest.mark.parametrize("name", NAMES)
def test_a_model_is_a_whole_run(name: str) -> None:
    run = Run(f"zoo:{name}")
    assert run.require("train") == "train" and run.reference == f"zoo:{name}" and repr(run) == f"Run('zoo:{name}')"
    assert run.seals and not any(find_damage(run.path, file, run.seals) for file in run.seals)
    model, codes = lso.load(f"zoo:{name}"), run.codes()
    assert codes is not None and codes.mean.shape[1] == model.latent_dim == run.config.architecture.latent_dim
    assert run.best()["epoch"] == run.info["kept"]["epoch"]
    decoded = lso.Decoder(model)(torch.zeros(2, model.latent_dim))
    assert len(decoded) == 2 and (isinstance(decoded, list) or bool(torch.isfinite(decoded).all()))


def test_one_of_each_pair_has_collapsed() -> None:
    for data in ("digits", "expressions"):
        alive, collapsed = Run(f"zoo:{data}-alive"), Run(f"zoo:{data}-collapsed")
        assert collapsed.verdict.startswith("Posterior collapse") and not alive.verdict
        assert alive.config.architecture == collapsed.config.architecture
        assert alive.info["dataset"]["hash"] == collapsed.info["dataset"]["hash"]
        used = [zoo.read_test_metrics(f"{data}-{state}")["used_dimensions"] for state in ("alive", "collapsed")]
        assert used[0] >= 3 * max(used[1], 1), used


def test_unknown_names_and_changes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown model of the zoo 'digits-alife'\nDid you mean 'digits-alive'"):
        lso.load("zoo:digits-alife")
    with pytest.raises(UsageError, match="is installed with lso and is not changed\nTrain your own by its recipe: lso"):
        lso.resume("zoo:squares")
    with pytest.raises(UsageError, match="is not changed"):
        Run("zoo:squares", accept_changes=True)


def test_the_cards_in_the_documentation_are_drawn() -> None:
    told = subprocess.run([sys.executable, ROOT / "docs" / "models.py"], capture_output=True, text=True, check=True)
    assert told.stdout == (ROOT / "docs" / "models.md").read_text(encoding="utf-8"), "make zoo, or draw it anew"


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_metrics_repeat(name: str) -> None:
    """Other processors round differently: four digits, and a dimension at the threshold may fall on either side."""
    run, told = Run(f"zoo:{name}"), zoo.read_test_metrics(name)
    model, dataset = lso.load(run), reload_dataset(run)
    metrics = lso.evaluate(model, dataset, limit=told["n"], iw_samples=told["iw_samples"])
    for key in ("neg_elbo", "iw_nll", "kl", "reconstruction", "reencoding_error"):
        assert getattr(metrics, key) == pytest.approx(told[key], rel=1e-4, abs=1e-5), key
    assert metrics.mi == pytest.approx(told["mi"], rel=1e-3, abs=1e-3)
    assert metrics.active_units == told["active_units"]
    worth = zip(metrics.decoder_use, metrics.kl_per_dimension, strict=True)
    assert abs(sum(min(pair) >= MIN_DIMENSION_NATS for pair in worth) - told["used_dimensions"]) <= 1


@pytest.mark.slow
def test_the_cheapest_is_trained_again_by_its_recipe(tmp_path: Path) -> None:
    """Weights differ with the processor's rounding, what was learned does not."""
    name = "expressions-collapsed"
    words = shlex.split(zoo.read_card(name)["recipe"])
    command = [sys.executable, "-m", "lso", *words[1:], "--out", str(tmp_path / "again"), "--quiet"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(command, check=True, capture_output=True, cwd=tmp_path, env=environment)
    again, kept = Run(tmp_path / "again"), Run(f"zoo:{name}")
    assert again.info["dataset"]["hash"] == kept.info["dataset"]["hash"] and again.verdict == kept.verdict
    assert again.best()["neg_elbo"] == pytest.approx(kept.best()["neg_elbo"], rel=0.05)
    assert again.best()["active_units"] == kept.best()["active_units"]
    assert (again.path / MODEL).stat().st_size == (kept.path / MODEL).stat().st_size
    assert plan({}, again.path / "config.toml") == plan({}, kept.path / "config.toml")
