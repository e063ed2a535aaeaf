"""Weighted retraining from the command line: what is announced, carried out and gone on with."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lso.cli.black_box import carry_out, trained_on
from lso.cli.console import Console, shown
from lso.cli.places import training_run
from lso.vae import runs


def search(
    console: Console,
    model: Path | None,
    sought: Mapping[str, Any],
    settings: Mapping[str, Any],
    where: Mapping[str, Any],
    deadline: float | None,
    opening: Mapping[str, Any],
) -> None:
    """Search, retrain and search again, and print what was found.

    Args:
        console: where to print.
        model: a training run; None is the newest, of the task if one is named.
        sought: of `lso.tasks.sought.Sought`.
        settings: of `lso.tasks.retraining_record.RetrainingConfig`.
        where: workers, timeout, chunk, max_failures, out and device.
        deadline: seconds that this session may take.
        opening: trust and accept_changes, see `lso.cli.places.opened`.
    """
    run = training_run(model or trained_on(sought["task"]), console, **opening)
    runs.choose_folder("", where["out"])
    console.loading()
    from lso.tasks.retraining_search import search_retraining
    from lso.tasks.sought import Sought

    what = Sought(**sought)
    console.note(
        f"Searching {run.config.architecture.latent_dim} latents of {shown(run.path)} ({run.config.method.name}) "
        f"for {what}: {settings['optimizer']}, budget {settings['budget']}, batch {settings['batch']}, "
        f"retraining every {settings['every']} (k {settings['k']:g}), seed {settings['seed']}"
    )
    if run.verdict:
        console.warn(run.verdict)
    carry_out(console, lambda watch: search_retraining(run, what, settings, watch=watch, **where), deadline, True)


def resume(
    console: Console, path: Path, changes: Mapping[str, Any], deadline: float | None, options: Mapping[str, Any]
) -> None:
    """Go on with weighted retraining and print what was found.

    Args:
        console: where to print.
        path: its run folder.
        changes: see `lso.tasks.retraining_search.resume_retraining`.
        deadline: seconds that this session may take.
        options: device and trust.
    """
    from lso.tasks.retraining_search import resume_retraining

    carry_out(
        console,
        lambda watch: resume_retraining(path, changes=changes, watch=watch, **options),
        deadline,
        True,
    )
