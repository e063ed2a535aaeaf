"""The commands that look at autoregressive models and at models without latents, and traversals in full."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import Result

from lso.vae.runs import Run

Lso = Callable[..., Result]


def told(result: Result) -> dict[str, object]:
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert isinstance(found, dict)
    return found


def pixels(path: object) -> np.ndarray:
    with Image.open(str(path)) as image:
        return np.asarray(image)


@pytest.fixture(scope="session")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two untrained PixelCNNs on the digits, one without latents. Do not write into them."""
    from lso.tasks.training.experiment import train

    folder = tmp_path_factory.mktemp("untrained")
    small = {"protocol": {"epochs": 0}, "data": {"limit": 60}}
    sizes = {"name": "he2019-small", "width": 2}
    train("vae", settings=small | {"architecture": sizes | {"latent_dim": 4}}, out=folder / "vae", device="cpu")
    train("pixelcnn", settings=small | {"architecture": sizes}, out=folder / "baseline", device="cpu")
    return folder


@pytest.fixture
def pixelcnn(untrained: Path, elsewhere: Path) -> Path:
    """A copy of the one with latents."""
    return Path(shutil.copytree(untrained / "vae", elsewhere / "runs" / "vae"))


@pytest.fixture
def baseline(untrained: Path, elsewhere: Path) -> Path:
    """A copy of the one without."""
    return Path(shutil.copytree(untrained / "baseline", elsewhere / "runs" / "baseline"))


def test_an_autoregressive_model_is_sampled_unless_said_otherwise(lso: Lso, pixelcnn: Path) -> None:
    drawn = told(lso("sample", pixelcnn, "-n", 4, "--json"))
    assert (drawn["how"], drawn["uniforms"], drawn.get("samples")) == ("sample", "own", None)
    assert Path(str(drawn["picture"])).name == "sample-4-seed0.png"
    mean = told(lso("sample", pixelcnn, "-n", 4, "--how", "mean", "--samples", 2, "--json"))
    assert (mean["how"], mean["uniforms"], mean["samples"]) == ("mean", "common", 2)
    assert Path(str(mean["picture"])).name == "sample-4-seed0-mean.png"
    assert (pixels(drawn["picture"]) != pixels(mean["picture"])).any()
    unknown = lso("sample", pixelcnn, "--how", "nope")
    assert unknown.exit_code == 2 and "--how: expected one of mean, sample, greedy" in unknown.stderr


def test_equal_codes_decode_to_equal_draws(lso: Lso, pixelcnn: Path) -> None:
    np.savez("codes.npz", mean=np.zeros((3, 4)))
    assert told(lso("decode", pixelcnn, "codes.npz", "--out", "images", "--json"))["uniforms"] == "common"
    first, *others = (pixels(path) for path in sorted(Path("images").iterdir()))
    assert all((first == other).all() for other in others)
    lso("decode", pixelcnn, "codes.npz", "--out", "other", "--seed", 1)
    assert (pixels("other/0000.png") != first).any()


def test_an_interpolation_says_how_it_was_drawn(lso: Lso, pixelcnn: Path) -> None:
    result = lso("interpolate", pixelcnn, "test:0", "test:1", "--steps", 3)
    assert result.exit_code == 0 and "ancestral samples from uniforms common to all codes" in result.stderr
    assert told(lso("interpolate", pixelcnn, "test:0", "test:1", "--steps", 3, "--how", "greedy", "--json"))["how"] == (
        "greedy"
    )


def test_strips_of_an_autoregressive_model_are_made_on_request(lso: Lso, pixelcnn: Path) -> None:
    options = ("--dim", "0,1", "--directions", 0, "--steps", 3)
    result = lso("traverse", pixelcnn, *options)
    assert "200 images drawn pixel after pixel, about" in result.stderr and "--points 100" in result.stderr
    page = (pixelcnn / "pictures" / "traverse" / "report.html").read_text(encoding="utf-8")
    left = told(lso("traverse", pixelcnn, *options, "--force", "--json"))
    assert left["points"] == 0 and str(left["strips"]).startswith("left out: 200 images drawn pixel after pixel")
    assert "left out: 200 images" in page and "--points 100" in page
    found = told(lso("traverse", pixelcnn, *options, "--points", 4, "--how", "greedy", "--json"))
    assert found["points"] == 4 and found["how"] == "greedy" and found["strips"] == ""
    pictures = found["pictures"]
    assert isinstance(pictures, list)
    assert [Path(path).name for path in pictures] == ["dimensions.png", "dimensions-4-points.png"]
    assert Path(pictures[0]).parent.name == "traverse-greedy" and all(Path(path).is_file() for path in pictures)


def test_traversals_hold_the_most_active_dimensions(lso: Lso, run: Run) -> None:
    found = told(lso("traverse", run.path, "--dim", "all", "--points", 100, "--hold", 2, "--json"))
    rows = found["dimensions"]
    assert isinstance(rows, list) and found["held"] == sorted(row["dimension"] for row in rows[:2])
    names = {path.name for path in (run.path / "pictures" / "traverse").iterdir()}
    held = "random-directions-2-most-active-held-at-0"
    stems = ("dimensions", "random-directions", held)
    assert names == {"report.html", *(f"{stem}{strip}.png" for stem in stems for strip in ("", "-100-points"))}
    refused = lso("traverse", run.path, "--hold", 4)
    assert refused.exit_code == 2 and "all 4 dimensions are held at 0" in refused.stderr


def test_a_baseline_is_sampled_and_has_no_codes(lso: Lso, baseline: Path) -> None:
    assert pixels(told(lso("sample", baseline, "-n", 4, "--json"))["picture"]).size > 0
    np.savez("codes.npz", mean=np.zeros((3, 4)))
    for command in (("traverse",), ("encode",), ("interpolate", "test:0", "test:1"), ("decode", "codes.npz")):
        refused = lso(command[0], baseline, *command[1:])
        assert refused.exit_code == 2
        assert "baseline without latents" in refused.stderr and "lso sample" in refused.stderr


def test_so_many_of_each_class_are_trained_on(lso: Lso, no_report: None) -> None:
    told(lso("train", "--method", "vae", "--per-class", 3, "--epochs", 0, "--out", "few", "--json"))
    provenance = json.loads(Path("few/run.json").read_text())["dataset"]["provenance"]
    assert provenance["split"]["per_class"] == 3 and provenance["split"]["counts"]["train"] == 30
    assert "per_class = 3" in Path("few/config.toml").read_text()
