"""``lso traverse``: decode along one latent dimension after the other, and along random directions."""

from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated

import typer

from lso.cli.commands import latent_common
from lso.cli.commands.latent_common import AVERAGED_DRAWS, DrawOptions, decode_with_progress
from lso.cli.console import Console, display_path, format_duration
from lso.cli.options import (
    AcceptChanges,
    Averaged,
    BeamWidth,
    Device,
    Force,
    HowDrawn,
    Json,
    Quiet,
    RunPath,
    Seed,
    Temperature,
    TopP,
)
from lso.cli.output_paths import name_with_way, open_latent_training, output_path
from lso.reports.tables import pluralize
from lso.vae.errors import UsageError
from lso.vae.utils.files import whole_folder

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from lso.tasks.exploration import Drawing
    from lso.tasks.traversals import Traversal
    from lso.vae.models.vae import VAE

STRIP_POINTS = 100  # images in a strip, as in the paper
STRIP_IMAGE_HEIGHT, STRIP_LINE_WIDTH = 16, 1000  # pixels: least height of an image; width at which a line breaks


def traverse(
    run: RunPath = None,
    dim: Annotated[
        str,
        typer.Option(
            help="Dimensions to traverse: numbers, e.g. 0,5; active (the active units); or all.", metavar="I,J|WORD"
        ),
    ] = "active",
    reach: Annotated[
        float,
        typer.Option("--range", help="Dimensions go from -X to X, directions from the origin to norm X.", metavar="X"),
    ] = 10.0,
    steps: Annotated[int, typer.Option(help="Images (or texts) in each row.", metavar="N", min=2)] = 11,
    points: Annotated[
        int | None,
        typer.Option(
            help="Also draw a strip of N small images for each row; 0: no strips. "
            f"Default: {STRIP_POINTS}; 0 where the decoder is autoregressive and drawing takes long.",
            metavar="N",
            min=0,
            show_default=False,
        ),
    ] = None,
    directions: Annotated[int, typer.Option(help="Number of random directions; 0: none.", metavar="N", min=0)] = 8,
    hold: Annotated[
        int | None,
        typer.Option(
            help="Also traverse directions in which the N most active dimensions stay at 0. Default: a quarter of all "
            "dimensions.",
            metavar="N",
            min=0,
            show_default=False,
        ),
    ] = None,
    how: HowDrawn = None,
    samples: Averaged = AVERAGED_DRAWS,
    temperature: Temperature = None,
    top_p: TopP = None,
    beam_width: BeamWidth = None,
    seed: Seed = 0,
    device: Device = "auto",
    out: Annotated[
        Path | None, typer.Option(help="Folder to write. Default: pictures/traverse/ in the run.", metavar="DIR")
    ] = None,
    force: Force = False,
    accept_changes: AcceptChanges = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Decode along each latent dimension, the others at 0, then along random directions; the most active come first."""
    console = Console(json=json, quiet=quiet)
    training = open_latent_training(run, console, accept_changes=accept_changes)
    if not reach > 0:
        raise UsageError(f"expected --range > 0, got {reach:g}", "The default is 10.")
    options = DrawOptions(
        how=how,
        samples=samples,
        temperature=temperature,
        top_p=top_p,
        beam_width=beam_width,
        seed=seed,
        device=device,
    )
    sequences = training.config.kind == "sequence"
    if sequences and points is not None:
        raise UsageError("--points is for images, and this model is of sequences", "Use --steps.")
    folder = None if sequences else output_path(training, out, name_with_way("traverse", how), force)
    latent = training.config.architecture.latent_dim
    chosen = _parse_dimensions(dim, latent)
    console.loading()
    from lso.reports.search_report import picture_name, pictures
    from lso.tasks import exploration, traversals
    from lso.tasks.training import experiment
    from lso.vae.metrics.active_units import THRESHOLD, mean_variance

    mean = traversals.posterior_means(training)
    order, variance = traversals.most_active(mean), mean_variance(mean)
    active = [i for i in order if variance[i] >= THRESHOLD]
    rows = [i for i in order if i in chosen] if chosen else order if dim == "all" else active
    held = sorted(order[: latent // 4 if hold is None else hold])
    paths: dict[str, Traversal] = {}
    if rows:
        paths["Dimensions"] = traversals.along_dimensions(mean, rows, reach)
    if directions:
        paths["Random directions"] = traversals.along_directions(mean, directions, reach, seed)
    if directions and held:
        rest = traversals.along_directions(mean, directions, reach, seed, held)
        paths[f"Random directions, {len(held)} most active held at 0"] = rest
    if folder is None:
        return latent_common.traverse_texts(console, training, options, paths, steps, out, force)
    model = experiment.load(training, device)
    drawing = options.for_images(model)
    if points is None:
        points = 0 if model.autoregressive else STRIP_POINTS
    begun = monotonic()
    images = _decode_paths(console, model, paths, [steps, *([points] if points else [])], drawing)
    seconds_each = (monotonic() - begun) / max(1, sum(path.activity.numel() * steps for path in paths.values()))
    omitted = _describe_omitted_strips(paths, seconds_each) if not points and model.autoregressive else ""
    figures = _draw_sheets(paths, images, steps)
    facts = {
        "model": str(training.path),
        "images": exploration.describe_drawing(model, drawing),
        "active dimensions": f"{len(active)} of {latent}",
        "dimensions": "one varies, the others are 0; the most active first",
        "held at 0": ", ".join(f"z{i}" for i in held) if directions and held else "none",
        "variance": "of the posterior mean along a row's direction, over validation data",
        "strips": f"{points} codes a row, left to right, line after line" if points else omitted or "none",
        "seed": seed,
        "verdict": training.verdict or "none",
    }
    title = f"Traversals of {training.path.name}"
    subtitle = f"Dimensions from {-reach:g} to {reach:g}, directions from the origin to norm {reach:g}"
    with whole_folder(folder) as half:
        page = folder / pictures(title, figures, half, subtitle=subtitle, extra=facts).name
    files = [page.parent / f"{picture_name(heading)}.png" for heading in figures]
    console.emit(
        {
            "run": training.path,
            **exploration.drawing_record(model, drawing),
            "dimensions": [{"dimension": i, "variance": float(variance[i])} for i in rows],
            "directions": directions,
            "held": held if directions else [],
            "range": reach,
            "steps": steps,
            "points": points,
            "strips": omitted,
            "seed": seed,
            "report": page,
            "pictures": files,
            "verdict": training.verdict,
        }
    )
    console.note(
        f"{pluralize(len(rows), 'dimension')} ({len(active)} of {latent} are active) and "
        f"{pluralize(directions, 'random direction')}"
    )
    console.note(f"images: {exploration.describe_drawing(model, drawing)}")
    if omitted:
        console.note(f"strips of {STRIP_POINTS} images a row are {omitted}")
    if training.verdict:
        console.warn(training.verdict)
    for file in files:
        console.result(display_path(file))
    console.result(display_path(page))


def _describe_omitted_strips(paths: "dict[str, Traversal]", seconds_each: float) -> str:
    """That strips were not drawn, how long they would take, and the flag that draws them."""
    count = STRIP_POINTS * sum(path.activity.numel() for path in paths.values())
    time = format_duration(seconds_each * count)
    return f"left out: {pluralize(count, 'image')} drawn pixel after pixel, about {time}; --points {STRIP_POINTS}"


def _decode_paths(
    console: Console, model: "VAE", paths: "dict[str, Traversal]", counts: list[int], drawing: "Drawing"
) -> "dict[tuple[str, int], Tensor]":
    """Images of all paths at each number of codes a row, by (heading, number); decoded in one go, for one bar."""
    import torch

    codes = {(name, n): path.codes(n) for name, path in paths.items() for n in counts}
    if not codes:
        return {}
    flat = decode_with_progress(console, model, torch.cat([z.flatten(0, 1) for z in codes.values()]), drawing)
    parts = torch.split(flat, [z.shape[0] * z.shape[1] for z in codes.values()])
    return {key: part.reshape(-1, key[1], *part.shape[1:]) for key, part in zip(codes, parts, strict=True)}


def _draw_sheets(
    paths: "dict[str, Traversal]", images: "dict[tuple[str, int], Tensor]", steps: int
) -> "dict[str, np.ndarray]":
    """Pictures by heading: for each path the sheet of ``steps`` images a row, then the strips of small images."""
    from lso.reports.images import labelled_rows

    sheets = {}
    for (name, n), rows in images.items():
        path = paths[name]
        if n == steps:
            sheets[name] = labelled_rows(rows, path.labels, path.heads(n))
        else:
            sheets[f"{name}, {n} points"] = labelled_rows(
                rows, path.labels, at_least=STRIP_IMAGE_HEIGHT, widest=STRIP_LINE_WIDTH
            )
    return sheets


def _parse_dimensions(dim: str, latent: int) -> list[int]:
    """The dimensions that ``--dim`` names; none for the words ``all`` and ``active``."""
    if dim in ("all", "active"):
        return []
    try:
        numbers = [int(part) for part in dim.split(",")]
    except ValueError:
        raise UsageError(
            f"cannot read the dimensions {dim!r}", "Write numbers, e.g. --dim 0,5, or all, or active."
        ) from None
    for number in numbers:
        if not 0 <= number < latent:
            raise UsageError(f"there is no dimension {number}", f"They are counted from 0 to {latent - 1}.")
    return numbers
