"""``lso encode``: encode data into posterior means and variances."""

from pathlib import Path
from shlex import join
from typing import Annotated

import typer

from lso.cli.console import Console, display_path
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
from lso.cli.output_paths import file_stem, open_latent_training, output_file
from lso.cli.run_argument import takes_run
from lso.reports.tables import pluralize


@takes_run
def encode(
    run: RunPath = None,
    data: Annotated[
        str,
        typer.Option(
            help="Image, folder of images, .npy, .npz or text file, or a sentence; or data of the run: test, "
            "validation:100 (the first 100), ...",
            metavar="PATH",
        ),
    ] = "validation",
    bad_files: BadFiles = None,
    channels: Channels = None,
    invert: Invert = None,
    binarize: Binarize = False,
    device: Device = "auto",
    out: Annotated[
        Path | None, typer.Option(help="The .npz file to write. Default: in the run's pictures/.", metavar="FILE")
    ] = None,
    force: Force = False,
    trust: Trust = False,
    accept_changes: AcceptChanges = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Encode data into an .npz file: posterior mean and log_var, names, and labels where known.

    Images are scaled, cropped and inverted as in training.
    """
    console = Console(json=json, quiet=quiet)
    training = open_latent_training(run, console, trust=trust, accept_changes=accept_changes)
    stem = file_stem(data.replace(":", "-"))
    file = output_file(training, out, f"codes-{stem}.npz", force)
    console.loading()
    from lso.cli.progress import show_reading
    from lso.tasks import exploration
    from lso.tasks.search.targets import load_data
    from lso.tasks.training import experiment

    model = experiment.load(training, device)
    changes = pixel_changes(bad_files, channels, invert, binarize)
    with show_reading(console) as reading:
        targets = load_data(training, data, pixels=changes, progress=reading)
    console.notes(targets.notes)
    q = exploration.encode_data(model, targets.x)
    exploration.write_codes(file, q, targets.names, targets.labels)
    console.emit({"run": training.path, "data": data, "n": len(q), "latent_dim": model.latent_dim, "codes": file})
    command = join(["lso", "decode", display_path(training.path), display_path(file)])
    console.note(
        f"{pluralize(len(q), 'code')} of {pluralize(model.latent_dim, 'dimension')}; to decode them: {command}"
    )
    console.result(display_path(file))
