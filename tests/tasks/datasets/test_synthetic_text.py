"""The synthetic sequences of He et al. (2019): their statistics, that they are always the same, and files of such."""

from pathlib import Path

import pytest
import torch

from lso.tasks.datasets import synthetic_text as synthetic
from lso.tasks.datasets.loading import load_dataset
from lso.tasks.task import fill_defaults, task
from lso.tasks.training.plan import plan
from lso.vae.config.protocol import DataConfig
from lso.vae.data.dataset import Dataset, take_batch
from lso.vae.vocabulary import END, START


@pytest.fixture(autouse=True, scope="module")
def fewer() -> object:
    """2,000 sequences in place of 20,000."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthetic, "SPLIT_SIZES", {"train": 1600, "validation": 200, "test": 200})
        yield


def load(**data: object) -> Dataset:
    config = plan({"data": {"task": "synthetic", **data}})
    return load_dataset(config.data, config.protocol.binarize, config.seed)


def test_the_codes_are_a_mixture_of_four() -> None:
    z = synthetic.draw_codes(20_000)
    quadrant = (z > 0).long() @ torch.tensor([1, 2])
    shares = torch.bincount(quadrant, minlength=4) / len(z)
    assert ((shares - 0.25).abs() < 4 * (0.25 * 0.75 / 20_000) ** 0.5).all()
    assert (z.mean(0).abs() < 4 * (5 / 20_000) ** 0.5).all()  # variance 1 + 2^2
    assert ((z.var(0) - 5).abs() < 0.15).all()


def test_weights_fill_their_intervals() -> None:
    weights = synthetic.build_language_model()
    for name, reach in (("embedding", 1), ("inputs", 1), ("hidden_words", 1), ("latent_words", 5)):
        values = getattr(weights, name)
        assert 0.98 * reach < values.abs().max() < reach and values.mean().abs() < 0.1 * reach


def test_a_seed_gives_the_same_sequences_again_and_another_one_others() -> None:
    first = synthetic.draw_sequences(300)
    synthetic.draw_sequences.cache_clear()
    assert torch.equal(first, synthetic.draw_sequences(300)) and not torch.equal(
        first, synthetic.draw_sequences(300, 1)
    )
    assert first.shape == (300, 10) and first.min() >= 0 and first.max() < 1000


def test_first_words_are_uniform_and_later_ones_depend_on_z() -> None:
    """Two sequences share words by chance, but many where their codes are of one component."""
    x, z = synthetic.draw_sequences(2000), synthetic.draw_codes(2000)
    counts = torch.bincount(x[:, 0] // 100, minlength=10)
    assert (((counts - 200) ** 2 / 200).sum()) < 27.9  # chi squared of 9 degrees: 0.001
    quadrant = (z > 0).long() @ torch.tensor([1, 2])
    words = torch.zeros(2000, 1000).scatter_add_(1, x[:, 1:], torch.ones(2000, 9))
    means = torch.stack([words[quadrant == q].mean(0) for q in range(4)])
    shared = means @ means.T
    assert shared.diagonal().min() > 3 * (shared - shared.diagonal().diag()).max()


def test_words_are_drawn_as_their_probabilities_say() -> None:
    """The second word of a fixed first word and code: observed against expected counts of the likeliest words."""
    weights, z, n = synthetic.build_language_model(), torch.tensor([[0.3, -0.2]], dtype=torch.float64), 1500
    uniforms = torch.rand(n, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    uniforms[:, 0] = 0.1234
    seconds = torch.cat([synthetic._draw(weights, z.expand(250, 2), part)[:, 1] for part in torch.split(uniforms, 250)])
    cell = z @ weights.start.T + weights.start_bias
    hidden, _ = synthetic._advance(weights, weights.embedding[[123]], torch.tanh(cell), cell)
    p = torch.softmax(hidden @ weights.hidden_words.T + z @ weights.latent_words.T, 1)[0]
    likely = p.topk(5).indices
    expected, found = n * p[likely], torch.bincount(seconds, minlength=1000)[likely]
    assert ((found - expected).abs() < 4 * (expected * (1 - p[likely])).sqrt()).all()


def test_the_task_is_the_papers() -> None:
    row = task("synthetic")
    assert (row.architecture, row.latent_dim, row.protocol.batch_size) == ("he2019-toy", 1, 16)
    assert (row.protocol.optimizer, row.protocol.learning_rate, row.protocol.clip, row.protocol.epochs) == (
        "sgd",
        1.0,
        5.0,
        50,
    )
    assert plan({"data": {"task": "synthetic"}}).architecture.latent_dim == 1
    assert plan({"data": {"task": "digits"}}).architecture.latent_dim == 32


def test_the_dataset_says_how_it_was_made() -> None:
    data = load()
    assert [len(data.split(name)) for name in ("train", "validation", "test")] == [1600, 200, 200]
    assert data.shape == (12, 1004) and data.vocabulary is not None and data.vocabulary.tokens[4] == "0"
    x = take_batch(data.train, slice(None))
    assert (x[:, 0] == START).all() and (x[:, -1] == END).all() and (x[:, 1:-1] >= 4).all()
    assert torch.equal(x[:, 1:-1] - 4, synthetic.draw_sequences(2000)[:1600])
    told = data.provenance
    assert told["source"] == "generated" and "+-5" in told["uncertain"] and load().hash() == data.hash()


def test_a_limit_takes_some_of_each_split() -> None:
    data = load(limit=160)
    assert [len(data.split(name)) for name in ("train", "validation", "test")] == [160, 20, 20]


def test_files_of_such_sequences_are_read(tmp_path: Path) -> None:
    for name in ("train", "valid", "test"):
        (tmp_path / f"{name}.txt").write_text("7 8 999 \n1 2 3 \n")
    data = load(path=str(tmp_path))
    assert data.shape == (5, 1004)
    assert take_batch(data.train, slice(1)).tolist() == [[START, 11, 12, 1003, END]]


def test_there_is_no_path_by_default() -> None:
    assert task("synthetic").data == fill_defaults(DataConfig(task="synthetic"))
