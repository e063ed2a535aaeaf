"""Options that several commands share, what the shell completes them with, and how their values are read."""

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from lso.optimizers import BLACK_BOX_OPTIMIZERS, GRADIENT_OPTIMIZERS
from lso.tasks.datasets.tokenizers import TOKENIZERS
from lso.tasks.task import TASKS
from lso.vae.config.architectures import ARCHITECTURES
from lso.vae.config.methods import METHODS
from lso.vae.errors import UsageError
from lso.vae.runs import list_runs

LIMITS, OUTPUT, OPENED, BLACK_BOX = "Where it stops", "Output", "How a folder is opened", "Black box"

# --- shell completion ------------------------------------------------------------------------------------------------


def complete_methods() -> list[tuple[str, str]]:
    """Names and summaries for the shell."""
    return [(name, spec.summary) for name, spec in METHODS.items()]


def complete_tasks() -> list[tuple[str, str]]:
    """Names and summaries for the shell."""
    return [(name, row.summary) for name, row in TASKS.items()]


def complete_tokenizers() -> list[tuple[str, str]]:
    """Names and summaries for the shell."""
    return [(name, row.summary) for name, row in TOKENIZERS.items()]


def complete_architectures() -> list[tuple[str, str]]:
    """Names and summaries for the shell."""
    return [(name, spec.summary) for name, spec in ARCHITECTURES.items()]


def complete_optimizers() -> list[tuple[str, str]]:
    """Names and summaries for the shell."""
    gradient = [(name, spec.summary) for name, spec in GRADIENT_OPTIMIZERS.items()]
    return gradient + [(name, spec.summary) for name, spec in BLACK_BOX_OPTIMIZERS.items()]


def complete_runs() -> list[str]:
    """Run folders for the shell, newest first."""
    return [str(run.path) for run in reversed(list_runs())]


# --- shared options --------------------------------------------------------------------------------------------------

RunPath = Annotated[
    Path | None,
    typer.Argument(
        metavar="RUN",
        help="Run folder. Default: the newest trained one.",
        show_default=False,
        autocompletion=complete_runs,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Only JSON on stdout.", rich_help_panel=OUTPUT)]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notes.", rich_help_panel=OUTPUT)]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="More of them.", rich_help_panel=OUTPUT)]
Trust = Annotated[
    bool,
    typer.Option(
        "--trust", help="Let code run that the folder or a --config names (module:function).", rich_help_panel=OPENED
    ),
]
AcceptChanges = Annotated[
    bool,
    typer.Option(
        "--accept-changes", help="Take files that were edited or damaged as they are now.", rich_help_panel=OPENED
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Overwrite --out if it exists.", rich_help_panel=OUTPUT)]
Device = Annotated[str, typer.Option(help="auto (a GPU if there is one), cpu, cuda or cuda:N.", metavar="NAME")]
Seed = Annotated[int, typer.Option(help="Of everything random.", metavar="N", min=0)]
PictureOut = Annotated[
    Path | None,
    typer.Option(
        "--out",
        help="A .png file, of text .txt. Default: in the run's pictures/.",
        metavar="FILE",
        rich_help_panel=OUTPUT,
    ),
]
HowDrawn = Annotated[
    str | None,
    typer.Option(
        "--how",
        help="mean (the expected image), sample or greedy (the likeliest values). "
        "Default: mean; sample where the decoder is autoregressive. "
        "Of text: greedy (default), sample or beam.",
        metavar="WORD",
        show_default=False,
    ),
]
Averaged = Annotated[
    int, typer.Option("--samples", help="Draws in the mean of an autoregressive decoder.", metavar="S", min=1)
]
Temperature = Annotated[
    float | None,
    typer.Option(help="Of a sample of text: what logits are divided by.", metavar="X", show_default=False),
]
TopP = Annotated[
    float | None,
    typer.Option(help="Of a sample of text: the likeliest words of this probability.", metavar="X", show_default=False),
]
BeamWidth = Annotated[
    int | None, typer.Option(help="Of a beam: texts kept for each code.", metavar="N", show_default=False)
]
BadFiles = Annotated[
    str | None,
    typer.Option(help="Unreadable files: refuse or skip. Default: as in training.", metavar="HOW", show_default=False),
]
Channels = Annotated[
    int | None,
    typer.Option(help="1: convert colour files to grey. Default: as in training.", metavar="N", show_default=False),
]
Invert = Annotated[
    bool | None,
    typer.Option(
        "--invert/--no-invert", help="Turn black and white round. Default: as in training.", show_default=False
    ),
]
Binarize = Annotated[
    bool, typer.Option("--binarize", help="Draw each pixel of files once to black or white. Default: grey stays grey.")
]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="A config.toml, as in every run folder; flags win.", metavar="FILE")
]
IwSamples = Annotated[
    int | None,
    typer.Option(help="Samples of the importance-weighted NLL; 0 leaves it out.", metavar="N", show_default=False),
]
TestLimit = Annotated[int, typer.Option(help="Measure on the first N test data only; 0 is all.", metavar="N")]

MaxFailures = Annotated[
    int,
    typer.Option(
        help="Objects in a row on which a score may fail alike before it has given any value; then it is taken for "
        "broken. Those that it calls invalid (None) do not count.",
        metavar="N",
        min=1,
        rich_help_panel=BLACK_BOX,
    ),
]
Chunk = Annotated[
    int,
    typer.Option(
        help="Objects that a process of --workers scores in one call; the timeout is so many times as long.",
        metavar="N",
        min=1,
        rich_help_panel=BLACK_BOX,
    ),
]


# --- reading values --------------------------------------------------------------------------------------------------


def pixel_changes(
    bad_files: str | None, channels: int | None, invert: bool | None, binarize: bool = False
) -> dict[str, Any]:
    """What was given of the options that change how files become pixels."""
    given = {"bad_files": bad_files, "channels": channels, "invert": invert, "binarize": binarize or None}
    return {key: value for key, value in given.items() if value is not None}


UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


def seconds(text: str) -> float:
    """Read a duration."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(s|min|m|h|)\s*", text)
    if not found:
        raise UsageError(f"cannot read the time {text!r}", "Write seconds, or a unit with it: 90s, 9m or 1.5h.")
    return float(found[1]) * UNITS[found[2]]
