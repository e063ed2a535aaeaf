"""Refuses a module of the user's own that breaks what `lso.vae.protocols.AutoencoderModule` promises, where that shows.

A copy is run on a few random data before training: shapes, finite values, results that depend on weights, data and
torch's global generator alone, no state outside of ``state_dict()``, data that do not depend on their batch, and an
autoregressive decoder that does not see what it predicts. What a method needs beyond that is tried, too.
"""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from lso.vae.config.components import Aggressive, Amortized, SemiAmortized
from lso.vae.config.methods import Method
from lso.vae.distributions.categorical import one_hot
from lso.vae.errors import LsoError, UsageError
from lso.vae.models.dropout import uniform_shapes, use_dropout_noise
from lso.vae.models.user_module import ModuleDecoder, copy_network, probe_data, weights_used
from lso.vae.models.vae import VAE
from lso.vae.utils.random import generator, seed_globally

CPU = torch.device("cpu")
BATCH_TOLERANCE = 1e-4  # largest difference, relative to the largest value, that rounding explains in another batch


def check_module(model: VAE, method: Method) -> None:
    """Try a user's module, and refuse one that could not be trained by the method or resumed exactly.

    Args:
        model: on the CPU, with the weights that training begins from; left as it is, as the global generator is.
        method: how it is to be trained.
    Raises:
        UsageError: for the first promise that it breaks, with what to do.
    """
    name = model.architecture.name
    trial = copy_network(model)
    decoder = trial.decoder
    assert isinstance(decoder, ModuleDecoder)
    with torch.random.fork_rng(devices=[]):
        _check_weights(decoder.module, name)
        try:
            _check_outputs(trial, name)
            _check_repeats(trial, method, name)
            _check_uses(trial, method, name)
        except LsoError:
            raise
        except Exception as error:  # a user's code may raise anything
            words = f"{type(error).__name__}: {error}".splitlines()[0]
            raise UsageError(
                f"{name} failed on a few random data of shape {model.shape}: {words}",
                "Try its encode and decode by hand; LSO_DEBUG=1 shows the traceback.",
            ) from error


def _check_weights(module: nn.Module, name: str) -> None:
    state = module.state_dict()
    if odd := [key for key, value in state.items() if not isinstance(value, Tensor)]:
        raise UsageError(
            f"{name} keeps {odd[0]} in its state_dict, which is no tensor", "Register it as a buffer, or leave it out."
        )
    if wide := [key for key, value in state.items() if value.is_floating_point() and value.dtype != torch.float32]:
        raise UsageError(f"{name} has {wide[0]} in {state[wide[0]].dtype}, expected float32", "Call .float() on it.")
    if bad := [key for key, value in state.items() if value.is_floating_point() and not bool(value.isfinite().all())]:
        raise UsageError(f"{name} has weights that are not finite: {bad[0]}", "Initialize them with numbers.")
    if not any(p.requires_grad for p in module.parameters()):
        raise UsageError(f"{name} has no weights to train", "Register them as nn.Parameter, with requires_grad.")


# --- what it computes -------------------------------------------------------------------------------------------------


def _codes(model: VAE, count: int) -> Tensor:
    return torch.randn(count, model.latent_dim, generator=generator(0, "probe"))


def _raw(model: VAE, z: Tensor, x: Tensor) -> Tensor:
    """The decoder's raw output for data, as the module gives it."""
    decoder = model.decoder
    assert isinstance(decoder, ModuleDecoder)
    return decoder._raw(z, x) if model.kind == "image" else decoder._logits(z, x[:, :-1])


@torch.no_grad()
def _check_outputs(model: VAE, name: str) -> None:
    """Shapes and finite values in both modes; in eval mode results that repeat and do not depend on the batch."""
    x, z = probe_data(model.kind, model.shape), _codes(model, 3)

    def results(rows: slice) -> dict[str, Tensor]:
        found = {"decode": _raw(model, z[rows], x[rows])}
        if model.has_encoder:
            q = model.encode(x[rows])
            found |= {"encode (mean)": q.mean, "encode (log_var)": q.log_var}
        return found

    model.train()
    with seed_globally(0, CPU), use_dropout_noise(model, _uniforms(model, x)):
        results(slice(None))
    model.eval()
    first, again = results(slice(None)), results(slice(None))
    if bad := next((key for key, value in first.items() if not bool(value.isfinite().all())), ""):
        raise UsageError(f"{name}: {bad} gives values that are not finite", "Look for log, sqrt or division at 0.")
    if other := next((key for key in first if not torch.equal(first[key], again[key])), ""):
        raise UsageError(
            f"{name}: {other} gives another result in eval mode when it is called again",
            "Draw random numbers in train mode only (`if self.training`, nn.Dropout), and keep no state between calls.",
        )
    alone = results(slice(0, 1))
    for key, value in alone.items():
        gap = float((value - first[key][:1]).abs().max() / (1 + first[key].abs().max()))
        if gap > BATCH_TOLERANCE:
            raise UsageError(
                f"{name}: in eval mode {key} of a datum depends on the others of its batch (by {gap:.2g} relative)",
                "Let layers use running statistics in eval mode; results are to be one row a datum.",
            )
    if model.autoregressive and model.decoder.autoregressive:
        _check_causality(model, z, x, first["decode"], name)


def _check_causality(model: VAE, z: Tensor, x: Tensor, raw: Tensor, name: str) -> None:
    """Refuse a decoder whose output at a place depends on the data at that place or after it."""
    if model.kind == "sequence":
        # The logits at position t are those of token t + 1: they may depend on tokens 0 to t.
        changed, half = x.clone(), max(1, x.shape[1] // 2)
        changed[:, half:] = changed[:, half:].flip(0).roll(1, 1)
        changed[:, half] = (changed[:, half] + 1) % model.shape[1]
        seen = (_raw(model, z, changed) - raw)[:, :half]
        place = f"token {half}"
    else:
        half = model.shape[1] * model.shape[2] // 2
        flat = x.clone().flatten(2)
        flat[:, :, half:] = 1 - flat[:, :, half:]
        seen = (_raw(model, z, flat.view_as(x)) - raw).flatten(2)[:, :, : half + 1]
        place = f"pixel {half}"
    if float(seen.abs().max()) > BATCH_TOLERANCE * (1 + float(raw.abs().max())):
        raise UsageError(
            f"{name} is autoregressive, and what decode(z, x) gives up to {place} depends on x there or after it",
            "Mask its convolutions or attention: each value may depend on z and on the values before it alone.",
        )


# --- whether a step can be taken again --------------------------------------------------------------------------------


def _uniforms(model: VAE, x: Tensor) -> list[Tensor]:
    return [torch.full(shape, 0.5) for shape in uniform_shapes(model, tuple(x.shape))]


def _pass(model: VAE, seed: int = 0) -> tuple[list[Tensor], dict[str, Any]]:
    """A forward and backward pass in train mode: the results, and the state outside of ``state_dict()`` after it."""
    model.train().zero_grad(set_to_none=True)
    x, z = probe_data(model.kind, model.shape), _codes(model, 3)
    with seed_globally(seed, CPU), use_dropout_noise(model, _uniforms(model, x)), torch.enable_grad():
        found = [model.decode(z, x).log_prob(x)]
        if model.has_encoder:
            q = model.encode(x)
            found += [q.mean, q.log_var]
        total = sum((one.sum() for one in found), torch.zeros(()))
        weights = [p for half in model.halves.values() for p in half]
        gradients = torch.autograd.grad(total, weights, allow_unused=True)
    hidden = dict(_hidden_state(model.decoder.module))
    return [*(one.detach() for one in found), *(g for g in gradients if g is not None)], hidden


def _hidden_state(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """What a module keeps outside of its ``state_dict()``: plain attributes, and buffers that are not stored."""
    for prefix, part in module.named_modules():
        place = f"{prefix}." if prefix else ""
        for key, value in vars(part).items():
            if key in ("_parameters", "_buffers", "_modules", "training", "uniforms") or key.endswith("_hooks"):
                continue
            yield f"{place}{key}", _plain(value)
        for key in part._non_persistent_buffers_set:
            yield f"{place}{key}", _plain(part._buffers[key])


def _plain(value: Any) -> Any:
    """A value that can be compared later: tensors are copied, containers are walked, all else is described."""
    if isinstance(value, Tensor):
        return ("tensor", value.detach().clone())
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {repr(key): _plain(one) for key, one in value.items()}
    return value if isinstance(value, bool | int | float | str | None) else type(value).__name__


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, tuple) and isinstance(other, tuple):
        return one[1].shape == other[1].shape and torch.equal(one[1].nan_to_num(), other[1].nan_to_num())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    return type(one) is type(other) and bool(one == other or one != one)


def _check_repeats(model: VAE, method: Method, name: str) -> None:
    """Refuse a module whose step depends on more than weights, buffers, data and torch's global generator.

    The same pass is taken twice from the same ``state_dict()``. What a module keeps from its last call alone, such as
    attention weights to look at, is then the same both times; a count, or an average over calls, is not.
    """
    before = copy.deepcopy(model.state_dict())
    first, hidden = _pass(model)
    after = copy.deepcopy(model.state_dict())
    model.load_state_dict(before)
    second, later = _pass(model)
    for key in hidden.keys() | later.keys():
        if not _same(hidden.get(key), later.get(key)):
            raise UsageError(
                f"{name} changes {key} in training, which is not in its state_dict: a resumed training would lose it",
                f"Keep it as a buffer: self.register_buffer({key.rpartition('.')[2]!r}, torch.tensor(...)), changed in "
                "place.",
            )
    moved = next((key for key, value in model.state_dict().items() if not torch.equal(value, after[key])), "")
    if moved or not all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(first, second, strict=True)):
        raise UsageError(
            f"{name} gives other results when a step is taken again, so that a training could not be resumed exactly",
            "Draw random numbers by torch without a generator of your own (not by numpy or random), and take "
            "deterministic operations.",
        )
    model.load_state_dict(before)


# --- what methods need ------------------------------------------------------------------------------------------------


def _check_uses(model: VAE, method: Method, name: str) -> None:
    """Refuse a method that this module cannot be trained by."""
    assert isinstance(model.decoder, ModuleDecoder)
    by_encode, by_decode = weights_used(model.decoder)
    if model.has_encoder and not by_encode:
        raise UsageError(f"{name}: encode depends on no weight", "Let it compute mean and log_var by layers.")
    if not by_decode:
        raise UsageError(f"{name}: decode depends on no weight", "Let it compute its output by layers.")
    shared = sorted(key.removeprefix("module.") for key in by_encode & by_decode)
    if isinstance(method.updates, Aggressive) and shared:
        raise UsageError(
            f"{method.name} trains the encoder ahead of the decoder, and encode and decode of {name} share {shared[0]}",
            "Give each its own layers, or take another method.",
        )
    if not isinstance(method.inference, Amortized) and _draws_in_decode(model):
        raise UsageError(
            f"{method.name} takes gradient steps on one function of z, and decode of {name} draws random numbers at "
            "each call",
            "Leave dropout out of decode, take lso.vae.models.dropout.Dropout there, or take another method.",
        )
    if isinstance(method.inference, SemiAmortized) and method.inference.products == "exact":
        _try(
            lambda: _differentiate_twice(model),
            f"{method.name} differentiates decode twice, and that of {name} cannot be",
            f"Leave fused attention and cuDNN layers out, or take {method.name}:products=differences.",
        )
    if method.penalty is not None and model.kind == "sequence":
        words = model.shape[1]
        soft = one_hot(probe_data("sequence", model.shape), words).float()
        _try(
            lambda: model.eval().encode(soft),
            f"{method.name} encodes expected sequences (batch, length, {words}) of token probabilities, and encode of "
            f"{name} takes token numbers only",
            "Where x.is_floating_point(), embed it as x @ embedding.weight; or take another method.",
        )


def _draws_in_decode(model: VAE) -> bool:
    """Whether decode draws from torch's global generator in train mode."""
    x, z = probe_data(model.kind, model.shape), _codes(model, 3)
    model.train()
    with seed_globally(0, CPU), use_dropout_noise(model, _uniforms(model, x)), torch.no_grad():
        before = torch.get_rng_state()
        model.decode(z, x)
        return not torch.equal(before, torch.get_rng_state())


def _differentiate_twice(model: VAE) -> None:
    x = probe_data(model.kind, model.shape)
    z = _codes(model, 3).requires_grad_()
    model.eval()
    with torch.enable_grad():
        (slope,) = torch.autograd.grad(model.decode(z, x).log_prob(x).sum(), z, create_graph=True)
        if slope.requires_grad:
            torch.autograd.grad(slope.sum(), z, allow_unused=True)


def _try(call: Callable[[], Any], message: str, hint: str) -> None:
    try:
        call()
    except Exception as error:  # a user's code may raise anything
        words = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UsageError(f"{message} ({words[:80]})", hint) from error
