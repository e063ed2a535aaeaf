"""Data that splits share: counted against a search for each, said once, and never missed by a slice of the data."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from lso.reports.data_notes import data_banners
from lso.tasks.datasets.loading import load_dataset
from lso.tasks.datasets.overlap import count_overlap, overlap_notes
from lso.tasks.datasets.text_files import text_dataset
from lso.tasks.training.experiment import train
from lso.vae.config.protocol import Binarize, DataConfig
from lso.vae.data.corpus import Corpus
from lso.vae.data.dataset import Dataset

PAIRS = (("train", "validation"), ("train", "test"), ("validation", "test"))


def searched(splits: dict[str, list[str]]) -> dict[str, int]:
    """The same numbers, by comparing each datum with each."""
    return {f"{late} in {early}": sum(x in splits[early] for x in splits[late]) for early, late in PAIRS}


@pytest.mark.parametrize("kind", [torch.uint8, torch.float32, torch.float64])
def test_shared_images_are_counted(kind: torch.dtype) -> None:
    stream = torch.Generator().manual_seed(0)
    few = torch.randint(0, 2, (90, 1, 2, 3), generator=stream).to(kind)  # of 64 pictures, so that many are shared
    splits = {"train": few[:50], "validation": few[50:70], "test": few[70:]}
    expected = searched({name: [str(row.tolist()) for row in x] for name, x in splits.items()})
    assert count_overlap(splits) == expected and min(expected.values()) > 0


def test_images_that_differ_in_one_bit_are_not_shared() -> None:
    x = torch.zeros(3, 1, 8, 8, dtype=torch.uint8)
    x[1, 0, 7, 7], x[2, 0, 0, 0] = 1, 1
    assert set(count_overlap({"train": x[:1], "validation": x[1:2], "test": x[2:]}).values()) == {0}


def test_shared_sequences_are_counted_whatever_of_the_corpus_was_chosen() -> None:
    stream = random.Random(0)
    rows = [[1, *stream.choices((4, 5), k=stream.randint(1, 3)), 2] for _ in range(60)]
    corpus = Corpus.of(rows)
    order = {"train": [*range(30, 60, 2)], "validation": [*range(29, 9, -1)], "test": [*range(10)]}
    splits = {name: corpus[torch.tensor(index)] for name, index in order.items()}
    expected = searched({name: [str(rows[i]) for i in index] for name, index in order.items()})
    assert count_overlap(splits) == expected and min(expected.values()) > 0


def test_what_nobody_shares_is_not_spoken_of_and_what_is_shared_is_one_sentence() -> None:
    found = dict.fromkeys((f"{late} in {early}" for early, late in PAIRS), 0)
    assert overlap_notes(found, {}, "image") == []
    (note,) = overlap_notes(found | {"test in train": 3}, {"test": 1_000, "validation": 5}, "image")
    assert note == "Splits share data, to the last pixel: 3 of 1,000 test images in train."


def test_sentences_that_the_vocabulary_makes_alike_are_not_shared() -> None:
    """Of words that it does not know they differ in."""
    lines = {"train": ["a a a", "a b"], "validation": ["a c", "a b"], "test": ["a d"]}
    provenance = text_dataset(lines, DataConfig(task="text", min_count=2)).provenance
    assert provenance["overlap"] == {"validation in train": 1, "test in train": 0, "test in validation": 0}
    assert "Splits share data, to the last token: 1 of 2 validation sequences in train." in provenance["notes"]


def test_pixels_are_compared_before_they_are_drawn_at_random(tmp_path: Path) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (30, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "x.npz", train=grey, validation=grey[:4], test=grey[2:9] ^ 1)
    modes: list[Binarize] = ["none", "dynamic", "fixed"]
    for mode in modes:
        dataset = load_dataset(DataConfig(task="arrays", path=str(tmp_path / "x.npz")), mode)
        assert dataset.provenance["overlap"] == {"validation in train": 4, "test in train": 0, "test in validation": 0}
        assert sum("Splits share" in note for note in dataset.provenance["notes"]) == 1


def grey(n: int, seed: int) -> Tensor:
    return torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


def test_a_training_and_its_report_say_it_of_data_given_in_python(tmp_path: Path) -> None:
    x = grey(40, 0)
    dataset = Dataset(name="mine", train=x, validation=x[:7], test=grey(8, 1), provenance={"source": "mine"})
    settings = {"architecture": {"latent_dim": 2, "width": 8}}
    run = train(dataset=dataset, arch="mlp", epochs=1, settings=settings, out=tmp_path / "run", device="cpu")
    said = "Splits share data, to the last pixel: 7 of 7 validation images in train."
    assert run.info["dataset"]["provenance"]["notes"] == [said]
    assert said in (run.path / "report.html").read_text()
    old = {**run.info, "dataset": {**run.info["dataset"], "hash": "other", "provenance": {"source": "mine"}}}
    assert data_banners({"new": run.info, "old": old}) == []  # runs from before the count are not on other data for it
