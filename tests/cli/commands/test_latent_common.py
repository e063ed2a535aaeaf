"""The commands on a run of sequences: texts on stdout and in files."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import Result

from lso.vae.runs import Run
from tests.tasks.search.test_sentences import LINES, SIZES

Lso = Callable[..., Result]


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hardly trained run on a few sentences. Do not write into it."""
    from lso.tasks.training.experiment import train

    folder = tmp_path_factory.mktemp("spoken")
    (folder / "data.txt").write_text("\n".join(LINES))
    settings = {"architecture": SIZES, "protocol": {"epochs": 2, "batch_size": 8}}
    return train("vae", data=folder / "data.txt", settings=settings, out=folder / "run", device="cpu").path


@pytest.fixture
def run(spoken: Path, elsewhere: Path) -> Run:
    """A copy, the newest run."""
    return Run(Path(shutil.copytree(spoken, elsewhere / "runs" / "words")))


def lines(result: Result) -> list[str]:
    assert result.exit_code == 0, result.stderr
    return result.stdout.splitlines()


def test_a_training_on_text_says_so(lso: Lso, elsewhere: Path) -> None:
    Path("own.txt").write_text("\n".join(LINES))
    result = lso("train", "--method", "lstm-lm", "--data", "own.txt", "--epochs", 0, "--width", 4, "--out", "lm")
    assert result.exit_code == 0, result.stderr
    assert (
        "Training lstm-lm on text (26 sequences of at most 7 tokens, vocabulary 16): lstm, no latents" in result.stderr
    )
    assert "nats a sequence" in result.stdout
    assert len(lines(lso("sample", "lm", "-n", 3))) == 3
    assert "a baseline without latents" in lso("traverse", "lm").stderr


def test_prior_draws_are_lines_on_stdout_and_in_a_file(lso: Lso, run: Run) -> None:
    result = lso("sample", run.path, "-n", 5)
    assert len(lines(result)) == 5 and "samples from uniforms of each code's own" in result.stderr
    file = run.path / "pictures" / "sample-5-seed0.txt"
    assert file.read_text() == result.stdout and str(file.name) in result.stderr
    told = json.loads(lso("sample", run.path, "-n", 2, "--beam-width", 3, "--out", "own.txt", "--json").stdout)
    assert (told["how"], told["beam_width"]) == ("beam", 3)
    assert Path("own.txt").read_text().splitlines() == told["texts"]
    assert lso("sample", run.path, "--out", "own.txt").exit_code == 2
    cold = json.loads(lso("sample", run.path, "--temperature", 0.01, "--top-p", 0.5, "--json").stdout)
    assert (cold["how"], cold["temperature"], cold["top_p"], cold["uniforms"]) == ("sample", 0.01, 0.5, "own")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--how", "mean"), "--how: expected one of greedy, sample, beam"),
        (("--how", "greedy", "--temperature", 2), "temperature belongs to decoding by sample"),
        (("--samples", 3), "--samples is for images"),
        (("--out", "x.png"), "x.png is not the name of a text file"),
    ],
)
def test_options_of_images_are_refused(lso: Lso, run: Run, options: tuple[object, ...], text: str) -> None:
    result = lso("sample", run.path, *options)
    assert result.exit_code == 2 and text in result.stderr


def test_codes_of_sentences_go_to_a_file_and_back(lso: Lso, run: Run) -> None:
    Path("own.txt").write_text("the tea is good .\nthe soup is lovely .\n")
    result = lso("encode", run.path, "--data", "own.txt")
    file = lines(result)[-1]
    assert "1 of 10 tokens, in 1 of 2 sequences, are unknown" in result.stderr
    with np.load(file) as codes:
        assert codes["mean"].shape == (2, 3) and codes["names"].tolist() == ["sequence 1", "sequence 2"]
    decoded = lso("decode", run.path, file, "--how", "beam")
    assert len(lines(decoded)) == 2 and (run.path / "pictures" / "decoded-codes-own-beam.txt").is_file()
    quoted = lso("encode", run.path, "--data", "the tea is good .")
    assert Path(lines(quoted)[-1]).name == "codes-the-tea-is-good.npz"


@pytest.mark.parametrize(("z", "told"), [(np.zeros((2, 4)), "expected (n, 3)"), (np.full((2, 3), np.nan), "6 of 6")])
def test_what_are_no_codes_of_the_model_is_refused(lso: Lso, run: Run, z: np.ndarray, told: str) -> None:
    np.savez("codes.npz", z=z)
    result = lso("decode", run.path, "codes.npz", "--out", "said.txt")
    assert result.exit_code in (1, 2) and told in result.stderr and not Path("said.txt").exists()
    assert len(result.stderr.splitlines()) == 2


def test_the_way_between_two_sentences_is_a_table(lso: Lso, run: Run) -> None:
    result = lso("interpolate", run.path, "the tea is good .", "test:0", "--steps", 3)
    found = [line.split(maxsplit=1)[0] for line in lines(result)]
    assert found == ["way", "A", "0", "50", "100", "B"] and "the tea is good ." in result.stdout
    told = json.loads(lso("interpolate", run.path, "the tea", "test:0", "--steps", 3, "--json").stdout)
    assert len(told["texts"]) == 3 and len(Path(told["file"]).read_text().splitlines()) == 5


def test_traversals_are_tables_by_falling_activity(lso: Lso, run: Run) -> None:
    options = ("--dim", "all", "--steps", 3, "--range", 2)
    told = json.loads(lso("traverse", run.path, *options, "--directions", 1, "--hold", 1, "--json").stdout)
    names = list(dict.fromkeys(row["row"] for row in told["rows"]))
    assert len({row["path"] for row in told["rows"]}) == 3
    assert set(names[:3]) == {"z0", "z1", "z2"} and len(told["rows"]) == 3 * 3 + 2 * 3
    variance = [row["variance"] for row in told["rows"][:9]]
    assert variance == sorted(variance, reverse=True) and [row["at"] for row in told["rows"][:3]] == [-2, 0, 2]
    result = lso("traverse", run.path, *options, "--directions", 0)
    assert f"{names[0]}  variance {variance[0]:.2g}" in result.stdout
    assert (run.path / "pictures" / "traverse" / "traverse.txt").read_text() == result.stdout
    assert "--points is for images" in lso("traverse", run.path, "--points", 4).stderr


def test_sentences_are_searched_for(lso: Lso, run: Run) -> None:
    options = ("--starts", 2, "--max-steps", 5, "--control", "none", "--device", "cpu")
    result = lso("optimize", "--target", "the tea is cold .", *options)
    found = Run(lines(result)[-1])
    assert "Taken as a sentence" in result.stderr and "exactly reproduced" in result.stdout
    assert (found.path / "results" / "targets.txt").read_text() == "the tea is cold .\n"
    refused = lso("optimize", "--target", "test:2", "--loss", "sse", *options)
    assert refused.exit_code == 2 and "the loss sse compares numbers" in refused.stderr


def test_an_evaluation_counts_tokens(lso: Lso, run: Run) -> None:
    result = lso("evaluate", run.path, "--iw-samples", 2, "--limit", 3)
    assert "on 3 of 3 test sequences" in result.stderr
    heads = [line.split("  ")[0] for line in lines(result)]
    assert {"perplexity", "tokens", "exact match"} <= set(heads)


def test_flags_of_text_are_refused_for_images(lso: Lso, trained: Run) -> None:
    result = lso("sample", trained.path, "--temperature", 2, "--out", "x.png")
    assert result.exit_code == 2 and "--temperature is for text, and this model is of images" in result.stderr
