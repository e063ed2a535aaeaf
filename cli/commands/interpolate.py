"""``lso interpolate``: decode codes on the line from one image or sentence to another."""

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
    Binarize,
    Channels,
    Device,
    Force,
    HowDrawn,
    Invert,
    Json,
    NamedRun,
    PictureOut,
    Quiet,
    Seed,
    Temperature,
    TopP,
    Trust,
    pixel_changes,
)
from lso.cli.output_paths import name_with_way, open_latent_training, output_file
from lso.cli.run_argument import takes_run
from lso.vae.errors import UsageError

DATUM_HELP = "An image file or a sentence in quotes; or a datum of the run, e.g. test:3 (counted from 0)."


@takes_run
def interpolate(
    run: NamedRun,
    a: Annotated[str, typer.Argument(metavar="A", help=DATUM_HELP, show_default=False)],
    b: Annotated[str, typer.Argument(metavar="B", help=DATUM_HELP, show_default=False)],
    steps: Annotated[int, typer.Option(help="Number of codes, including both ends.", metavar="N")] = 10,
    how: HowDrawn = None,
    samples: Averaged = AVERAGED_DRAWS,
    temperature: Temperature = None,
    top_p: TopP = None,
    beam_width: BeamWidth = None,
    channels: Channels = None,
    invert: Invert = None,
    binarize: Binarize = False,
    seed: Seed = 0,
    device: Device = "auto",
    out: PictureOut = None,
    force: Force = False,
    trust: Trust = False,
    accept_changes: AcceptChanges = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Decode codes on the straight line between the posterior means of two data, shown with the data at the ends."""
    console = Console(json=json, quiet=quiet)
    training = open_latent_training(run, console, trust=trust, accept_changes=accept_changes)
    if steps < 2:
        raise UsageError(f"expected at least 2 steps, got {steps}", "The two ends are counted.")
    options = DrawOptions(
        how=how,
        samples=samples,
        temperature=temperature,
        top_p=top_p,
        beam_width=beam_width,
        seed=seed,
        device=device,
    )
    changes = pixel_changes(None, channels, invert, binarize)
    if training.config.kind == "sequence":
        if changes:
            raise UsageError(
                f"{training.path} is of sequences, which have no pixels",
                "Leave out --channels, --invert and --binarize.",
            )
        return latent_common.interpolate_texts(console, training, options, (a, b), steps, out, force)
    stem = "-".join(Path(text).stem.replace(":", "") for text in (a, b))
    file = output_file(training, out, name_with_way(f"interpolate-{stem}.png", how), force)
    console.loading()
    import torch

    from lso.reports.images import labelled_rows, png
    from lso.tasks import exploration
    from lso.tasks.search.targets import load_datum, parse_split
    from lso.tasks.training import experiment
    from lso.vae.utils.files import replace_file

    model = experiment.load(training, device)
    drawing = options.for_images(model)
    # The flags on pixels change files, not data of the run. If both ends are the run's, pick_one refuses the flags.
    from_run = [parse_split(text) is not None for text in (a, b)]
    ends = [
        load_datum(training, text, pixels={} if internal and not all(from_run) else changes)
        for text, internal in zip((a, b), from_run, strict=True)
    ]
    for end in ends:
        console.notes(end.notes)
    pictures = torch.cat([end.batch for end in ends])
    means = exploration.encode_data(model, pictures).mean
    between = decode_with_progress(console, model, exploration.interpolate_codes(means[0], means[1], steps), drawing)
    images = torch.cat([pictures[:1], between, pictures[1:]])
    heads = [ends[0].names[0], *("" for _ in range(steps)), ends[1].names[0]]
    replace_file(file, png(labelled_rows(images[None], [], heads, at_least=64)))
    distance = float((means[0] - means[1]).norm())
    facts = {"run": training.path, "a": a, "b": b, "steps": steps, "distance": distance}
    console.emit({**facts, **exploration.drawing_record(model, drawing), "picture": file})
    way = exploration.describe_drawing(model, drawing)
    console.note(f"{steps} codes on a line of length {distance:z.2f}: {way}; A and B themselves at the ends")
    console.result(display_path(file))
