"""Importance-weighted NLL: one image at a time through full kernels, against blocks of images through folded norms."""

import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from speed.generation import SHAPE
from speed.pairs import Row, pairs, row, sync_of
from speed.plain import full_kernels, warmed
from torch import Tensor

from lso.vae.distributions.gaussian import prior_log_prob
from lso.vae.metrics.importance import importance_nll
from lso.vae.models.vae import VAE

IMAGES, SAMPLES = 50, 500
COUNTS = (100, 500, 2000)  # whose peak of memory is looked at


def rows(device: torch.device, quick: bool) -> Iterator[Row]:
    """The table's line. Both do 500 weights, a fiftieth of the whole; the time for each does not depend on K."""
    name, samples = ("he2019-small", 100) if quick else ("he2019", SAMPLES)
    model = warmed(name, SHAPE, device)
    plain, x = full_kernels(model), data(IMAGES, device)
    with torch.no_grad():
        q = model.encode(x)
        times = pairs(
            lambda: image_by_image(plain, x[:1], noise(samples, 1, device), encode_each=True),
            lambda: importance_nll(
                model, x, q, torch.Generator().manual_seed(0), samples=samples // IMAGES, chunk=chunk(device)
            ),
            3 if quick else 5,
            sync_of(device),
        )
    yield row(
        f"{samples} importance weights of {name}, of {IMAGES * samples:,} at K = {samples}",
        f"1 image, {samples} samples, full kernels, by 100",
        f"{IMAGES} images, {samples // IMAGES} samples, norms folded",
        times,
        equal=equal(name, device),
        scaled="neither; the whole is 50 times as long for both",
        note=f"peak of memory at K = {COUNTS}: {peaks_of(device, quick)}",
    )


def chunk(device: torch.device) -> int:
    """Samples decoded at a time, as `lso.vae.metrics.evaluation` has it."""
    return 2 if device.type == "cpu" else 20


def data(count: int, device: torch.device) -> Tensor:
    """Binary images."""
    return (torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(3)) < 0.2).float().to(device)


def noise(samples: int, images: int, device: torch.device) -> Tensor:
    """As `importance_nll` draws it."""
    draws = torch.Generator().manual_seed(0)
    return torch.stack([torch.randn(images, 32, generator=draws) for _ in range(samples)]).to(device)


@torch.no_grad()
def image_by_image(model: VAE, x: Tensor, noise: Tensor, encode_each: bool = False) -> Tensor:
    """The straightforward way: for each image all samples, 100 at a time; the encoder at every chunk where told."""
    found = []
    for i in range(len(x)):
        weights = []
        for part in torch.split(noise[:, i], 100):
            if not weights or encode_each:
                q = model.encode(x[i : i + 1])
            z = q.sample(part)
            repeated = x[i : i + 1].expand(len(part), *SHAPE)
            log_p = model.decode(z, repeated).log_prob(repeated)
            weights.append(log_p + prior_log_prob(z) - q.log_prob(z))
        found.append(-torch.logsumexp(torch.cat(weights).double(), 0) + torch.log(torch.tensor(len(noise))))
    return torch.stack(found)


def equal(name: str, device: torch.device) -> str:
    """The same estimates of a few images from the same noise."""
    model, x = warmed(name, SHAPE, device), data(3, device)
    theirs = image_by_image(full_kernels(model), x, noise(20, 3, device))
    with torch.no_grad():
        ours = importance_nll(model, x, model.encode(x), torch.Generator().manual_seed(0), samples=20, chunk=7)
    difference = float(((theirs - ours) / theirs).abs().max())
    # On a GPU convolutions may round to 10 bits, and not alike for kernels of other shapes.
    assert difference < (1e-5 if device.type == "cpu" else 1e-3), difference
    return f"3 images, K = 20, the same noise: relative difference at most {difference:.0e}"


def peaks_of(device: torch.device, quick: bool) -> str:
    """Peaks of a process of its own after each count."""
    counts = COUNTS[:2] if quick else COUNTS
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r}); import speed.importance as module; "
    code += f"module.peaks({str(device)!r}, {counts})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return ", ".join(f"{peak:.0f} MB" for peak in json.loads(done.stdout))


def peaks(name: str, counts: tuple[int, ...]) -> None:
    """Print the peak of memory, in MB, after each of rising counts of samples."""
    device, found = torch.device(name), []
    model, x = warmed("he2019-small", SHAPE, device), data(2, device)
    with torch.no_grad():
        q = model.encode(x)
        for count in counts:
            importance_nll(model, x, q, torch.Generator().manual_seed(0), samples=count, chunk=50)
            if device.type == "cuda":
                found.append(torch.cuda.max_memory_allocated(device) / 1e6)
            else:
                found.append(resident())
    assert found[-1] <= 1.05 * found[0], found
    print(json.dumps(found))


def resident() -> float:
    """The most memory, in MB, that this program had; `ru_maxrss` would count what started it as well on Linux."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.is_file() else []
    marks = [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
    return (marks or [resource.getrusage(resource.RUSAGE_SELF).ru_maxrss])[0] / 1e3
