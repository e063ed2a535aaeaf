"""The commands that look at a trained run: what they write and print, as text and as JSON."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import Result

from lso.tasks.training.experiment import reload_dataset
from lso.vae import runs
from lso.vae.runs import Run
from tests.cli.test_errors import refused

Lso = Callable[..., Result]


def told(result: Result) -> dict[str, object]:
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert isinstance(found, dict)
    return found


def pixels(path: Path | str) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def test_evaluate_prints_every_metric_and_says_what_was_cut(lso: Lso, run: Run) -> None:
    result = lso("evaluate", "--iw-samples", 20, "--limit", 40)
    assert result.exit_code == 0, result.stderr
    for name in ("-ELBO", "IW-NLL", "KL", "MI", "MI, split", "active units", "re-encoding", "decoder use", "z0"):
        assert name in result.stdout
    assert "cut by --limit: 40 of 179 test images" in result.stdout
    values = told(lso("evaluate", run.path, "--iw-samples", 0, "--limit", 40, "--json"))
    assert values["n"] == 40 and values["iw_nll"] is None
    assert values["cut"] == "--limit: 40 of 179 test images"


def test_sample_draws_what_the_seed_says(lso: Lso, run: Run) -> None:
    first = Path(lso("sample", "-n", 9, "-q").stdout.strip())
    assert first.parent == run.path / "pictures"
    drawn = pixels(first)
    assert drawn.shape[0] == drawn.shape[1] > 90
    assert lso("sample", run.path, "-n", 9, "--out", "again.png").exit_code == 0
    assert (pixels("again.png") == drawn).all()
    told(lso("sample", run.path, "-n", 9, "--seed", 1, "--out", "other.png", "--json"))
    assert (pixels("other.png") != drawn).any()


def test_a_file_of_the_users_is_overwritten_only_by_force(lso: Lso, run: Run) -> None:
    Path("mine.png").write_text("mine")
    refused = lso("sample", "--out", "mine.png")
    assert refused.exit_code == 2 and "--force" in refused.stderr
    assert Path("mine.png").read_text() == "mine"
    assert lso("sample", "--out", "mine.png", "--force").exit_code == 0
    assert lso("sample", "--out", "mine.jpg").exit_code == 2


def test_codes_go_to_a_file_and_back_to_images(lso: Lso, run: Run) -> None:
    found = told(lso("encode", run.path, "--data", "test:6", "--out", "codes.npz", "--json"))
    assert found["n"] == 6 and found["latent_dim"] == 4
    with np.load("codes.npz") as codes:
        assert codes["mean"].shape == codes["log_var"].shape == (6, 4)
        assert list(codes["names"]) == [f"test {i}" for i in range(6)]
        assert codes["labels"].tolist() == reload_dataset(run).labels["test"][:6].tolist()
    assert lso("decode", run.path, "codes.npz", "--out", "images").exit_code == 0
    assert [path.name for path in sorted(Path("images").iterdir())] == [f"{i:04d}.png" for i in range(6)]
    sheet = Path(lso("decode", run.path, "codes.npz", "-q").stdout.strip())
    assert sheet == run.path / "pictures" / "decoded-codes.png" and sheet.is_file()


@pytest.mark.parametrize(
    ("arrays", "code", "told"),
    [
        ({"mean": np.zeros((3, 5))}, 2, "codes have shape (3, 5), expected (n, 4)"),
        ({"z": np.zeros((3, 3))}, 2, "codes have shape (3, 3), expected (n, 4)"),
        ({"z": np.zeros(5)}, 2, "codes have shape (5,), expected (n, 4)"),
        ({"z": np.float64(1.0)}, 2, "codes have shape (1,), expected (n, 4)"),
        ({"z": np.zeros((0, 4))}, 2, "codes have shape (0, 4), expected (n, 4)"),
        ({"z": np.array([[0, 0, np.nan, 0], [np.inf] * 4])}, 1, "5 of 8 numbers of the codes are NaN or infinite"),
        ({"z": np.full((1, 4), 1e200)}, 1, "4 of 4 numbers of the codes are NaN or infinite"),  # in single precision
        ({"z": np.full((1, 4), "0")}, 1, "holds no codes: it has z"),
        ({"z": np.array([[None] * 4])}, 1, "pickled objects, which are never loaded"),
        ({"a": np.zeros((1, 4)), "b": np.zeros((1, 4))}, 1, "holds no codes: it has a, b"),
    ],
)
def test_what_are_no_codes_of_the_model_is_refused(
    lso: Lso, run: Run, arrays: dict[str, np.ndarray], code: int, told: str
) -> None:
    np.savez("codes.npz", **arrays)  # type: ignore[arg-type]
    refused(lso("decode", run.path, "codes.npz", "--out", "images"), code, "codes.npz", told)
    assert not Path("images").exists()


@pytest.mark.parametrize("ends", [("test:3", "validation:8"), ("one.png", "test:0")])
def test_interpolation_goes_from_one_image_to_the_other(lso: Lso, run: Run, ends: tuple[str, str]) -> None:
    Image.fromarray(np.full((20, 14), 200, dtype=np.uint8)).save("one.png")
    found = told(lso("interpolate", run.path, *ends, "--steps", 5, "--out", "path.png", "--json"))
    assert isinstance(found["distance"], float) and found["distance"] > 0
    height, width = pixels("path.png").shape[:2]
    assert width > 6 * 64 and height > 64
    assert lso("interpolate", run.path, "test:3", "test").exit_code == 2
    assert lso("interpolate", run.path, "test:3", "test:179").exit_code == 2


def test_traverse_orders_dimensions_by_activity(lso: Lso, run: Run) -> None:
    options = ("--dim", "all", "--directions", 3, "--steps", 5, "--points", 0, "--hold", 0)
    found = told(lso("traverse", run.path, *options, "--json"))
    rows = found["dimensions"]
    assert isinstance(rows, list)
    variance = [row["variance"] for row in rows]
    assert variance == sorted(variance, reverse=True) and len(rows) == 4
    folder = run.path / "pictures" / "traverse"
    assert sorted(path.name for path in folder.iterdir()) == ["dimensions.png", "random-directions.png", "report.html"]
    assert "http" not in (folder / "report.html").read_text().replace("http://www.w3.org", "")
    one = told(lso("traverse", run.path, "--dim", "2,0", "--directions", 0, "--points", 0, "--out", "other", "--json"))
    assert one["pictures"] == [str(Path("other") / "dimensions.png")] and Path("other/dimensions.png").is_file()
    assert lso("traverse", run.path, "--dim", "4").exit_code == 2
    assert lso("traverse", run.path, "--dim", "first").exit_code == 2


def test_report_compares_trainings(lso: Lso, run: Run) -> None:
    result = lso("report", run.path, "--out", "page")
    assert result.exit_code == 0, result.stderr
    assert "AU" in result.stdout and "page/report.html" in result.stdout
    assert Path("page/report.json").is_file()
    assert lso("report").exit_code == 2
    assert lso("report", run.path, "--out", "page").exit_code == 1


def test_report_says_that_runs_differ_in_their_data(lso: Lso, run: Run) -> None:
    shutil.copytree(run.path, "runs/other")
    other, dataset = Run("runs/other"), run.info["dataset"]
    seed = {**dataset["provenance"], "binarize": {"mode": "dynamic", "seed": 1}}
    runs.update_run(other, dataset={**dataset, "hash": "x", "provenance": seed})
    assert "different data" not in lso("report", run.path, other.path).stderr  # the seed of the binarization alone
    runs.update_run(other, dataset={**dataset, "hash": "x", "provenance": {"source": "y", "substitute": True}})
    result = lso("report", run.path, other.path, "--out", "page")
    assert "Trained on different data, so that values cannot be compared (digits; other)." in result.stderr
    assert "The data of other are a substitute for digits" in Path("page/report.html").read_text()


def test_runs_of_sweeps_and_reproductions_are_listed(lso: Lso, run: Run) -> None:
    shutil.copytree(run.path, "runs/sweep-digits/vae-d4-s0")
    listed = json.loads(lso("list", "runs", "--json").stdout)
    assert {row["run"] for row in listed} == {"runs/digits", "runs/sweep-digits/vae-d4-s0"}


def test_doctor_says_what_there_is(lso: Lso) -> None:
    found = told(lso("doctor", "--json"))
    assert set(found) == {"versions", "devices", "folders", "missing"}
    text = lso("doctor").stdout
    assert all(word in text for word in ("torch", "python", "cpu", "downloads"))


def test_doctor_says_what_went_wrong_in_a_run(lso: Lso, run: Run) -> None:
    assert "finished 3 epochs" in lso("doctor", run.path).stdout
    (run.path / "model.safetensors").write_bytes(b"short")
    findings = told(lso("doctor", run.path, "--json"))["findings"]
    assert isinstance(findings, list)
    problem, *verdict = [row["what"] for row in findings if row["level"] == "problem"]
    assert "model.safetensors" in problem and verdict == [run.verdict]  # so short a training has collapsed
