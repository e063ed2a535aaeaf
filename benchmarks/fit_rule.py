"""How well searches reproduce targets that a model knows and others that it cannot know, and what the rule makes of it.

    python benchmarks/fit_rule.py runs/digits-methods/vae-anneal-seed0 ...          (half a minute a run)

For each run and kind of target: how many of 24 the rule of `lso.analysis.reproduction` takes for not reproduced,
quartiles of the share reproduced against the mean decode and against the target's own mean colour, and of -log
p(target | best code) in standard deviations from the mean of what the decoder draws itself. Each is searched for from
the encoder's mean and a prior draw. The thresholds of the report's check "fit" were read off this table.
"""

import argparse
import string

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from sklearn.datasets import load_sample_images
from torch import Tensor

import lso
from lso.analysis.reproduction import BOUND_DEVIATIONS, measure_reproduction, nats_bound
from lso.tasks.datasets.image_dataset import load_dataset
from lso.tasks.datasets.preprocessing import prepare_images
from lso.tasks.training.experiment import reload_dataset
from lso.vae.data.dataset import to_unit
from lso.vae.utils.random import generator

N = 24


def kinds(run: lso.Run) -> dict[str, Tensor]:
    """Targets by kind, as far as the model may know them."""
    known = to_unit(reload_dataset(run).pixels("test")[:N])
    grey = to_unit(load_dataset(run.config.data, "none", 0).pixels("test")[:N])
    size = known.shape[-2], known.shape[-1]
    uniform = torch.rand(N, 1, *size, generator=generator(0, "fit-rule/noise"))
    return {
        "held-out": known,
        "held-out, grey": grey,
        "two overlaid": torch.maximum(known, known.roll(1, 0)),
        "letters": letters(size),
        "inverted": 1 - known,
        "inverted, grey": 1 - grey,
        "photographs": photographs(size),
        "flat grey, 0.2 to 0.8": torch.linspace(0.2, 0.8, N)[:, None, None, None].expand(N, 1, *size),
        "noise": (uniform < 0.5).float(),
        "noise, 30 % white": (uniform < 0.3).float(),
        "noise, grey": uniform,
    }


def letters(size: tuple[int, int]) -> Tensor:
    """White capitals on black."""
    font, found = ImageFont.load_default(56), []
    for letter in string.ascii_uppercase[:N]:
        image = Image.new("L", (64, 64))
        ImageDraw.Draw(image).text((32, 32), letter, fill=255, font=font, anchor="mm")
        found.append(np.asarray(image))
    return to_unit(prepare_images(torch.from_numpy(np.stack(found))[:, None], size, 1, how="pad", invert=False))


def photographs(size: tuple[int, int]) -> Tensor:
    """Square parts of scikit-learn's two photographs."""
    random, found = np.random.default_rng(0), []
    for i in range(N):
        side = random.integers(60, 400)
        top, left = random.integers(0, 427 - side), random.integers(0, 640 - side)
        part = torch.from_numpy(load_sample_images().images[i % 2][top : top + side, left : left + side].copy())
        found.append(prepare_images(part.permute(2, 0, 1)[None], size, 1, how="crop", invert=False))
    return to_unit(torch.cat(found))


def measured(decoder: lso.Decoder, targets: Tensor) -> str:
    """The cells of a row."""
    space, random = lso.LatentSpace(decoder.latent_dim), generator(0, "fit-rule")
    objective = lso.LatentObjective.reconstruct(decoder, targets, "nll", prior_weight=1.0)
    mean = decoder.code_means(targets)
    assert mean is not None
    z0 = torch.stack([mean.double(), space.sample(len(targets), generator=random)], 1)
    z = lso.minimize(objective, z0, tol=1e-2, max_steps=300).best_z
    prior = space.sample(256, generator=generator(0, "fit-rule/prior"))
    found = measure_reproduction(objective, z, decoder(z), prior, decoder(prior))
    assert found is not None
    assert found.shape is not None
    missed = f"{int(found.missed.sum())} of {len(targets)}"
    cells = [missed, quartiles(found.share), quartiles(found.shape)]
    if found.nats is not None:
        bound, mean_cost = nats_bound(decoder, prior), nats_bound(decoder, prior, deviations=0)
        assert bound is not None and mean_cost is not None
        cells.append(quartiles((found.nats - mean_cost) / (bound - mean_cost) * BOUND_DEVIATIONS))
    inverted = 0 if found.inverted is None else int(found.inverted.sum())
    return " | ".join([*cells, str(inverted)])


def quartiles(value: Tensor) -> str:
    """Least, quartiles and greatest."""
    at = torch.tensor([0, 0.25, 0.5, 0.75, 1], dtype=torch.float64)
    return ", ".join(f"{x:z.2f}" for x in value.double().quantile(at))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", help="folders of trainings")
    options = parser.parse_args()
    print("| run | targets | missed | share: least, quartiles, greatest | of its shape | nats, deviations | inverted |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for path in options.runs:
        run = lso.Run(path)
        decoder = lso.Decoder(lso.load(run))
        for kind, targets in kinds(run).items():
            print(f"| {run.path.name} | {kind} | {measured(decoder, targets)} |", flush=True)
