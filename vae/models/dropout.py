"""Dropout with random numbers from outside, so that a step can be replayed, resumed and differentiated twice."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lso.vae.errors import UsageError
from lso.vae.vocabulary import START, UNKNOWN


class _NoiseDropout(nn.Module):
    """The base of dropouts, which in train mode take their uniforms from `use_dropout_noise`.

    Args:
        share: the share that is dropped.
        features: for sequences, the number of features at each position, or 0 where whole positions are dropped; for
            images, the shape of the dropped units of a datum: ``(width,)``, or ``(channels, 1, 1)`` for whole maps.
    """

    def __init__(self, share: float, features: int | tuple[int, ...] = 0) -> None:
        super().__init__()
        self.share = share
        self.features = features
        self.uniforms: Tensor | None = None

    @property
    def active(self) -> bool:
        """Whether anything is dropped now."""
        return self.training and self.share > 0

    def shape(self, batch: int, positions: int) -> tuple[int, ...]:
        """The shape of the uniforms for a batch."""
        if isinstance(self.features, tuple):
            return (batch, *self.features)
        return (batch, positions, self.features) if self.features else (batch, positions)

    def keep_mask(self, rows: int) -> Tensor:
        """Truth values that are true where nothing is dropped, for a batch of ``rows``.

        The batch may be several copies of the one that the uniforms are for, one after another.
        """
        if self.uniforms is None:
            raise UsageError(
                "a decoder with dropout was run in train mode without its uniforms",
                "Call model.eval(), or give them: with lso.vae.models.dropout.use_dropout_noise(model, uniforms): ...",
            )
        kept = self.uniforms >= self.share
        copies = rows // len(kept)
        return kept if copies == 1 else kept.repeat(copies, *[1] * (kept.ndim - 1))


class Dropout(_NoiseDropout):
    """Inverted dropout: h / (1 - p) where u >= p, else 0; in eval mode h."""

    def forward(self, h: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch ..."]:
        """The features after dropout."""
        return h * (self.keep_mask(len(h)).to(h.dtype) / (1 - self.share)) if self.active else h


class WordDropout(_NoiseDropout):
    """Word dropout: input tokens of a decoder become ``<unk>`` where u < p, but for the start symbol (Bowman et al.
    2016).
    """

    def forward(self, tokens: Int[Tensor, "batch position"]) -> Int[Tensor, "batch position"]:
        """The tokens after word dropout."""
        if not self.active:
            return tokens
        return torch.where(self.keep_mask(len(tokens)) | (tokens == START), tokens, UNKNOWN)


def _dropout_layers(model: nn.Module) -> list[_NoiseDropout]:
    return [module for module in model.modules() if isinstance(module, _NoiseDropout) and module.share > 0]


def uniform_shapes(model: nn.Module, shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """The shapes of the uniforms for a batch, one for each dropout layer of a model, in the order of its modules.

    ``shape`` is that of the batch: of images, or ``(batch, length)`` of tokens, whose last the decoder does not read.
    """
    return tuple(dropper.shape(shape[0], shape[1] - 1) for dropper in _dropout_layers(model))


@contextmanager
def use_dropout_noise(model: nn.Module, uniforms: Sequence[Tensor]) -> Iterator[None]:
    """A context in which the dropout layers of a model use these uniforms, see `uniform_shapes`."""
    droppers = _dropout_layers(model) if uniforms else []
    try:
        for dropper, u in zip(droppers, uniforms, strict=True):
            dropper.uniforms = u
        yield
    finally:
        for dropper in droppers:
            dropper.uniforms = None
