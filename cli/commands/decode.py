"""``lso decode``: decode a file of codes into images or text."""

from pathlib import Path
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
    NamedRun,
    Quiet,
    Seed,
    Temperature,
    TopP,
    Trust,
)
from lso.cli.output_paths import name_with_way, open_latent_training, output_path
from lso.cli.run_argument import takes_run
from lso.vae.utils.validation import pluralize


@takes_run
def decode(
    run: NamedRun,
    codes: Annotated[
        Path,
        typer.Argument(
            metavar="CODES", help="File of codes (.npz or .npy), from lso encode or a search.", show_default=False
        ),
    ],
    how: HowDrawn = None,
    samples: Averaged = AVERAGED_DRAWS,
    temperature: Temperature = None,
    top_p: TopP = None,
    beam_width: BeamWidth = None,
    seed: Seed = 0,
    device: Device = "auto",
    out: Annotated[
        Path | None,
        typer.Option(
            help="A .png file for one picture of all images, or a folder for one file each; a .txt file for text. "
            "Default: in the run's pictures/.",
            metavar="PATH",
        ),
    ] = None,
    force: Force = False,
    trust: Trust = False,
    accept_changes: AcceptChanges = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Decode codes into one picture, into a folder of images, or into lines of text."""
    console = Console(json=json, quiet=quiet)
    training = open_latent_training(run, console, trust=trust, accept_changes=accept_changes)
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
        return latent_common.print_texts_of_codes(console, training, options, codes, out, force)
    target = output_path(training, out, name_with_way(f"decoded-{codes.stem}.png", how), force)
    console.loading()
    from lso.reports.images import grid, png
    from lso.results.export import save_image
    from lso.tasks import exploration
    from lso.tasks.training import experiment
    from lso.vae.utils.files import replace_file, whole_folder

    z = exploration.read_codes(codes, training.config.architecture.latent_dim)
    model = experiment.load(training, device)
    drawing = options.for_images(model)
    images = decode_with_progress(console, model, z, drawing)
    if target.suffix.lower() == ".png":
        replace_file(target, png(grid(images, columns=min(20, round(len(images) ** 0.5 + 0.499)))))
    else:
        with whole_folder(target) as folder:
            for index, image in enumerate(images):
                save_image(folder / f"{index:04d}.png", image)
    console.emit(
        {
            "run": training.path,
            "codes": codes,
            "n": len(images),
            **exploration.drawing_record(model, drawing),
            "out": target,
        }
    )
    way = exploration.describe_drawing(model, drawing)
    console.note(f"{pluralize(len(images), 'code')} decoded by {display_path(training.path)}: {way}")
    console.result(display_path(target))
