"""``lso traverse``: decode along one latent dimension after the other, and along random directions."""

from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Any

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
    Trust,
)
from lso.cli.output_paths import name_with_way, open_latent_training, output_path
from lso.cli.run_argument import takes_run
from lso.reports.tables import pluralize
from lso.vae.errors import UsageError
from lso.vae.utils.files import whole_folder

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from lso.tasks.exploration import Drawing
    from lso.tasks.traversals import Traversal
    from lso.vae.models.vae import VAE
    from lso.vae.runs import Run

STRIP_POINTS = 100  # images in a strip, as in the paper
STRIP_IMAGE_HEIGHT, STRIP_LINE_WIDTH = 16, 1000  # pixels: least height of an image; width at which a line breaks


@takes_run
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
    trust: Trust = False,
    accept_changes: AcceptChanges = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Decode along each latent dimension, the others at 0, then along random directions; the most active come first."""
    console = Console(json=json, quiet=quiet)
    training = open_latent_training(run, console, trust=trust, accept_changes=accept_changes)
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
    if training.config.kind == "sequence" and points is not None:
        raise UsageError("--points is for images, and this model is of sequences", "Use --steps.")
    images = training.config.kind == "image"
    folder = output_path(training, out, name_with_way("traverse", how), force) if images else None
    chosen = _parse_dimensions(dim, training.config.architecture.latent_dim)
    console.loading()
    from lso.tasks.training import experiment

    plan = _plan_paths(training, chosen, dim == "all", reach, directions, hold, seed)
    if folder is None:
        return latent_common.traverse_texts(console, training, options, plan.paths, steps, out, force)
    model = experiment.load(training, device)
    drawn = _draw(console, model, plan, options.for_images(model), steps, points)
    page, files = _write(training, plan, drawn, folder, reach, seed)
    console.emit(
        {
            "run": training.path,
            **drawn.record,
            "dimensions": [{"dimension": i, "variance": float(plan.variance[i])} for i in plan.rows],
            "directions": directions,
            "held": plan.held,
            "range": reach,
            "steps": steps,
            "points": drawn.points,
            "strips": drawn.omitted,
            "seed": seed,
            "report": page,
            "pictures": files,
            "verdict": training.verdict,
        }
    )
    console.note(
        f"{pluralize(len(plan.rows), 'dimension')} ({plan.active} of {plan.latent} are active) and "
        f"{pluralize(directions, 'random direction')}"
    )
    console.note(f"images: {drawn.how}")
    if drawn.omitted:
        console.note(f"strips of {STRIP_POINTS} images a row are {drawn.omitted}")
    if training.verdict:
        console.warn(training.verdict)
    for file in files:
        console.result(display_path(file))
    console.result(display_path(page))


@dataclass(frozen=True, slots=True, kw_only=True)
class PathPlan:
    """The lines in the latent space that are decoded, by heading, and the dimensions that they run along."""

    paths: "dict[str, Traversal]"
    rows: list[int]  # dimensions, the most active first
    held: list[int]  # dimensions held at 0 in the second set of random directions, if there is one
    active: int  # number of active dimensions
    latent: int
    variance: "Tensor"  # of the posterior mean in each dimension


def _plan_paths(
    training: "Run", chosen: list[int], every: bool, reach: float, directions: int, hold: int | None, seed: int
) -> PathPlan:
    """Plan lines along the chosen dimensions (of none: all, or the active ones) and along random directions."""
    from lso.tasks import traversals
    from lso.vae.metrics.active_units import THRESHOLD, mean_variance

    mean = traversals.posterior_means(training)
    order, variance = traversals.most_active(mean), mean_variance(mean)
    active = [i for i in order if variance[i] >= THRESHOLD]
    rows = [i for i in order if i in chosen] if chosen else order if every else active
    held = sorted(order[: len(order) // 4 if hold is None else hold]) if directions else []
    paths: dict[str, Traversal] = {}
    if rows:
        paths["Dimensions"] = traversals.along_dimensions(mean, rows, reach)
    if directions:
        paths["Random directions"] = traversals.along_directions(mean, directions, reach, seed)
    if held:
        rest = traversals.along_directions(mean, directions, reach, seed, held)
        paths[f"Random directions, {len(held)} most active held at 0"] = rest
    return PathPlan(paths=paths, rows=rows, held=held, active=len(active), latent=len(order), variance=variance)


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnPaths:
    """The pictures of all lines, and how they were drawn."""

    figures: "dict[str, np.ndarray]"
    how: str  # in words
    record: dict[str, Any]  # the same for --json
    points: int  # images in a strip; 0 without strips
    omitted: str  # why there are no strips; empty where there are, or none were wanted


def _draw(
    console: Console, model: "VAE", plan: PathPlan, drawing: "Drawing", steps: int, points: int | None
) -> DrawnPaths:
    from lso.tasks import exploration

    if points is None:
        points = 0 if model.autoregressive else STRIP_POINTS
    begun = monotonic()
    images = _decode_paths(console, model, plan.paths, [steps, *([points] if points else [])], drawing)
    count = sum(path.activity.numel() * steps for path in plan.paths.values())
    omitted = ""
    if not points and model.autoregressive:
        omitted = _describe_omitted_strips(plan.paths, (monotonic() - begun) / max(1, count))
    return DrawnPaths(
        figures=_draw_sheets(plan.paths, images, steps),
        how=exploration.describe_drawing(model, drawing),
        record=exploration.drawing_record(model, drawing),
        points=points,
        omitted=omitted,
    )


def _write(
    training: "Run", plan: PathPlan, drawn: DrawnPaths, folder: Path, reach: float, seed: int
) -> tuple[Path, list[Path]]:
    """Write the page and the pictures; return their paths."""
    from lso.reports.search_report import picture_name, pictures

    strips = f"{drawn.points} codes a row, left to right, line after line" if drawn.points else drawn.omitted or "none"
    facts = {
        "model": str(training.path),
        "images": drawn.how,
        "active dimensions": f"{plan.active} of {plan.latent}",
        "dimensions": "one varies, the others are 0; the most active first",
        "held at 0": ", ".join(f"z{i}" for i in plan.held) or "none",
        "variance": "of the posterior mean along a row's direction, over validation data",
        "strips": strips,
        "seed": seed,
        "verdict": training.verdict or "none",
    }
    title = f"Traversals of {training.path.name}"
    subtitle = f"Dimensions from {-reach:g} to {reach:g}, directions from the origin to norm {reach:g}"
    with whole_folder(folder) as half:
        page = folder / pictures(title, drawn.figures, half, subtitle=subtitle, extra=facts).name
    return page, [page.parent / f"{picture_name(heading)}.png" for heading in drawn.figures]


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
