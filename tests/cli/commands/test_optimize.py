"""``lso optimize``: a search from the command line."""

import json
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import Result

from lso.vae import runs
from lso.vae.runs import Run

Lso = Callable[..., Result]
QUICK = ("--starts", 2, "--max-steps", 40, "--control", "none", "--device", "cpu")


def test_a_search_ends_in_a_table_a_verdict_and_a_report(lso: Lso, run: Run) -> None:
    result = lso("optimize", "--target", "test:3", "--optimizer", "adam", *QUICK)
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    found = Run(lines[-1])
    assert found.kind == "search" and found.info["status"] == "finished"
    assert f"report: {found.path / 'report.html'}" in lines
    assert any("elieve" in line for line in lines)
    assert len(lines) <= 12 and "best object" in result.stdout and "active dims (decoder)" not in result.stdout
    every = lso("optimize", "--target", "test:3", "--optimizer", "adam", "--verbose", *QUICK).stdout
    assert "active dims (decoder)" in every and "best object" in every
    assert "Searching 4 latents of runs/digits (vae) for test:3: adam, 2 starts each, seed 0" in result.stderr


@pytest.mark.usefixtures("plain_report")
def test_one_start_is_of_the_first_default_kind(lso: Lso, run: Run) -> None:
    result = lso("optimize", "--target", "test:2", *QUICK, "--starts", 1)
    assert result.exit_code == 0, result.stderr
    assert Run(result.stdout.splitlines()[-1]).info["search"]["start"] == ["mean"]


@pytest.mark.usefixtures("plain_report")
def test_the_verdict_of_the_training_is_told_before_the_search(lso: Lso, run: Run) -> None:
    runs.update_run(run, verdict="Posterior collapse: planted.")
    result = lso("optimize", "--target", "test:2", "--json", *QUICK)
    told = json.loads(result.stdout)
    assert result.stderr.splitlines()[1] == "warning: Posterior collapse: planted."
    assert told["verdict"]["level"] == "doubt"
    assert Path(told["report"]).is_file()


def test_a_folder_of_images_of_other_sizes_and_kinds_is_searched_for(lso: Lso, run: Run) -> None:
    Path("images").mkdir()
    pixels = np.zeros((30, 22), dtype=np.uint8)
    pixels[5:25, 9:13] = 255
    Image.fromarray(pixels).save("images/one.png")
    Image.fromarray(pixels.repeat(2, 0)).convert("RGB").save("images/two.jpg")
    Path("images/three.png").write_text("no image")
    refused = lso("optimize", "--target", "images", *QUICK)
    assert refused.exit_code == 1 and "three.png" in refused.stderr
    result = lso("optimize", "--target", "images/", "--bad-files", "skip", "--out", "found", *QUICK)
    assert result.exit_code == 0, result.stderr
    assert "three.png" in result.stderr
    assert len((Path("found") / "evaluations.jsonl").read_text().splitlines()) == 4
    comparison = lso("report", "found", "--out", "page")
    assert comparison.exit_code == 0 and "best value" in comparison.stdout
    assert lso("report", "found", run.path).exit_code == 2


def grey(path: str, n: int = 2, seed: int = 0) -> np.ndarray:
    """Grey pictures in a file, and as numbers in [0, 1]."""
    pixels = np.random.default_rng(seed).integers(1, 255, (n, 8, 8), dtype=np.uint8)
    np.save(path, pixels)
    return pixels / 255


@pytest.mark.usefixtures("plain_report")
def test_grey_targets_are_searched_for_and_shown_as_they_are(lso: Lso, run: Run) -> None:
    wanted = grey("grey.npy")
    result = lso("optimize", "--target", "grey.npy", "--out", "found", *QUICK, "--loss", "bce", "--prior-weight", 0)
    assert result.exit_code == 0, result.stderr
    assert "Grey pixels are taken as they are" in result.stderr
    best, shown = (
        np.stack([np.array(Image.open(f"found/results/images/000{i}_{kind}.png")) / 255 for i in range(2)])
        for kind in ("best", "target")
    )
    np.testing.assert_allclose(shown, wanted, atol=1e-6)
    with np.load("found/results/codes.npz") as codes:
        value = codes["value"].min(1)
    entropy = -(wanted * np.log(best) + (1 - wanted) * np.log1p(-best)).sum((1, 2))  # by hand, from 8-bit pictures
    np.testing.assert_allclose(value, entropy, rtol=0.01)
    assert lso("optimize", "--target", "grey.npy", "--out", "drawn", "--binarize", *QUICK).exit_code == 0
    assert set(np.unique(np.array(Image.open("drawn/results/images/0000_target.png")))) == {0, 255}


def test_other_commands_take_grey_as_it_is_too(lso: Lso, run: Run) -> None:
    import torch

    from lso.tasks import exploration
    from lso.tasks.training import experiment

    wanted = torch.from_numpy(grey("grey.npy", 1)).float()[None]
    mean = exploration.encode_data(experiment.load(run), wanted).mean.numpy()
    for flags, same in (((), True), (("--binarize",), False)):
        assert lso("encode", run.path, "--data", "grey.npy", "--out", "codes.npz", "--force", *flags).exit_code == 0
        with np.load("codes.npz") as codes:
            assert np.allclose(codes["mean"], mean, atol=1e-6) == same
        found = lso("interpolate", run.path, "grey.npy", "test:0", "--out", "way.png", "--force", "--json", *flags)
        assert found.exit_code == 0, found.stderr
    refused = lso("interpolate", run.path, "test:1", "test:0", "--out", "way.png", "--force", "--invert")
    assert refused.exit_code == 2 and "--invert is for files" in refused.stderr
    refused = lso("optimize", "--task", "digits-preference", "--invert")
    assert refused.exit_code == 2 and "--invert: only for the files of --target" in refused.stderr


@pytest.mark.usefixtures("plain_report")
def test_ctrl_c_writes_what_there_is(lso: Lso, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lso.vae.progress.RichProgress.on_step", lambda *_: signal.raise_signal(signal.SIGINT))
    options = ("--max-steps", 1000000, "--tol", 0, "--optimizer", "sgd", "--out", "cut")
    result = lso("optimize", "--target", "test:3", "--starts", 2, *options)
    assert result.exit_code == 130
    assert result.stdout.splitlines()[-1] == "cut"
    assert (Path("cut") / "report.html").is_file()
    assert Run("cut").info["status"] == "stopped"


@pytest.mark.usefixtures("plain_report")
def test_limits_cut_the_targets_and_the_time_and_say_so(lso: Lso, run: Run) -> None:
    done = lso("optimize", "--target", "test:5", "--limit", "2", "--starts", "1", "--max-steps", "40", "--out", "a")
    assert done.exit_code == 0 and "Cut to the first 2 of 5 targets." in done.stderr
    done = lso("optimize", "--target", "test:2", "--starts", "2", "--tol", "0", "--time-limit", "0s", "--out", "b")
    assert done.exit_code == 0 and "Stopped early (reached the time limit)" in done.stdout
    assert Run("b").info["status"] == "stopped" and (Run("b").path / "report.html").is_file()
