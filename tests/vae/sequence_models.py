"""Tiny sequence models in double whose weights are large enough for a wrong edge to show, and all that they can say."""

from itertools import product
from typing import Any

import torch
from torch import Tensor

from lso.vae.config.architectures import architecture
from lso.vae.distributions.categorical import Categorical
from lso.vae.models.dropout import uniform_shapes
from lso.vae.models.vae import VAE, build
from lso.vae.utils.random import generator
from lso.vae.vocabulary import END, PAD, START

WORDS, LONGEST, LATENT = 7, 5, 3
VARIANTS: dict[str, dict[str, Any]] = {
    "lstm": {"name": "lstm"},
    "lstm of 2 layers": {"name": "lstm", "layers": 2},
    "lstm without latents": {"name": "lstm", "latent_dim": 0},
    "kim2018-text": {"name": "kim2018-text"},
    "transformer": {"name": "transformer", "layers": 2},
    "transformer without latents": {"name": "transformer", "layers": 2, "latent_dim": 0},
}
ALL = [(variant, skip) for variant in VARIANTS for skip in (False, True)]
LATENTS = [(variant, skip) for variant, skip in ALL if "latent_dim" not in VARIANTS[variant]]


def tiny(variant: str = "lstm", skip: bool = False, spread: float = 0.6, longest: int = LONGEST) -> VAE:
    """A model in double and in train mode, its weights normal."""
    sizes: dict[str, Any] = {"latent_dim": LATENT, "width": 8, "dropout": 0.3, "word_drop": 0.2, **VARIANTS[variant]}
    sizes |= {} if sizes["name"] == "transformer" else {"embedding": 5}
    made = build(architecture(**sizes), skip, (longest, WORDS)).double()
    for number, p in enumerate(made.parameters()):
        p.data = spread * torch.randn(p.shape, generator=generator(number, "tiny"), dtype=p.dtype)
    return made


def codes(made: VAE, n: int, seed: int = 0) -> Tensor:
    """Standard normal codes."""
    return torch.randn(n, made.latent_dim, generator=generator(seed, "codes"), dtype=torch.float64)


def forced(made: VAE, z: Tensor, x: Tensor) -> Tensor:
    """Of the tokens after the first, teacher-forced."""
    likelihood = made.decode(z, x)
    assert isinstance(likelihood, Categorical)
    return likelihood.logits


def same(found: Tensor, wanted: Tensor, what: str | None = None) -> None:
    """To 1e-10."""
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12, msg=what)


def uniforms(made: VAE, x: Tensor) -> list[Tensor]:
    """Those of the dropout of a batch."""
    shapes = uniform_shapes(made, tuple(x.shape))
    return [torch.rand(shape, generator=generator(i, "u"), dtype=torch.float64) for i, shape in enumerate(shapes)]


def mixed(n: int = 6, longest: int = 9) -> list[list[int]]:
    """Random sequences of lengths 3 to ``longest``, each as often as it comes."""
    stream = generator(0, "mixed")
    lengths = torch.randint(1, longest - 1, (n,), generator=stream).tolist()
    return [[START, *torch.randint(4, WORDS, (k,), generator=stream).tolist(), END] for k in lengths]


def padded(sequences: list[list[int]], extra: int = 0) -> Tensor:
    """As a batch, with ``extra`` columns of padding."""
    longest = max(map(len, sequences)) + extra
    return torch.tensor([[*s, *[PAD] * (longest - len(s))] for s in sequences])


def everything() -> Tensor:
    """All 85 sequences of at most `LONGEST` tokens: those of three words have their end at the limit."""
    inside = [word for word in range(WORDS) if word not in (PAD, START, END)]
    return padded([[START, *words, END] for k in range(LONGEST - 1) for words in product(inside, repeat=k)])
