"""State of a training between two steps, saved to last.pt and restored bit for bit, and the metrics row of an epoch."""

import copy
import json
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from lso.vae import checkpoint, runs
from lso.vae.callbacks import Callback, Event
from lso.vae.config.training import TrainConfig
from lso.vae.data.corpus import Corpus
from lso.vae.data.dataset import Data, Dataset, count_batches
from lso.vae.distributions.gaussian import DiagonalGaussian
from lso.vae.errors import DivergedError, RunError
from lso.vae.launch import is_main_process, process_info
from lso.vae.objectives.kl_schedules import kl_weight
from lso.vae.runs import Run
from lso.vae.training import aggressive
from lso.vae.training.aggressive import Plan
from lso.vae.training.cuda_graphs import Replayed, cuda_graphs
from lso.vae.training.step import State
from lso.vae.utils.files import append, replace_file, utf8, writing
from lso.vae.utils.reading import normalize_line_ends, read_content


@dataclass(frozen=True, slots=True)
class Position:
    """Progress of a training, host numbers only; stored in last.pt.

    Args:
        epoch: epochs completed.
        batch: batches done in the current epoch.
        step: outer steps done.
        learning_rate: current value.
        best: smallest monitored loss, nats; infinite before the first eligible epoch (`lso.vae.training.monitor`).
        bad_epochs: eligible epochs since the best or the last decay.
        decays: number of learning-rate decays so far.
        inner: inner steps of aggressive training in the current epoch.
        seconds: spent in training, over all sessions.
        lines: bytes of metrics.jsonl that belong to this position.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    learning_rate: float = 0.0
    best: float = math.inf
    bad_epochs: int = 0
    decays: int = 0
    inner: int = 0
    seconds: float = 0.0
    lines: int = 0


@dataclass(slots=True)
class Trainer:
    """Everything a session holds; changed in place by the functions below.

    Args:
        config: the training.
        run: its folder.
        data: training split, on the device.
        validation: validation split, on the device.
        state: weights and optimizers.
        step: the step, replayed on a GPU.
        position: where it stands.
        plan: progress of aggressive training.
        best: the kept weights: of the best epoch, or of the latest while none is eligible.
        codes: mean and log-variance of their posteriors over the validation split, in the process that writes.
        totals: sums over the current epoch: loss, reconstruction, KL, penalty, gradient norm, data.
        callback: the caller.
        steps_per_epoch: outer steps of an epoch.
        clock: time of the session's start, less the seconds of earlier ones.
        saved: time of the last checkpoint.
        saving: seconds that it took.
        deadline: time at which the session ends.
        lockstep_size: trainings in lockstep, this one among them, whose checkpoints take their time one after another.
        caution: warning to show before the first step; empty for none.
    """

    config: TrainConfig
    run: Run
    data: Data
    validation: Data
    state: State
    step: Replayed
    position: Position
    plan: Plan
    best: dict[str, Tensor]
    codes: DiagonalGaussian | None
    totals: Tensor
    callback: Callback
    steps_per_epoch: int
    clock: float = field(default_factory=time.monotonic)
    saved: float = field(default_factory=time.monotonic)
    saving: float = 0.0
    deadline: float = math.inf
    lockstep_size: int = 1
    caution: str = ""


def at_start(config: TrainConfig, dataset: Dataset, run: Run, state: State, callback: Callback) -> Trainer:
    """Return a trainer before the first step, with the data on the device of the model."""
    device = next(state.model.parameters()).device
    several = process_info().count > 1  # their all-reduce within a step can be neither recorded nor compiled
    if config.protocol.compiled and not several:
        from lso.vae.training.step import CompiledLosses  # takes a second to import

        state.losses = CompiledLosses()
    return Trainer(
        config=config,
        run=run,
        data=_resident(dataset.train, device),
        validation=_resident(dataset.validation, device),
        state=state,
        # A user's own module may wait for values from the device, which cannot be recorded.
        step=Replayed(state, cuda_graphs if device.type == "cuda" and not several and not state.model.own else None),
        position=Position(learning_rate=config.protocol.learning_rate),
        plan=aggressive.initial_phase(config.method.updates),
        best={},
        codes=None,
        totals=torch.zeros(6, dtype=torch.float64, device=device),
        callback=callback,
        steps_per_epoch=count_batches(dataset.train, config.protocol.batch_size, config.protocol.lengths),
    )


def training_event(trainer: Trainer, text: str = "", *, warning: bool = False, **values: Any) -> Event:
    """What the callback is told: the steps done and planned, a sentence, numbers."""
    planned = trainer.steps_per_epoch * trainer.config.protocol.epochs
    about: dict[str, Any] = {"work": "training", "name": trainer.run.path.name, "source": trainer.run}
    done = trainer.position.step
    return Event(**about, done=done, total=planned, values=values, text=text, warning=warning)


def _resident(x: Data, device: torch.device) -> Data:
    """Move a split to the device: tokens and bytes as they are, floating pixels in single precision, as the model."""
    return x.to(device) if isinstance(x, Corpus) or x.dtype == torch.uint8 else x.to(device, torch.float32)


def elapsed(trainer: Trainer) -> float:
    """Seconds spent in training, over all sessions."""
    return time.monotonic() - trainer.clock


def update_status(run: Run, **values: Any) -> None:
    """Change keys of a training's run.json, in the main process only."""
    if is_main_process():
        runs.update_run(run, **values)


def is_finite(trainer: Trainer) -> bool:
    """Whether all losses and gradient norms of the epoch so far are finite; a host read."""
    return math.isfinite(trainer.totals.sum().item())


def check_finite(trainer: Trainer) -> None:
    """Raise `DivergedError` if a loss or a gradient norm of the epoch is not finite."""
    # The norm is checked too, as a step with a finite loss can make the weights infinite.
    if not is_finite(trainer):
        raise diverged(trainer, f"training loss or gradient was not finite by step {trainer.position.step}")


def diverged(trainer: Trainer, what: str) -> DivergedError:
    """Return the error for a run that has diverged."""
    kept = (trainer.run.path / runs.LAST).is_file()
    return DivergedError(
        f"the {what}; {'the last good checkpoint is kept' if kept else 'no checkpoint was made yet'}",
        "Lower the learning rate (--learning-rate), or check the data and the method's parameters.",
    )


def snapshot(trainer: Trainer) -> Callable[[], None]:
    """Return a function that undoes the inner steps of aggressive training, as sessions resume at whole outer steps.

    It restores weights, running statistics, the encoder's optimizer and the plan, in place.
    """
    model, optimizer, plan = trainer.state.model, trainer.state.optimizers["encoder"], trainer.plan
    kept = copy.deepcopy((model.state_dict(), optimizer.state_dict()))

    def back() -> None:
        model.load_state_dict(kept[0])
        optimizer.load_state_dict(kept[1])
        trainer.step.forget()
        trainer.plan = plan

    return back


def slowness_note(trainer: Trainer) -> str:
    """Return the reasons why steps were slower than the options ask for, to be appended to a sentence."""
    sentences = [trainer.caution, trainer.step.sentence, getattr(trainer.state.losses, "sentence", "")]
    if trainer.config.protocol.compiled and process_info().count > 1:
        sentences.append("steps of several processes are not compiled")
    return "".join(f"; {sentence}" for sentence in sentences if sentence)


def save(trainer: Trainer) -> None:
    """Write the best model, its codes, and then the state to resume from, in the main process only."""
    check_finite(trainer)
    if not is_main_process():
        return
    began = time.monotonic()
    path, position = trainer.run.path, replace(trainer.position, seconds=elapsed(trainer))
    assert trainer.codes is not None
    codes = checkpoint.Codes(trainer.codes.mean, trainer.codes.log_var)
    model = checkpoint.pack_model(trainer.state.model, trainer.best)
    runs.write_files(trainer.run, {runs.MODEL: model, runs.CODES: checkpoint.pack_codes(codes)})
    values = {
        "position": asdict(position),
        "plan": asdict(trainer.plan),
        "model": trainer.state.model.state_dict(),
        "optimizers": {name: optimizer.state_dict() for name, optimizer in trainer.state.optimizers.items()},
        "best": trainer.best,
        "codes": [trainer.codes.mean, trainer.codes.log_var],
        "totals": trainer.totals,
    }
    checkpoint.save_last(values, path / runs.LAST)
    trainer.saved = time.monotonic()
    trainer.saving = trainer.saved - began


def restore(trainer: Trainer) -> None:
    """Go to the last checkpoint, or stay at the start where there is none, and drop rows written after it."""
    path = trainer.run.path / runs.LAST
    if path.is_file():
        _read(trainer, checkpoint.load_last(path, trainer.data.device))
    if is_main_process():
        _truncate(trainer.run, trainer.position.lines)
        runs.remove_half_written(trainer.run)


def position_of(values: Mapping[str, Any], path: Path) -> Position:
    """Read the progress from the contents of last.pt."""
    try:
        position = Position(**values["position"])
        if not all(isinstance(value, int | float) for value in asdict(position).values()):
            raise ValueError("its position is no numbers")
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{path} does not say where training stands ({error})", "It is damaged; train again.") from None
    return position


def _read(trainer: Trainer, values: Mapping[str, Any]) -> None:
    trainer.position = position_of(values, trainer.run.path / runs.LAST)
    try:
        trainer.plan = Plan(**values["plan"])
        trainer.state.model.load_state_dict(values["model"])
        for name, optimizer in trainer.state.optimizers.items():
            optimizer.load_state_dict(values["optimizers"][name])
            _lay_out(optimizer)
            for group in optimizer.param_groups:  # as the checkpoint has it, which may be of another device
                group |= {"capturable": trainer.data.device.type == "cuda"} if "capturable" in group else {}
        trainer.best = dict(values["best"])
        trainer.codes = DiagonalGaussian(*values["codes"])
        trainer.totals = values["totals"]
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, RuntimeError) as error:
        what = f"{trainer.run.path / runs.LAST} does not fit this run ({checkpoint.first_line(error)})"
        raise RunError(what, "It is of another run or version; train again.") from None


def _lay_out(optimizer: Optimizer) -> None:
    """Give moments the strides of their weights, which fused kernels require; older checkpoints have others."""
    for p, moments in optimizer.state.items():
        for name, value in moments.items():
            if value.shape == p.shape and value.stride() != p.stride():
                moments[name] = torch.empty_like(p).copy_(value)


def _truncate(run: Run, size: int) -> None:
    """Drop metrics rows written after the checkpoint; resuming writes the same rows again."""
    run.metrics()  # raises if the file was damaged or edited
    path = run.path / runs.METRICS
    raw = read_content(path) if path.is_file() else b""
    if raw != normalize_line_ends(raw):  # sizes are those of LF line ends
        replace_file(path, normalize_line_ends(raw))
    length = path.stat().st_size if path.is_file() else 0
    if length < size:
        raise RunError(f"{path} has lost rows since the checkpoint was written", "The run is damaged; train a new one.")
    if length > size:
        with path.open("rb") as file:
            file.seek(max(0, size - 1))
            whole = size == 0 or file.read(1) == b"\n"
        if not whole:
            raise RunError(f"{path} has other rows than when the checkpoint was written", "Restore it from a copy.")
        runs.allow_shorter_metrics(run)
        os.truncate(path, size)


def epoch_row(trainer: Trainer, values: Mapping[str, Any], kept: bool, eligible: bool) -> dict[str, Any]:
    """Return the metrics row of an epoch.

    Args:
        trainer: after its last step; its sums over the epoch are read.
        values: validation metrics, and what is watched.
        kept: whether its weights replace those kept so far: it is the best yet, or the latest where none could win.
        eligible: whether it could be the best.
    Returns:
        Names and numbers.
    """
    position, config = trainer.position, trainer.config
    *sums, count = trainer.totals.tolist()
    names = ("train_loss", "train_reconstruction", "train_kl", "train_penalty", "gradient_norm")
    means = {name: value / count if count else None for name, value in zip(names, sums, strict=True)}
    return {
        "epoch": position.epoch,
        "step": position.step,
        **means,
        **values,
        "inner_steps": position.inner / max(1, trainer.steps_per_epoch),
        "kl_weight": kl_weight(config.method.schedule, max(0, position.step - 1), trainer.steps_per_epoch),
        "learning_rate": position.learning_rate,
        "eligible": eligible,
        "best": kept,
        "seconds": round(elapsed(trainer), 3),
    }


def append_row(row: Mapping[str, Any], path: Path) -> int:
    """Append a row to the file; returns its new size in bytes."""
    with writing(path), path.open("ab", buffering=0) as file:
        append(file, path, utf8(json.dumps(row) + "\n"))
    return path.stat().st_size
