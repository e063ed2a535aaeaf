"""Trainings small enough for tests: 100 of scikit-learn's digits and a tiny network."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lso.vae import runs
from lso.vae.config.architectures import ARCHITECTURES, BASELINES, Architecture, architecture
from lso.vae.config.methods import METHODS, Method, method, parse_method
from lso.vae.config.protocol import Protocol
from lso.vae.config.training import TrainConfig
from lso.vae.data.corpus import Corpus
from lso.vae.data.dataset import Dataset, binarize, take_batch
from lso.vae.models.vae import VAE, build
from lso.vae.runs import Run
from lso.vae.training import loop as training
from lso.vae.utils.files import LOCK
from lso.vae.utils.random import generator
from lso.vae.vocabulary import END, SPECIALS, START, Vocabulary

BASELINE_METHODS = ("pixelcnn", "lstm-lm")
STEPS = 4  # an epoch: 100 data in batches of 32, the last one short


@cache
def digits() -> Dataset:
    """100 real-valued training digits, 60 and 20 binarized ones for validation and test."""
    from sklearn.datasets import load_digits

    x = torch.tensor(load_digits().images, dtype=torch.float32)[:, None] / 16
    return Dataset(
        name="digits",
        train=x[:100],
        validation=binarize(x[100:160], 0, "validation"),
        test=binarize(x[160:180], 0, "test"),
    )


WORDS, LONGEST = 12, 7  # of the sentences below, start and end among the latter


@cache
def sentences() -> Dataset:
    """100, 60 and 20 sequences of 1 to 5 tokens, each token likely to be followed by the next number."""
    stream = generator(0, "sentences")
    found = []
    for length in torch.randint(1, LONGEST - 1, (180,), generator=stream).tolist():
        first = int(torch.randint(WORDS - len(SPECIALS), (), generator=stream))
        steps = torch.bernoulli(torch.full((length,), 0.8), generator=stream).cumsum(0).long()
        tokens = (first + steps) % (WORDS - len(SPECIALS)) + len(SPECIALS)
        found.append([START, *tokens.tolist(), END])
    parts = (Corpus.of(found[:100]), Corpus.of(found[100:160]), Corpus.of(found[160:]))
    words = Vocabulary.of("abcdefgh")
    return Dataset(name="sentences", train=parts[0], validation=parts[1], test=parts[2], vocabulary=words)


def kind_of(arch: str) -> str:
    """``"image"`` or ``"sequence"``."""
    return ARCHITECTURES[arch].kind


def dataset_for(arch: str) -> Dataset:
    """`digits` or `sentences`."""
    return digits() if kind_of(arch) == "image" else sentences()


def data_for(chosen: TrainConfig) -> Dataset:
    """`digits` or `sentences`, whichever a training is for."""
    return dataset_for(chosen.architecture.name)


def batch_for(arch: str, n: int = 12) -> Tensor:
    """Random pixels, or sequences of different lengths."""
    if kind_of(arch) == "sequence":
        return take_batch(sentences().train, slice(0, n))
    return torch.rand(n, 1, 8, 8, generator=generator(0, "test"))


# Methods with every architecture that they fit; the slow autoregressive networks with some.
SOME = {"vae", "skip-vae", "pixelcnn"}
PAIRS = [
    (name, arch)
    for name in METHODS
    for arch, spec in ARCHITECTURES.items()
    if spec.kind == "image"
    if (name in SOME if spec.autoregressive else name not in ("pixelcnn", "lstm-lm"))
    or (arch == "he2019-small" and name in {"ne-vae-se", "sa-vae", "svi", "iwae"})
] + [
    (name, arch)
    for name in METHODS
    for arch in ("lstm", "kim2018-text", "transformer")
    if (name != "pixelcnn" if arch == "lstm" else name in {"skip-vae", "lstm-lm"})
    or (arch == "transformer" and name in {"ne-vae-se", "sa-vae"})
]


def example(name: str, **params: Any) -> Method:
    """A method of the table, or as the command line writes it; parameters without a default as the table's example."""
    if ":" in name:
        written = parse_method(name)
        return method(written.name, **{**written.params, **params})
    return method(name, **{**METHODS[name].example, **params})


# Loops inside a step, long enough to be seen at work.
QUICK: dict[str, dict[str, Any]] = {"sa-vae": {"steps": 2}, "svi": {"steps": 4}, "aggressive": {"window": 3, "cap": 6}}


def quick(name: str, **params: Any) -> Method:
    """As `example`; methods named without parameters have the loops of `QUICK`."""
    return example(name, **QUICK.get(name, {}), **params)


def config(name: str = "vae", *, arch: str = "mlp", seed: int = 0, anneal: float = 1, **protocol: Any) -> TrainConfig:
    """A tiny training of a method: 4 latents, 2 epochs of 4 steps unless said otherwise."""
    options = {"epochs": 2, "batch_size": 32, **protocol}
    chosen = quick(name, anneal=anneal) if name not in BASELINE_METHODS else example(name)
    sizes = small_networks(chosen, arch, 4, width=16 if arch == "mlp" else 4)
    return TrainConfig(method=chosen, architecture=sizes, protocol=Protocol(**options), seed=seed)


def small_networks(
    chosen: Method, arch: str = "mlp", latent_dim: int = 4, likelihood: str | None = None, width: int = 16
) -> Architecture:
    """The architecture named, or for a baseline a tiny autoregressive one without latents."""
    if not chosen.latents:
        usual = BASELINES[METHODS[chosen.name].kind or "image"]
        arch, latent_dim, width = arch if ARCHITECTURES[arch].autoregressive else usual, 0, 4
    sizes = {"embedding": 5} if ARCHITECTURES[arch].embedding else {}
    return architecture(arch, latent_dim=latent_dim, likelihood=likelihood, width=width, **sizes)


def small_model(
    chosen: Method,
    arch: str = "mlp",
    latent_dim: int = 4,
    likelihood: str | None = None,
    width: int = 16,
    shape: tuple[int, ...] = (),
) -> VAE:
    """The model that a training of the method would build."""
    sizes = small_networks(chosen, arch, latent_dim, likelihood, width)
    data = dataset_for(sizes.name)
    return build(sizes, chosen.skip, shape or data.shape, 0, chosen.inference, data.vocabulary)


class Stop(training.TrainingCallback):
    """Asks for a stop once so many steps are done."""

    def __init__(self, after: int) -> None:
        self.after = after
        self.done = 0

    def start(self, run: Run, steps: int, done: int) -> None:
        self.done = done

    def step(self, done: int) -> None:
        self.done = done

    def stop(self) -> str | None:
        return "interrupted" if self.done >= self.after else None


def rows(path: Path) -> list[dict[str, Any]]:
    """metrics.jsonl without the clock column."""
    lines = (path / runs.METRICS).read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if key != "seconds"} for line in lines]


def contents(path: Path) -> dict[str, bytes]:
    """All files below a folder but locks: a process that closes the file of its own lock lets go of it."""
    files = [file for file in path.rglob("*") if file.is_file() and file.name != LOCK]
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


def tensors(value: Any, name: str = "") -> dict[str, Tensor]:
    """All tensors of nested containers by their place."""
    if isinstance(value, Tensor):
        return {name: value}
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    return {place: leaf for key, part in items for place, leaf in tensors(part, f"{name}/{key}").items()}


def assert_same_run(one: Path, other: Path) -> None:
    """Two run folders hold the same model, codes, resume state and rows, bit for bit, the clock excepted."""
    assert rows(one) == rows(other)
    for name in (runs.MODEL, runs.CODES):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    last = [torch.load(path / runs.LAST, weights_only=True) for path in (one, other)]
    found, wanted = (tensors(values) for values in last)
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[key], wanted[key]) for key in found)
    positions = [{k: v for k, v in values["position"].items() if k not in ("seconds", "lines")} for values in last]
    assert positions[0] == positions[1] and last[0]["plan"] == last[1]["plan"]
