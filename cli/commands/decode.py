"""``lso decode``: codes to images or text."""

from pathlib import Path
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
    Quiet,
    Seed,
    Temperature,
    TopP,
    complete_runs,
)
from lso.cli.output_paths import latent_run, place, variant
from lso.vae.utils.validation import pluralize


def decode(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="Run folder.", show_default=False, autocompletion=complete_runs)
    ],
    codes: Annotated[
        Path,
        typer.Argument(metavar="CODES", help="An .npz or .npy file, of lso encode or of a search.", show_default=False),
    ],
    how: HowDrawn = None,
    samples: Averaged = AVERAGED,
    temperature: Temperature = None,
    top_p: TopP = None,
    beam_width: BeamWidth = None,
    seed: Seed = 0,
    device: Device = "auto",
    out: Annotated[
        Path | None,
        typer.Option(
            help="A .png file for one picture, or a folder for one file each; of text a .txt file.", metavar="PATH"
        ),
    ] = None,
    force: Force = False,
    accept_changes: AcceptChanges = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Decode codes into one picture, into a folder of images, or into lines of text."""
    console = Console(json=json, quiet=quiet)
    found = latent_run(run, console, accept_changes=accept_changes)
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
        return latent_common.decode(console, found, asked, codes, out, force)
    target = place(found, out, variant(f"decoded-{codes.stem}.png", how), force)
    console.loading()
    from lso.reports.images import grid, png
    from lso.results.export import save_image
    from lso.tasks import exploration
    from lso.tasks.training import experiment
    from lso.vae.utils.files import replace_file, whole_folder

    z = exploration.read_codes(codes, found.config.architecture.latent_dim)
    model = experiment.load(found, device)
    drawn = drawing(model, asked)
    images = decoded(console, model, z, drawn)
    if target.suffix.lower() == ".png":
        replace_file(target, png(grid(images, columns=min(20, round(len(images) ** 0.5 + 0.499)))))
    else:
        with whole_folder(target) as folder:
            for index, image in enumerate(images):
                save_image(folder / f"{index:04d}.png", image)
    console.emit(
        {"run": found.path, "codes": codes, "n": len(images), **exploration.record(model, drawn), "out": target}
    )
    console.note(f"{pluralize(len(images), 'code')} decoded by {shown(found.path)}: {exploration.told(model, drawn)}")
    console.result(shown(target))
