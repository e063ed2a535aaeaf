"""Sentences named for a run, what a run on sequences says of itself, and a search for sentences in a run folder."""

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from lso.tasks import exploration
from lso.tasks.search.gradient import search_targets
from lso.tasks.search.options import SearchConfig
from lso.tasks.search.targets import load_data, load_datum
from lso.tasks.training import experiment
from lso.tasks.training.repeated_evaluation import estimate_gaps
from lso.vae.data.corpus import Corpus
from lso.vae.errors import DataError, UsageError
from lso.vae.inference.posterior import posterior
from lso.vae.runs import Run

FOODS, ENDS = ("soup", "bread", "fish", "tea"), ("good", "cold", "very good", "too cold here")
LINES = [f"{i % 2}\tthe {food} is {end} ." for i, (food, end) in enumerate((f, e) for f in FOODS for e in ENDS)] * 2
SIZES: Mapping[str, Any] = {"name": "lstm", "latent_dim": 3, "width": 8, "embedding": 4}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("sentences")
    (folder / "data.txt").write_text("\n".join(LINES))
    settings = {"architecture": SIZES, "protocol": {"epochs": 2, "batch_size": 8}}
    return experiment.train("vae", data=folder / "data.txt", settings=settings, out=folder / "run", device="cpu")


def texts(run: Run, x: object) -> list[str]:
    assert isinstance(x, Corpus)
    return exploration.corpus_texts(run.model(), x)


def test_a_part_of_the_runs_own_data_is_picked(run: Run) -> None:
    data = experiment.reload_dataset(run)
    found = load_data(run, "test:2")
    assert found.names == ("test 0", "test 1") and found.notes[0] == f"2 of {len(data.test)} test sequences of text."
    assert texts(run, found.x) == texts(run, data.test)[:2]
    assert texts(run, load_datum(run, "test:1").x) == texts(run, data.test)[1:2]
    assert found.labels is not None and torch.equal(found.labels, data.labels["test"][:2])


def test_a_file_and_a_sentence_are_numbered_as_in_training(run: Run, tmp_path: Path) -> None:
    long = " ".join(["soup"] * 20)
    (tmp_path / "own.txt").write_text(f"1\tthe soup is lovely .\n\n0\t{long}\n0\ttea\n")
    found = load_data(run, tmp_path / "own.txt")
    assert texts(run, found.x) == ["the soup is <unk> .", "tea"] and found.names == ("sequence 1", "sequence 3")
    assert found.labels is not None and found.labels.tolist() == [1, 0]
    notes = " ".join(found.notes)
    assert "3 targets from" in notes and "1 of 4 lines is blank and left out" in notes
    assert (
        "Warning: 1 of 3 sequences are longer than the 7 tokens that the model was made for and left out: sequence 2"
        in notes
    )
    assert "Warning: 1 of 6 tokens, in 1 of 2 sequences, are unknown to the model." in notes
    one = load_datum(run, "  the fish is cold . ")
    assert texts(run, one.x) == ["the fish is cold ."] and one.names == ("sentence",)
    assert one.notes == ("Taken as a sentence, as there is no such file.",)


def test_what_cannot_be_searched_for_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_text("soup " * 9)
    (tmp_path / "two.txt").write_text("soup\ntea\n")
    cases: list[tuple[object, type[Exception], str]] = [
        ("nothere.txt", DataError, "no file or folder nothere.txt"),
        (tmp_path, DataError, "is a folder, expected a text file"),
        (tmp_path / "long.txt", DataError, "every sequence is longer than the 7 tokens"),
        ("xyz", DataError, "'xyz', which is no file: no token is known to the model"),
        (" ", UsageError, "an empty sentence"),
        ("test:99", UsageError, "expected test:N"),
    ]
    for what, error, text in cases:
        with pytest.raises(error, match=text):
            load_data(run, what)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="holds 2 sequences, expected one"):
        load_datum(run, tmp_path / "two.txt")
    with pytest.raises(UsageError, match="--invert is for images"):
        load_data(run, "soup", pixels={"invert": True})


def test_codes_of_a_corpus_are_in_its_order(run: Run) -> None:
    model, data = run.model(), experiment.reload_dataset(run)
    q = exploration.encode_data(model, data.train)
    assert isinstance(data.train, Corpus) and len(q) == len(data.train)
    x = data.train.padded()
    torch.testing.assert_close(q.mean, posterior(model, x).mean, rtol=1e-4, atol=1e-6)


def test_the_report_of_a_training_shows_what_the_model_says(run: Run) -> None:
    found = run.info["examples"]
    data = experiment.reload_dataset(run)
    assert [given for given, _ in found["reconstructions"]] == texts(run, data.validation)[
        : exploration.REPORT_EXAMPLES
    ]
    assert len(found["samples"]) == exploration.REPORT_EXAMPLES
    page = (run.path / "report.html").read_text()
    assert "greedy reconstruction" in page and found["reconstructions"][0][0] in page and "prior sample" in page


def test_gaps_of_sequences_are_measured(run: Run) -> None:
    found = estimate_gaps(run.model(), experiment.reload_dataset(run), steps=3, iw_samples=4, limit=2)
    assert found.n == 2 and found.nll > 0


def test_a_search_for_sentences_leaves_lines_and_a_report(run: Run, tmp_path: Path) -> None:
    wanted = tmp_path / "wanted.txt"
    wanted.write_text("the tea is good .\nthe fish is cold\n")
    config = SearchConfig(starts=2, max_steps=5, context="target")
    found = search_targets(run, wanted, config, out=tmp_path / "search", device="cpu", control="none")
    results = found.path / "results"
    assert (results / "targets.txt").read_text() == wanted.read_text()
    assert len((results / "best.txt").read_text().splitlines()) == 2
    with (results / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == ["sequence 1", "sequence 1", "sequence 2", "sequence 2"]
    assert all("decoded" in row for row in rows) and (results / "codes.npz").is_file()
    numbers = json.loads((found.path / "report.json").read_text())
    assert numbers["fit"]["target"] == ["the tea is good .", "the fish is cold"]
    assert numbers["fit"]["tokens"] == [5, 4] and len(numbers["fit"]["edits"]) == 2
    assert "the value is the exact likelihood" in numbers["extra"]["decoder's context"]
    assert numbers["dimensions"]["active_units"] is not None and numbers["typicality"]["best"]["reencoding"]


@pytest.mark.parametrize(
    ("values", "text"), [({"loss": "sse"}, "the loss sse"), ({"context": "own"}, "context own is for images")]
)
def test_a_refused_search_leaves_no_folder(run: Run, tmp_path: Path, values: dict[str, str], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        search_targets(run, "the tea", SearchConfig(**values), out=tmp_path / "search", device="cpu")  # type: ignore[arg-type]
    assert not (tmp_path / "search").exists()
