"""Protocols of the networks and distributions of a VAE: the interfaces that all other code is written against.

Any object with these methods will do; nothing has to be derived from them. Randomness comes in as a tensor, of the kind
and width that the component in `lso.vae.config.components` declares, so that a step can be replayed, resumed, batched
over models and captured on a GPU.
"""

from typing import Protocol, runtime_checkable

from jaxtyping import Float, Shaped
from torch import Tensor


@runtime_checkable
class Prior(Protocol):
    """The distribution p(z) of codes before any datum is seen.

        typicality(z) = P(z' is more typical than z),  z' ~ p(z).

    Shapes: codes are ``(..., latent)``, with any leading axes, which the answers keep.
    """

    def sample(self, noise: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch latent"]:
        """Codes as a function of noise.

        Args:
            noise: ``(..., latent)`` standard normal.
        Returns:
            ``(..., latent)`` draws from p(z).
        """
        ...

    def log_prob(self, z: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch"]:
        """Log density of codes, in nats.

        Args:
            z: ``(..., latent)``.
        Returns:
            ``(...)`` log p(z).
        """
        ...

    def typicality(self, z: Float[Tensor, "*batch latent"]) -> Float[Tensor, "*batch"]:
        """The share of the prior's own draws that are more typical than a code.

        Args:
            z: ``(..., latent)``.
        Returns:
            ``(...)`` in [0, 1]: uniform over draws from p(z); near 1 for what the prior hardly ever draws.
        """
        ...


@runtime_checkable
class Posterior(Protocol):
    """The distribution q(z|x) of the codes of a batch of data, one row for each datum.

        KL(q || p) = E_q[log q(z|x) - log p(z)],  z = sample(noise).

    Shapes: ``mean`` and ``log_var`` are ``(batch, latent)``; codes are ``(..., batch, latent)``. It is a dataclass, all
    of whose fields are tensors with the batch as first axis, so that rows can be selected, moved and concatenated
    (`lso.vae.distributions.families`).
    """

    @property
    def mean(self) -> Tensor:
        """``(batch, latent)`` expected codes, from which active units are counted and searches start."""
        ...

    @property
    def log_var(self) -> Tensor:
        """``(batch, latent)`` log of the variance of each dimension."""
        ...

    def __len__(self) -> int: ...

    def sample(self, noise: Tensor) -> Tensor:
        """Reparameterized draws: differentiable in what the encoder gave.

        Args:
            noise: ``(..., batch, width)``, of the kind and width that the family declares.
        Returns:
            ``(..., batch, latent)`` codes.
        """
        ...

    def log_prob(self, z: Float[Tensor, "*sample batch latent"]) -> Float[Tensor, "*sample batch"]:
        """Log density of codes, in nats.

        Args:
            z: ``(..., batch, latent)``.
        Returns:
            ``(..., batch)`` log q(z|x).
        """
        ...

    def kl(self, prior: Prior, z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch part"]:
        """KL(q(z|x) || p(z)), in nats.

        Args:
            prior: p(z).
            z: ``(batch, latent)`` one draw of each, for pairs of distributions without a closed form.
        Returns:
            ``(batch, latent)``, whose sum over dimensions is the KL of the datum; ``(batch, 1)`` where it is no such
            sum, or is estimated as log q(z|x) - log p(z).
        """
        ...


@runtime_checkable
class Likelihood(Protocol):
    """The distribution p(x|z) of data given a batch of codes.

        log p(x|z) = sum over the pixels, or the tokens after the first.

    Shapes: images are ``(batch, channels, height, width)``, sequences ``(batch, length)`` token numbers.
    """

    @property
    def mean(self) -> Tensor:
        """``(batch, ...)`` expected datum; of sequences ``(batch, length, words)`` probabilities."""
        ...

    @property
    def mode(self) -> Tensor:
        """``(batch, ...)`` likeliest datum."""
        ...

    def log_prob(self, x: Tensor) -> Tensor:
        """Log probability or density of data, in nats.

        Args:
            x: ``(batch, ...)``.
        Returns:
            ``(batch,)`` log p(x|z).
        """
        ...

    def sample(self, noise: Tensor) -> Tensor:
        """Data as a function of noise.

        Args:
            noise: uniforms in [0, 1) of the shape of the data.
        Returns:
            ``(batch, ...)`` draws.
        """
        ...


@runtime_checkable
class EncoderNetwork(Protocol):
    """A network from data to their posteriors, built as ``Encoder(shape, architecture, posterior)``.

        x -> parameters, linear in the last features -> q(z|x).

    Shapes: ``shape`` is ``(channels, height, width)`` of an image or ``(longest, words)`` of sequences; the last layer
    has as many outputs as the posterior family declares.
    """

    def __call__(self, x: Shaped[Tensor, "batch ..."]) -> Posterior:
        """Encode a batch.

        Args:
            x: ``(batch, channels, height, width)`` in [0, 1]; or ``(batch, length)`` token numbers, or ``(batch,
                length, words)`` probabilities of tokens.
        Returns:
            q(z|x), in single precision at least.
        """
        ...


@runtime_checkable
class DecoderNetwork(Protocol):
    """A network from codes to the likelihood of data, built as ``Decoder(shape, architecture, skip)``.

        z -> p(x|z);  where it is autoregressive p(x|z) = prod_t p(x_t | z, x_1 .. x_{t-1}).

    Shapes: as of `EncoderNetwork`. An autoregressive one also makes data from codes alone: images by
    ``generate(z, noise)``, sequences as a `lso.vae.models.sequence_decoding.StepDecoder`.
    """

    def __call__(self, z: Float[Tensor, "batch latent"], x: Tensor | None = None) -> Likelihood:
        """Decode a batch of codes.

        Args:
            z: ``(batch, latent)``.
            x: ``(batch, ...)`` data that an autoregressive decoder is teacher-forced on; others do not use them.
        Returns:
            p(x|z), in single precision at least.
        Raises:
            ShapeError: if an autoregressive decoder of images is given no data.
        """
        ...
