"""Toy latent search: one target and one start at a time with a host read at every step, against `lso.minimize`."""

import time
from collections.abc import Iterator

import torch
from speed.pairs import Row, pairs, row, sync_of, timed
from speed.plain import full_kernels, warmed
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from lso.decoders.decoder import Decoder
from lso.gradient.search import minimize
from lso.objectives.latent_objective import LatentObjective
from lso.results.result import Result
from lso.vae.models.vae import VAE

SHAPE, TARGETS, STARTS, TOL, WINDOW, RATE = (1, 28, 28), 50, 2, 1e-4, 20, 0.05
TARGET = {"mlp": (20.0, 50.0), "conv": (20.0, 50.0), "he2019-small": (None, 10.0), "he2019": (None, 10.0)}  # CPU, GPU
SLICE, ITERATIONS = 5, 20  # targets and steps of the plain way through a PixelCNN
OURS_STEPS = {"he2019-small": 5, "he2019": 2}  # all elements, so many steps
PRODUCT = 2048  # side of the matrices whose product gives the rate of a bound


def rows(device: torch.device, quick: bool) -> Iterator[Row]:
    """The table's lines, one for each decoder."""
    count, targets = (3, 4) if quick else (5, TARGETS)
    for name in ("mlp", "conv"):
        yield to_tolerance(name, device, targets, count)
    yield through_pixels("he2019-small" if quick else "he2019", device, targets, count)


def problem(name: str, targets: int, device: torch.device) -> tuple[VAE, Tensor, Tensor]:
    """A decoder, images that it can make, and starts."""
    model, draws = warmed(name, SHAPE, device).requires_grad_(False), torch.Generator().manual_seed(1)
    codes, z0 = (torch.randn(*size, 32, generator=draws) for size in ((targets,), (targets, STARTS)))
    if model.autoregressive:
        images = (torch.rand(targets, *SHAPE, generator=draws) < 0.2).float().to(device)
    else:
        with torch.no_grad():
            images = model.decode(codes.to(device)).mean
    return model, images, z0


def to_tolerance(name: str, device: torch.device, targets: int, count: int) -> Row:
    """Whole searches; of the plain way those of five targets."""
    model, images, z0 = problem(name, targets, device)
    plain, objective = full_kernels(model), LatentObjective.reconstruct(Decoder(model), images, "sse")
    part = min(SLICE, targets)
    found = minimize(objective, z0, lr=RATE, tol=TOL, window=WINDOW)
    slice_share = float(found.steps.sum()) / float(found.steps[:part].sum())
    times = pairs(
        lambda: one_by_one(plain, images[:part], z0[:part]),
        lambda: minimize(objective, z0, lr=RATE, tol=TOL, window=WINDOW),
        count,
        sync_of(device),
        scale=slice_share,
    )
    return row(
        f"{targets} targets x {STARTS} starts through {name}, to {TOL:g}",
        "one at a time, a host read a step",
        "minimize",
        times,
        equal=same_ends(one_by_one(plain, images[:part], z0[:part]), found, part),
        scaled=f"{part} targets to their ends, times {slice_share:.1f}, the ratio of steps",
        target=TARGET[name][device.type == "cuda"],
        note=f"{float(found.steps.float().mean()):.0f} steps on average; " + bound(objective, z0, times.plain, found),
    )


def through_pixels(name: str, device: torch.device, targets: int, count: int) -> Row:
    """A slice of both ways: steps through an autoregressive decoder are too long on a CPU."""
    model, images, z0 = problem(name, targets, device)
    plain, objective = full_kernels(model), LatentObjective.reconstruct(Decoder(model), images, "sse")
    steps, part = OURS_STEPS[name], min(SLICE, targets)
    elements = targets * STARTS

    def ours() -> Result:
        return minimize(objective, z0, lr=RATE, tol=0, window=WINDOW, max_steps=steps)

    times = pairs(
        lambda: one_by_one(plain, images[:part], z0[:part, :1], ITERATIONS),
        ours,
        count,
        sync_of(device),
        scale=elements * (steps + 1) / (part * (ITERATIONS + 1)),
    )
    found = ours()
    return row(
        f"{targets} targets x {STARTS} starts through {name}, {steps} steps",
        "one at a time through full kernels, a host read a step",
        "minimize",
        times,
        equal=same_steps(one_by_one(plain, images[:part], z0[:part], steps)[0], found, z0, part),
        scaled=f"{part} targets x {ITERATIONS} iterations, by the number of element steps",
        target=TARGET[name][device.type == "cuda"],
        note=bound(objective, z0, times.plain, found),
    )


def one_by_one(model: VAE, images: Tensor, z0: Tensor, max_steps: int = 1000) -> tuple[Tensor, Tensor, Tensor]:
    """The straightforward way: codes ``(T, S, d)``, losses and steps at the ends."""
    ends: list[tuple[Tensor, float, int]] = []
    for image, starts in zip(images, z0, strict=True):
        for start in starts:
            z = start.to(image.device).clone().requires_grad_()
            adam, losses = torch.optim.Adam([z], lr=RATE), []
            for step in range(max_steps + 1):
                adam.zero_grad()
                loss = (model.decode(z[None], image[None]).mean - image).square().sum()
                losses.append(loss.item())
                changes = [abs(a - b) for a, b in zip(losses[-WINDOW - 1 :], losses[-WINDOW:], strict=False)]
                if step >= WINDOW and sum(changes) / WINDOW <= TOL:
                    break
                if step < max_steps:
                    loss.backward()  # type: ignore[no-untyped-call]
                    adam.step()
            ends.append((z.detach().cpu(), losses[-1], step))
    z, loss, steps = (list(column) for column in zip(*ends, strict=True))
    shape = z0.shape[:2]
    return torch.stack(z).reshape(*shape, -1), torch.tensor(loss).reshape(shape), torch.tensor(steps).reshape(shape)


def same_ends(plain: tuple[Tensor, Tensor, Tensor], found: Result, part: int) -> str:
    """Ends of the first targets against those of the batch."""
    z, loss, steps = plain
    moved = float((found.z[:part].cpu() - z).abs().max())
    gap = float((found.value[:part].cpu() - loss).abs().max() / loss.abs().max())
    late = int((found.steps[:part].cpu() - steps).abs().max())
    # Adam divides by the size of gradients that vanish towards the end, which magnifies rounding.
    assert gap < 1e-2 and late <= WINDOW, (moved, gap, late)
    return f"{part} targets: codes within {moved:.0e}, losses {gap:.0e} of the largest, ends {late} steps apart at most"


def same_steps(plain: Tensor, found: Result, z0: Tensor, part: int) -> str:
    """Codes of the first targets after a few steps against those of the batch: losses hardly fall in so few."""
    moved = float((plain - z0[:part]).square().mean().sqrt())
    gap = float((found.z[:part].cpu() - plain).abs().max())
    assert moved > RATE / 2 and gap < 1e-3, (moved, gap)  # Adam moves a code by about the rate at each step
    return f"{part} targets: codes within {gap:.0e}, moved by {moved:.2g}"


def bound(objective: LatentObjective, z0: Tensor, plain: tuple[float, ...], found: Result) -> str:
    """The ratio if our arithmetic ran at the rate of a large matrix product, and the plain way as it does."""
    z = z0.reshape(-1, z0.shape[-1]).to(objective.decoder.device)
    rows_of = torch.arange(len(z0)).repeat_interleave(STARTS)
    with FlopCounterMode(display=False) as counter:
        objective.take(rows_of)(z.clone().requires_grad_() * 1.0).sum()
    each = 2 * counter.get_total_flops() / len(z)  # backward to z alone costs as much as forward
    a = torch.rand(PRODUCT, PRODUCT, device=z.device)
    sync, seconds = sync_of(z.device), []
    for _ in range(4):
        seconds.append(timed(lambda: a @ a, sync))
        time.sleep(0)
    rate = 2 * PRODUCT**3 / min(seconds)
    least = each * float((found.steps + 1).sum()) / rate
    return f"bound by arithmetic {sorted(plain)[len(plain) // 2] / least:.0f} at {rate / 1e9:.0f} GFLOP/s"
