"""Dropout whose randomness is handed in, so that a step can be replayed, resumed and differentiated twice."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lso.vae.errors import UsageError
from lso.vae.vocabulary import START, UNKNOWN


class _NoiseDropout(nn.Module):
    """A module that drops a share of something in train mode, by uniforms that `use_dropout_noise` gives it.

    Args:
        share: that is dropped; 0 is none.
        features: of each position of a sequence, 0 where whole positions are dropped; or the shape of what is dropped
            of one datum without positions, an image: ``(width,)`` for units, ``(channels, 1, 1)`` for whole maps.
    """

    def __init__(self, share: float, features: int | tuple[int, ...] = 0) -> None:
        super().__init__()
        self.share = share
        self.features = features
        self.uniforms: Tensor | None = None

    @property
    def active(self) -> bool:
        """Whether it drops anything now."""
        return self.training and self.share > 0

    def shape(self, batch: int, positions: int) -> tuple[int, ...]:
        """Shape of the uniforms of a batch."""
        if isinstance(self.features, tuple):
            return (batch, *self.features)
        return (batch, positions, self.features) if self.features else (batch, positions)

    def keep_mask(self, rows: int) -> Tensor:
        """Where nothing is dropped, for a batch of which several copies may follow each other.

        Args:
            rows: of the batch, a multiple of those of the uniforms.
        Returns:
            Truth values.
        Raises:
            UsageError: if no uniforms were handed in.
        """
        if self.uniforms is None:
            raise UsageError(
                "a decoder with dropout was run in train mode without its uniforms",
                "Call model.eval(), or hand them in: with lso.vae.models.dropout.use_dropout_noise(model, uniforms): "
                "...",
            )
        kept = self.uniforms >= self.share
        copies = rows // len(kept)
        return kept if copies == 1 else kept.repeat(copies, *[1] * (kept.ndim - 1))


class Dropout(_NoiseDropout):
    """Inverted dropout: h / (1 - p) where u >= p, else 0; in eval mode h."""

    def forward(self, h: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch ..."]:
        """Drop features."""
        return h * (self.keep_mask(len(h)).to(h.dtype) / (1 - self.share)) if self.active else h


class WordDropout(_NoiseDropout):
    """Inputs of the decoder replaced by ``<unk>`` where u < p, the start symbol excepted (Bowman et al. 2016)."""

    def forward(self, tokens: Int[Tensor, "batch position"]) -> Int[Tensor, "batch position"]:
        """Replace tokens."""
        if not self.active:
            return tokens
        return torch.where(self.keep_mask(len(tokens)) | (tokens == START), tokens, UNKNOWN)


def _dropout_layers(model: nn.Module) -> list[_NoiseDropout]:
    return [module for module in model.modules() if isinstance(module, _NoiseDropout) and module.share > 0]


def uniform_shapes(model: nn.Module, shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """Shapes of the uniforms that a model's dropout takes for a batch.

    Args:
        model: any module.
        shape: of the batch: ``(batch, length)`` of token numbers, of which the last are not read by the decoder; or of
            images.
    Returns:
        One shape for each dropout, in the order of the modules; none for a model without dropout.
    """
    return tuple(dropper.shape(shape[0], shape[1] - 1) for dropper in _dropout_layers(model))


@contextmanager
def use_dropout_noise(model: nn.Module, uniforms: Sequence[Tensor]) -> Iterator[None]:
    """Dropout inside uses these uniforms."""
    droppers = _dropout_layers(model) if uniforms else []
    try:
        for dropper, u in zip(droppers, uniforms, strict=True):
            dropper.uniforms = u
        yield
    finally:
        for dropper in droppers:
            dropper.uniforms = None
