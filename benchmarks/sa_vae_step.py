"""A semi-amortized step of ten inner steps against a vanilla step of the same network, as a ratio in one run.

Commands:
    python benchmarks/sa_vae_step.py [--json FILE]                       all three networks, 5 minutes of one core
    python benchmarks/sa_vae_step.py --only he2019-small --steps 10      one of them, every inner step timed

Batch 50 of 28x28 binary images, 32 latents. First, on a batch of 10 images and in double precision, gradients through
the refinement are checked against those by two backward passes, to 1e-9. Then a vanilla and a semi-amortized step are
timed one after the other, `--pairs` times; the ratio is the median over pairs. By default two inner steps are timed,
and what these add to a vanilla step is taken five times. Times are those of the processor, of one thread, on a CPU,
which a busy machine stretches less, and wall times on a GPU. Memory is the most that a step has beyond what there was
before, by torch's profiler, with the gradients kept for ten inner steps. Targets: 28 with exact products, 22 with
differences. Errors of differences are measured after 15 vanilla steps on digits, in single precision: of the products
of one inner step with the posterior and with the weights, and of the gradients of a whole semi-amortized step of as
many inner steps as are timed, in the encoder and in the decoder.
"""

import argparse
import copy
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from lso.vae.config.architectures import architecture
from lso.vae.config.methods import method
from lso.vae.config.protocol import Protocol
from lso.vae.inference import refinement
from lso.vae.inference.posterior import infer
from lso.vae.inference.refinement import Energy, frozen_statistics
from lso.vae.models.vae import VAE, build
from lso.vae.training.step import State, StepInputs, StepMetrics, draw_noise, fresh_state, losses, step
from lso.vae.utils.random import generator

NETWORKS, STEPS, SHAPE, BATCH, WARM = ("he2019-small", "he2019", "kim2018"), 10, (1, 28, 28), 50, 15
TARGETS = {"exact": 28.0, "differences": 22.0}


def images(count: int) -> Tensor:
    """Digits at 28x28, in black and white."""
    from sklearn.datasets import load_digits

    digits = torch.tensor(load_digits().images[:count], dtype=torch.float32)[:, None] / 16
    return (F.interpolate(digits, SHAPE[1:], mode="bilinear") > 0.5).float()


def state(network: str, device: torch.device, name: str = "vae", **parameters: Any) -> State:
    """A fresh model under a method, and its optimizers."""
    chosen = method(name, **parameters)
    made = build(architecture(network), chosen.skip, SHAPE, 0, chosen.inference).to(device)
    return fresh_state(made, chosen, Protocol())


def stepper(made: State, x: Tensor, number: int = 0) -> Callable[[], StepMetrics]:
    """A step on a batch, its noise drawn."""
    noise = draw_noise(made.method, made.model, x.shape, binarize=False, seed=0, step=number, device=x.device)
    knobs = StepInputs(torch.tensor(1.0, device=x.device), torch.tensor(1e-3, device=x.device))
    return lambda: step(made, x, noise, knobs)


def error(found: Any, wanted: Any) -> float:
    """Norm of the difference, as a share."""
    a, b = (torch.cat([t.flatten().double() for t in part]) for part in (found, wanted))
    return float((a - b).norm() / b.norm())


def check(network: str, device: torch.device) -> float:
    """Relative difference of exact gradients through a refinement to those by two backward passes; at most 1e-9."""
    made = state(network, device, "sa-vae", steps=2)
    x, model = images(10).to(device).double(), made.model.double()
    noise = torch.randn((2, 10, model.latent_dim), generator=generator(0, "bench")).to(x)

    def gradients() -> tuple[Tensor, ...]:
        q = infer(made.method.inference, model, x, noise, 1.0)
        return torch.autograd.grad((q.mean + q.log_var).sum(), list(model.parameters()))

    found = gradients()
    with mock.patch.object(refinement, "_exact_product", refinement._double_backward_product):
        difference = error(found, gradients())
    assert difference < 1e-9, difference
    return difference


def accuracy(model: VAE, x: Tensor) -> tuple[float, float]:
    """Relative errors of one step's differences in single precision: along the posterior, and in the weights."""
    with torch.no_grad():
        q = model.encode(x)
    point, weights = torch.stack([q.mean, q.log_var]), tuple(model.decoder.parameters())
    eps, other = (torch.randn(q.mean.shape, generator=generator(i, "bench")).to(x.device) for i in range(2))
    energy, double = Energy(model, x, 1.0), Energy(copy.deepcopy(model).double(), x.double(), 1.0)
    with frozen_statistics(model), frozen_statistics(double.model):
        (u,) = refinement._gradients(energy, point, other, ())  # as that of an outer loss
        there = refinement._gradients(energy, point, eps, weights)
        found = refinement._difference_product(energy, point, eps, u, weights, there)
        wide = tuple(double.model.decoder.parameters())
        wanted = refinement._exact_product(double, point.double(), eps.double(), u.double(), wide)
    return error(found[:1], wanted[:1]), error(found[1:], wanted[1:])


def whole(model: VAE, x: Tensor, steps: int) -> tuple[float, float]:
    """Relative errors of differences in the gradients of a whole step: in the encoder, and in the decoder."""
    found = []
    for products in TARGETS:
        chosen = method("sa-vae", steps=steps, products=products)
        noise = draw_noise(chosen, model, x.shape, binarize=False, seed=0, step=0, device=x.device)
        loss = losses(model, chosen, x, noise, torch.tensor(1.0, device=x.device)).loss
        every = torch.autograd.grad(loss, [*model.encoder.parameters(), *model.decoder.parameters()])
        count = len(list(model.encoder.parameters()))
        found.append((every[:count], every[count:]))
    return error(found[1][0], found[0][0]), error(found[1][1], found[0][1])


def seconds(call: Callable[[], object], device: torch.device) -> float:
    """How long a call takes."""
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    if device.type == "cuda":
        torch.cuda.synchronize()
    started = clock()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return clock() - started


def peak(call: Callable[[], object], device: torch.device) -> float:
    """Most memory in use during a call beyond that before it, in MB."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        call()
    events = [event for event in seen.profiler.kineto_results.events() if event.name() == "[memory]"]  # type: ignore[union-attr]
    most = level = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        level += event.nbytes()
        most = max(most, level)
    return most / 1e6


def size(module: torch.nn.Module) -> float:
    """Of the weights, in MB."""
    return sum(p.numel() * p.element_size() for p in module.parameters()) / 1e6


def measure(network: str, steps: int, pairs: int, device: torch.device) -> list[dict[str, Any]]:
    """One row for each kind of product."""
    gap, data, plain = check(network, device), images(WARM * BATCH).to(device), state(network, device)
    for number in range(WARM):
        stepper(plain, data[number * BATCH :][:BATCH], number)()
    x = data[:BATCH]
    errors, vanilla = (*accuracy(plain.model, x), *whole(plain.model, x, steps)), stepper(plain, x)
    rows = []
    for products, target in TARGETS.items():
        refined = stepper(state(network, device, "sa-vae", steps=steps, products=products), x)
        memory = peak(vanilla, device), peak(refined, device)  # and what is loaded at the first step
        if products == "differences":
            memory = memory[0], memory[1] + (STEPS - steps) * size(plain.model.decoder)
        times = [(seconds(vanilla, device), seconds(refined, device)) for _ in range(pairs)]
        times = [(a, a + STEPS / steps * (b - a)) for a, b in times]
        ratios = sorted(b / a for a, b in times)
        row = {"network": network, "products": products, "target": target}
        row |= {"vanilla_s": statistics.median(a for a, _ in times), "sa_vae_s": statistics.median(b for _, b in times)}
        row |= {"ratio": statistics.median(ratios), "least": ratios[0], "most": ratios[-1], "times": times}
        row |= {"inner_steps_timed": steps, "vanilla_mb": memory[0], "sa_vae_mb": memory[1]}
        exact = products == "exact"
        names = ("error_posterior", "error_weights", "error_encoder", "error_decoder")
        row |= {"check": gap} if exact else dict(zip(names, errors, strict=True))
        rows.append(row)
    return rows


def line(row: dict[str, Any]) -> str:
    """A row of the table."""
    gap = ", ".join(f"{row[key]:.2%}" for key in row if key.startswith("error")) or f"{row['check']:.0e}"
    found = f"**{row['ratio']:.1f}** ({row['least']:.1f} to {row['most']:.1f})"
    cells = [row["network"], row["products"], f"{row['vanilla_s']:.2f}", f"{row['sa_vae_s']:.2f}", found]
    cells += [f"{row['target']:.0f}", f"{row['vanilla_mb']:.0f}", f"{row['sa_vae_mb']:.0f}", gap]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", nargs="+", default=NETWORKS, choices=NETWORKS)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    heads = "network, products, vanilla (s), sa-vae (s), ratio, target, vanilla (MB), sa-vae (MB), error"
    print("| " + " | ".join(heads.split(", ")) + " |\n" + "| --- " * 9 + "|", flush=True)
    rows = []
    for network in asked.only:
        found = measure(network, asked.steps, asked.pairs, torch.device(asked.device))
        print("\n".join(map(line, found)), flush=True)
        rows += found
    if asked.json:
        asked.json.write_text(json.dumps({"torch": torch.__version__, "device": asked.device, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
