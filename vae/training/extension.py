"""A training goes on for more epochs than it was begun for."""

from dataclasses import replace

from lso.vae import runs
from lso.vae.config.training import to_toml
from lso.vae.errors import UsageError
from lso.vae.launch import process_info
from lso.vae.runs import CONFIG, Run
from lso.vae.training.setup import lock_run
from lso.vae.utils.files import utf8
from lso.vae.utils.validation import pluralize


def lengthen(run: Run, epochs: int) -> Run:
    """Let a training end later, at its end or before it; the next session goes on.

    Nothing of a training depends on how many epochs are to come: neither its order of data, its KL ramp nor the decay
    of its learning rate. So it ends with the numbers, on a CPU with the bits, of one begun for so many.

    Args:
        run: a training.
        epochs: at most, from now on.
    Returns:
        The run, its status ``stopped`` where it was finished; the same where it was begun for so many.
    Raises:
        UsageError: for fewer epochs than it was begun for, or in one of several processes.
        RunError: if it is no training, or another process is at work there.
    """
    run.require("train")
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
            "several processes are to go on with a training that one alone may change",
            f"Let one begin: lso train --resume {run.path} --epochs {epochs} --max-steps 0; then all without --epochs.",
        )
    with lock_run(run.path):
        # In this order a process that is killed in between leaves a run that ends where it did.
        if run.info["status"] == "finished":
            runs.update_run(run, status="stopped", sentence=f"to go on from {pluralize(before, 'epoch')} to {epochs}")
        config = replace(run.config, protocol=replace(run.config.protocol, epochs=epochs))
        runs.write_files(run, {CONFIG: utf8(to_toml(config))})
    return Run(run.path, trust=run.trust)
