"""``lso sample``: what the decoder makes of draws from the prior."""

from typing import Annotated

import typer

from lso.cli.console import Console, shown
from lso.cli.options import Averaged, Device, Force, HowDrawn, Json, PictureOut, Quiet, RunPath, Seed
from lso.cli.places import picture_place, training_run, variant


def sample(
    run: RunPath = None,
    n: Annotated[int, typer.Option("--number", "-n", help="How many.", metavar="N", min=1)] = 64,
    how: HowDrawn = None,
    samples: Averaged = 16,
    seed: Seed = 0,
    device: Device = "auto",
    out: PictureOut = None,
    force: Force = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Decode draws from the prior into one picture; an autoregressive decoder draws each image pixel after pixel."""
    console = Console(json=json, quiet=quiet)
    found = training_run(run)
    file = picture_place(found, out, variant(f"sample-{n}-seed{seed}.png", how), force)
    console.loading()
    from lso.cli.looking import decoded, drawing
    from lso.pictures import grid, png
    from lso.tasks import experiment, explore
    from lso.vae.files import replace_file

    model = experiment.load(found, device)
    drawn = drawing(model, how, samples, seed, common=False)
    images = decoded(console, model, explore.draw_prior(n, model.latent_dim, seed), drawn)
    replace_file(file, png(grid(images, columns=round(n**0.5 + 0.499), at_least=48)))
    console.emit({"run": found.path, "n": n, "seed": seed, **explore.record(model, drawn), "picture": file})
    console.note(f"{n} draws from the prior, decoded by {shown(found.path)}, seed {seed}: {explore.told(model, drawn)}")
    console.result(shown(file))
