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


@runtime_checkable
class AutoencoderModule(Protocol):
    """What a `torch.nn.Module` of the user's own needs to be trained: ``lso.train(method, model=my_module)``.

        encode(x) = (mean, log_var) of q(z|x) = N(mean, exp(log_var));
        decode(z) = raw parameters of p(x|z): logits, or for real-valued pixels raw with mean sigmoid(raw).

    Shapes: images are ``(batch, channels, height, width)`` in [0, 1], and decode gives as many raw values; sequences
    are ``(batch, length)`` token numbers (start, tokens, end, padding 0), and decode gives the logits of the tokens
    after the first, ``(batch, longest - 1, words)``. Classes and functions that make a module are called with ``shape``
    (``(channels, height, width)`` or ``(longest, words)``) and ``latent_dim`` as far as they take them.

    Optional, for autoregressive decoders:

    - ``autoregressive = True``: decode is called as ``decode(z, x)``. Of images x is the whole image, and raw values at
      a pixel may depend on the pixels before it in raster order alone. Of sequences x holds ``(batch, positions)``
      tokens, start symbol first, and decode gives ``(batch, positions, words)`` logits of the token after each.
    - ``generate(z, noise)``: images from codes alone, faster than a pass for each pixel; noise has their shape, uniform
      in [0, 1), or is None for the likeliest values.
    - ``begin(z) -> state`` and ``advance(state, token, z) -> (logits, state)``: sequences token by token, as
      `lso.vae.models.sequence_decoding.StepDecoder` has it, faster than decoding the tokens so far again.

    A run resumes to the same bits on a CPU if the module keeps this promise; what shows on a few random data is checked
    before training:

    - whatever changes in training is in ``state_dict()``, whose tensors are float32 or integers;
    - random numbers come from torch's global generator (``torch.randn``, `torch.nn.Dropout`), which is seeded before
      each step from the run's seed, and in eval mode there are none;
    - the same weights, data and random numbers give the same results, and in eval mode those of a datum do not depend
      on its batch;
    - the module can be made again with the same names and shapes of weights, and runs on the device of its inputs.
    """

    latent_dim: int

    def encode(self, x: Shaped[Tensor, "batch ..."]) -> tuple[Tensor, Tensor]:
        """Encode a batch.

        Args:
            x: ``(batch, channels, height, width)`` in [0, 1], or ``(batch, length)`` token numbers; for methods with a
                re-encoding penalty also ``(batch, length, words)`` probabilities of tokens.
        Returns:
            mean and log_var, each ``(batch, latent_dim)``.
        """
        ...

    def decode(self, z: Float[Tensor, "batch latent"]) -> Tensor:
        """Decode a batch of codes.

        Args:
            z: ``(batch, latent_dim)``; an autoregressive decoder gets the data as second argument.
        Returns:
            Raw parameters of the likelihood, see above.
        """
        ...
