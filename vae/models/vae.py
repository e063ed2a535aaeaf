"""The VAE: an encoder, a decoder, a prior, and all that is needed to rebuild them."""

from collections.abc import Mapping
from typing import Literal, cast

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from lso.vae.config.architectures import Architecture, Kind
from lso.vae.config.components import (
    Amortized,
    Component,
    DiagonalPosterior,
    Inference,
    PosteriorFamily,
    StandardPrior,
    Svi,
)
from lso.vae.distributions.families import from_output, make_prior
from lso.vae.errors import ShapeError, UsageError
from lso.vae.models import sequence_decoding as decoding
from lso.vae.models.user_module import ModuleDecoder, ModuleEncoder
from lso.vae.protocols import DecoderNetwork, EncoderNetwork, Likelihood, Posterior, Prior
from lso.vae.utils.lazy import resolve
from lso.vae.utils.random import generator, mix_seed
from lso.vae.utils.validation import convert, require
from lso.vae.vocabulary import SPECIALS, Vocabulary

MIN_SIDE, MAX_SIDE = 8, 64
AXES: Mapping[Kind, tuple[str, ...]] = {"image": ("channels", "height", "width"), "sequence": ("longest", "words")}
How = Literal["mean", "sample", "greedy"]


class NoEncoder(nn.Module):
    """The encoder of a model that has none: an empty posterior where there are no latents, else a clear error."""

    def __init__(self, shape: tuple[int, ...], architecture: Architecture, posterior: PosteriorFamily) -> None:
        super().__init__()
        self.latent_dim = architecture.latent_dim
        self.posterior = posterior
        self.like: Tensor  # empty, with the dtype and device of the model, whatever those of its data
        self.register_buffer("like", torch.zeros(0), persistent=False)

    def forward(self, x: Shaped[Tensor, "batch ..."]) -> Posterior:
        """The posterior of no latents."""
        if self.latent_dim:
            raise UsageError(
                "this model has no encoder: its method computes posteriors by gradient steps",
                "Call lso.vae.inference.posterior.posterior(model, x).",
            )
        return from_output(self.posterior, self.like.new_zeros(len(x), self.posterior.parameters(0)))


class VAE(nn.Module):
    """Encoder q(z|x) and decoder p(x|z) under a prior p(z).

    Args:
        architecture: family and sizes of the networks; without latents the model is an autoregressive baseline, whose
            likelihood is exact.
        skip: whether z enters every layer of the decoder (Dieng et al. 2019).
        shape: ``(channels, height, width)`` of images, or ``(longest, words)`` of sequences.
        inference: how q(z|x) is computed (see `lso.vae.inference.posterior`); under `Svi` there is no encoder.
        vocabulary: of sequences; None where only the numbers of tokens are known.
        posterior: family of q(z|x).
        prior: the component that stands for p(z).
        module: the network, where the architecture is the name of a module of the user's own; it is not copied.
    Raises:
        ShapeError: if images are not 8x8 to 64x64 with one or three channels, the vocabulary is of another size, or the
            data are of another kind than the architecture.
    """

    def __init__(
        self,
        architecture: Architecture,
        skip: bool,
        shape: tuple[int, ...],
        inference: Inference = Amortized(),
        vocabulary: Vocabulary | None = None,
        *,
        posterior: PosteriorFamily = DiagonalPosterior(),
        prior: Component = StandardPrior(),
        module: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.architecture = architecture
        self.skip = skip
        self.shape = tuple(shape)
        self.inference = inference
        self.vocabulary = vocabulary
        self.own = module is not None
        self._check()
        self.has_encoder = architecture.latent_dim > 0 and not isinstance(inference, Svi)
        self.posterior, self.prior_family = posterior, prior
        if module is None:
            spec = architecture.spec
            encoder = resolve(spec.encoder) if self.has_encoder else NoEncoder
            self.encoder = encoder(self.shape, architecture, posterior)
            self.decoder = resolve(spec.decoder)(self.shape, architecture, skip)
        else:
            decoder = ModuleDecoder(module, architecture, self.shape)
            no_encoder = NoEncoder(self.shape, architecture, posterior)
            self.encoder = ModuleEncoder(decoder, posterior) if self.has_encoder else no_encoder
            self.decoder = decoder
        self.prior: Prior = make_prior(prior, architecture.latent_dim)
        # Convolutions are up to 1.4 times faster with channels innermost; layers follow the layout of their weights.
        if module is None:  # a user's own may count on the layout that it has
            self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def _check(self) -> None:
        shape, name = self.shape, self.architecture.name
        axes = AXES[self.kind]
        if len(shape) != len(axes):
            raise ShapeError(
                f"{name} is for {self.kind}s, expected a shape ({', '.join(axes)}), got {shape}",
                "`lso list architectures` says which are for images and which for sequences.",
            )
        if (
            self.kind == "image"
            and not self.own
            and (shape[0] not in (1, 3) or not all(MIN_SIDE <= s <= MAX_SIDE for s in shape[1:]))
        ):
            raise ShapeError(
                f"expected images of 1 or 3 channels and 8 to 64 pixels a side, got {shape}",
                "Resize them: --size N on the command line, DataConfig(size=N) in Python.",
            )
        words = len(self.vocabulary) if self.vocabulary is not None else shape[-1]
        if self.kind == "sequence" and (words != shape[1] or words <= len(SPECIALS)):
            raise ShapeError(
                f"expected a vocabulary of {shape[1]} tokens, more than the {len(SPECIALS)} special ones, got {words}",
                "Give the vocabulary of the data.",
            )

    @property
    def latent_dim(self) -> int:
        """Size of z."""
        return self.architecture.latent_dim

    @property
    def kind(self) -> Kind:
        """``"image"`` or ``"sequence"``."""
        return self.architecture.spec.kind

    @property
    def autoregressive(self) -> bool:
        """Whether a pixel's or token's distribution depends on those before it, so that `decode` needs data."""
        return self.architecture.spec.autoregressive or (self.own and bool(self.decoder.autoregressive))

    @property
    def module(self) -> nn.Module | None:
        """The module of the user's own that the networks are, with this model's weights; None where they are not."""
        return self.decoder.module if isinstance(self.decoder, ModuleDecoder) else None

    @property
    def halves(self) -> dict[Literal["encoder", "decoder"], list[nn.Parameter]]:
        """The weights that are updated together: those of q(z|x), and those of p(x, z), a learned prior included."""
        prior = self.prior.parameters() if isinstance(self.prior, nn.Module) else ()
        if isinstance(self.decoder, ModuleDecoder):
            first, others = self.decoder.halves()
            return {"encoder": first if self.has_encoder else [], "decoder": [*others, *prior]}
        return {"encoder": list(self.encoder.parameters()), "decoder": [*self.decoder.parameters(), *prior]}

    @property
    def stepwise(self) -> decoding.StepDecoder:
        """The decoder of sequences as `lso.vae.models.sequence_decoding` takes it."""
        return cast(decoding.StepDecoder, self.decoder)

    def encode(self, x: Shaped[Tensor, "batch ..."]) -> Posterior:
        """The encoder's posterior.

        Args:
            x: ``(batch, channels, height, width)`` in [0, 1]; of sequences ``(batch, length)`` token numbers or
                ``(batch, length, words)`` probabilities.
        Returns:
            q(z|x), ``(batch, latent)``.
        Raises:
            UsageError: if the model has latents but no encoder.
        """
        encoder: EncoderNetwork = self.encoder
        return encoder(x)

    def decode(self, z: Float[Tensor, "batch latent"], x: Tensor | None = None) -> Likelihood:
        """The likelihood of data given codes.

        Args:
            z: ``(batch, latent)``.
            x: data that an autoregressive decoder is teacher-forced on; unused by the others.
        Returns:
            p(x|z).
        Raises:
            ShapeError: if an autoregressive decoder is given no data.
        """
        decoder: DecoderNetwork = self.decoder
        return decoder(z, x)

    def reconstruct(self, z: Float[Tensor, "batch latent"], x: Tensor | None = None) -> Tensor:
        """The expected datum E[x|z]; for an autoregressive decoder, each pixel's mean given z and the pixels before it.

        Args:
            z: ``(batch, latent)`` codes.
            x: data that an autoregressive decoder is teacher-forced on; unused by the others.
        Returns:
            ``(batch, channels, height, width)``; of sequences ``(batch, length, words)`` probabilities.
        """
        return self.decode(z, x).mean

    def generate(
        self, z: Float[Tensor, "batch latent"], how: How = "mean", noise: Tensor | None = None, samples: int = 16
    ) -> Tensor:
        """Data from codes alone, a function of the arguments.

        Args:
            z: ``(batch, latent)``.
            how: ``"sample"``: a draw. ``"greedy"``: the likeliest values, pixel after pixel where the decoder is
                autoregressive. ``"mean"``: the expected datum; for an autoregressive decoder the average of
                ``samples`` draws, each with uniforms common to all codes.
            noise: uniforms in [0, 1): ``(batch, channels, height, width)``, or without the first axis to be common to
                all codes; for the mean of an autoregressive decoder ``(samples, channels, height, width)``; for
                sequences ``(batch, longest)`` or ``(longest,)``. None draws them from a fixed seed.
            samples: number of draws in the mean of an autoregressive decoder, where no noise is given.
        Returns:
            ``(batch, channels, height, width)``, or ``(batch, length)`` tokens: start, tokens, end, then padding.
        Raises:
            UsageError: if ``how`` is unknown, ``samples`` below 1, or the mean of sequences is asked for, which does
                not exist.
        """
        convert(how, How, "how")
        require(samples >= 1, "samples >= 1", samples, "16 is the default.")
        if self.kind == "sequence":
            return self._tokens(z, how, noise)
        if how == "mean" and self.autoregressive:
            drawn = self._uniforms(z, noise, samples)
            each = self.generate(z.repeat(len(drawn), 1), "sample", drawn.repeat_interleave(len(z), 0))
            return each.reshape(len(drawn), *z.shape[:1], *self.shape).mean(0)
        noise = self._uniforms(z, noise, len(z)) if how == "sample" else None
        if self.autoregressive:
            image: Tensor = self.decoder.generate(z, noise)
            return image
        likelihood = self.decode(z)
        if how == "mean":
            return likelihood.mean
        return likelihood.mode if noise is None else likelihood.sample(noise.expand(len(z), *self.shape))

    def _tokens(self, z: Tensor, how: How, noise: Tensor | None) -> Tensor:
        if how == "mean":
            raise UsageError(
                "sequences have no mean",
                "Take greedy or sample, or a beam: lso.vae.models.sequence_decoding.beam_search.",
            )
        if how == "greedy":
            return decoding.decode_greedily(self.stepwise, z, self.shape[0])
        if noise is None:
            noise = torch.rand(len(z), self.shape[0], generator=generator(0, "generate"))
        return decoding.sample_tokens(self.stepwise, z, noise.to(z).expand(len(z), noise.shape[-1]))

    def _uniforms(self, z: Tensor, noise: Tensor | None, count: int) -> Tensor:
        if noise is None:
            noise = torch.rand(count, *self.shape, generator=generator(0, "generate"))
        return noise.to(z)


def build(
    architecture: Architecture,
    skip: bool,
    shape: tuple[int, ...],
    seed: int = 0,
    inference: Inference = Amortized(),
    vocabulary: Vocabulary | None = None,
    *,
    posterior: PosteriorFamily = DiagonalPosterior(),
    prior: Component = StandardPrior(),
    module: nn.Module | None = None,
) -> VAE:
    """A newly initialized VAE, whose weights are a function of the arguments alone.

    Args:
        architecture: family and sizes of the networks.
        skip: whether z enters every layer of the decoder.
        shape: of a datum, see `VAE`.
        seed: of the initialization; the global generator is left as it was.
        inference: how q(z|x) is computed.
        vocabulary: of sequences.
        posterior: family of q(z|x).
        prior: the component that stands for p(z).
        module: see `VAE`.
    Returns:
        The model on the CPU, in train mode.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(mix_seed(seed, "init"))  # CPU only; torch.manual_seed would seed GPUs too
        return VAE(architecture, skip, shape, inference, vocabulary, posterior=posterior, prior=prior, module=module)
