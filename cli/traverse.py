"""``lso traverse``: one dimension at a time, and random directions, far out of the prior."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lso.cli.console import Console, shown
from lso.cli.options import Device, Force, Json, Quiet, RunPath, Seed
from lso.cli.places import place, training_run
from lso.vae.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor


def traverse(
    run: RunPath = None,
    dim: Annotated[
        str, typer.Option(help="Dimensions, e.g. 0,5; active for the active ones; or all.", metavar="I,J|WORD")
    ] = "active",
    reach: Annotated[
        float, typer.Option("--range", help="From -X to X; directions out to norm X.", metavar="X")
    ] = 10.0,
    steps: Annotated[int, typer.Option(help="Images in a row.", metavar="N", min=2)] = 11,
    directions: Annotated[int, typer.Option(help="Random directions; 0 for none.", metavar="N", min=0)] = 8,
    seed: Seed = 0,
    device: Device = "auto",
    out: Annotated[
        Path | None, typer.Option(help="Folder. Default: the run's pictures/traverse/.", metavar="DIR")
    ] = None,
    force: Force = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Decode one dimension at a time from -10 to 10, the others 0, most active first, and random directions."""
    console = Console(json=json, quiet=quiet)
    found = training_run(run)
    if not reach > 0:
        raise UsageError(f"expected --range > 0, got {reach:g}", "10 is the default.")
    folder = place(found, out, "traverse", force)
    latent = found.config.architecture.latent_dim
    wanted = _wanted(dim, latent)
    console.loading()
    from lso.report import pictures
    from lso.tasks import experiment, explore

    activity = explore.dimension_activity(found)
    rows = _rows(activity, dim, wanted)
    model = experiment.load(found, device)
    figures = {}
    if rows:
        z = explore.along_dimensions(latent, rows, reach, steps)
        labels = [f"z{i}  variance {activity[i]:.2g}" for i in rows]
        figures["Dimensions"] = explore.sheet(explore.decode(model, z), labels, _heads(-reach, reach, steps))
    if directions:
        z = explore.along_directions(latent, directions, reach, steps, seed)
        labels = [f"direction {i + 1}" for i in range(directions)]
        figures["Random directions"] = explore.sheet(explore.decode(model, z), labels, _heads(0, reach, steps))
    active = int((activity >= 0.01).sum())
    facts = {
        "model": str(found.path),
        "active dimensions": f"{active} of {latent}",
        "seed": seed,
        "verdict": found.verdict or "none",
    }
    facts |= {
        "dimensions": "one moves, the others are 0; most active first",
        "variance": "of the posterior mean, validation",
    }
    page = pictures(f"Traversals of {found.path.name}", figures, folder, subtitle="Expected images", extra=facts)
    files = [page.parent / f"{heading.lower().replace(' ', '-')}.png" for heading in figures]
    console.emit(
        {
            "run": found.path,
            "dimensions": [{"dimension": i, "variance": float(activity[i])} for i in rows],
            "directions": directions,
            "range": reach,
            "steps": steps,
            "report": page,
            "pictures": files,
            "verdict": found.verdict,
        }
    )
    console.note(f"{len(rows)} dimensions ({active} of {latent} are active) and {directions} random directions")
    if found.verdict:
        console.warn(found.verdict)
    for file in files:
        console.result(shown(file))
    console.result(shown(page))


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


def _rows(activity: "Tensor", dim: str, wanted: list[int]) -> list[int]:
    """Dimensions by falling activity."""
    order = [int(i) for i in activity.argsort(descending=True, stable=True)]
    if wanted:
        return [i for i in order if i in wanted]
    return order if dim == "all" else [i for i in order if activity[i] >= 0.01]


def _heads(low: float, high: float, steps: int) -> list[str]:
    """The value above the first, middle and last column."""
    values = [low + (high - low) * i / (steps - 1) for i in range(steps)]
    told = {0, steps - 1, *([steps // 2] if steps % 2 else [])}
    return [f"{value:g}" if i in told else "" for i, value in enumerate(values)]
