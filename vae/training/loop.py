"""The training loop: epochs of steps, a metrics row after each epoch, and checkpoints that resume bit for bit."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lso.vae import distributed, runs
from lso.vae.callbacks import Callback, as_callback
from lso.vae.checkpoint_selection import is_eligible
from lso.vae.config.training import TrainConfig
from lso.vae.data.dataset import Dataset, count_units, draw_batch, epoch_batches, take_batch
from lso.vae.distributed import use_threads
from lso.vae.distributions.gaussian import DiagonalGaussian
from lso.vae.errors import LsoError, RunError
from lso.vae.launch import is_main_process, process_info
from lso.vae.metrics.evaluation import validate
from lso.vae.models.vae import VAE
from lso.vae.objectives.kl_schedules import kl_weight
from lso.vae.progress import draw_progress
from lso.vae.protocols import Posterior
from lso.vae.runs import Run
from lso.vae.training import aggressive
from lso.vae.training import finish as closing
from lso.vae.training.callbacks import Limits as Limits
from lso.vae.training.callbacks import TrainingCallback as TrainingCallback
from lso.vae.training.monitor import monitored_value
from lso.vae.training.setup import create_trainer, lock_run, restore_trainer
from lso.vae.training.state import (
    Trainer,
    append_row,
    check_finite,
    diverged,
    epoch_row,
    is_finite,
    restore,
    save,
    snapshot,
    training_event,
)
from lso.vae.training.step import BOTH, StepInputs, StepMetrics, StepNoise, draw_noise, fresh_optimizers
from lso.vae.utils.random import generator

CHECKPOINT_SECONDS = 5.0
# Checkpoints slower than this are written proportionally less often, so that they cost a twentieth of the time.
CHEAP_SECONDS = 0.25
READ_EVERY = 200  # steps between checks that losses are finite, each of which makes the host wait for the GPU


def train_model(
    config: TrainConfig,
    dataset: Dataset,
    path: Path,
    *,
    start: VAE | None = None,
    device: torch.device | str = "cpu",
    callback: Callback | None = None,
    progress: bool = False,
    limits: Limits = Limits(),
) -> Run:
    """Train a VAE into a new run folder.

    On a CPU the result is a function of configuration and data alone: same machine, torch and thread count give the
    same bits, however often the run was cut and resumed. The processes of `torchrun` train one model together; the
    first one writes.

    Args:
        config: method, architecture, protocol, data, seed.
        dataset: the data.
        path: run folder to make.
        start: a model of this architecture to go on from, kept in the folder; None draws the weights by the seed. The
            optimizers and the schedule begin anew.
        device: where to train.
        callback: progress and stop requests.
        progress: whether to draw it, with rich: on a terminal, in a notebook or as lines.
        limits: where this session ends.
    Returns:
        The run; its status is ``finished``, or ``stopped`` if it can be resumed.
    Raises:
        UsageError: if the model to go on from has other networks or is for other data, the networks draw random numbers
            of their own, or the device cannot compute in the precision that was asked for.
        RunError: if the folder is taken, or another process is at work there.
        DivergedError: if a loss was not finite; the last good checkpoint is kept.
    """
    with distributed.process_group(device), draw_progress(as_callback(callback), progress) as seen:
        _require_same_cut(limits)
        trainer = create_trainer(config, dataset, path, start=start, device=device, callback=seen)
        with lock_run(trainer.run.path):
            restore(trainer)  # another process may have trained in the new folder before it was locked
            return _alone(trainer, limits)


def resume_training(
    run: Run,
    dataset: Dataset,
    *,
    device: torch.device | str = "cpu",
    callback: Callback | None = None,
    progress: bool = False,
    limits: Limits = Limits(),
) -> Run:
    """Continue a run from its last checkpoint, or from the start if it was cut before the first.

    It goes on with the number of CPU threads that it had, and with any number of processes; under another number of
    them, with the threads that each has now.

    Args:
        run: the run.
        dataset: the same data as before.
        device: where to train.
        callback: progress and stop requests.
        progress: whether to draw it, with rich: on a terminal, in a notebook or as lines.
        limits: where this session ends.
    Returns:
        The run; one that is finished is returned as it is.
    Raises:
        UsageError: if the device cannot compute in the precision of the run.
        RunError: if the data changed, the checkpoint is damaged, or another process is at work there.
        DivergedError: if a loss was not finite.
    """
    if run.kind != "train":
        raise RunError(f"{run.path} is a {run.kind}, not a training", "Give the folder of a training run.")
    if run.info["status"] == "finished":
        return run
    watched = draw_progress(as_callback(callback), progress)
    with distributed.process_group(device), lock_run(run.path), watched as seen:
        _require_same_cut(limits)
        # Read again under the lock: another process may have resumed it, even to its end.
        info = distributed.broadcast_object(run.info)
        if info["status"] == "finished":
            return run
        same = info.get("processes", 1) == process_info().count
        with use_threads(int(info["threads"]) if same else torch.get_num_threads()):
            return _alone(restore_trainer(run, dataset, device=device, callback=seen), limits)


def _require_same_cut(limits: Limits) -> None:
    distributed.require_same(limits.steps, "--max-steps")


# --- a session --------------------------------------------------------------------------------------------------------


def _alone(trainer: Trainer, limits: Limits) -> Run:
    with session(trainer, limits):
        for rows in outer_steps(trainer, limits.steps):
            _advance(trainer, rows)
    return trainer.run


@contextmanager
def session(trainer: Trainer, limits: Limits) -> Iterator[None]:
    """Run a session inside the block, and record in the run folder how it ended, whatever ended it."""
    trainer.clock = time.monotonic() - trainer.position.seconds
    trainer.deadline = math.inf if limits.seconds is None else time.monotonic() + limits.seconds
    if trainer.caution:
        trainer.callback.on_log(training_event(trainer, trainer.caution, warning=True))
    config = trainer.config
    epochs, latent_dim = config.protocol.epochs, config.architecture.latent_dim
    begun = training_event(trainer, epoch=trainer.position.epoch, epochs=epochs, latent_dim=latent_dim)
    trainer.callback.on_start(begun)
    reason = sentence = ""
    try:
        try:
            yield
        except _TrainingInterrupted as cut:
            reason = str(cut)
        save(trainer)
        if reason:
            closing.stop(trainer, reason)
        elif is_main_process():
            closing.finish(trainer)
        sentence = trainer.run.info["sentence"] if is_main_process() else ""
    except (Exception, KeyboardInterrupt) as error:  # e.g. a full disk, Ctrl-C: the last checkpoint stays valid
        if is_main_process():
            runs.record_end(trainer.run, error)
            with suppress(LsoError):
                sentence = trainer.run.info["sentence"]
        raise
    finally:
        trainer.callback.on_end(training_event(trainer, sentence))


class _TrainingInterrupted(Exception):
    """Ends a session before the training has finished; the text is the reason."""


def _check_stop(trainer: Trainer) -> None:
    """Raise `_TrainingInterrupted` if any process has a reason to end the session."""
    late = "reached the time limit" if time.monotonic() >= trainer.deadline else None
    if reason := distributed.any_process_reason(late or trainer.callback.should_stop()):
        raise _TrainingInterrupted(reason)


def outer_steps(trainer: Trainer, max_steps: int | None) -> Iterator[Tensor]:
    """Yield the batch rows of each outer step to the end of training, and finish epochs in between.

    The caller takes the step before it asks for the next rows. Raises `_TrainingInterrupted`, which `session` handles,
    where training stops earlier; ``max_steps`` counts the steps of the whole run.
    """
    if not trainer.best:
        _end_epoch(trainer)  # epoch 0: the untrained model
        save(trainer)
    while not _finished(trainer):
        for rows in _batches(trainer):
            if max_steps is not None and trainer.position.step >= max_steps:
                raise _TrainingInterrupted("reached the step limit")
            _check_stop(trainer)
            yield rows
        trainer.position = replace(trainer.position, epoch=trainer.position.epoch + 1, batch=0)
        _end_epoch(trainer)
        _decay(trainer)


def _finished(trainer: Trainer) -> bool:
    protocol, position = trainer.config.protocol, trainer.position
    return position.epoch >= protocol.epochs or position.decays >= protocol.max_decays


def _batches(trainer: Trainer) -> Iterator[Tensor]:
    """Return the rows of the remaining batches of this epoch."""
    position, protocol = trainer.position, trainer.config.protocol
    stream = generator(trainer.config.seed, "order", position.epoch)
    return iter(epoch_batches(trainer.data, protocol.batch_size, stream, protocol.lengths)[position.batch :])


def _advance(trainer: Trainer, rows: Tensor) -> None:
    """Take one outer step, after the inner steps of aggressive training where these are active."""
    x, noise, knobs = inputs(trainer, rows)
    inner = 0
    if aggressive.window(trainer.config.method.updates, trainer.plan):
        back = snapshot(trainer)
        try:
            inner = _train_encoder(trainer, x, noise, knobs)
        except _TrainingInterrupted:
            back()  # undo the inner steps: sessions end between outer steps only
            raise
    info = trainer.step(x, noise, knobs, ("decoder",) if inner else BOTH)
    after_step(trainer, info, len(rows), inner)


def inputs(trainer: Trainer, rows: Tensor) -> tuple[Tensor, StepNoise, StepInputs]:
    """Return the batch, the noise, and the KL weight and learning rate of the next outer step."""
    x = take_batch(trainer.data, rows)
    weight = kl_weight(trainer.config.method.schedule, trainer.position.step, trainer.steps_per_epoch)
    # Filled on the device: copying a host number would make each step wait for the GPU.
    knobs = StepInputs(*(torch.full((), value, device=x.device) for value in (weight, trainer.position.learning_rate)))
    return x, _noise(trainer, x), knobs


def after_step(trainer: Trainer, info: StepMetrics, count: int, inner: int = 0) -> None:
    """Add the metrics of an outer step to the sums of the epoch, and write a checkpoint if one is due."""
    trainer.totals += _share(info, count)
    position = trainer.position
    done = {"batch": position.batch + 1, "step": position.step + 1, "inner": position.inner + inner}
    trainer.position = replace(position, **done)
    trainer.callback.on_step(training_event(trainer))
    if trainer.position.step % READ_EVERY == 0:
        check_finite(trainer)
    took = trainer.saving * trainer.lockstep_size
    due = CHECKPOINT_SECONDS * max(1.0, took / CHEAP_SECONDS)
    if not is_main_process() or time.monotonic() - trainer.saved < due:
        return
    # Several processes raise at a step common to all (`READ_EVERY`), not at one that depends on the main one's clock.
    if process_info().count == 1 or is_finite(trainer):
        save(trainer)


def _noise(trainer: Trainer, x: Tensor, inner: int = 0) -> StepNoise:
    config = trainer.config
    return draw_noise(
        config.method,
        trainer.state.model,
        tuple(x.shape),
        binarize=trainer.state.model.kind == "image" and config.protocol.binarize == "dynamic",
        seed=config.seed,
        step=trainer.position.step,
        inner=inner,
        device=trainer.data.device,
    )


def _train_encoder(trainer: Trainer, x: Tensor, noise: StepNoise, knobs: StepInputs) -> int:
    """Take the inner steps before an outer one, with one host read per window; returns their number.

    The first uses the outer batch with the same binarization, the others use fresh batches (`draw_batch`).
    """
    updates, done, more = trainer.config.method.updates, 0, True
    while more:
        total, count = torch.zeros(2, dtype=torch.float64, device=x.device)
        for _ in range(aggressive.window(updates, trainer.plan)):
            _check_stop(trainer)
            done += 1
            batch, own = (x, _noise(trainer, x, done)._replace(binarize=noise.binarize))
            if done > 1:
                batch = take_batch(trainer.data, _inner_rows(trainer, done))
                own = _noise(trainer, batch, done)
            total += trainer.step(batch, own, knobs, ("encoder",)).loss.double() * len(batch)
            count += count_units(trainer.data, batch)
        mean = distributed.broadcast_object((total / count).item())
        trainer.plan, more = aggressive.after_window(updates, trainer.plan, mean)
    return done


def _inner_rows(trainer: Trainer, inner: int) -> Tensor:
    protocol = trainer.config.protocol
    stream = generator(trainer.config.seed, "inner", trainer.position.step, inner)
    return draw_batch(trainer.data, protocol.batch_size, stream, protocol.lengths)


def _share(info: StepMetrics, count: int) -> Tensor:
    means = torch.stack([*info, torch.ones_like(info.loss)])
    return means.double() * count


# --- the end of an epoch ----------------------------------------------------------------------------------------------


def _end_epoch(trainer: Trainer) -> None:
    """Validate, append the metrics row, and keep the weights if they are the best or no epoch is eligible yet."""
    check_finite(trainer)
    position, config = trainer.position, trainer.config
    values, q = _validated(trainer)
    # Where no metric is monitored, the level decreases with each epoch, so that the latest weights are kept.
    level = -float(position.epoch) if values["watched"] is None else values["watched"]
    if not math.isfinite(values["neg_elbo"] + level):
        raise diverged(trainer, f"validation loss was not finite after epoch {position.epoch}")
    eligible = is_eligible(config, position.epoch, position.step, trainer.steps_per_epoch)
    kept = level < position.best if eligible else True
    if kept:
        trainer.best = {name: value.detach().clone() for name, value in trainer.state.model.state_dict().items()}
        trainer.codes = (
            None if q is None else DiagonalGaussian(q.mean, q.log_var)
        )  # the two tensors that the codes file stores
    row = epoch_row(trainer, values, kept, eligible)
    lines = append_row(row, trainer.run.path / runs.METRICS) if is_main_process() else position.lines
    trainer.totals.zero_()
    if position.epoch > 0:
        mi = values["mi"] if config.protocol.mi_lengths == "equal" else values.get("mi_mixed", values["mi"])
        trainer.plan = aggressive.after_epoch(config.method.updates, trainer.plan, mi, position.epoch)
    trainer.position = replace(
        position,
        inner=0,
        best=min(position.best, level) if eligible else position.best,
        bad_epochs=0 if kept else position.bad_epochs + 1,
        lines=lines,
    )
    event = training_event(trainer, **row)
    trainer.callback.on_epoch(
        replace(
            event,
            done=position.epoch,
            total=config.protocol.epochs,
            model=trainer.state.model if is_main_process() else None,
            posterior=q,
        )
    )


def _validated(trainer: Trainer) -> tuple[dict[str, Any], Posterior | None]:
    """Return the metrics with the monitored value, computed by the main process only, and there the posteriors too."""
    values: dict[str, Any] = {}
    q = None
    if is_main_process():
        model, x = trainer.state.model, trainer.validation
        row, q = validate(model, x, seed=trainer.config.seed)
        values = {**row, "watched": monitored_value(trainer.config, model, x, q, row)}
        model.train()
    return distributed.broadcast_object(values), q


def _decay(trainer: Trainer) -> None:
    """After `patience` epochs without a new best, lower the learning rate, reload the best weights, reset moments."""
    protocol, position = trainer.config.protocol, trainer.position
    waited = position.bad_epochs >= protocol.patience or (protocol.steady and position.decays > 0)
    if protocol.patience == 0 or position.epoch <= protocol.decay_from or not waited:
        return
    if not protocol.steady:
        trainer.state.model.load_state_dict(trainer.best)
        trainer.state.optimizers = fresh_optimizers(trainer.state.model, protocol)
    rate = position.learning_rate * protocol.decay
    trainer.position = replace(position, learning_rate=rate, bad_epochs=0, decays=position.decays + 1)
