"""Trainings small enough for tests: 100 of scikit-learn's digits and a tiny network."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lso.vae import runs, training
from lso.vae.architectures import ARCHITECTURES, BASELINE, Architecture, architecture
from lso.vae.config import Protocol, TrainConfig
from lso.vae.data import Dataset, binarize
from lso.vae.methods import METHODS, Method, method, parse_method
from lso.vae.model import VAE, build
from lso.vae.runs import Run

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


# Methods with every architecture that they fit; the slow autoregressive networks with some.
SOME = {"vae", "skip-vae", "pixelcnn"}
PAIRS = [
    (name, arch)
    for name in METHODS
    for arch, spec in ARCHITECTURES.items()
    if (name in SOME if spec.autoregressive else name != "pixelcnn")
    or (arch == "he2019-small" and name in {"ne-vae-se", "sa-vae", "svi", "iwae"})
]


def example(name: str, **params: Any) -> Method:
    """A method of the table, or as the command line writes it; parameters without a default as the table's example."""
    if ":" in name:
        written = parse_method(name)
        return method(written.name, **{**written.params, **params})
    return method(name, **{**METHODS[name].example, **params})


def config(name: str = "vae", *, arch: str = "mlp", seed: int = 0, anneal: float = 1, **protocol: Any) -> TrainConfig:
    """A tiny training of a method: 4 latents, 2 epochs of 4 steps unless said otherwise."""
    options = {"epochs": 2, "batch_size": 32, **protocol}
    chosen = example(name, anneal=anneal) if name != "pixelcnn" else example(name)
    sizes = small_networks(chosen, arch, 4, width=16 if arch == "mlp" else 4)
    return TrainConfig(method=chosen, architecture=sizes, protocol=Protocol(**options), seed=seed)


def small_networks(
    chosen: Method, arch: str = "mlp", latent_dim: int = 4, likelihood: str = "bernoulli", width: int = 16
) -> Architecture:
    """The architecture named, or for the baseline a tiny PixelCNN without latents."""
    if not chosen.latents:
        arch, latent_dim, width = arch if ARCHITECTURES[arch].autoregressive else BASELINE, 0, 4
    return architecture(arch, latent_dim=latent_dim, likelihood=likelihood, width=width)


def small_model(
    chosen: Method,
    arch: str = "mlp",
    latent_dim: int = 4,
    likelihood: str = "bernoulli",
    width: int = 16,
    shape: tuple[int, ...] = (1, 8, 8),
) -> VAE:
    """The model that a training of the method would build."""
    sizes = small_networks(chosen, arch, latent_dim, likelihood, width)
    return build(sizes, chosen.skip, shape, inference=chosen.inference)


class Stop(training.Watch):
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
