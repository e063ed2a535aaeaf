"""``lso sample``: what the decoder makes of draws from the prior."""

from typing import Annotated

import typer

from lso.cli import texts
from lso.cli.console import Console, shown
from lso.cli.looking import AVERAGED, Asked, decoded, drawing
from lso.cli.options import (
    AcceptChanges,
    Averaged,
    BeamWidth,
    Device,
    Force,
    HowDrawn,
    Json,
    PictureOut,
    Quiet,
    RunPath,
    Seed,
    Temperature,
    TopP,
)
from lso.cli.places import file_place, training_run, variant
from lso.vae.values import counted


def sample(
    run: RunPath = None,
    n: Annotated[int, typer.Option("--number", "-n", help="How many.", metavar="N", min=1)] = 64,
    how: HowDrawn = None,
    samples: Averaged = AVERAGED,
    temperature: Temperature = None,
    top_p: TopP = None,
    beam_width: BeamWidth = None,
    seed: Seed = 0,
    device: Device = "auto",
    out: PictureOut = None,
    force: Force = False,
    accept_changes: AcceptChanges = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Decode draws from the prior into one picture, or lines of text; autoregressive decoders draw step by step."""
    console = Console(json=json, quiet=quiet)
    found = training_run(run, console, accept_changes=accept_changes)
    asked = Asked(
        how=how,
        samples=samples,
        temperature=temperature,
        top_p=top_p,
        beam_width=beam_width,
        seed=seed,
        device=device,
    )
    if found.config.kind == "sequence":
        return texts.sample(console, found, asked, n, out, force)
    file = file_place(found, out, variant(f"sample-{n}-seed{seed}.png", how), force)
    console.loading()
    from lso.pictures import grid, png
    from lso.tasks import experiment, explore
    from lso.vae.files import replace_file

    model = experiment.load(found, device)
    drawn = drawing(model, asked, common=False)
    images = decoded(console, model, explore.draw_prior(n, model.latent_dim, seed), drawn)
    replace_file(file, png(grid(images, columns=round(n**0.5 + 0.499), at_least=48)))
    console.emit({"run": found.path, "n": n, "seed": seed, **explore.record(model, drawn), "picture": file})
    what = f"{counted(n, 'draw')} from the prior, decoded by {shown(found.path)}"
    console.note(f"{what}, seed {seed}: {explore.told(model, drawn)}")
    console.result(shown(file))
