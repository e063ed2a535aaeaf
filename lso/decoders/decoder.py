"""A frozen decoder around an lso VAE, any torch module or any callable, and checks that a search can rely on it."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from lso.decoders.adapters import (
    extract_decoded,
    extract_posterior,
    find_decode,
    find_encode,
    find_owned_modules,
    find_referenced_modules,
)
from lso.decoders.generation import Generation, generate_sequences, vocabulary_of
from lso.vae.distributions.families import map_tensors
from lso.vae.errors import LsoError, ShapeError, UsageError
from lso.vae.metrics.passes import pass_size
from lso.vae.models.vae import VAE
from lso.vae.protocols import Posterior
from lso.vae.utils.random import generator
from lso.vae.vocabulary import Vocabulary

# Largest difference, relative to the output's size, that rounding explains when codes are decoded in batches of another
# size.
ROUNDING_TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1}
MAX_SINGLE_DECODES = 8  # codes that `check_decoder` decodes one at a time, to compare with their decodes in a batch


@dataclass(frozen=True, slots=True)
class DecoderFinding:
    """One problem of a decoder that `check_decoder` found.

    Args:
        kind: ``train-mode``, ``error``, ``shape``, ``dtype``, ``non-finite``, ``non-deterministic``,
            ``batch-dependent``, ``stateful`` (see `lso.analysis.decoder_stability`), ``no-gradient`` or ``encoder``.
        message: what was observed.
        hint: what the user can do about it.
        serious: whether it makes a search's results wrong; False where freezing has already removed the problem, or
            where only precision is lost.
    """

    kind: str
    message: str
    hint: str
    serious: bool = True


def check_decoder(decoder: "Decoder", n: int = 8) -> list[DecoderFinding]:
    """Decode n prior draws (at least 2) and look for what would make a search through the decoder meaningless.

    The findings come most basic first; none means that nothing was found.
    """
    findings = _check_train_mode(decoder) + _check_dtype(decoder)
    z = torch.randn(
        max(n, 2), decoder.latent_dim, generator=generator(0, "check"), dtype=decoder.dtype or torch.float64
    )
    try:
        with torch.no_grad():
            x, again = decoder.decode(z), decoder.decode(z)
    except LsoError as error:
        return [*findings, DecoderFinding("shape", error.message, error.hint)]
    except Exception as error:
        return [
            *findings,
            DecoderFinding("error", f"decoding {tuple(z.shape)} failed: {error!r}", "Try the decoder by hand."),
        ]
    if not isinstance(x, Tensor):
        same = list(map(repr, x)) == list(map(repr, again))
        return findings if same else [*findings, _nondeterministic_finding("objects differ")]
    findings += _check_finite(x)
    if not torch.equal(torch.nan_to_num(x), torch.nan_to_num(_require_tensor(again))):
        findings.append(
            _nondeterministic_finding(f"two calls differ by up to {relative_gap(x, _require_tensor(again)):.2g}")
        )
    else:  # a noisy decoder would look batch-dependent as well
        findings += _check_batch(decoder, z, x)
    return findings + _check_gradient(decoder, z) + _check_encoder(decoder, x)


def _check_train_mode(decoder: "Decoder") -> list[DecoderFinding]:
    if layers := decoder.mode_dependent_in_train_mode():
        return [
            DecoderFinding(
                "train-mode", f"layers in train mode: {', '.join(layers)}", "Call .eval() on the module first."
            )
        ]
    if decoder.found_in_train_mode:
        names = ", ".join(decoder.found_in_train_mode)
        return [
            DecoderFinding(
                "train-mode",
                f"layers were passed in train mode: {names}",
                "They are in eval mode now; nothing to do.",
                serious=False,
            )
        ]
    return []


def _check_dtype(decoder: "Decoder") -> list[DecoderFinding]:
    dtypes = sorted({str(t.dtype) for _, t in decoder._tensors() if t.is_floating_point()})
    if len(dtypes) > 1:
        return [
            DecoderFinding("dtype", f"weights of several dtypes: {', '.join(dtypes)}", "Cast the module to one dtype.")
        ]
    if decoder.dtype in (torch.float16, torch.bfloat16):
        hint = "Cast the module to float32: in half precision losses stop changing long before they are small."
        return [DecoderFinding("dtype", f"weights are {dtypes[0]}", hint, serious=False)]
    return []


def _check_finite(x: Tensor) -> list[DecoderFinding]:
    count = int((~torch.isfinite(x)).reshape(len(x), -1).any(1).sum())
    if not count:
        return []
    return [
        DecoderFinding(
            "non-finite",
            f"{count} of {len(x)} prior draws decode to NaN or infinity",
            "Check the weights for NaN or infinity.",
        )
    ]


def _nondeterministic_finding(message: str) -> DecoderFinding:
    return DecoderFinding("non-deterministic", message, "Decode the mean, not a sample; switch dropout off.")


def _check_batch(decoder: "Decoder", z: Tensor, x: Tensor) -> list[DecoderFinding]:
    with torch.no_grad():
        alone = torch.cat([_require_tensor(decoder.decode(row)) for row in torch.split(z[:MAX_SINGLE_DECODES], 1)])
    gap = relative_gap(x[:MAX_SINGLE_DECODES], alone)
    if gap <= rounding_tolerance(x.dtype):
        return []
    message = f"a code decodes differently alone than in a batch, by {gap:.2g} relative"
    return [DecoderFinding("batch-dependent", message, "Look for batch statistics, caches, or sorting over the batch.")]


def _check_gradient(decoder: "Decoder", z: Tensor) -> list[DecoderFinding]:
    if not decoder.differentiable:
        return []
    hint = "Pass differentiable=False and use a black-box optimizer, or decode without rounding, argmax or no_grad."
    z = z.detach().clone().requires_grad_()
    try:
        x = _require_tensor(decoder.decode(z))
        if not x.requires_grad:
            return [DecoderFinding("no-gradient", "the output does not depend on z in the graph", hint)]
        # Weighted at random, since the plain sum of an output may be constant: that of a softmax is 1.
        weight = torch.randn(x.shape, generator=generator(0, "check/weight")).to(x)
        (grad,) = torch.autograd.grad((x * weight).sum(), z, allow_unused=True)
    except RuntimeError as error:
        return [DecoderFinding("no-gradient", f"the backward pass failed: {error}", hint)]
    if grad is None or not bool(grad.any()):
        return [DecoderFinding("no-gradient", "the gradient with respect to z is zero", hint)]
    if not bool(torch.isfinite(grad).all()):
        return [
            DecoderFinding("no-gradient", "the gradient with respect to z is not finite", "Look for log or sqrt at 0.")
        ]
    return []


def _check_encoder(decoder: "Decoder", x: Tensor) -> list[DecoderFinding]:
    if not decoder.has_encoder:
        return []
    means, error = _try_call(lambda: decoder.code_means(x))
    if error is not None:
        return [
            DecoderFinding(
                "encoder",
                f"encoding {tuple(x.shape)} failed: {error!r}",
                "Pass a function x -> code as encode=.",
                serious=False,
            )
        ]
    if tuple(means.shape) != (len(x), decoder.latent_dim):
        message = f"the encoder gives {tuple(means.shape)}, expected {(len(x), decoder.latent_dim)}"
        return [DecoderFinding("encoder", message, "Pass a function x -> code as encode=.", serious=False)]
    return []


def _try_call(call: Callable[[], Any]) -> tuple[Any, Exception | None]:
    try:
        with torch.no_grad():
            return call(), None
    except Exception as error:  # an encoder of another library may raise anything; the error is the finding
        return None, error


def rounding_tolerance(dtype: torch.dtype) -> float:
    """The largest difference between decodes, relative to their size, that rounding explains; 0 for unknown dtypes."""
    return ROUNDING_TOLERANCE.get(dtype, 0.0)


def relative_gap(x: Tensor, y: Tensor) -> float:
    """The largest absolute difference max |x - y| divided by 1 + max |x|; infinite where the shapes differ."""
    if x.shape != y.shape:
        return float("inf")
    difference = torch.nan_to_num((x - y).double()).abs().max()
    return float(difference / (1 + torch.nan_to_num(x.double()).abs().max()))


def _require_tensor(x: Tensor | list[Any]) -> Tensor:
    assert isinstance(x, Tensor)
    return x


def is_image(event_shape: Sequence[int]) -> bool:
    """Whether data of this shape are pictures: ``(1 or 3, height, width)``."""
    return len(event_shape) == 3 and event_shape[0] in (1, 3)


# Layers that compute something else in train mode than in eval mode.
MODE_DEPENDENT_LAYERS = (nn.modules.dropout._DropoutNd, nn.modules.batchnorm._NormBase)


class Decoder:
    """A frozen decoder ``z -> x``.

    A module (or the module whose bound method is given) is frozen IN PLACE: eval mode, no gradients on weights;
    gradients still flow to z. A plain function is left as it is, but `hash` and `check` cover the modules that it
    refers to. The model computes in its own dtype and on its own device; inputs and outputs have the caller's.

    Args:
        model: an `lso.vae` VAE, any `nn.Module`, or any callable ``z -> x``.
        latent_dim: size of z; None reads ``model.latent_dim``.
        encode: method name or function ``x -> code``; None looks for ``model.encode``, then ``model.encoder``.
        decode: method name or function ``z -> output``; None takes ``model.decode``, else ``model.decoder``, else
            ``model``.
        differentiable: False declares that gradients through the decoder mean nothing (rounding, argmax).
        batch_size: codes decoded at once; None decodes all at once, or for an lso VAE as many as fit in memory with
            their feature maps or logits.
        generation: how a VAE of sequences generates where it is not teacher-forced; None is greedy decoding.

    An autoregressive lso VAE of images decodes to E[x | z, context]: each pixel's mean given z and the preceding pixels
    of a context image. Without a given context, the context is the model's own sample for that code, drawn with random
    numbers that all codes share, so that the same code always decodes to the same datum; gradients flow through the
    last pass alone.

    A VAE of sequences (`vocabulary` is not None) decodes to texts, a list of strings, without gradients. Teacher-forced
    on a context it gives the likelihood of that context, through which gradients flow: `LatentObjective.reconstruct`.

    Raises:
        UsageError: if the model is not callable, its latent size is unknown, a named method is missing, or
            ``generation`` is given for a model that makes no sequences.
    """

    def __init__(
        self,
        model: Any,
        latent_dim: int | None = None,
        encode: str | Callable[..., Any] | None = None,
        decode: str | Callable[..., Any] | None = None,
        differentiable: bool = True,
        *,
        batch_size: int | None = None,
        generation: Generation | None = None,
    ) -> None:
        if not callable(model) and not callable(getattr(model, "decode", None)):
            raise UsageError(
                f"cannot decode with {type(model).__name__}", "Pass a module, a function, or decode=function."
            )
        if isinstance(model, VAE) and not model.latent_dim:
            raise UsageError(
                "this model is a baseline without latents, so there is nothing to search",
                "Train a VAE: lso train --method ne-vae-se",
            )
        self.model = model
        self.autoregressive = isinstance(model, VAE) and model.autoregressive
        self.differentiable = differentiable
        self.vocabulary: Vocabulary | None = None
        if isinstance(model, VAE):
            batch_size = batch_size or pass_size(model)
        if isinstance(model, VAE) and model.kind == "sequence":
            self.vocabulary = vocabulary_of(model)
        elif generation is not None:
            raise UsageError(
                f"generation is for VAEs of sequences, and this is {type(model).__name__}", "Leave generation out."
            )
        self.generation = generation or Generation()
        self.batch_size = batch_size
        self._decode, self._encode = find_decode(model, decode), find_encode(model, encode)
        self.latent_dim = _resolve_latent_dim(latent_dim, model)
        frozen = find_owned_modules(model, decode, encode)
        self._modules = frozen or find_referenced_modules(model, decode, encode)
        self.found_in_train_mode = tuple(name for m in self._modules for name in train_mode_layers(m))
        self.frozen = bool(frozen)
        for module in frozen:
            module.eval().requires_grad_(False)
        self._example: Tensor | list[Any] | None = None
        self.hash = self.weights_hash()

    def __repr__(self) -> str:
        return f"Decoder({type(self.model).__name__}, latent_dim={self.latent_dim})"

    def __call__(self, z: Float[Tensor, "*batch latent"]) -> Any:
        """Decode codes.

        Args:
            z: ``(..., latent)``.
        Returns:
            ``(..., *event)`` in z's dtype and on its device (integer outputs keep their dtype); for a decoder that
            returns objects, the flat list of them.
        Raises:
            ShapeError: if the last axis is not the latent one, or the output does not have one row for each code.
        """
        if z.ndim == 0 or z.shape[-1] != self.latent_dim:
            raise ShapeError(
                f"expected codes (..., {self.latent_dim}), got {tuple(z.shape)}", "The last axis is the latent one."
            )
        x = self.decode(z.reshape(-1, self.latent_dim))
        if isinstance(x, list):
            return x
        x = x.to(device=z.device, dtype=z.dtype if x.is_floating_point() else x.dtype)
        return x.reshape(*z.shape[:-1], *x.shape[1:])

    def decode(
        self,
        z: Float[Tensor, "batch latent"],
        pluck: Callable[[Any], Tensor | list[Any]] = extract_decoded,
        context: Tensor | None = None,
    ) -> Tensor | list[Any]:
        """Decode a flat batch, in chunks of `batch_size`, in the model's own dtype.

        Args:
            z: ``(batch, latent)``.
            pluck: extracts the batch from what the model returns.
            context: ``(batch or 1, *event)`` data that an autoregressive decoder is teacher-forced on; None is its own
                sample.
        Returns:
            ``(batch, *event)`` tensor, or a list of objects. For sequences: texts, or with a context what ``pluck``
            extracts from the likelihood of the context.
        Raises:
            ShapeError: if the output does not have one row for each code.
        """
        if self.vocabulary is not None and context is None:
            return self.texts(self.tokens(z))
        z = z.to(device=self.device, dtype=self.dtype)
        chunks = torch.split(z, self.batch_size) if self.batch_size and len(z) > self.batch_size else (z,)
        contexts: list[Tensor | None] = [None] * len(chunks)
        if context is not None and self.autoregressive:
            expanded = context.to(z) if context.is_floating_point() else context.to(z.device)
            expanded = expanded.expand(len(z), *context.shape[1:])
            contexts = list(torch.split(expanded, len(chunks[0])))
        parts = [pluck(self._decode_in_context(*pair)) for pair in zip(chunks, contexts, strict=True)]
        for chunk, part in zip(chunks, parts, strict=True):
            if (isinstance(part, Tensor) and part.ndim == 0) or len(part) != len(chunk):
                got = tuple(part.shape) if isinstance(part, Tensor) else f"a list of {len(part)}"
                raise ShapeError(
                    f"the decoder returned {got} for {len(chunk)} codes", "It must return one row for each code."
                )
        if len(parts) == 1:
            return parts[0]
        tensors = [part for part in parts if isinstance(part, Tensor)]
        return torch.cat(tensors) if tensors else [item for part in parts for item in part]

    def output(self, z: Float[Tensor, "batch latent"]) -> Any:
        """The model's raw output for a flat batch of codes.

        Args:
            z: ``(batch, latent)``.
        Returns:
            What the model returns: for an lso VAE, a likelihood.
        """
        return self._decode_in_context(z.to(device=self.device, dtype=self.dtype), None)

    def own(self, z: Float[Tensor, "batch latent"]) -> Float[Tensor, "batch ..."]:
        """The samples that serve an autoregressive decoder as its context, one for each code, without gradients.

        Args:
            z: ``(batch, latent)`` in the model's dtype.
        Returns:
            ``(batch, *event)``.
        """
        # One row of noise for all codes: the context is then a function of the code, and so is its decode.
        noise = torch.rand(self.model.shape, generator=generator(0, "context"))
        samples: Tensor = self.model.generate(z.detach(), "sample", noise)
        return samples

    def _decode_in_context(self, z: Tensor, context: Tensor | None) -> Any:
        """Decode a chunk to the model's raw output, teacher-forced on the context where the model is autoregressive."""
        with torch.backends.cudnn.flags(enabled=False) if self._needs_cudnn_off(z) else nullcontext():
            if not self.autoregressive:
                return self._decode(z)
            return self._decode(z, self.own(z) if context is None else context)

    def _needs_cudnn_off(self, z: Tensor) -> bool:
        """Whether gradients are needed that cuDNN does not compute: those of recurrent networks in eval mode."""
        return (
            torch.is_grad_enabled()
            and z.requires_grad
            and any(
                isinstance(part, nn.RNNBase) and not part.training
                for module in self._modules
                for part in module.modules()
            )
        )

    # --- sequences ----------------------------------------------------------------------------------------------------

    def tokens(self, z: Float[Tensor, "*batch latent"]) -> Int[Tensor, "*batch longest"]:
        """Decode codes to token sequences as `generation` says; for a VAE of sequences only.

        Args:
            z: ``(..., latent)``.
        Returns:
            ``(..., longest)`` token numbers on z's device: start, tokens, end, padding.
        """
        flat = z.detach().reshape(-1, self.latent_dim).to(device=self.device, dtype=self.dtype)
        return generate_sequences(self.model, flat, self.generation).to(z.device).reshape(*z.shape[:-1], -1)

    def texts(self, tokens: Shaped[Tensor, "n length"]) -> list[str]:
        """Token numbers as texts.

        Args:
            tokens: ``(n, length)``.
        Returns:
            n texts.
        """
        assert self.vocabulary is not None
        return [self.vocabulary.text(row) for row in tokens.long().tolist()]

    def encode(self, x: Shaped[Tensor, "batch ..."]) -> Posterior | Tensor | None:
        """Encode data, where the model has an encoder.

        Args:
            x: ``(batch, *event)``; of sequences ``(batch, length)`` token numbers, or probabilities of each token.
        Returns:
            The posterior, or the code where only that is known (``(batch, latent)``, x's dtype); None without an
            encoder.
        """
        if self._encode is None:
            return None
        if self.vocabulary is not None and x.ndim == 2:
            inputs = x.to(device=self.device, dtype=torch.long)
        else:
            inputs = x.to(device=self.device, dtype=self.dtype or x.dtype)
        code = extract_posterior(self._encode(inputs))
        dtype = x.dtype if x.is_floating_point() else None

        def as_data(value: Tensor) -> Tensor:
            return value.to(device=x.device, dtype=dtype)

        return as_data(code) if isinstance(code, Tensor) else map_tensors(code, as_data)

    def code_means(self, x: Shaped[Tensor, "batch ..."]) -> Float[Tensor, "batch latent"] | None:
        """The encoder's means, where the model has an encoder.

        Args:
            x: ``(batch, *event)``.
        Returns:
            ``(batch, latent)`` or None.
        """
        code = self.encode(x)
        return code if code is None or isinstance(code, Tensor) else code.mean

    @property
    def has_encoder(self) -> bool:
        """Whether the model has an encoder, so that `encode` returns codes."""
        return self._encode is not None

    @property
    def dtype(self) -> torch.dtype | None:
        """The dtype of the model's weights; None for a callable without weights, which computes in the caller's."""
        return next((t.dtype for _, t in self._tensors() if t.is_floating_point()), None)

    @property
    def device(self) -> torch.device | None:
        """The device of the weights; None for a callable without weights."""
        return next((t.device for _, t in self._tensors()), None)

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one decoded datum, ``()`` for a number and for objects."""
        return () if self.makes_objects else tuple(self._decoded_origin().shape[1:])

    @property
    def makes_objects(self) -> bool:
        """Whether it decodes to a list of objects (such as strings), which can be compared for equality only."""
        return isinstance(self._decoded_origin(), list)

    def _decoded_origin(self) -> Any:
        """The decode of z = 0, computed once: it tells the shape and kind of what the decoder makes."""
        if self._example is None:
            with torch.no_grad():
                self._example = self.decode(torch.zeros(1, self.latent_dim))
        return self._example

    def weights_hash(self) -> str:
        """sha256 over names, dtypes, shapes and bytes of all weights and buffers as they are now.

        Returns:
            64 hexadecimal digits.
        """
        digest = hashlib.sha256()
        for name, tensor in self._tensors():
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def verify(self) -> None:
        """Verify that weights and buffers are unchanged since freezing, and that the model is still in eval mode.

        Raises:
            LsoError: if a weight or buffer changed, or a frozen module is in train mode.
        """
        if self.weights_hash() != self.hash:
            raise LsoError("the decoder's weights or buffers changed after it was frozen", "Make a new lso.Decoder.")
        if self.frozen and any(module.training for module in self._modules):
            raise LsoError(
                "the frozen decoder was put back into train mode", "Call .eval(), or make a new lso.Decoder."
            )

    def check(self, n: int = 8) -> list[DecoderFinding]:
        """Look for what makes a search through this decoder meaningless.

        Args:
            n: prior draws that are decoded for it, at least 2.
        Returns:
            The findings (`lso.decoders.decoder.DecoderFinding`), most basic first; empty if there are none.
        """
        return check_decoder(self, n)

    def mode_dependent_in_train_mode(self) -> list[str]:
        """Layers that are in train mode and compute something else there: dropout and batch normalization.

        Returns:
            Their names; empty after freezing.
        """
        return [name for module in self._modules for name in train_mode_layers(module)]

    def _tensors(self) -> Iterator[tuple[str, Tensor]]:
        for module in self._modules:  # lazily: `dtype` and `device` read only the first tensor, at every search step
            yield from module.named_parameters()
            yield from module.named_buffers()


def train_mode_layers(module: nn.Module) -> list[str]:
    """Layers in train mode whose behaviour depends on it: dropout, and normalization with running statistics."""
    return [
        f"{name or 'model'} ({type(layer).__name__})"
        for name, layer in module.named_modules()
        if layer.training and isinstance(layer, MODE_DEPENDENT_LAYERS)
    ]


def _resolve_latent_dim(latent_dim: int | None, model: object) -> int:
    size = latent_dim if latent_dim is not None else getattr(model, "latent_dim", None)
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise UsageError(f"the latent size of {type(model).__name__} is unknown", "Pass latent_dim=... to lso.Decoder.")
    return size
