"""``lso reproduce``: tables listed, rows trained, ours beside published, cuts and substitutes said."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lso.tasks.papers.published_tables import published_table
from tests.cli.conftest import Lso
from tests.cli.test_errors import refused

SMALL = ("--limit", 40, "--epochs", 1, "--arch", "mlp", "--device", "cpu")


@pytest.fixture
def omniglot(elsewhere: Path) -> Path:
    """A few random images in the form of the substitute's file."""
    draw = np.random.default_rng(0)
    train, test = (draw.integers(0, 255, (n, 28, 28), dtype=np.uint8) for n in (60, 20))
    np.savez(elsewhere / "omniglot.npz", train_x=train, test_x=test)
    return elsewhere / "omniglot.npz"


@pytest.mark.parametrize("command", [("reproduce",), ("list", "tables")])
def test_without_a_table_they_are_listed(lso: Lso, command: tuple[str, ...]) -> None:
    rows = json.loads(lso(*command, "--json").stdout)
    found = {row["table"]: row["scales"] for row in rows}
    assert found["nevae2021_table1_omniglot"] == found["nevae2021_toy_search"] == "cpu"
    assert found["he2019_table1_5_text_yelp"] == ""
    assert "nevae2021_table1_omniglot" in lso(*command).stdout


@pytest.mark.usefixtures("no_report")
def test_rows_are_trained_and_told_beside_the_published_ones(lso: Lso, omniglot: Path) -> None:
    command = ("reproduce", "nevae2021_table1", "--rows", "VAE,NE-VAE se", "--data", omniglot, *SMALL, "--out", "here")
    done = lso(*command)
    assert done.exit_code == 0, done.stderr
    assert "NOT the paper's protocol: 40 training images" in done.stderr and "substitute (omniglot.npz)" in done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["2", "VAE", "published", "88.91", "2.12", "1.83", "6"] in lines
    assert any(line[:2] == ["vae-anneal", "ours"] for line in lines) and not any("z" in line for line in lines)
    folder = Path("here/reproduce-nevae2021_table1_omniglot")
    assert {path.name for path in folder.iterdir()} == {
        "report.html",
        "report.json",
        "vae-anneal-d32-s0",
        "ne-vae-se-d32-s0",
    }
    again = lso(*command, "--json")
    assert "training:" not in again.stderr and json.loads(again.stdout)["ranks"]["AU"] is None
    more = lso("reproduce", "nevae2021_table1", "--rows", "1", *command[4:], "--json")
    assert [row["done"] for row in json.loads(more.stdout)["rows"]][:10] == [1, 1, *[0] * 7, 1]


@pytest.mark.slow
@pytest.mark.usefixtures("no_report")
def test_the_scale_for_a_cpu_trains_the_rows_of_the_search_and_draws_their_latents(lso: Lso, elsewhere: Path) -> None:
    draw = np.random.default_rng(0)
    train, test = (draw.integers(0, 255, (n, 28, 28), dtype=np.uint8) for n in (200, 60))
    np.savez(elsewhere / "omniglot.npz", train_x=train, test_x=test)
    rows = [part for label in ("VAE", "NE-VAE se", "beta-VAE(0.9)", "Aggressive") for part in ("--rows", label)]
    small = ("--limit", 100, "--epochs", 2, "--data", "omniglot.npz", "--device", "cpu", "--out", "here")
    command = ("reproduce", "nevae2021_table1", "--scale", "cpu", *rows, "--seeds", 1, *small)
    done = lso(*command, "--json")
    assert done.exit_code == 0, done.stderr
    told = "100 training images instead of all; images of 14x14; networks he2019-small instead of he2019; epochs 2"
    assert f"NOT the paper's protocol: {told}" in done.stderr
    order = [line.split()[-1] for line in done.stderr.splitlines() if "training: " in line]
    beta, aggressive = "beta-vae-beta=0.9-anneal=8.88889", "aggressive-budget=10-tolerance=0-anneal=10"
    four = ["vae-anneal", "ne-vae-se-weight=0.3", beta, aggressive]
    assert order == [f"{name}-d32-s0" for name in four]
    folder = Path("here/reproduce-nevae2021_table1_omniglot-cpu")
    assert {path.name for path in folder.iterdir()} == {"report.html", "report.json", *order}
    page, numbers = (folder / "report.html").read_text(), json.loads(done.stdout)
    assert numbers["ranks"]["AU"]["rows"] == 4 and [row["done"] for row in numbers["rows"]].count(1) == 4
    assert "Traversals of NE-VAE se" in page and "Re-encoding error over training" in page and "Readings" in page
    search = lso("reproduce", "nevae2021_toy", "--scale", "cpu", *rows, "--seeds", 1, *small)
    assert search.exit_code == 0 and "training: " not in search.stderr, search.stderr
    assert "lso benchmark image-targets" in search.stdout


@pytest.mark.usefixtures("no_report")
def test_an_edited_training_is_refused_unless_the_edit_was_meant(lso: Lso, omniglot: Path) -> None:
    command = ("reproduce", "nevae2021_table1", "--rows", "VAE", "--data", omniglot, *SMALL, "--out", "here")
    assert lso(*command).exit_code == 0
    folder = Path("here/reproduce-nevae2021_table1_omniglot/vae-anneal-d32-s0")
    with (folder / "config.toml").open("a") as file:
        file.write("# mine\n")
    refused(lso(*command), 1, "config.toml was damaged or edited", "--accept-changes")
    done = lso(*command, "--accept-changes")
    assert done.exit_code == 0 and "training:" not in done.stderr, done.stderr


@pytest.mark.usefixtures("no_report")
def test_latent_sizes_are_told_column_by_column(lso: Lso, omniglot: Path) -> None:
    """NE-VAE's Table 2: active units at 8, 16 and 64 latents."""
    command = ("reproduce", "nevae2021_table2", "--rows", "NE-VAE se", "--data", omniglot, *SMALL, "--out", "here")
    done = lso(*command, "--json")
    assert done.exit_code == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["columns"] == ["d8 AU", "d16 AU", "d64 AU"]
    cells = told["rows"][2]["cells"]
    assert [cells[name]["published"]["text"] for name in told["columns"]] == ["8", "12", "55"]
    assert [cells[name]["ours"]["n"] for name in told["columns"]] == [1, 1, 1]
    trained = {path.name for path in Path("here/reproduce-nevae2021_table1_omniglot").glob("*-s0")}
    assert trained == {"ne-vae-se-d8-s0", "ne-vae-se-d16-s0", "ne-vae-se-d64-s0"}


@pytest.mark.usefixtures("no_report")
def test_a_comparison_without_published_figures_shows_ours(lso: Lso, elsewhere: Path) -> None:
    """NE-VAE's on MNIST (section 5.3.3), whose figures are not in our copies."""
    draw = np.random.default_rng(0)
    train, test = (draw.integers(0, 255, (n, 28, 28), dtype=np.uint8) for n in (60, 20))
    np.savez(elsewhere / "mnist.npz", train_x=train, test_x=test)
    command = (
        "reproduce",
        "nevae2021_mnist",
        "--rows",
        "VAE,NE-VAE se",
        "--data",
        "mnist.npz",
        *SMALL,
        "--out",
        "here",
    )
    done = lso(*command, "--json")
    assert done.exit_code == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["columns"] == ["-ELBO", "KL", "MI", "AU"] and not any(told["ranks"].values())
    cells = [cell for row in told["rows"] for cell in row["cells"].values()]
    assert all(cell["published"] is None for cell in cells) and sum(cell["ours"] is not None for cell in cells) == 8
    page = Path("here/reproduce-nevae2021_mnist/report.html").read_text()
    assert "none of its figures is in our copies" in page
    assert "Traversals of" in page and "Likelihood and active units" in page


@pytest.mark.usefixtures("no_report")
def test_a_table_of_repeats_shares_the_model_and_adds_evaluations(lso: Lso, omniglot: Path) -> None:
    small = ("--data", omniglot, *SMALL, "--iw-samples", 2, "--out", "here")
    assert lso("reproduce", "he2019_table2", "--rows", "VAE", "--seeds", 1, *small).exit_code == 0
    done = lso("reproduce", "he2019_table8", *small, "--json")
    assert done.exit_code == 0 and "training:" not in done.stderr
    row = json.loads(done.stdout)["rows"][2]
    assert row["label"] == "OMNIGLOT" and row["cells"]["-ELBO"]["ours"]["n"] == 10
    assert row["cells"]["-ELBO"]["ours"]["std"] > 0 and row["cells"]["-ELBO"]["published"]["text"] == "89.66"


@pytest.mark.usefixtures("no_report")
def test_tables_of_text_share_trainings_and_speak_of_sequences(lso: Lso, elsewhere: Path) -> None:
    lines = [f"{k % 3}\tthe {word} was {word}" for k, word in enumerate(["good", "bad", "cold", "late"] * 10)]
    (elsewhere / "some.txt").write_text("\n".join(lines) + "\n")
    small = ("--data", "some.txt", "--limit", 8, "--epochs", 1, "--arch", "lstm", "--device", "cpu", "--iw-samples", 2)
    command = ("reproduce", "he2019_table1_5_text_yelp", "--rows", "VAE", "--seeds", 1, *small, "--out", "here")
    done = lso(*command)
    assert done.exit_code == 0, done.stderr
    assert "8 training sequences instead of all; networks lstm instead of he2019-text" in done.stderr
    assert "a substitute (some.txt)" in done.stderr and "image" not in done.stderr + done.stdout
    more = lso("reproduce", "he2019_table10", "--rows", "1x,2x", *small, "--out", "here")
    assert more.exit_code == 0 and "training: vae-encoder-learning-rate=2-d32-s0" in more.stderr, more.stderr
    assert "training: vae-d32-s0" not in more.stderr and "vae, encoder_learning_rate=2" in more.stdout
    assert {path.name for path in Path("here/reproduce-he2019_table1_5_text_yelp").glob("*-s0")} == {
        "vae-d32-s0",
        "vae-encoder-learning-rate=2-d32-s0",
    }


def test_a_table_that_cannot_be_trained_yet_shows_what_was_published(lso: Lso, monkeypatch: pytest.MonkeyPatch) -> None:
    quoted = replace(
        published_table("savae2018"), rows=tuple(replace(row, train="") for row in published_table("savae2018").rows)
    )
    monkeypatch.setattr("lso.tasks.papers.published_tables.published_table", lambda name: quoted)
    done = lso("reproduce", "savae2018", "--out", "here")
    assert done.exit_code == 0 and "can be trained: only" in done.stderr and "61.6" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("nevae",), "several tables begin with"),
        (("he2019_table9_annealing",), "Name one of he2019_table9_annealing_omniglot, he2019_table9_annealing_yahoo"),
        (("nevae2021_table1", "--scale", "gpu"), "unknown scale of nevae2021_table1_omniglot 'gpu'"),
        (("he2019_table2", "--scale", "cpu"), "he2019_table2_6_omniglot has only the scale"),
        (("nevae2021_table1", "--rows", "VEA"), "unknown row of nevae2021_table1_omniglot"),
        (("he2019_table2", "--arch", "mlp"), "row PixelCNN: mlp decodes from z alone"),
        (("he2019_table2", "--seeds", 0), "at least 1 seed"),
    ],
)
def test_mistakes_are_two_lines_and_exit_2(lso: Lso, arguments: tuple[object, ...], told: str) -> None:
    done = lso("reproduce", *arguments)
    assert done.exit_code == 2 and told in done.stderr and len(done.stderr.splitlines()) == 2
