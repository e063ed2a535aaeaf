"""Where commands write: the run's ``pictures/``, or a place of the user's, which is not silently overwritten."""

import re
from pathlib import Path
from typing import Literal

from lso.cli.console import Console, shown
from lso.vae.config.architectures import Kind
from lso.vae.errors import UsageError
from lso.vae.runs import Run, newest_run
from lso.vae.utils.files import clean, make_folder
from lso.vae.utils.trust import Trust
from lso.vae.utils.validation import convert

How = Literal["mean", "sample", "greedy"]  # `lso.vae.models.vae.How`, without torch
Way = Literal["greedy", "sample", "beam"]  # `lso.decoders.generation.Way`


def training_run(path: Path | None, console: Console, *, trust: Trust = False, accept_changes: bool = False) -> Run:
    """The training run that a command works on."""
    run = opened(path if path is not None else newest_run().path, console, trust=trust, accept_changes=accept_changes)
    run.require("train")
    return run


def opened(path: Path, console: Console, *, trust: Trust = False, accept_changes: bool = False) -> Run:
    """A run folder as a command opens it."""
    run = Run(path, trust=trust, accept_changes=accept_changes)
    if run.seals is None:
        console.note(f"{shown(path)} was written before runs kept hashes of their files: damage to it may not be seen.")
    return run


def latent_run(path: Path | None, console: Console, *, trust: Trust = False, accept_changes: bool = False) -> Run:
    """`training_run` for what needs latents."""
    run = training_run(path, console, trust=trust, accept_changes=accept_changes)
    if not run.config.architecture.latent_dim:
        raise UsageError(
            f"{run.path} is a baseline without latents, so it has no codes",
            "`lso sample` shows what it draws; a VAE comes from e.g. lso train --method ne-vae-se",
        )
    return run


def variant(name: str, how: str | None, kind: Kind = "image") -> str:
    """A file or folder name that tells an asked-for way of drawing from the default.

    Args:
        name: of the default.
        how: as given, or None.
        kind: of the data; images and sequences are drawn in different ways.
    Returns:
        e.g. ``traverse-greedy``.
    Raises:
        UsageError: if there is no such way.
    """
    if how is not None:
        convert(how, How if kind == "image" else Way, "--how")
    found = Path(name)
    return f"{found.stem}-{how}{found.suffix}" if how else name


def file_stem(what: str) -> str:
    """The part of a file's name that tells what a user named: a file, a part of the data, or a sentence."""
    return re.sub(r"[^\w.+-]+", "-", Path(what).stem.replace(":", ""))[:40].strip("-.") or "data"


def place(run: Run, out: Path | None, name: str, force: bool) -> Path:
    """The file or folder to write."""
    found = out if out is not None else run.path / "pictures" / name
    if out is not None and not force and (out.is_file() or (out.is_dir() and any(out.iterdir()))):
        raise UsageError(f"{out} exists", "Choose another --out, or overwrite it with --force.")
    make_folder(found.parent)
    clean(found)
    return found


def file_place(run: Run, out: Path | None, name: str, force: bool) -> Path:
    """`place` for a file with the suffix of its default: a picture, or lines of text."""
    suffix = Path(name).suffix
    if out is not None and out.suffix.lower() != suffix:
        kinds = {".png": "a PNG", ".txt": "a text", ".npz": "an .npz"}
        raise UsageError(f"{out} is not the name of {kinds[suffix]} file", f"End --out in {suffix}.")
    return place(run, out, name, force)
