"""Extends a training to more epochs than it was started with."""

from dataclasses import replace

from lso.vae import runs
from lso.vae.config.training import to_toml
from lso.vae.errors import UsageError
from lso.vae.launch import process_info
from lso.vae.runs import CONFIG, Run
from lso.vae.training.setup import lock_run
from lso.vae.utils.files import utf8
from lso.vae.utils.validation import pluralize
from lso.vae.zoo import refuse_changes


def lengthen(run: Run, epochs: int) -> Run:
    """Raise the number of epochs of a training, finished or not; the next session continues it.

    Data order, KL ramp and learning-rate decay do not depend on the number of epochs still to come. So the extended
    training has the same results as one started with that number, on a CPU to the bit.

    Args:
        run: a training.
        epochs: new maximum number of epochs.
    Returns:
        The run, its status ``stopped`` where it was finished; unchanged where it already has so many epochs.
    Raises:
        UsageError: for fewer epochs than it was started with, in one of several processes, or if the run is an
            installed model.
        RunError: if the run is no training, or another process is working in its folder.
    """
    run.require("train")
    refuse_changes(run.path)
    before = run.config.protocol.epochs
    if epochs < before:
        raise UsageError(
            f"{run.path} is for {pluralize(before, 'epoch')}, which cannot become {epochs}",
            "Give more, or train a new run.",
        )
    if epochs == before:
        return run
    if process_info().count > 1:
        raise UsageError(
            "several processes were started to extend a training, expected one",
            f"Extend it in one process (lso train --resume {run.path} --epochs {epochs} --max-steps 0), then resume "
            "it in all of them without --epochs.",
        )
    with lock_run(run.path):
        # In this order, a process killed in between leaves a run that still ends after its former number of epochs.
        if run.info["status"] == "finished":
            runs.update_run(
                run, status="stopped", sentence=f"to be extended from {pluralize(before, 'epoch')} to {epochs}"
            )
        config = replace(run.config, protocol=replace(run.config.protocol, epochs=epochs))
        runs.write_files(run, {CONFIG: utf8(to_toml(config))})
    return Run(run.path, trust=run.trust)
