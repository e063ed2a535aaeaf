"""``lso interpolate``: the straight way from the code of one image or sentence to that of another."""

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
    Binarize,
    Channels,
    Device,
    Force,
    HowDrawn,
    Invert,
    Json,
    PictureOut,
    Quiet,
    Seed,
    Temperature,
    TopP,
    Trust,
    complete_runs,
    pixel_changes,
)
from lso.cli.output_paths import file_place, latent_run, variant
from lso.vae.errors import UsageError

DATUM = "An image file, a sentence in quotes, or e.g. test:3, counted from 0."


def interpolate(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="Run folder.", show_default=False, autocompletion=complete_runs)
    ],
    a: Annotated[str, typer.Argument(metavar="A", help=DATUM, show_default=False)],
    b: Annotated[str, typer.Argument(metavar="B", help=DATUM, show_default=False)],
    steps: Annotated[int, typer.Option(help="Codes on the way, both ends among them.", metavar="N")] = 10,
    how: HowDrawn = None,
    samples: Averaged = AVERAGED,
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
    """Decode the straight line between the posterior means of two data; these themselves stand at the ends."""
    console = Console(json=json, quiet=quiet)
    found = latent_run(run, console, trust=trust, accept_changes=accept_changes)
    if steps < 2:
        raise UsageError(f"expected at least 2 steps, got {steps}", "The two ends are among them.")
    asked = DrawOptions(
        how=how,
        samples=samples,
        temperature=temperature,
        top_p=top_p,
        beam_width=beam_width,
        seed=seed,
        device=device,
    )
    changes = pixel_changes(None, channels, invert, binarize)
    if found.config.kind == "sequence":
        if changes:
            raise UsageError(f"{found.path} is of sequences, which have no pixels", "Leave such flags out.")
        return latent_common.interpolate(console, found, asked, (a, b), steps, out, force)
    stem = "-".join(Path(text).stem.replace(":", "") for text in (a, b))
    file = file_place(found, out, variant(f"interpolate-{stem}.png", how), force)
    console.loading()
    import torch

    from lso.reports.images import png, sheet
    from lso.tasks import exploration
    from lso.tasks.search.targets import part_of, pick_one
    from lso.tasks.training import experiment
    from lso.vae.utils.files import replace_file

    model = experiment.load(found, device)
    drawn = drawing(model, asked)
    own = [part_of(text) is not None for text in (a, b)]  # of the run's data, where nothing is to be changed
    ends = [
        pick_one(found, text, pixels={} if part and not all(own) else changes)
        for text, part in zip((a, b), own, strict=True)
    ]
    for end in ends:
        console.notes(end.notes)
    pictures = torch.cat([end.batch for end in ends])
    means = exploration.encode(model, pictures).mean
    between = decoded(console, model, exploration.path(means[0], means[1], steps), drawn)
    images = torch.cat([pictures[:1], between, pictures[1:]])
    heads = [ends[0].names[0], *("" for _ in range(steps)), ends[1].names[0]]
    replace_file(file, png(sheet(images[None], [], heads, at_least=64)))
    distance = float((means[0] - means[1]).norm())
    facts = {"run": found.path, "a": a, "b": b, "steps": steps, "distance": distance}
    console.emit({**facts, **exploration.record(model, drawn), "picture": file})
    kind = exploration.told(model, drawn)
    console.note(f"{steps} steps between codes {distance:z.2f} apart, {kind}; the images themselves at the ends")
    console.result(shown(file))
