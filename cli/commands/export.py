"""``lso export``: write a trained model to files that other programs run."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from lso.cli.console import Console, display_path
from lso.cli.options import OUTPUT, AcceptChanges, Force, Json, Quiet, RunPath, Trust
from lso.cli.output_paths import open_training, refuse_taken
from lso.cli.run_argument import takes_run
from lso.vae.utils.validation import convert

FormatName = Literal["onnx", "pt2"]  # copy of `lso.tasks.export.ExportFormat`, whose module imports torch
FORMATS = {"onnx": "for onnxruntime and other runtimes", "pt2": "for PyTorch alone: torch.export.load"}


@takes_run
def export(
    run: RunPath = None,
    to: Annotated[
        str,
        typer.Option(
            "--to",
            help="onnx (for onnxruntime and other runtimes) or pt2 (for PyTorch alone: torch.export.load).",
            metavar="FORMAT",
            autocompletion=lambda: list(FORMATS.items()),
        ),
    ] = "onnx",
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder to write. Default: export/onnx or export/pt2 in the run folder.",
            metavar="DIR",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    force: Force = False,
    trust: Trust = False,
    accept_changes: AcceptChanges = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write encoder and decoder to files that run without lso, and check that they compute the same.

    Autoregressive decoders become (z, x) -> the logits of each pixel or
    token. model.json beside them says what goes in and comes out.
    """
    console = Console(json=json, quiet=quiet)
    chosen = convert(to, FormatName, "--to")
    training = open_training(run, console, trust=trust, accept_changes=accept_changes)
    refuse_taken(out, force)
    console.loading()
    from lso.tasks.export import CHECKED_CODES, TOLERANCE, describe_part
    from lso.tasks.export import export as export_model

    done = export_model(training, chosen, out=out)
    console.emit(
        {
            "run": training.path,
            "folder": done.folder,
            "files": done.files,
            **{key: done.card[key] for key in ("encoder", "decoder", "checked")},
        }
    )
    parts = ("encoder", "decoder")
    console.table(
        ("part", "file", "size", "from", "to"),
        [describe_part(done, part) for part in parts if "file" in done.card[part]],
    )
    for part in parts:
        if reason := done.card[part].get("missing") or done.card[part].get("note"):
            console.note(f"{part}: {reason}")
    worst = max(done.differences, key=lambda one: one.relative)
    found = (
        f"the largest difference is {worst.absolute:.2g} ({worst.part}, {worst.output}), {worst.relative:.2g} of its "
        f"largest value; accepted: {TOLERANCE:g}"
        if worst.absolute
        else "no number differs"
    )
    console.result(f"equal to the model on {CHECKED_CODES} codes: {found}")
    console.result(display_path(done.folder))
