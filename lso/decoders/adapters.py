"""Foreign models: finding their decoding and encoding functions, and the tensor in what these return."""

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

# Where a decoded tensor hides: lso and torch.distributions, pythae, diffusers.
DECODED_NAMES = ("mean", "reconstruction", "recon_x", "sample")
# (mean, log-variance) of an encoder's output under the names of lso and of pythae.
POSTERIOR_NAMES = (("mean", "log_var"), ("embedding", "log_covariance"))


def find_decode(model: Callable[..., Any], decode: str | Callable[..., Any] | None) -> Callable[..., Any]:
    """The function ``z -> output`` of a model.

    Args:
        model: a module or any callable.
        decode: name of the method, the function itself, or None: ``model.decode``, else ``model.decoder``, else
            ``model``.
    Returns:
        The function.
    Raises:
        UsageError: if the named method is not there.
    """
    if decode is None:
        for name in ("decode", "decoder"):
            if callable(found := getattr(model, name, None)):
                return found  # type: ignore[no-any-return]
        return model
    return _find_callable(model, decode, "decode")


def find_encode(model: Callable[..., Any], encode: str | Callable[..., Any] | None) -> Callable[..., Any] | None:
    """The function ``x -> code`` of a model, where it has one.

    Args:
        model: a module or any callable.
        encode: name of the method, the function itself, or None: for a VAE of ours the posterior of its own method,
            else ``model.encode``, else ``model.encoder``, else no encoder.
    Returns:
        The function or None.
    Raises:
        UsageError: if the named method is not there.
    """
    if encode is None and isinstance(model, VAE):
        return partial(posterior, model)  # as its own method finds codes
    if encode is None:
        return next((f for name in ("encode", "encoder") if callable(f := getattr(model, name, None))), None)
    return _find_callable(model, encode, "encode")


def _find_callable(model: object, what: str | Callable[..., Any], option: str) -> Callable[..., Any]:
    if callable(what):
        return what
    found = getattr(model, what, None)
    if not callable(found):
        raise UsageError(
            f"{option}={what!r}: {type(model).__name__} has no such method",
            f"Name one of its methods, or pass a function: {option}=lambda value: ...",
        )
    return found  # type: ignore[no-any-return]


def find_owned_modules(model: object, *functions: object) -> list[nn.Module]:
    """Modules that were handed over openly: the model itself, or the module whose bound method came."""
    candidates = (part for thing in (model, *functions) for part in (thing, getattr(thing, "__self__", None)))
    return _unique_modules(part for part in candidates if isinstance(part, nn.Module))


def find_referenced_modules(*functions: object) -> list[nn.Module]:
    """Modules that functions reach through closures, globals or `functools.partial`."""
    values = (value for function in functions for value in _referenced_values(function))
    return _unique_modules(value for value in values if isinstance(value, nn.Module))


def _referenced_values(function: object) -> Iterator[object]:
    if isinstance(function, partial):
        yield from (function.func, *function.args, *function.keywords.values())
        yield from _referenced_values(function.func)
    elif inspect.isfunction(function):
        found = inspect.getclosurevars(function)
        for value in (*found.nonlocals.values(), *found.globals.values()):
            yield from (value, getattr(value, "__self__", None))


def _unique_modules(modules: Iterator[nn.Module]) -> list[nn.Module]:
    return list({id(module): module for module in modules}.values())


def extract_decoded(output: Any) -> Tensor | list[Any]:
    """The decoded batch in what a decoder returned.

    Args:
        output: a tensor, a list of objects, an object or mapping with ``mean``, ``reconstruction``, ``recon_x`` or
            ``sample``, or a tuple whose first item is one of these.
    Returns:
        ``(n, *event)`` tensor, or a list of n objects.
    Raises:
        UsageError: if there is no tensor to be found.
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
    """Logits of binary pixels where the decoder gives them, else the decoded batch."""
    logits = getattr(output, "logits", None)
    return logits if isinstance(logits, Tensor) else extract_decoded(output)


def extract_posterior(output: Any) -> DiagonalGaussian | Tensor:
    """The posterior, or the code, in what an encoder returned.

    Args:
        output: a tensor, our posterior, ``(mean, log_var)``, a torch normal distribution, or an object with
            ``latent_dist`` (diffusers) or ``embedding`` and ``log_covariance`` (pythae).
    Returns:
        The posterior where its variance is known, else the code.
    Raises:
        UsageError: if there is neither.
    """
    if isinstance(output, Tensor | DiagonalGaussian):
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
    known = isinstance(log_var, Tensor) and log_var.shape == mean.shape and mean.ndim == 2
    return DiagonalGaussian(mean, log_var) if known else mean
