"""``lso encode``: data to codes."""

from pathlib import Path
from shlex import join
from typing import Annotated

import typer

from lso.cli.console import Console, shown
from lso.cli.options import (
    AcceptChanges,
    BadFiles,
    Binarize,
    Channels,
    Device,
    Force,
    Invert,
    Json,
    Quiet,
    RunPath,
    Trust,
    pixel_changes,
)
from lso.cli.output_paths import file_place, file_stem, latent_run
from lso.reports.tables import pluralize


def encode(
    run: RunPath = None,
    data: Annotated[
        str,
        typer.Option(
            help="Folder, image, .npy, .npz or text file, a sentence; or test, validation:100, ...", metavar="PATH"
        ),
    ] = "validation",
    bad_files: BadFiles = None,
    channels: Channels = None,
    invert: Invert = None,
    binarize: Binarize = False,
    device: Device = "auto",
    out: Annotated[
        Path | None, typer.Option(help="An .npz file. Default: in the run's pictures/.", metavar="FILE")
    ] = None,
    force: Force = False,
    trust: Trust = False,
    accept_changes: AcceptChanges = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Encode data, sized and turned as in training, into an .npz file: mean, log_var, names, and labels where known."""
    console = Console(json=json, quiet=quiet)
    found = latent_run(run, console, trust=trust, accept_changes=accept_changes)
    named = file_stem(data.replace(":", "-"))
    file = file_place(found, out, f"codes-{named}.npz", force)
    console.loading()
    from lso.cli.progress.bars import Reading
    from lso.tasks import exploration
    from lso.tasks.search.targets import pick
    from lso.tasks.training import experiment

    model = experiment.load(found, device)
    changes = pixel_changes(bad_files, channels, invert, binarize)
    reading = Reading(console)
    try:
        targets = pick(found, data, pixels=changes, progress=reading)
    finally:
        reading.close()
    console.notes(targets.notes)
    q = exploration.encode(model, targets.x)
    exploration.write_codes(file, q, targets.names, targets.labels)
    console.emit({"run": found.path, "data": data, "n": len(q), "latent_dim": model.latent_dim, "codes": file})
    command = join(["lso", "decode", shown(found.path), shown(file)])
    console.note(f"{pluralize(len(q), 'code')} of {pluralize(model.latent_dim, 'dimension')}; decode them: {command}")
    console.result(shown(file))
