"""A score of your own: with values, without, and with failures."""

import torch

import lso

# --8<-- [start:model]
run = lso.train("ne-vae-se", task="digits", epochs=15, latent_dim=8, out="runs/digits")
decoder = lso.Decoder(lso.load(run))
space = lso.LatentSpace(decoder.latent_dim, codes=run.codes())
# --8<-- [end:model]


# --8<-- [start:plain]
def symmetry(images):
    """Minus the mean difference between an image and its mirror image: 0 where it is symmetric."""
    return [-float(abs(image - image[..., ::-1]).mean()) for image in images]


objective = lso.LatentObjective(decoder, symmetry, space=space, on="objects", maximize=True)
result = lso.optimize(objective, "turbo", budget=40, batch=4, out="runs/symmetry")
print(result)
print(f"best value {result.best_value:.4f} at code {result.best_z.round(decimals=2).tolist()}")
print("report:", result.report("runs/symmetry", codes=run.codes(), verdict=run.verdict))
# --8<-- [end:plain]


# --8<-- [start:flaky]
def assay(images):
    """An instrument that fails on about half of the images, and that cannot measure those with too little ink."""
    values = []
    for image in images:
        if image.sum() < 18:
            values.append(None)  # invalid: this object has no value, whenever it is measured
        elif int(1000 * image.sum()) % 2:
            raise ConnectionError("the instrument does not answer")  # failed: perhaps the next attempt works
        else:
            values.append(symmetry([image])[0])
    return values


objective = lso.LatentObjective(decoder, assay, space=space, on="objects", maximize=True)
result = lso.optimize(objective, "turbo", budget=20, batch=4, out="runs/assay")
print(result)
print({name: result.counters[name] for name in ("calls", "unique", "invalid", "failed")})
failure = next(record for record in result.records if record.outcome == "failed")
print(f"call {failure.call}: {failure.reason}")
print("report:", result.report("runs/assay", codes=run.codes(), verdict=run.verdict))
# --8<-- [end:flaky]


# --8<-- [start:broken]
def broken(images):
    """A bug in the score, not in the objects."""
    return [float(image.size / image.no_such_field) for image in images]


try:
    lso.optimize(lso.LatentObjective(decoder, broken, on="objects"), "random", budget=20)
except lso.LsoError as error:
    print(error)
# --8<-- [end:broken]


# --8<-- [start:gradient]
def ink(images):
    """The sum of the pixels of each image, ``(n, 1, 8, 8)`` to ``(n,)``: a score that torch can differentiate."""
    return images.sum(dim=(1, 2, 3))


objective = lso.LatentObjective(decoder, ink, space=space, maximize=True, prior_weight=1.0)
starts = space.sample(8, generator=torch.Generator().manual_seed(0))
result = lso.minimize(objective, starts, optimizer="adam")
print(result)
print("report:", result.report("runs/ink.html", codes=run.codes(), verdict=run.verdict))
# --8<-- [end:gradient]
