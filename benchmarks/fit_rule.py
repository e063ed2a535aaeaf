"""How much of a target a search reproduces: of targets that the model knows, and of others that it cannot know.

    python benchmarks/fit_rule.py runs/digits-methods/vae-anneal-seed0 ...          (seconds a run)

For each run and kind of target: quartiles over 40 targets of `lso.fit.explained`, searched for the most probable code
from 3 prior draws. The thresholds of the report's check "fit" were read off this table.
"""

import sys

import torch

import lso
from lso.fit import explained
from lso.tasks.experiment import dataset_of
from lso.vae.seeds import generator


def quartiles(decoder: lso.Decoder, targets: torch.Tensor) -> str:
    """Of the share reproduced, over targets."""
    space, random = lso.LatentSpace(decoder.latent_dim), generator(0, "fit-rule")
    objective = lso.LatentObjective.reconstruct(decoder, targets, "nll", prior_weight=1.0)
    z0 = space.sample(3 * len(targets), generator=random).view(len(targets), 3, -1)
    prior = decoder(space.sample(256, generator=random))
    found = explained(targets, decoder(lso.minimize(objective, z0).best_z), prior)
    assert found is not None
    return ", ".join(f"{value:.2f}" for value in found.quantile(torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)))


if __name__ == "__main__":
    print("| run | held-out | inverted | noise |")
    print("| --- | --- | --- | --- |")
    for path in sys.argv[1:]:
        run = lso.Run(path)
        decoder, known = lso.Decoder(lso.load(run)), dataset_of(run).test[:40]
        noise = torch.randint(2, known.shape, generator=generator(0, "fit-rule/noise")).float()
        cells = [quartiles(decoder, targets) for targets in (known, 1 - known, noise)]
        print(f"| {run.path.name} | {' | '.join(cells)} |")
