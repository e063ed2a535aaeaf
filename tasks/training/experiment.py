"""Trainings from names to run folders: what `lso.train`, `lso.resume`, `lso.load` and `lso.evaluate` do."""

import dataclasses
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import torch

from lso.tasks.datasets.loading import load_dataset, seen
from lso.tasks.datasets.overlap import with_overlap
from lso.tasks.training.plan import Settings, merge
from lso.tasks.training.plan import plan as plan
from lso.vae import checkpoint, runs
from lso.vae.config.architectures import Kind
from lso.vae.config.methods import Method
from lso.vae.config.training import TrainConfig
from lso.vae.data.dataset import Dataset, Split
from lso.vae.errors import DataError, RunError, UsageError
from lso.vae.launch import is_main_process, process_info
from lso.vae.metrics import evaluation
from lso.vae.metrics.evaluation import Metrics
from lso.vae.models.vae import VAE
from lso.vae.runs import Run
from lso.vae.training import batched
from lso.vae.training import loop as training
from lso.vae.training.loop import Limits, TrainingCallback
from lso.vae.training.setup import create_trainer, leave, lock_run, restore_trainer
from lso.vae.training.state import Trainer, restore
from lso.vae.utils.deprecation import renamed_arguments
from lso.vae.utils.files import Lock
from lso.vae.utils.trust import Trust

GIVEN = "given"  # task of a run whose dataset came as tensors
GIVEN_AS: dict[Kind, str] = {"image": "arrays", "sequence": "text"}  # the task that it takes its defaults from


def resolve_device(name: str = "auto") -> torch.device:
    """The device of a name.

    Args:
        name: ``"auto"`` (a GPU if there is one), ``"cpu"``, ``"cuda"`` (of several processes each has its own) or
            ``"cuda:N"``.
    Returns:
        The device.
    Raises:
        UsageError: if there is no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and process_info().count > 1:
        name = f"cuda:{process_info().local}"
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdigit()):
        raise UsageError(f"unknown device {name!r}", "Known: auto, cpu, cuda, cuda:N.")
    count = torch.cuda.device_count()
    if kind == "cuda" and int(index or 0) >= count:
        remedy = "Use --device cpu, or --device auto."
        if process_info().count > 1:
            remedy = "Start as many processes on a machine as it has GPUs, or use --device cpu."
        found = f"{count} CUDA devices are" if count != 1 else "1 CUDA device is"
        raise UsageError(f"device {name!r} was asked for, but {found} available", remedy)
    return torch.device(name)


@renamed_arguments(watch="callback")
def train(
    method: str | Method | None = None,
    *,
    task: str | None = None,
    data: str | Path | None = None,
    arch: str | None = None,
    latent_dim: int | None = None,
    epochs: int | None = None,
    seed: int | None = None,
    out: str | Path | None = None,
    device: str = "auto",
    config: str | Path | None = None,
    settings: Settings | None = None,
    dataset: Dataset | None = None,
    callback: TrainingCallback | None = None,
    limits: Limits = Limits(),
    trust: Trust = False,
) -> Run:
    """Train a VAE into a new run folder and write its report.

    What is None comes from ``config``, then from the task, then from the method; the defaults are the plain VAE, the
    embedded digits, 32 latents, seed 0.

    Args:
        method: ``"name"``, ``"name:key=value,..."`` or a built method.
        task: row of `lso.tasks.TASKS`.
        data: file or folder in that task's format; without ``task`` the format is inferred.
        arch: row of `lso.vae.ARCHITECTURES`.
        latent_dim: size of z.
        epochs: at most.
        seed: of everything random.
        out: run folder; None makes one under ``runs/``.
        device: ``"auto"``, ``"cpu"`` or ``"cuda[:N]"``.
        config: a TOML file as in a run folder.
        settings: any other configuration values, nested as in the TOML file.
        dataset: the data themselves, instead of ``task`` and ``data``; defaults are those of the task ``arrays`` or
            ``text``, and what reads the data again (`resume`, `evaluate`) has to be given them again.
        callback: progress and stop requests.
        limits: where this session ends.
        trust: whether a tokenizer that ``config`` names may run; one in ``settings`` needs no further word.
    Returns:
        The run, finished, or stopped and ready for `resume`.
    Raises:
        UsageError: for a wrong name, parameter or device, or code in ``config`` that is not to be trusted.
        DataError: if the data cannot be read.
        RunError: if ``out`` is taken, or another process is at work there.
        DivergedError: if a loss was not finite.
    """
    named: dict[str, dict[str, Any]] = {
        "data": {"task": task, "path": None if data is None else str(data)},
        "architecture": {"name": arch, "latent_dim": latent_dim},
        "protocol": {"epochs": epochs},
    }
    given: dict[str, Any] = {name: {k: v for k, v in part.items() if v is not None} for name, part in named.items()}
    given |= {k: v for k, v in {"method": method, "seed": seed}.items() if v is not None}
    if dataset is not None:
        given["data"] = {**given["data"], "task": GIVEN_AS[dataset.kind]}
    full = plan(merge(settings or {}, {k: v for k, v in given.items() if v != {}}), config, trust)
    if dataset is None:
        resolve_device(device)  # mistakes first: reading the data can take a while
        runs.choose_folder("", out)
        dataset = load_dataset(full.data, full.protocol.binarize, full.seed, trust=True)
    else:
        dataset = with_overlap(dataset)
        own = {"tokenizer": split["name"]} if (split := dataset.provenance.get("tokenizer")) else {}
        full = dataclasses.replace(full, data=dataclasses.replace(full.data, task=GIVEN, **own))
    return train_planned(full, dataset, out=out, device=device, callback=callback, limits=limits)


def train_planned(
    config: TrainConfig,
    dataset: Dataset,
    *,
    out: str | Path | None = None,
    device: str = "auto",
    callback: TrainingCallback | None = None,
    limits: Limits = Limits(),
) -> Run:
    """`train` once the configuration is complete and the data are read."""
    path = runs.choose_folder(f"{config.data.task}-{config.method.name}", out)
    run = training.train(config, dataset, path, device=resolve_device(device), callback=callback, limits=limits)
    run.trust = _said(config)
    return _reported(_heard(run, dataset)) if is_main_process() else run


def _said(config: TrainConfig) -> tuple[str, ...]:
    """The code that a configuration of the user's own names, for what is done with the run in this process."""
    return (config.data.tokenizer,)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TrainingJob:
    """One training of several in lockstep.

    Args:
        config: from `plan`.
        dataset: what its data section says.
        path: its run folder; where there is a run it goes on.
        callback: progress and stop requests.
    """

    config: TrainConfig
    dataset: Dataset
    path: Path
    callback: TrainingCallback


def train_together(jobs: Sequence[TrainingJob], *, device: str = "auto", limits: Limits = Limits()) -> list[Run]:
    """Trainings begun or continued in lockstep, as one batched model; see `lso.vae.training.batched.train`.

    Args:
        jobs: of one `lso.vae.training.batchable.batch_key`; those that are finished are left as they are.
        device: see `train`.
        limits: where this session ends.
    Returns:
        The runs, in order; the status of one that diverged is ``failed``.
    Raises:
        UsageError: if they cannot be trained together.
        RunError: if the data of a run changed, its checkpoint is damaged, or another process is at work there.
    """
    where = resolve_device(device)
    trainers: list[Trainer] = []
    with ExitStack() as holds:
        try:
            for job in jobs:
                trainers += _opened(job, where, holds)
        except BaseException:
            leave(trainers, batched.ALONE)
            raise
        if trainers:
            batched.train(trainers, limits)
    done = [Run(job.path, trust=_said(job.config)) for job in jobs]
    for run, job in zip(done, jobs, strict=True):
        if run.info["status"] != "failed":
            _reported(_heard(run, job.dataset))
    return done


def _opened(job: TrainingJob, device: torch.device, holds: ExitStack) -> list[Trainer]:
    """One training, begun or where it was, its folder held; none if it is finished."""
    if not (job.path / runs.INFO).is_file():
        trainer = create_trainer(job.config, job.dataset, job.path, device=device, callback=job.callback)
        holds.enter_context(lock_run(job.path))
        restore(trainer)  # as in `lso.vae.training.loop.train`
        return [trainer]
    holds.enter_context(lock_run(job.path))
    run = Run(job.path)
    if run.info["status"] == "finished":  # by another process, before it was held
        return []
    return [restore_trainer(run, job.dataset, device=device, callback=job.callback)]


@renamed_arguments(watch="callback")
def resume(
    run: str | Path | Run,
    *,
    device: str = "auto",
    dataset: Dataset | None = None,
    callback: TrainingCallback | None = None,
    limits: Limits = Limits(),
    trust: Trust = False,
) -> Run:
    """Continue a training from its last checkpoint.

    Args:
        run: the run or its folder.
        device: where to train.
        dataset: the data of a run that was given them as tensors; None reads them again.
        callback: progress and stop requests.
        limits: where this session ends.
        trust: what may run of the code that a folder given by its path names, see `lso.vae.utils.trust`.
    Returns:
        The run; a finished one as it is, with its report if it was killed before that was written.
    Raises:
        UsageError: if the folder names a tokenizer that is not to be trusted.
        RunError: if it is not a training run, its data changed, its checkpoint is damaged, or another process is at
            work there.
    """
    found = run if isinstance(run, Run) else Run(run, trust=trust)
    found.require("train")
    if found.info["status"] == "finished":
        page = found.path / runs.REPORT
        there = page.is_file() and page.with_suffix(".json").is_file()
        return found if there or not is_main_process() else _reported(found)
    data = dataset_of(found) if dataset is None else dataset
    done = training.resume(found, data, device=resolve_device(device), callback=callback, limits=limits)
    return _reported(_heard(done, data)) if is_main_process() else done


def _heard(run: Run, dataset: Dataset) -> Run:
    """Write examples of what a model of sequences says into run.json."""
    if dataset.kind == "sequence":
        from lso.tasks.exploration import examples

        told = examples(run.model(), dataset)
        with suppress(RunError), Lock(run.path):  # another process that goes on with it by now tells its own
            runs.update(run, examples=told)
    return run


def _reported(run: Run) -> Run:
    """Write the run's report beside its numbers."""
    from lso.reports.search_report import training_report

    training_report(run)
    return run


def dataset_of(run: Run) -> Dataset:
    """The data of a training run, read again from where its configuration says."""
    if run.config.data.task == GIVEN:
        raise DataError(
            f"the data of {run.path} were given in Python, not as a task or file", "Pass them again, as dataset=...."
        )
    dataset = load_dataset(
        run.config.data,
        run.config.protocol.binarize,
        run.config.seed,
        trust=run.trust,
        files=run.info["dataset"]["provenance"].get("files"),
    )
    if dataset.hash() != run.info["dataset"]["hash"]:
        raise DataError(
            f"the data of {run.path} have changed since it was trained",
            "Bring the same files back, or train a new run; images to search for can be given as files.",
        )
    return dataset


def load(run: str | Path | Run, device: str = "cpu") -> VAE:
    """The best model of a run, in eval mode.

    Args:
        run: the run, its folder, or a model.safetensors file.
        device: where to put it.
    Returns:
        The model.
    Raises:
        RunError: if there is no model or the file is damaged.
    """
    where = str(resolve_device(device))
    if isinstance(run, Run):
        return run.model(where)
    path = Path(run)
    return checkpoint.load_model(path, where) if path.is_file() else Run(path).model(where)


@renamed_arguments(watch="callback")
def evaluate(
    model: VAE,
    dataset: Dataset,
    *,
    split: Split = "test",
    iw_samples: int = 500,
    limit: int | None = None,
    seed: int = 0,
    callback: Callable[[int, int], None] | None = None,
) -> Metrics:
    """All metrics of a model on one split, in nats per datum.

    Args:
        model: the VAE.
        dataset: the data.
        split: which part of them.
        iw_samples: importance samples for the NLL; 0 leaves it out.
        limit: use the first so many data.
        seed: of the samples.
        callback: called with (data done, data to do) of the importance-weighted NLL, where the time goes.
    Returns:
        The metrics.
    """
    device = next(model.parameters()).device
    x = seen(dataset, split)[:limit].to(device)
    return evaluation.evaluate(model, x, iw_samples=iw_samples, seed=seed, split=split, callback=callback)
