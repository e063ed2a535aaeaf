"""A module of the user's own as encoder and decoder of a VAE, see `lso.vae.protocols.AutoencoderModule`.

The module is one network; `ModuleEncoder` and `ModuleDecoder` are the two halves that the rest of the library knows.
Its weights are stored once, under ``decoder.module``.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from lso.vae.config.architectures import Architecture
from lso.vae.config.components import DiagonalPosterior, PosteriorFamily
from lso.vae.distributions.categorical import Categorical
from lso.vae.distributions.gaussian import DiagonalGaussian
from lso.vae.distributions.pixels import Head
from lso.vae.errors import ShapeError, UsageError
from lso.vae.models.dropout import uniform_shapes, use_dropout_noise
from lso.vae.precision import to_float32
from lso.vae.protocols import Likelihood, Posterior
from lso.vae.utils.random import generator, mix_seed
from lso.vae.utils.user_module import call_with
from lso.vae.vocabulary import END, PAD, SPECIALS, START

State = tuple[Tensor, ...]
DEFAULT_LATENTS = 32  # for a class or function that needs a number and was given none


def make_module(source: Any, architecture: Architecture, shape: tuple[int, ...], seed: int = 0) -> nn.Module:
    """A module of its own from what the user gave: a copy of a module, or what a class or function makes.

    Args:
        source: the module, or a class or function that is called with ``shape`` and ``latent_dim`` as far as it takes
            them, the second only where it was chosen.
        architecture: its name, and the latent size that was chosen, 0 for none.
        shape: of a datum.
        seed: of the weights that a class or function draws; the global generator is left as it was.
    Returns:
        The module on the CPU.
    Raises:
        UsageError: if it cannot be made, is no module, lacks a method or attribute, or has another latent size.
    """
    name = architecture.name
    if isinstance(source, nn.Module):
        try:
            module: Any = copy_network(source).cpu()
        except Exception as error:  # e.g. a module that holds a lock or a file
            words = f"{type(error).__name__}: {error}".splitlines()[0]
            raise UsageError(
                f"{name} cannot be copied ({words}), and each run trains a copy of its own",
                "Keep locks, files and the like out of the module.",
            ) from error
    else:
        chosen = {"latent_dim": architecture.latent_dim} if architecture.latent_dim else {}
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(mix_seed(seed, "init"))
            module = call_with(source, name, {"shape": shape, **chosen}, {"latent_dim": DEFAULT_LATENTS})
    _require_interface(module, name)
    if architecture.latent_dim not in (0, module.latent_dim):
        raise UsageError(
            f"{name} has {module.latent_dim} latents (its attribute latent_dim), and latent_dim is "
            f"{architecture.latent_dim}",
            "Leave --latent-dim out, or let the module take an argument latent_dim.",
        )
    result: nn.Module = module.train()  # a copy of one that is in eval mode, too
    return result


Network = TypeVar("Network", bound=nn.Module)


def copy_network(network: Network) -> Network:
    """A copy that shares nothing with a network; results that it keeps of its last call lose their graph."""
    kept = [value for part in network.modules() for value in _tensors_in(vars(part))]
    memo = {id(value): value.detach().clone() for value in kept if value.grad_fn is not None}
    return copy.deepcopy(network, memo)


def _tensors_in(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    for part in parts:
        yield from _tensors_in(part)


def _require_interface(module: Any, name: str) -> None:
    if not isinstance(module, nn.Module):
        raise UsageError(
            f"{name} is a {type(module).__name__}, expected a torch.nn.Module",
            "Name a module class, or a function that returns a module.",
        )
    for method in ("encode", "decode"):
        if not callable(getattr(module, method, None)):
            raise UsageError(
                f"{name} has no method {method}",
                "It needs encode(x) -> (mean, log_var), decode(z) -> raw likelihood parameters, and latent_dim.",
            )
    size = getattr(module, "latent_dim", None)
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise UsageError(
            f"{name} has latent_dim {size!r}, expected a whole number of at least 1",
            "Set self.latent_dim to the size of z in its __init__.",
        )


def latent_size(module: Any) -> int:
    """The size of z that a module states, which `make_module` has checked."""
    return int(module.latent_dim)


class ModuleEncoder(nn.Module):
    """The posterior that a user's module gives: x -> encode(x) = (mean, log_var) -> N(mean, exp(log_var)).

    Args:
        decoder: holds the module.
        posterior: family of q(z|x), which has to be the diagonal Gaussian.
    """

    def __init__(self, decoder: "ModuleDecoder", posterior: PosteriorFamily) -> None:
        super().__init__()
        if not isinstance(posterior, DiagonalPosterior):
            raise UsageError(
                f"encode gives a mean and a log-variance, and the posterior is {type(posterior).__name__}",
                "Take a method with the diagonal Gaussian posterior.",
            )
        self._decoder = [decoder]  # in a list, so that the module is registered once

    def forward(self, x: Shaped[Tensor, "batch ..."]) -> Posterior:
        """The posterior of a batch."""
        found: Any = self._decoder[0].module.encode(x)
        size = (x.shape[0], self._decoder[0].latent_dim)  # no len(x), which torch.export takes for a constant
        pair = isinstance(found, tuple | list) and len(found) == 2 and all(isinstance(one, Tensor) for one in found)
        if not pair or any(tuple(one.shape) != size or not one.is_floating_point() for one in found):
            shapes = (
                [tuple(one.shape) if isinstance(one, Tensor) else type(one).__name__ for one in found]
                if isinstance(found, tuple | list)
                else type(found).__name__
            )
            raise ShapeError(
                f"encode of {tuple(x.shape)} gives {shapes}, expected mean and log_var, both of shape {size}",
                "Return a tuple of two tensors (batch, latent_dim).",
            )
        return DiagonalGaussian(to_float32(found[0]), to_float32(found[1]))


class ModuleDecoder(nn.Module):
    """The likelihood that a user's module gives, and the data that it makes from codes.

    Images: decode(z), or decode(z, x) where it is autoregressive, gives raw ``(batch, channels, height, width)``, of
    which `Head` makes the likelihood, whose mean is sigmoid(raw). Sequences: logits of the tokens after the first,
    decode(z) ``(batch, longest - 1, words)`` or, autoregressive, decode(z, x[:, :-1]) ``(batch, length - 1, words)``.

    Args:
        module: of the user; it is not copied.
        architecture: its likelihood and kind of data.
        shape: of a datum.
    """

    def __init__(self, module: nn.Module, architecture: Architecture, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.module: Any = module
        self.kind, self.shape = architecture.spec.kind, tuple(shape)
        self.latent_dim = latent_size(module)
        self.autoregressive = bool(getattr(module, "autoregressive", False))
        if self.kind == "image":
            self.head = Head(architecture.likelihood, shape[0])
        self._encoder_weights: frozenset[str] | None = None

    def forward(self, z: Float[Tensor, "batch latent"], x: Tensor | None = None) -> Likelihood:
        """The likelihood of data given codes; autoregressive ones read ``x``."""
        if self.kind == "image":
            likelihood: Likelihood = self.head(self._raw(z, x))
            return likelihood
        assert x is not None
        return Categorical(to_float32(self._logits(z, x[:, :-1])), x)

    def _raw(self, z: Tensor, x: Tensor | None) -> Tensor:
        if not self.autoregressive:
            raw = self.module.decode(z)
        elif x is None:
            raise ShapeError("an autoregressive decoder of images needs data", "Pass x, or draw images by generate.")
        else:
            raw = self.module.decode(z, x)
        return self._checked(raw, (z.shape[0], *self.shape))

    def _logits(self, z: Tensor, tokens: Tensor) -> Tensor:
        """Logits of the token after each of the given ones."""
        count = tokens.shape[1]
        if self.autoregressive:
            return self._checked(self.module.decode(z, tokens), (z.shape[0], count, self.shape[1]))
        if count >= self.shape[0]:
            raise ShapeError(
                f"a sequence of {count + 1} tokens, and decode(z) gives {self.shape[0]} at most",
                "Take shorter sequences, or an autoregressive decoder.",
            )
        return self._checked(self.module.decode(z), (z.shape[0], self.shape[0] - 1, self.shape[1]))[:, :count]

    def _checked(self, raw: Any, size: tuple[int, ...]) -> Tensor:
        if not isinstance(raw, Tensor) or tuple(raw.shape) != size:
            found = tuple(raw.shape) if isinstance(raw, Tensor) else type(raw).__name__
            inputs = "decode(z, x)" if self.autoregressive else "decode(z)"
            raise ShapeError(
                f"{inputs} gives {found}, expected a tensor of shape {size}",
                "Return the raw values of which the likelihood is made: logits, one for each pixel or word.",
            )
        return raw

    # --- data from codes alone ----------------------------------------------------------------------------------------

    def generate(self, z: Float[Tensor, "batch latent"], noise: Tensor | None = None) -> Tensor:
        """Images drawn pixel after pixel: by the module's ``generate`` where it has one, else a pass for each pixel.

        Args:
            z: ``(batch, latent)`` codes.
            noise: uniforms of the shape of the images; None takes the likeliest values.
        """
        if callable(own := getattr(self.module, "generate", None)):
            return self._checked(own(z, noise), (len(z), *self.shape))
        x = z.new_zeros(len(z), *self.shape)
        for row in range(self.shape[1]):
            for column in range(self.shape[2]):
                likelihood = self(z, x)
                value = likelihood.mode if noise is None else likelihood.sample(noise)
                x[:, :, row, column] = value[:, :, row, column]
        return x

    def begin(self, z: Float[Tensor, "batch latent"]) -> State:
        """The state before the first token: the module's own, else the tokens so far, or all logits."""
        if callable(own := getattr(self.module, "begin", None)):
            return tuple(own(z))
        if self.autoregressive:
            return (torch.zeros(len(z), 0, dtype=torch.long, device=z.device),)
        return self.module.decode(z), torch.zeros(len(z), 1, dtype=torch.long, device=z.device)

    def advance(
        self, state: State, token: Shaped[Tensor, " batch"], z: Float[Tensor, "batch latent"]
    ) -> tuple[Tensor, State]:
        """Logits of the next token and the state after ``token``; without a method of the module the prefix is decoded
        again for each token.
        """
        if callable(own := getattr(self.module, "advance", None)):
            logits, after = own(state, token, z)
            return to_float32(logits), tuple(after)
        if self.autoregressive:
            tokens = torch.cat([state[0], token.unsqueeze(1)], 1)
            return to_float32(self._logits(z, tokens)[:, -1]), (tokens,)
        logits, position = state
        rows = torch.arange(len(position), device=position.device)
        return to_float32(logits[rows, position[:, 0].clamp(max=logits.shape[1] - 1)]), (logits, position + 1)

    # --- weights ------------------------------------------------------------------------------------------------------

    def halves(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """The trainable weights that `encode` alone depends on, and all others, by one backward pass through each."""
        if self._encoder_weights is None:
            by_encode, by_decode = weights_used(self)
            self._encoder_weights = frozenset(by_encode - by_decode)
        weights = {name: p for name, p in self.named_parameters() if p.requires_grad}
        first = [p for name, p in weights.items() if name in self._encoder_weights]
        return first, [p for name, p in weights.items() if name not in self._encoder_weights]


def weights_used(decoder: ModuleDecoder) -> tuple[set[str], set[str]]:
    """The names of the trainable weights that encode depends on, and of those that decode depends on."""
    decoder = copy_network(decoder)  # a pass in train mode may move running statistics
    weights = {name: p for name, p in decoder.named_parameters() if p.requires_grad}
    device = next(iter(weights.values())).device if weights else torch.device("cpu")
    x = probe_data(decoder.kind, decoder.shape).to(device)
    z = torch.randn(len(x), decoder.latent_dim, generator=generator(0, "probe")).to(device)
    uniforms = [torch.full(shape, 0.5, device=device) for shape in uniform_shapes(decoder, tuple(x.shape))]
    with torch.random.fork_rng(devices=[]), use_dropout_noise(decoder, uniforms), torch.enable_grad():
        q = ModuleEncoder(decoder, DiagonalPosterior())(x)
        return _reached(weights, [q.mean, q.log_var]), _reached(weights, [decoder(z, x).log_prob(x)])


def _reached(weights: Mapping[str, Tensor], outputs: Sequence[Tensor]) -> set[str]:
    total = sum((one.sum() for one in outputs if one.requires_grad), torch.zeros(()))
    if not total.requires_grad:
        return set()
    found = torch.autograd.grad(total, list(weights.values()), allow_unused=True)
    return {name for name, gradient in zip(weights, found, strict=True) if gradient is not None}


# --- whether it computes what it did ----------------------------------------------------------------------------------

PROBES = 3  # data on which a module is tried
TOLERANCE = 1e-3  # relative difference between two machines that is no other module


def probe_data(kind: str, shape: tuple[int, ...]) -> Tensor:
    """The same few data for every module: random pixels, or random sequences of different length."""
    stream = generator(0, "probe/data")
    if kind == "image":
        return torch.rand(PROBES, *shape, generator=stream)
    longest, words = shape
    tokens = torch.randint(len(SPECIALS), words, (PROBES, max(longest, 3)), generator=stream)
    tokens[:, 0] = START
    for row, length in enumerate((longest, max(3, longest - 1), 3)):
        tokens[row, length - 1], tokens[row, length:] = END, PAD
    return tokens[:, : max(longest, 3)]


@torch.no_grad()
def fingerprint(decoder: ModuleDecoder, weights: Mapping[str, Tensor]) -> list[float]:
    """What the module computes of a few data with some weights, in eval mode on the CPU: numbers to tell modules apart.

    Args:
        decoder: left as it is.
        weights: of the VAE that it belongs to, by name.
    Returns:
        The averages of the posterior means, their squares and the log-variances, then log p(x|z) of each datum, nats.
    """
    twin = copy_network(decoder).cpu()
    twin.load_state_dict(
        {name.removeprefix("decoder."): value for name, value in weights.items() if name.startswith("decoder.")}
    )
    twin.eval()
    x = probe_data(twin.kind, twin.shape)
    z = torch.randn(len(x), twin.latent_dim, generator=generator(0, "probe"))
    with torch.random.fork_rng(devices=[]):
        q, log_prob = ModuleEncoder(twin, DiagonalPosterior())(x), twin(z, x).log_prob(x)
    codes = [float(one.double().mean()) for one in (q.mean, q.mean**2, q.log_var)]
    return [*codes, *log_prob.double().tolist()]


def is_same_module(before: Sequence[float], now: Sequence[float]) -> bool:
    """Whether two fingerprints differ by no more than rounding on another machine explains."""
    return len(before) == len(now) and all(
        abs(a - b) <= TOLERANCE * (1 + abs(a)) for a, b in zip(before, now, strict=True)
    )
