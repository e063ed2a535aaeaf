"""Adapters for models of other libraries: which function decodes or encodes, and where its output holds the tensor."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lso.vae.distributions.gaussian import DiagonalGaussian
from lso.vae.errors import UsageError
from lso.vae.inference.posterior import posterior
from lso.vae.models.vae import VAE
from lso.vae.protocols import Posterior

# Attributes or keys that hold the decoded tensor: of lso and torch.distributions, pythae, and diffusers.
DECODED_NAMES = ("mean", "reconstruction", "recon_x", "sample")
# Attributes or keys that hold mean and log variance of an encoder's output: of lso, and of pythae.
POSTERIOR_NAMES = (("mean", "log_var"), ("embedding", "log_covariance"))


def find_decode(model: Callable[..., Any], decode: str | Callable[..., Any] | None) -> Callable[..., Any]:
    """Find the function ``z -> output`` of a model.

    ``decode`` is the name of a method or the function itself; None takes ``model.decode``, else ``model.decoder``, else
    the model.
    """
    if decode is None:
        for name in ("decode", "decoder"):
            if callable(function := getattr(model, name, None)):
                return function  # type: ignore[no-any-return]
        return model
    return _find_callable(model, decode, "decode")


def find_encode(model: Callable[..., Any], encode: str | Callable[..., Any] | None) -> Callable[..., Any] | None:
    """Find the function ``x -> code`` of a model, or None where it has none.

    ``encode`` is the name of a method or the function itself; None takes ``model.encode``, else ``model.encoder``.
    """
    if encode is None and isinstance(model, VAE):
        # Not `model.encode`: the training method may refine the posterior, or find it without the encoder.
        return partial(posterior, model)
    if encode is None:
        return next((f for name in ("encode", "encoder") if callable(f := getattr(model, name, None))), None)
    return _find_callable(model, encode, "encode")


def _find_callable(model: object, function: str | Callable[..., Any], option: str) -> Callable[..., Any]:
    if callable(function):
        return function
    method = getattr(model, function, None)
    if not callable(method):
        raise UsageError(
            f"{option}={function!r}: {type(model).__name__} has no such method",
            f"Name one of its methods, or pass a function: {option}=lambda value: ...",
        )
    return method  # type: ignore[no-any-return]


def find_owned_modules(model: object, *functions: object) -> list[nn.Module]:
    """Find the modules that the user passed: the model itself, or the module whose bound method was given."""
    candidates = (part for thing in (model, *functions) for part in (thing, getattr(thing, "__self__", None)))
    return _unique_modules(part for part in candidates if isinstance(part, nn.Module))


def find_referenced_modules(*functions: object) -> list[nn.Module]:
    """Find the modules that functions refer to through closures, globals or `functools.partial`."""
    values = (value for function in functions for value in _referenced_values(function))
    return _unique_modules(value for value in values if isinstance(value, nn.Module))


def _referenced_values(function: object) -> Iterator[object]:
    if isinstance(function, partial):
        yield from (function.func, *function.args, *function.keywords.values())
        yield from _referenced_values(function.func)
    elif inspect.isfunction(function):
        variables = inspect.getclosurevars(function)
        for value in (*variables.nonlocals.values(), *variables.globals.values()):
            yield from (value, getattr(value, "__self__", None))


def _unique_modules(modules: Iterator[nn.Module]) -> list[nn.Module]:
    return list({id(module): module for module in modules}.values())


def extract_decoded(output: Any) -> Tensor | list[Any]:
    """Extract the decoded batch from a decoder's output: an ``(n, *event)`` tensor, or a list of n objects.

    The output may be the batch itself, an object or a mapping that holds it under one of `DECODED_NAMES`, or a tuple
    whose first item is one of these.
    """
    if isinstance(output, Tensor | list):
        return output
    if isinstance(output, tuple) and output:
        return extract_decoded(output[0])
    for name in DECODED_NAMES:
        value = output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)
        if isinstance(value, Tensor):
            return value
    raise UsageError(
        f"the decoder returned {type(output).__name__}; expected a tensor, a list, or an object with one of "
        f"{', '.join(DECODED_NAMES)}",
        "Pass decode=lambda z: model.decode(z).the_tensor",
    )


def extract_logits(output: Any) -> Tensor | list[Any]:
    """Extract the logits of binary pixels where a decoder's output has them, else the decoded batch."""
    logits = getattr(output, "logits", None)
    return logits if isinstance(logits, Tensor) else extract_decoded(output)


def extract_posterior(output: Any) -> Posterior | Tensor:
    """Extract the posterior from an encoder's output, or the code alone where the output gives no variance.

    The output may be a tensor of codes, a `DiagonalGaussian`, ``(mean, log_var)``, a torch normal distribution, or an
    object with ``latent_dist`` (diffusers) or with ``embedding`` and ``log_covariance`` (pythae).
    """
    if isinstance(output, Tensor | Posterior):
        return output
    if hasattr(output, "latent_dist"):
        return extract_posterior(output.latent_dist)
    for names in POSTERIOR_NAMES:
        pair = [output.get(n) if isinstance(output, Mapping) else getattr(output, n, None) for n in names]
        if isinstance(pair[0], Tensor):
            return _as_posterior(pair[0], pair[1], deviation=getattr(output, "stddev", None))
    if isinstance(output, tuple) and output and isinstance(output[0], Tensor):
        return _as_posterior(output[0], output[1] if len(output) > 1 else None)
    raise UsageError(
        f"the encoder returned {type(output).__name__}; expected a tensor, (mean, log_var) or a distribution",
        "Pass encode=lambda x: ... that returns one of these.",
    )


def _as_posterior(mean: Tensor, log_var: Any, deviation: Any = None) -> DiagonalGaussian | Tensor:
    if not isinstance(log_var, Tensor) and isinstance(deviation, Tensor):
        log_var = 2 * torch.log(deviation)
    diagonal = isinstance(log_var, Tensor) and log_var.shape == mean.shape and mean.ndim == 2
    return DiagonalGaussian(mean, log_var) if diagonal else mean
