"""The reverse pass of SA-VAE's released code beside its paper's and ours: whose gradient does the encoder get?

    python benchmarks/sa_vae_published.py PATH/sa-vae/optim_n2n.py          (2 minutes)

PATH/sa-vae is a checkout of github.com/harvardnlp/sa-vae, whose `OptimN2N` is run as it is, on the CPU. One batch of 20
digits in black and white, the gated PixelCNN of the paper, 10 inner steps (`--inner`; as He et al., 2019) and the
settings of the code (rate 1, momentum 0.5, clip 5, eps 1e-5, KL weight 1), after some vanilla steps. All is in double
precision, so that rounding has no part in what is found. Each row: the largest norm of the gradients in posterior and
decoder together that the code clips before it takes their difference; cosines of the encoder's whole gradient by that
code with the plain -ELBO's at the start of the refinement (the noise being that of its first step) and with the true
one, which autograd takes through the descent in a loop; and the relative difference of ours from the true one.
"""

import argparse
import dataclasses
import importlib.util
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lso.vae.config.architectures import architecture
from lso.vae.config.components import Refinement
from lso.vae.config.methods import method
from lso.vae.config.protocol import Protocol
from lso.vae.distributions.gaussian import DiagonalGaussian
from lso.vae.inference.refinement import Energy, refine
from lso.vae.models.vae import VAE, build
from lso.vae.training.step import StepInputs, draw_noise, fresh_state, step
from lso.vae.utils.random import generator

SPEC = Refinement(step_size=1.0, momentum=0.5, clip=5.0, clip_over="batch", batch=20)
EPS, LATENT, SHAPE = 1e-5, 32, (1, 8, 8)
AFTER = (0, 10, 100)  # vanilla steps


def digits() -> Tensor:
    """All of scikit-learn's, in black and white."""
    from sklearn.datasets import load_digits

    return (torch.tensor(load_digits().images)[:, None] / 16 > 0.5).double()


def trained(steps: int, x: Tensor) -> VAE:
    """The network of the paper after some steps of plain training, in double."""
    chosen = method("vae")
    model = build(architecture("kim2018", LATENT), False, SHAPE, seed=0)
    state, knobs = fresh_state(model, chosen, Protocol()), StepInputs(torch.tensor(1.0), torch.tensor(1e-3))
    for number in range(steps):
        batch = x[torch.randperm(len(x), generator=generator(number, "batch"))[: SPEC.batch]].float()
        options: dict[str, Any] = {"binarize": False, "seed": 0, "step": number, "device": batch.device}
        step(state, batch, draw_noise(chosen, model, batch.shape, **options), knobs)
    return model.double()


def loss(model: VAE, x: Tensor, mean: Tensor, log_var: Tensor, eps: Tensor) -> Tensor:
    """Sampled -ELBO, mean over the batch."""
    q = DiagonalGaussian(mean, log_var)
    return (q.kl().sum(-1) - model.decode(q.sample(eps), x).log_prob(x)).mean()


def of_encoder(model: VAE, q: DiagonalGaussian, bars: tuple[Tensor, Tensor]) -> Tensor:
    """The encoder's gradient from that of its output."""
    weights = list(model.encoder.parameters())
    found = torch.autograd.grad((q.mean, q.log_var), weights, bars, retain_graph=True, materialize_grads=True)
    return torch.cat([g.flatten() for g in found])


def published(module: Any, model: VAE, x: Tensor, q: DiagonalGaussian, noise: Tensor, last: Tensor) -> Any:
    """The encoder's gradient by the released code, and the largest norm that it clipped in a difference."""
    draws, norms = iter(noise), list[float]()

    def energy(given: Any, data: Tensor, made: VAE, eps: Tensor) -> Tensor:
        return loss(made, data, given[0], given[1], eps)

    torch.cuda.FloatTensor = lambda size: _Drawn(draws)  # type: ignore[misc,assignment]
    weights = list(model.decoder.parameters())
    options = {"lr": [1, 1], "iters": len(noise), "max_grad_norm": SPEC.clip, "eps": EPS, "momentum": SPEC.momentum}
    theirs = module.OptimN2N(energy, model, weights, **options)
    clip = theirs.clip_grad_norm

    def spy(parameters: list[Tensor], largest: float) -> None:
        if len(parameters) == len(weights) + 2:  # of the perturbed gradients
            norms.append(torch.cat([p.flatten() for p in parameters]).norm().item())
        clip(parameters, largest)

    theirs.clip_grad_norm = spy
    start = [part.detach().clone().requires_grad_() for part in (q.mean, q.log_var)]
    end = theirs.forward(start, x)
    outer = torch.autograd.grad(loss(model, x, end[0], end[1], last), end)
    return of_encoder(model, q, tuple(theirs.backward(list(outer)))), max(norms)  # type: ignore[arg-type]


class _Drawn:
    """Stands for a tensor that the code fills with normal numbers: ours."""

    def __init__(self, draws: Any) -> None:
        self.draws = draws

    def normal_(self, mean: float, deviation: float) -> Tensor:
        found: Tensor = next(self.draws)
        return found


def unrolled(model: VAE, x: Tensor, q: DiagonalGaussian, noise: Tensor, last: Tensor) -> Tensor:
    """The encoder's gradient by autograd through the descent, its clip factors taken as constants."""
    point, velocity = torch.stack([q.mean, q.log_var]), torch.zeros(2, *q.mean.shape, dtype=torch.float64)
    for eps in noise:
        (part,) = torch.autograd.grad(loss(model, x, point[0], point[1], eps), point, create_graph=True)
        norms = part.detach().flatten(1).norm(dim=1)[:, None, None]
        velocity = SPEC.momentum * velocity - (SPEC.clip / norms).clamp(max=1.0) * part
        point = point + SPEC.step_size * velocity
    found = torch.autograd.grad(loss(model, x, point[0], point[1], last), list(model.encoder.parameters()))
    return torch.cat([g.flatten() for g in found])


def row(module: Any, steps: int, inner: int, x: Tensor) -> str:
    """One line of the table."""
    model, batch = trained(steps, x), x[: SPEC.batch]
    stream = generator(1, "published")
    noise = torch.randn(inner, SPEC.batch, LATENT, generator=stream, dtype=torch.float64)
    last = torch.randn(SPEC.batch, LATENT, generator=stream, dtype=torch.float64)
    model.train()
    for layer in model.modules():
        if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm):
            layer.momentum = 0.0  # batch statistics, whose running ones stay as they are
    q = model.encode(batch)
    theirs, norm = published(module, model, batch, q, noise, last)
    true = unrolled(model, batch, model.encode(batch), noise, last)
    start = torch.autograd.grad(loss(model, batch, q.mean, q.log_var, noise[0]), [q.mean, q.log_var], retain_graph=True)
    plain = of_encoder(model, q, (start[0], start[1]))
    weights = list(model.encoder.parameters())
    refined = refine(dataclasses.replace(SPEC, steps=inner), Energy(model, batch, 1.0), model.encode(batch), noise)
    found = torch.autograd.grad(loss(model, batch, refined.mean, refined.log_var, last), weights)
    ours = torch.cat([g.flatten() for g in found])
    cosine = [float(torch.nn.functional.cosine_similarity(theirs, other, 0)) for other in (plain, true)]
    error = float((ours - true).norm() / true.norm())
    return f"| {steps} | {inner} | {norm:.1f} | {cosine[0]:.3f} | {cosine[1]:.3f} | {error:.1e} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("code", type=Path, help="optim_n2n.py of the released code")
    parser.add_argument("--after", type=int, nargs="*", default=AFTER, help="vanilla steps before")
    parser.add_argument("--inner", type=int, default=10, help="steps of the refinement; 20 take twice the 2 GB of 10")
    options = parser.parse_args()
    spec = importlib.util.spec_from_file_location("optim_n2n", options.code)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    print("| vanilla steps | inner steps | clipped norm | theirs, plain | theirs, true | ours from true |")
    print("| --- | --- | --- | --- | --- | --- |")
    for steps in options.after:
        print(row(module, steps, options.inner, digits()), flush=True)


if __name__ == "__main__":
    main()
