"""Refuses networks that draw their own random numbers, as a checkpoint could not resume their training exactly.

A step takes its randomness as tensors, drawn outside by the run's seed (see `lso.vae.training.step`).
`torch.nn.Dropout`, the ``dropout`` of `torch.nn.LSTM`, `torch.nn.RReLU`, and custom noise layers draw from the global
generator, which no checkpoint stores.
"""

import copy

import torch
from torch import Tensor, nn

from lso.vae.errors import UsageError
from lso.vae.models.dropout import uniform_shapes, use_dropout_noise
from lso.vae.models.vae import VAE
from lso.vae.vocabulary import END, PAD, SPECIALS, START


def require_no_own_randomness(model: VAE) -> None:
    """Refuse networks whose results in train mode are not a function of weights, data and the noise handed in.

    A copy of the model is run twice on two data and the results are compared.

    Args:
        model: on the CPU; left as it is, as the global generator is.
    Raises:
        UsageError: if a part draws random numbers, or two runs differ.
    """
    trial, offenders = copy.deepcopy(model).train(), list[str]()
    for name, part in trial.named_modules():
        _listen(part, f"{name} ({type(part).__name__})", offenders)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        same = all(torch.equal(a, b) for a, b in zip(_results(trial), _results(trial), strict=True))
    if offenders or not same:
        what = f"{offenders[0]} draws random numbers" if offenders else "the networks give other results when run again"
        raise UsageError(
            f"{what} inside a training step, so that an interrupted training could not be resumed exactly",
            "Take lso.vae.models.dropout.Dropout, whose uniforms are drawn outside the step and handed in, or leave "
            "it out.",
        )


def _listen(part: nn.Module, name: str, offenders: list[str]) -> None:
    """Add a module's name to ``offenders`` if its forward pass advances the global generator, inner modules first."""
    before: list[Tensor] = []

    def enter(*_: object) -> None:
        before.append(torch.get_rng_state())

    def leave(*_: object) -> None:
        if not torch.equal(before.pop(), torch.get_rng_state()):
            offenders.append(name)

    part.register_forward_pre_hook(enter)
    part.register_forward_hook(leave)


def _results(model: VAE) -> list[Tensor]:
    """Return the outputs of encoder and decoder for two data, with fixed uniforms for the dropout of this package."""
    x = _data(model)
    uniforms = [torch.full(shape, 0.5) for shape in uniform_shapes(model, tuple(x.shape))]
    with use_dropout_noise(model, uniforms):
        q = model.encode(x) if model.has_encoder else None
        log_prob = model.decode(torch.zeros(len(x), model.latent_dim), x).log_prob(x)
    return [log_prob.nan_to_num()] + ([] if q is None else [q.mean.nan_to_num(), q.log_var.nan_to_num()])


def _data(model: VAE) -> Tensor:
    """Return two grey images, or two sequences of different length."""
    if model.kind == "image":
        return torch.full((2, *model.shape), 0.5)
    word = len(SPECIALS)  # the first ordinary word
    return torch.tensor([[START, word, word, END], [START, word, END, PAD]])[:, : model.shape[0]]
