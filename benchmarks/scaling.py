"""Cost against size: seconds of a training step, a search and an ask, and the exponent of each in a log-log fit.

Command: python benchmarks/scaling.py [--out scaling.json] [--minutes 12] [--device auto]

Points that are done stand in the file and are not timed again; a run that was cut off goes on. A size that does not fit
into memory, or into the time for one point, is marked so, and larger ones of its line are left out. Seconds are the
least of a few runs; on a CPU those of one core's own time, which a busy machine hardly stretches.
"""

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from ask_time import told
from speed.pairs import sync_of, timed
from torch import Tensor

from lso.black_box.ask_tell import make_optimizer
from lso.decoders.decoder import Decoder
from lso.gradient.search import minimize
from lso.objectives.latent_objective import LatentObjective
from lso.space import LatentSpace
from lso.vae.config.architectures import architecture
from lso.vae.config.methods import method
from lso.vae.config.protocol import Protocol
from lso.vae.models.vae import build
from lso.vae.training.step import StepInputs, draw_noise, fresh_state, step

Work = Callable[[], object]
IMAGES = ("mlp", "he2019-small")
LEAST, MOST, ENOUGH, LONGEST = 3, 200, 2.0, 90.0  # runs of a point, seconds of them that do, seconds of one that do not
STEPS = {"mlp": 20, "he2019-small": 2}  # of a search

NOTES = {  # by the beginning of a line
    "step of mlp, batch": "below 1: the optimizer's pass over the weights does not grow",
    "step of mlp, image side": "below 2: only the outer layers see the pixels, 4 times as many at twice the side",
    "step of mlp, latents": "near 0: z is a small part of the products",
    "search through mlp": "below 1: up to 10 elements the calls cost more than the products",
    "step of he2019-small, batch": "1",
    "step of he2019-small, image side": "2, less the share of small images that does not grow",
    "step of he2019-small, latents": "near 0: z enters one layer of four maps",
    "search through he2019-small": "1; elements go in passes of 100, so that memory has a bound",
    "step of lstm": "1",
    "ask of gp": "not 3: from 100 points on a fit ends after 50 iterations, and of many points it sees a part",
    "ask of turbo": "not 3: the model is of the points nearest to the center",
}


def image_step(name: str, device: torch.device, *, batch: int = 50, side: int = 28, latents: int = 32) -> Work:
    """A vanilla training step on images."""
    x = (torch.rand(batch, 1, side, side, generator=torch.Generator().manual_seed(0)) < 0.2).float().to(device)
    return _step(build(architecture(name, latent_dim=latents), False, (1, side, side)).to(device), x)


def text_step(device: torch.device, length: int) -> Work:
    """A vanilla training step on 32 sequences of 1,000 words."""
    x = torch.randint(4, 1000, (32, length), generator=torch.Generator().manual_seed(0)).to(device)
    return _step(build(architecture("lstm"), False, (length, 1000)).to(device), x)


def _step(model: Any, x: Tensor) -> Work:
    vanilla = method("vae")
    state = fresh_state(model.train(), vanilla, Protocol())
    noise = draw_noise(vanilla, model, tuple(x.shape), binarize=False, seed=0, step=0, device=x.device)
    knobs = StepInputs(torch.ones((), device=x.device), torch.full((), 1e-3, device=x.device))
    return lambda: step(state, x, noise, knobs)


def search(name: str, device: torch.device, elements: int) -> Work:
    """Adam on so many elements, a fixed number of steps."""
    draws = torch.Generator().manual_seed(0)
    images = (torch.rand(elements, 1, 28, 28, generator=draws) < 0.2).float()
    decoder = Decoder(build(architecture(name), False, (1, 28, 28)).eval().to(device))
    objective = LatentObjective.reconstruct(decoder, images, "sse")
    z0 = torch.randn(elements, 1, 32, generator=draws)
    return lambda: minimize(objective, z0, tol=0, max_steps=STEPS[name])


def ask(name: str, points: int) -> Work:
    """An ask after so many tells, of ten dimensions; the same one each time."""
    make_optimizer(name, LatentSpace(2)).ask()  # imports
    return lambda: told(name, points, 10).ask()


def points(device: torch.device) -> Iterator[tuple[str, int, Callable[[], Work]]]:
    """Every line and size, and what makes its work."""
    for name in IMAGES:
        for batch in (50, 100, 200, 400):
            yield f"step of {name}, batch", batch, lambda n=name, s=batch: image_step(n, device, batch=s)  # type: ignore[misc]
        for side in (14, 28, 56):
            yield f"step of {name}, image side", side, lambda n=name, s=side: image_step(n, device, side=s)  # type: ignore[misc]
        for latents in (8, 32, 64, 256):
            yield f"step of {name}, latents", latents, lambda n=name, s=latents: image_step(n, device, latents=s)  # type: ignore[misc]
        for elements in (1, 10, 100, 1000):
            line = f"search through {name}, {STEPS[name]} steps, elements"
            yield line, elements, lambda n=name, s=elements: search(n, device, s)  # type: ignore[misc]
    for length in (20, 50, 100, 200):
        yield "step of lstm, length", length, lambda s=length: text_step(device, s)  # type: ignore[misc]
    for name in ("gp", "turbo"):
        for count in (50, 150, 500, 1500, 5000):
            yield f"ask of {name}, points told", count, lambda n=name, s=count: ask(n, s)  # type: ignore[misc]


def clock(work: Work, device: torch.device) -> float:
    """Seconds of a run: of the processor, or of the wall where a GPU works."""
    if device.type != "cpu":
        return timed(work, sync_of(device))
    begun = time.process_time()
    work()
    return time.process_time() - begun


def seconds(make: Callable[[], Work], device: torch.device) -> float | str:
    """Least time of a few runs after one for warm-up, or why there is none."""
    try:
        work = make()
        first = clock(work, device)
        if first > LONGEST:
            return f"does not fit: {first:.0f} s"
        runs = [first] if first > ENOUGH else []
        while len(runs) < LEAST or (len(runs) < MOST and sum(runs) < ENOUGH):
            runs.append(clock(work, device))
            if sum(runs) > 5 * ENOUGH:
                break
        return min(runs)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError) or "memory" in str(error):
            return "does not fit: memory"
        raise


def exponent(sizes: list[int], found: list[float]) -> float:
    """Slope of log seconds over log size."""
    x, y = ([math.log(v) for v in values] for values in (sizes, found))
    mx, my = sum(x) / len(x), sum(y) / len(y)
    return sum((a - mx) * (b - my) for a, b in zip(x, y, strict=True)) / sum((a - mx) ** 2 for a in x)


def table(done: dict[str, dict[str, float | str]]) -> str:
    """Markdown: a line for each kind of work; the exponent over all sizes and over the last two."""
    rows = ["| work, size | seconds by size | exponent | of the last two | expected |", "| --- " * 5 + "|"]
    for line, found in done.items():
        good = [(int(size), value) for size, value in found.items() if not isinstance(value, str)]
        cells = ", ".join(f"{k}: {v if isinstance(v, str) else format(v, '.3g')}" for k, v in found.items())
        fits = [exponent(*map(list, zip(*part, strict=True))) for part in (good, good[-2:]) if len(part) > 1]
        note = next((text for start, text in NOTES.items() if line.startswith(start)), "")
        rows.append(f"| {line} | {cells} | {' | '.join(f'{fit:.2f}' for fit in fits) or '- | -'} | {note} |")
    return "\n".join(rows)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("scaling.json"))
    parser.add_argument("--minutes", type=float, default=12.0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    chosen = parser.parse_args()
    device, ends = torch.device(chosen.device), time.monotonic() + 60 * chosen.minutes
    done: dict[str, dict[str, float | str]] = json.loads(chosen.out.read_text()) if chosen.out.exists() else {}
    torch.set_num_threads(1)
    left = 0
    for line, size, make in points(device):
        found = done.setdefault(line, {})
        if str(size) in found or any(isinstance(value, str) for value in found.values()):
            continue
        if time.monotonic() > ends:
            left += 1
            continue
        found[str(size)] = seconds(make, device)
        print(f"{line} {size}: {found[str(size)]}", flush=True)
        chosen.out.write_text(json.dumps(done, indent=1))
    print(table(done))
    if left:
        print(f"{left} sizes are left: run the command again")


if __name__ == "__main__":
    main()
