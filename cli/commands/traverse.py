"""``lso traverse``: one dimension at a time, and random directions, far out of the prior."""

from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated

import typer

from lso.cli.commands import latent_common
from lso.cli.commands.latent_common import AVERAGED, DrawOptions, drawing
from lso.cli.console import Console, shown, span
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
from lso.cli.output_paths import latent_run, place, variant
from lso.reports.tables import pluralize
from lso.vae.errors import UsageError
from lso.vae.utils.files import whole_folder

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from lso.tasks.exploration import Drawing
    from lso.tasks.traversals import Traversal
    from lso.vae.models.vae import VAE

POINTS = 100  # of a strip, as in the paper
SMALL, LINE = 16, 1000  # least height of an image in a strip, and pixels before it goes on in the next line


def traverse(
    run: RunPath = None,
    dim: Annotated[
        str, typer.Option(help="Dimensions, e.g. 0,5; active for the active ones; or all.", metavar="I,J|WORD")
    ] = "active",
    reach: Annotated[
        float, typer.Option("--range", help="From -X to X; directions out to norm X.", metavar="X")
    ] = 10.0,
    steps: Annotated[int, typer.Option(help="Images in a row of the sheets; texts in a row.", metavar="N", min=2)] = 11,
    points: Annotated[
        int | None,
        typer.Option(
            help=f"Small images in a row of the strips; 0 for none. Default: {POINTS}; none where the decoder is "
            "autoregressive, which takes long.",
            metavar="N",
            min=0,
            show_default=False,
        ),
    ] = None,
    directions: Annotated[int, typer.Option(help="Random directions; 0 for none.", metavar="N", min=0)] = 8,
    hold: Annotated[
        int | None,
        typer.Option(
            help="Also directions with the N most active dimensions held at 0. Default: a quarter of all.",
            metavar="N",
            min=0,
            show_default=False,
        ),
    ] = None,
    how: HowDrawn = None,
    samples: Averaged = AVERAGED,
    temperature: Temperature = None,
    top_p: TopP = None,
    beam_width: BeamWidth = None,
    seed: Seed = 0,
    device: Device = "auto",
    out: Annotated[
        Path | None, typer.Option(help="Folder. Default: the run's pictures/traverse/.", metavar="DIR")
    ] = None,
    force: Force = False,
    accept_changes: AcceptChanges = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Decode one dimension at a time from -10 to 10, the others 0, then random directions; most active rows first."""
    console = Console(json=json, quiet=quiet)
    found = latent_run(run, console, accept_changes=accept_changes)
    if not reach > 0:
        raise UsageError(f"expected --range > 0, got {reach:g}", "10 is the default.")
    asked = DrawOptions(
        how=how,
        samples=samples,
        temperature=temperature,
        top_p=top_p,
        beam_width=beam_width,
        seed=seed,
        device=device,
    )
    sequences = found.config.kind == "sequence"
    if sequences and points is not None:
        raise UsageError("--points is for images, and this model is of sequences", "Take --steps.")
    folder = None if sequences else place(found, out, variant("traverse", how), force)
    latent = found.config.architecture.latent_dim
    wanted = _wanted(dim, latent)
    console.loading()
    from lso.reports.search_report import picture_name, pictures
    from lso.tasks import exploration, traversals
    from lso.tasks.training import experiment
    from lso.vae.metrics.active_units import THRESHOLD, mean_variance

    mean = traversals.posterior_means(found)
    order, variance = traversals.most_active(mean), mean_variance(mean)
    active = [i for i in order if variance[i] >= THRESHOLD]
    rows = [i for i in order if i in wanted] if wanted else order if dim == "all" else active
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
        return latent_common.traverse(console, found, asked, paths, steps, out, force)
    model = experiment.load(found, device)
    drawn = drawing(model, asked)
    if points is None:
        points = 0 if model.autoregressive else POINTS
    begun = monotonic()
    images = _decoded(console, model, paths, [steps, *([points] if points else [])], drawn)
    each = (monotonic() - begun) / max(1, sum(path.activity.numel() * steps for path in paths.values()))
    left = _left_out(paths, each) if not points and model.autoregressive else ""
    figures = _sheets(paths, images, steps)
    facts = {
        "model": str(found.path),
        "images": exploration.told(model, drawn),
        "active dimensions": f"{len(active)} of {latent}",
        "dimensions": "one moves, the others are 0; most active first",
        "held at 0": ", ".join(f"z{i}" for i in held) if directions and held else "none",
        "variance": "of the posterior mean along a row's direction, validation",
        "strips": f"{points} codes a row, left to right and on in the next line" if points else left or "none",
        "seed": seed,
        "verdict": found.verdict or "none",
    }
    title = f"Traversals of {found.path.name}"
    subtitle = f"Dimensions from {-reach:g} to {reach:g}, directions from the origin to norm {reach:g}"
    with whole_folder(folder) as half:
        page = folder / pictures(title, figures, half, subtitle=subtitle, extra=facts).name
    files = [page.parent / f"{picture_name(heading)}.png" for heading in figures]
    console.emit(
        {
            "run": found.path,
            **exploration.record(model, drawn),
            "dimensions": [{"dimension": i, "variance": float(variance[i])} for i in rows],
            "directions": directions,
            "held": held if directions else [],
            "range": reach,
            "steps": steps,
            "points": points,
            "strips": left,
            "seed": seed,
            "report": page,
            "pictures": files,
            "verdict": found.verdict,
        }
    )
    console.note(
        f"{pluralize(len(rows), 'dimension')} ({len(active)} of {latent} are active) and "
        f"{pluralize(directions, 'random direction')}"
    )
    console.note(f"shown: {exploration.told(model, drawn)}")
    if left:
        console.note(f"strips of {POINTS} images a row are {left}")
    if found.verdict:
        console.warn(found.verdict)
    for file in files:
        console.result(shown(file))
    console.result(shown(page))


def _left_out(paths: "dict[str, Traversal]", each: float) -> str:
    """What is said where strips are not drawn: how many images they have, how long they take, and the flag."""
    count = POINTS * sum(path.activity.numel() for path in paths.values())
    return (
        f"left out: {pluralize(count, 'image')} drawn pixel after pixel, about {span(each * count)}; --points {POINTS}"
    )


def _decoded(
    console: Console, model: "VAE", paths: "dict[str, Traversal]", counts: list[int], drawn: "Drawing"
) -> "dict[tuple[str, int], Tensor]":
    """Images of all paths, at each number of codes a row; decoded in one go, so that there is one bar."""
    import torch

    from lso.cli.commands.latent_common import decoded

    codes = {(name, n): path.codes(n) for name, path in paths.items() for n in counts}
    if not codes:
        return {}
    flat = decoded(console, model, torch.cat([z.flatten(0, 1) for z in codes.values()]), drawn)
    parts = torch.split(flat, [z.shape[0] * z.shape[1] for z in codes.values()])
    return {key: part.reshape(-1, key[1], *part.shape[1:]) for key, part in zip(codes, parts, strict=True)}


def _sheets(
    paths: "dict[str, Traversal]", images: "dict[tuple[str, int], Tensor]", steps: int
) -> "dict[str, np.ndarray]":
    """Heading -> picture: of each path the readable sheet, then the strips."""
    from lso.reports.images import sheet

    found = {}
    for (name, n), rows in images.items():
        path = paths[name]
        if n == steps:
            found[name] = sheet(rows, path.labels, path.heads(n))
        else:
            found[f"{name}, {n} points"] = sheet(rows, path.labels, at_least=SMALL, widest=LINE)
    return found


def _wanted(dim: str, latent: int) -> list[int]:
    """The dimensions that were named; empty for the words."""
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
            raise UsageError(f"there is no dimension {number}", f"They count from 0: 0 to {latent - 1}.")
    return numbers
