"""The callback that logs trainings and searches to event files of TensorBoard."""

import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from lso.vae.callbacks import Callback, Event
from lso.vae.distributions.gaussian import DiagonalGaussian, StandardNormal
from lso.vae.errors import LsoError, UsageError
from lso.vae.launch import is_main_process
from lso.vae.metrics.evaluation import kl_per_dimension
from lso.vae.metrics.passes import eval_mode
from lso.vae.models.vae import VAE
from lso.vae.runs import Run
from lso.vae.utils.files import make_folder
from lso.vae.utils.random import generator
from lso.vae.utils.validation import require

FOLDER = "tensorboard"  # in a run folder
SEARCHES = ("gradient search", "black-box search")  # kinds of work that are logged beside trainings
MAX_CURVES = 64  # dimensions whose KL gets a curve of its own; a histogram shows all
# Keys of an epoch's row that are not of the validation data, and the group of curves in which they stand.
GROUPS: Mapping[str, str] = {
    "learning_rate": "schedule",
    "kl_weight": "schedule",
    "inner_steps": "schedule",
    "gradient_norm": "train",
    "seconds": "time",
}
NOT_DRAWN = ("epoch", "step", "watched", "mi_batch")  # the axis, a copy of another number, and a constant


class TensorBoard(Callback):
    """Logs to event files that ``tensorboard --logdir runs`` shows.

    Of a training, after every epoch: all numbers of its row in metrics.jsonl (losses, KL, mutual information, active
    units, learning rate, KL weight), the KL of each latent dimension in nats, and every few epochs what the decoder
    makes of the same draws from the prior: images, or texts. Of a search: the values, the best one and the best typical
    one, by call or step. The training computes the same bits as without it. A training that is resumed goes on with the
    same curves: what was logged after its last checkpoint is taken back; where nothing was logged before, the numbers
    of earlier epochs are added.

    Args:
        folder: where to write; None is ``tensorboard/`` in the run folder, also of each training of a sweep. A gradient
            search needs one, and so does a black-box search without ``out``.
        images: number of draws from the prior that are shown; 0 shows none.
        images_every: epochs between such pictures. The first epochs have one, too.
    Raises:
        LsoError: if the package tensorboard is not installed.
        UsageError: if a number is out of range, or a search has no folder.
    """

    def __init__(self, folder: str | Path | None = None, *, images: int = 16, images_every: int = 5) -> None:
        if find_spec("tensorboard") is None:
            raise LsoError(
                "logging to TensorBoard needs the package tensorboard, which is not installed",
                "Install it: pip install 'lso[tensorboard]'",
            )
        require(
            images >= 0 and images_every >= 1,
            "images >= 0 and images_every >= 1",
            (images, images_every),
            "0 images: none.",
        )
        self._folder = None if folder is None else Path(folder)
        self._images, self._images_every = images, images_every
        self._writers: dict[tuple[str, str], Any] = {}  # by kind of work and name

    def on_start(self, event: Event) -> None:
        """Open an event file for a training or a search.

        Args:
            event: the work; its ``source`` says where its run folder is.
        """
        if not is_main_process() or not (isinstance(event.source, Run) or event.work in SEARCHES):
            return
        folder = self._place(event)
        first, missing = _first_step(event), []
        if isinstance(event.source, Run) and not any(folder.glob("events.out.tfevents.*")):
            first, missing = 0, event.source.metrics()
        self._writers[event.work, event.name] = writer = _open_writer(folder, first)
        for row in missing:
            _write_row(writer, row)

    def on_epoch(self, event: Event) -> None:
        """Log the numbers of an epoch.

        Args:
            event: the row of metrics.jsonl, the model and the posteriors of the validation data.
        """
        if (writer := self._writers.get((event.work, event.name))) is None:
            return
        _write_row(writer, event.values)
        if event.model is not None:
            self._write_codes(writer, event)
            if event.done < 2 or event.done % self._images_every == 0 or event.done == event.total:
                self._write_draws(writer, event.model, event.done)
        # Before the checkpoint of this epoch is written: whatever is resumed from has been logged.
        writer.flush()

    def on_step(self, event: Event) -> None:
        """Log the best value of a gradient search.

        Args:
            event: the steps done, and the best value so far.
        """
        if event.work in SEARCHES:
            self._write_values(event, event.done)

    def on_evaluation(self, event: Event) -> None:
        """Log the value of a call of the score, and the best so far.

        Args:
            event: the number of calls and the values.
        """
        self._write_values(event, int(event.values["calls"]))

    def on_end(self, event: Event) -> None:
        """Close the event file.

        Args:
            event: the work that ended.
        """
        if (writer := self._writers.pop((event.work, event.name), None)) is not None:
            writer.close()

    def _place(self, event: Event) -> Path:
        if self._folder is not None:
            return self._folder / event.name if event.name and event.work != "training" else self._folder
        if isinstance(event.source, Run):
            return event.source.path / FOLDER
        journal = getattr(event.source, "journal", None)  # of a black-box search in a run folder
        if journal is None:
            raise UsageError(
                f"expected a folder for the log of a {event.work}, got none",
                "Name one: lso.TensorBoard('runs/log'); only trainings, and lso.optimize with out=..., have their own.",
            )
        return Path(journal.path).parent / FOLDER

    def _write_values(self, event: Event, step: int) -> None:
        writer = self._writers.get((event.work, event.name))
        for key in ("value", "best", "best_typical") if writer is not None else ():
            if _is_number(value := event.values.get(key)):
                writer.add_scalar(f"search/{key}", value, step)  # type: ignore[union-attr]

    def _write_codes(self, writer: Any, event: Event) -> None:
        q, prior = event.posterior, event.model.prior
        if not (isinstance(q, DiagonalGaussian) and isinstance(prior, StandardNormal)) or not event.model.latent_dim:
            return  # the KL is no sum over dimensions
        kl = kl_per_dimension(q, prior).cpu()
        for number, value in enumerate(kl[:MAX_CURVES].tolist()):
            writer.add_scalar(f"kl_per_dimension/{number:02d}", value, event.done)
        writer.add_histogram("kl_of_dimensions", kl, event.done)

    @torch.no_grad()
    def _write_draws(self, writer: Any, model: VAE, epoch: int) -> None:
        """What the decoder makes of draws from the prior, the same at every epoch, by random numbers of its own."""
        if self._images == 0:
            return
        weight = next(model.parameters())
        noise = torch.randn(self._images, model.latent_dim, generator=generator(0, "tensorboard"))
        with eval_mode(model):
            z = model.prior.sample(noise.to(weight))
            decoded = model.generate(z, "sample" if model.autoregressive else "mean").cpu()
        if model.kind == "image":
            writer.add_images("draws_from_the_prior", decoded.float().clamp(0, 1), epoch)
        elif model.vocabulary is not None:
            texts = [f"    {model.vocabulary.text(row)}" for row in decoded.tolist()]
            writer.add_text("draws_from_the_prior", "\n".join(texts), epoch)


def _open_writer(folder: Path, first: int) -> Any:
    """A writer into a folder, whose readers forget what earlier files say of steps from ``first`` on."""
    from torch.utils.tensorboard import SummaryWriter

    make_folder(folder)
    # Readers take the files in the order of their names, which begin with the second in which they were made.
    while list(folder.glob(f"events.out.tfevents.{int(time.time()):010d}.*")):
        time.sleep(0.05)
    return SummaryWriter(str(folder), purge_step=first or None, flush_secs=10)


def _first_step(event: Event) -> int:
    """The first step that will be logged: after the rows of a training that is resumed, or the calls of a search."""
    if isinstance(event.source, Run):
        rows = event.source.metrics()
        return int(rows[-1]["epoch"]) + 1 if rows else 0
    return int(event.values["calls"]) + 1 if event.values.get("calls") else 0


def _write_row(writer: Any, row: Mapping[str, Any]) -> None:
    for key, value in row.items():
        if key not in NOT_DRAWN and _is_number(value):
            group, name = ("train", key[6:]) if key.startswith("train_") else (GROUPS.get(key, "validation"), key)
            writer.add_scalar(f"{group}/{name}", value, row["epoch"])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
