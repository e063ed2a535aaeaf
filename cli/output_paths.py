"""How commands open run folders, and where they write: the run's ``pictures/``, or a path that the user names."""

import re
from pathlib import Path
from typing import Literal

from lso.cli.console import Console, display_path
from lso.vae.config.architectures import Kind
from lso.vae.errors import UsageError
from lso.vae.runs import Run, newest_run, output_folder
from lso.vae.utils.files import make_folder, remove_leftovers
from lso.vae.utils.trust import Trust
from lso.vae.utils.validation import convert

# Copies of `lso.vae.models.vae.How` and `lso.decoders.generation.Way`, whose modules import torch.
How = Literal["mean", "sample", "greedy"]
Way = Literal["greedy", "sample", "beam"]


def open_run(path: Path, console: Console, *, trust: Trust = False, accept_changes: bool = False) -> Run:
    """Open a run folder, with a note if it is too old for damage to be noticed."""
    run = Run(path, trust=trust, accept_changes=accept_changes)
    if run.seals is None:
        console.note(
            f"{display_path(path)} was written before run folders held hashes of their files: damage may go unnoticed."
        )
    return run


def open_training(path: Path | None, console: Console, *, trust: Trust = False, accept_changes: bool = False) -> Run:
    """Open a training run; None is the newest one."""
    run = open_run(path if path is not None else newest_run().path, console, trust=trust, accept_changes=accept_changes)
    run.require("train")
    return run


def open_latent_training(
    path: Path | None, console: Console, *, trust: Trust = False, accept_changes: bool = False
) -> Run:
    """Open a training run whose model has latents, for commands that need codes."""
    run = open_training(path, console, trust=trust, accept_changes=accept_changes)
    if not run.config.architecture.latent_dim:
        raise UsageError(
            f"the model of {run.path} is a baseline without latents, so it has no codes",
            "`lso sample` draws from it. A model with latents: lso train --method ne-vae-se",
        )
    return run


def name_with_way(name: str, how: str | None, kind: Kind = "image") -> str:
    """The default name of a file or folder, with the way of decoding in it if ``--how`` was given.

    Args:
        name: the default name.
        how: the value of ``--how``; None if it was not given.
        kind: of the data; images and sequences have different ways of decoding.
    Returns:
        e.g. ``traverse-greedy``.
    Raises:
        UsageError: if there is no such way.
    """
    if how is not None:
        convert(how, How if kind == "image" else Way, "--how")
    path = Path(name)
    return f"{path.stem}-{how}{path.suffix}" if how else name


def file_stem(text: str) -> str:
    """Part of a file name made from what a user named: a file, a split such as ``test:3``, or a sentence."""
    return re.sub(r"[^\w.+-]+", "-", Path(text).stem.replace(":", ""))[:40].strip("-.") or "data"


def refuse_taken(out: Path | None, force: bool) -> None:
    """Refuse an ``--out`` that is a file, or a folder that is not empty, unless ``--force`` was given."""
    if out is not None and not force and (out.is_file() or (out.is_dir() and any(out.iterdir()))):
        raise UsageError(f"{out} exists", "Choose another --out, or overwrite it with --force.")


def output_path(run: Run, out: Path | None, name: str, force: bool) -> Path:
    """The file or folder to write: ``--out``, or by default ``name`` in the run's ``pictures/``.

    Files of the user's are replaced with ``--force`` only; those in ``pictures/`` were made by us and are replaced.
    Those of an installed model ``zoo:NAME`` are in ``runs/zoo-NAME/pictures/``.
    """
    path = out if out is not None else output_folder(run) / "pictures" / name
    refuse_taken(out, force)
    make_folder(path.parent)
    remove_leftovers(path)
    return path


def output_file(run: Run, out: Path | None, name: str, force: bool) -> Path:
    """`output_path` for a single file, whose suffix must be that of the default name."""
    suffix = Path(name).suffix
    if out is not None and out.suffix.lower() != suffix:
        kinds = {".png": "a PNG", ".txt": "a text", ".npz": "an .npz"}
        raise UsageError(f"{out} is not the name of {kinds[suffix]} file", f"End --out in {suffix}.")
    return output_path(run, out, name, force)
