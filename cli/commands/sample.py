"""``lso sample``: what the decoder makes of draws from the prior."""

from typing import Annotated

import typer

from lso.cli.commands import latent_common
from lso.cli.commands.latent_common import AVERAGED, DrawOptions, decoded, drawing
from lso.cli.console import Console, shown
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
from lso.cli.output_paths import file_place, training_run, variant
from lso.vae.utils.validation import pluralize


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
    asked = DrawOptions(
        how=how,
        samples=samples,
        temperature=temperature,
        top_p=top_p,
        beam_width=beam_width,
        seed=seed,
        device=device,
    )
    if found.config.kind == "sequence":
        return latent_common.sample(console, found, asked, n, out, force)
    file = file_place(found, out, variant(f"sample-{n}-seed{seed}.png", how), force)
    console.loading()
    from lso.reports.images import grid, png
    from lso.tasks import exploration
    from lso.tasks.training import experiment
    from lso.vae.utils.files import replace_file

    model = experiment.load(found, device)
    drawn = drawing(model, asked, common=False)
    images = decoded(console, model, exploration.draw_prior(n, model.latent_dim, seed), drawn)
    replace_file(file, png(grid(images, columns=round(n**0.5 + 0.499), at_least=48)))
    console.emit({"run": found.path, "n": n, "seed": seed, **exploration.record(model, drawn), "picture": file})
    what = f"{pluralize(n, 'draw')} from the prior, decoded by {shown(found.path)}"
    console.note(f"{what}, seed {seed}: {exploration.told(model, drawn)}")
    console.result(shown(file))
