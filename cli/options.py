"""Options that several commands share: their declarations, their shell completion, and readers of their values."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from lso.vae.errors import UsageError, unknown_name
from lso.vae.utils.lazy import resolve

# Headings in --help.
LIMITS, OUTPUT, OPENING = "Limits and resuming", "Output", "Opening run folders"

# --- shell completion: tables are imported when it is asked for, not for every help ----------------------------------


def completion(*tables: str) -> Callable[[], list[tuple[str, str]]]:
    """A function that gives the names and summaries of the rows of tables, each named ``"module:TABLE"``."""

    def complete() -> list[tuple[str, str]]:
        return [(name, row.summary) for table in tables for name, row in resolve(table).items()]

    return complete


def complete_runs() -> list[str]:
    """Run folders, newest first."""
    from lso.vae.runs import list_runs

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
NamedRun = Annotated[
    Path,
    typer.Argument(metavar="RUN", help="Folder of a training run.", show_default=False, autocompletion=complete_runs),
]
Json = Annotated[
    bool, typer.Option("--json", help="Print the result as JSON, and nothing else, on stdout.", rich_help_panel=OUTPUT)
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print no progress and no notes.", rich_help_panel=OUTPUT)]
Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose", "-v", help="Print more progress: every epoch, with more numbers.", rich_help_panel=OUTPUT
    ),
]
Trust = Annotated[
    bool,
    typer.Option(
        "--trust",
        help="Import and run code that the run folder or the --config file names as module:function.",
        rich_help_panel=OPENING,
    ),
]
AcceptChanges = Annotated[
    bool,
    typer.Option(
        "--accept-changes",
        help="Use files that were changed or damaged since they were written, as they are now.",
        rich_help_panel=OPENING,
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Overwrite --out if it exists.", rich_help_panel=OUTPUT)]
Device = Annotated[
    str,
    typer.Option(
        help="Where to compute: auto (a GPU if there is one), cpu, cuda or cuda:N. (lso.load in Python: cpu.)",
        metavar="NAME",
    ),
]
Seed = Annotated[int, typer.Option(help="Random seed.", metavar="N", min=0)]
PictureOut = Annotated[
    Path | None,
    typer.Option(
        "--out",
        help="File to write: .png for images, .txt for text. Default: one in the run's pictures/.",
        metavar="FILE",
        rich_help_panel=OUTPUT,
    ),
]
HowDrawn = Annotated[
    str | None,
    typer.Option(
        "--how",
        help="Images: mean (the expected image), sample (a draw) or greedy (the likeliest value of each pixel); "
        "default: mean, or sample where the decoder is autoregressive. Text: greedy, sample or beam (beam search); "
        "default: greedy (as lso.Generation in Python), and sample for draws from the prior.",
        metavar="WORD",
        show_default=False,
    ),
]
Averaged = Annotated[
    int,
    typer.Option(
        "--samples", help="Draws that --how mean averages where the decoder is autoregressive.", metavar="S", min=1
    ),
]
Temperature = Annotated[
    float | None,
    typer.Option(help="Temperature of sampled text (divides the logits). Default: 1.", metavar="X", show_default=False),
]
TopP = Annotated[
    float | None,
    typer.Option(
        help="Sample text from the likeliest tokens of total probability X only. Default: 1, all.",
        metavar="X",
        show_default=False,
    ),
]
BeamWidth = Annotated[
    int | None, typer.Option(help="Width of the beam search for text. Default: 5.", metavar="N", show_default=False)
]
BadFiles = Annotated[
    str | None,
    typer.Option(
        help="What to do about unreadable files: refuse or skip. Default: as in training.",
        metavar="HOW",
        show_default=False,
    ),
]
Channels = Annotated[
    int | None,
    typer.Option(
        help="Channels of the model, to which files are converted: 1 turns colour to grey. Default: colour is refused.",
        metavar="N",
        show_default=False,
    ),
]
Invert = Annotated[
    bool | None,
    typer.Option(
        "--invert/--no-invert", help="Swap black and white in files. Default: as in training.", show_default=False
    ),
]
Binarize = Annotated[
    bool, typer.Option("--binarize", help="Draw each pixel of a file once as black or white. Default: grey stays grey.")
]
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help="Take the configuration from a config.toml, as in every run folder; flags override it.",
        metavar="FILE",
    ),
]
IwSamples = Annotated[
    int | None,
    typer.Option(
        help="Importance samples for the NLL; 0 leaves it out. Default: 500, or those of the published table.",
        metavar="N",
        show_default=False,
    ),
]
TestLimit = Annotated[int, typer.Option(help="Evaluate on the first N test data only; 0: on all.", metavar="N")]

TimeLimit = Annotated[
    str | None,
    typer.Option(
        help="Stop after this time, e.g. 90s, 9m or 1.5h, and save; the work can be continued.",
        metavar="TIME",
        rich_help_panel=LIMITS,
    ),
]


# Values of --log: what curves are written for -> "module:class" of the callback.
LOGGERS = {"tensorboard": "lso.vae.tensorboard:TensorBoard"}
Log = Annotated[
    str | None,
    typer.Option(
        "--log",
        help="Write the curves of each training for a viewer, too: tensorboard (event files in the run folder).",
        metavar="NAME",
        show_default=False,
        autocompletion=lambda: [(name, "") for name in LOGGERS],
        rich_help_panel=OUTPUT,
    ),
]


# --- reading values --------------------------------------------------------------------------------------------------


def loggers(name: str | None) -> list[Any]:
    """The callbacks that ``--log`` asks for, none without it; one whose package is missing is refused."""
    if name is None:
        return []
    if name not in LOGGERS:
        raise unknown_name("logger", name, LOGGERS)
    return [resolve(LOGGERS[name])()]


def pixel_changes(
    bad_files: str | None, channels: int | None, invert: bool | None, binarize: bool = False
) -> dict[str, Any]:
    """Those of the options on how files become pixels that were given; the others stay as in training."""
    options = {"bad_files": bad_files, "channels": channels, "invert": invert, "binarize": binarize or None}
    return {key: value for key, value in options.items() if value is not None}


SECONDS_PER_UNIT = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


def seconds(text: str) -> float:
    """A duration in seconds from text such as ``90``, ``90s``, ``9m`` or ``1.5h``."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(s|min|m|h|)\s*", text)
    if not match:
        raise UsageError(
            f"cannot read the duration {text!r}", "Write seconds, or a number with a unit: 90s, 9m or 1.5h."
        )
    return float(match[1]) * SECONDS_PER_UNIT[match[2]]
