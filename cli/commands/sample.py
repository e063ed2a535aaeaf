"""``lso sample``: decode draws from the prior."""

from typing import Annotated

import typer

from lso.cli.commands import latent_common
from lso.cli.commands.latent_common import AVERAGED_DRAWS, DrawOptions, decode_with_progress
from lso.cli.console import Console, display_path
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
    Trust,
)
from lso.cli.output_paths import name_with_way, open_training, output_file
from lso.cli.run_argument import takes_run
from lso.vae.utils.validation import pluralize


@takes_run
def sample(
    run: RunPath = None,
    n: Annotated[int, typer.Option("--number", "-n", help="Number of draws.", metavar="N", min=1)] = 64,
    how: HowDrawn = None,
    samples: Averaged = AVERAGED_DRAWS,
    temperature: Temperature = None,
    top_p: TopP = None,
    beam_width: BeamWidth = None,
    seed: Seed = 0,
    device: Device = "auto",
    out: PictureOut = None,
    force: Force = False,
    trust: Trust = False,
    accept_changes: AcceptChanges = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Decode draws from the prior into one picture, or into lines of text."""
    console = Console(json=json, quiet=quiet)
    training = open_training(run, console, trust=trust, accept_changes=accept_changes)
    options = DrawOptions(
        how=how,
        samples=samples,
        temperature=temperature,
        top_p=top_p,
        beam_width=beam_width,
        seed=seed,
        device=device,
    )
    if training.config.kind == "sequence":
        return latent_common.sample_texts(console, training, options, n, out, force)
    file = output_file(training, out, name_with_way(f"sample-{n}-seed{seed}.png", how), force)
    console.loading()
    from lso.reports.images import grid, png
    from lso.tasks import exploration
    from lso.tasks.training import experiment
    from lso.vae.utils.files import replace_file

    model = experiment.load(training, device)
    drawing = options.for_images(model, common=False)
    images = decode_with_progress(console, model, exploration.draw_prior(n, model.latent_dim, seed), drawing)
    replace_file(file, png(grid(images, columns=round(n**0.5 + 0.499), at_least=48)))
    console.emit(
        {"run": training.path, "n": n, "seed": seed, **exploration.drawing_record(model, drawing), "picture": file}
    )
    draws = f"{pluralize(n, 'draw')} from the prior, decoded by {display_path(training.path)}"
    console.note(f"{draws}, seed {seed}: {exploration.describe_drawing(model, drawing)}")
    console.result(display_path(file))
