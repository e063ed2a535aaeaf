"""The functions `lso.train`, `lso.resume`, `lso.load` and `lso.evaluate`: from names to models in run folders."""

import dataclasses
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import torch

from lso.tasks.datasets.loading import load_dataset, model_inputs
from lso.tasks.datasets.overlap import add_overlap
from lso.tasks.training.plan import Settings, explain_method, merge
from lso.tasks.training.plan import plan as plan
from lso.vae import checkpoint, runs
from lso.vae.callbacks import Callback, Event, StepCallback, as_callback, count_steps
from lso.vae.config.architectures import Kind
from lso.vae.config.methods import Method
from lso.vae.config.training import TrainConfig
from lso.vae.data.dataset import Dataset, Split
from lso.vae.errors import DataError, RunError, UsageError
from lso.vae.launch import is_main_process, process_info
from lso.vae.metrics import evaluation
from lso.vae.metrics.evaluation import Metrics
from lso.vae.models.vae import VAE
from lso.vae.progress import draw_progress
from lso.vae.runs import Run
from lso.vae.training import batched
from lso.vae.training import loop as training
from lso.vae.training.loop import Limits
from lso.vae.training.setup import create_trainer, leave, lock_run, restore_trainer
from lso.vae.training.state import Trainer, restore
from lso.vae.utils.deprecation import renamed_arguments
from lso.vae.utils.files import Lock
from lso.vae.utils.trust import Trust
from lso.vae.utils.user_module import architecture_name, is_user_module, remember
from lso.vae.zoo import refuse_changes

OwnModule = torch.nn.Module | Callable[..., torch.nn.Module] | str  # of a user, or what makes one, see `train`
IN_MEMORY = "given"  # task of a run whose dataset came as tensors
DEFAULTS_TASK: dict[Kind, str] = {"image": "arrays", "sequence": "text"}  # the task that it takes its defaults from


def resolve_device(name: str = "auto") -> torch.device:
    """The torch device of a name: ``"auto"`` (a GPU if there is one), ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.

    With ``"cuda"`` each of several processes on a machine gets a GPU of its own.
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
    model: OwnModule | None = None,
    callback: Callback | None = None,
    progress: bool = False,
    limits: Limits = Limits(),
    trust: Trust = False,
) -> Run:
    """Train a VAE into a new run folder and write its report.

    Arguments that are None take their values from ``config``, then from the task, then from the method. Without any,
    ``ne-vae-se`` with 32 latents is trained on the embedded digits with seed 0, as `lso train` does.

    Args:
        method: ``"name"``, ``"name:key=value,..."`` or a built method. None takes the one to begin with for the kind of
            data (``ne-vae-se`` for images, ``beta-vae:beta=0.05`` for sequences) and tells the callback so (`on_log`).
        task: row of `lso.tasks.TASKS`.
        data: file or folder in the task's format; without ``task`` the task is inferred from it.
        arch: row of `lso.vae.ARCHITECTURES`.
        latent_dim: number of latent dimensions.
        epochs: largest number of epochs.
        seed: seed of everything random.
        out: run folder; None makes one under ``runs/``.
        device: ``"auto"``, ``"cpu"`` or ``"cuda[:N]"``.
        config: a TOML file like the config.toml of a run folder.
        settings: any other configuration values, nested as in the TOML file.
        dataset: the dataset itself, in place of ``task`` and ``data``; defaults are those of the task ``arrays`` or
            ``text``. `resume` and `evaluate` then need the dataset again.
        model: a `torch.nn.Module` of your own in place of ``arch``, as `lso.vae.AutoencoderModule` describes it, of
            which a copy is trained; or a class or function that makes one, or its name ``"package.module:name"``.
            `resume` and `load` need it again in another process, unless it can be imported.
        callback: gets the progress, and may ask to stop.
        progress: whether to draw it, with rich: on a terminal, in a notebook or as lines.
        limits: steps, epochs or seconds after which this session stops.
        trust: whether a tokenizer that ``config`` names may run; one that ``settings`` name is always trusted.
    Returns:
        The run, finished, or stopped and ready for `resume`.
    Raises:
        UsageError: for a wrong name, parameter or device, or code in ``config`` that is not trusted.
        DataError: if the data cannot be read.
        RunError: if the folder ``out`` is taken, or another process works there.
        DivergedError: if a loss was not finite.
    """
    named: dict[str, dict[str, Any]] = {
        "data": {"task": task, "path": None if data is None else str(data)},
        "architecture": {"name": arch, "latent_dim": latent_dim},
        "protocol": {"epochs": epochs},
    }
    given: dict[str, Any] = {name: {k: v for k, v in part.items() if v is not None} for name, part in named.items()}
    given |= {k: v for k, v in {"method": method, "seed": seed}.items() if v is not None}
    if model is not None:
        if arch is not None:
            raise UsageError(f"expected a model or an arch, got both (arch={arch!r})", "Give one of them.")
        name = architecture_name(model)
        given["architecture"]["name"] = name
        remember(name, model)
    if dataset is not None:
        given["data"] = {**given["data"], "task": DEFAULTS_TASK[dataset.kind]}
    chosen = merge(settings or {}, {k: v for k, v in given.items() if v != {}})
    full = plan(chosen, config, trust)
    taken = explain_method(chosen, config, full)
    if dataset is None:
        resolve_device(device)  # mistakes show before the data are read, which can take a while
        runs.choose_folder("", out)
        dataset = load_dataset(full.data, full.protocol.binarize, full.seed, trust=True)
    else:
        dataset = add_overlap(dataset)
        own = {"tokenizer": split["name"]} if (split := dataset.provenance.get("tokenizer")) else {}
        full = dataclasses.replace(full, data=dataclasses.replace(full.data, task=IN_MEMORY, **own))
    with draw_progress(as_callback(callback), progress) as seen:
        if taken and is_main_process():
            seen.on_log(Event(work="training", text=taken))
        return train_planned(full, dataset, out=out, device=device, callback=seen, limits=limits)


def train_planned(
    config: TrainConfig,
    dataset: Dataset,
    *,
    out: str | Path | None = None,
    device: str = "auto",
    callback: Callback | None = None,
    limits: Limits = Limits(),
) -> Run:
    """Train as `train` does, with a complete configuration and the loaded dataset."""
    path = runs.choose_folder(f"{config.data.task}-{config.method.name}", out)
    run = training.train_model(config, dataset, path, device=resolve_device(device), callback=callback, limits=limits)
    run.trust = _trusted_code(config)
    return _write_report(run, dataset) if is_main_process() else run


def _trusted_code(config: TrainConfig) -> tuple[str, ...]:
    """Names of the code that the user's own configuration names: trusted for this run within this process."""
    return (config.data.tokenizer, config.architecture.name)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TrainingJob:
    """One of several trainings that run as one batched model."""

    config: TrainConfig
    dataset: Dataset
    path: Path  # run folder; a run that is there is resumed
    callback: Callback


def train_jobs(jobs: Sequence[TrainingJob], *, device: str = "auto", limits: Limits = Limits()) -> list[Run]:
    """Begin or resume several trainings as one batched model, see `lso.vae.training.batched.train_batched`.

    All jobs share one `lso.vae.training.batchable.batch_key`; finished ones are left as they are, and one that diverges
    gets the status ``failed``.
    """
    where = resolve_device(device)
    trainers: list[Trainer] = []
    with ExitStack() as holds:
        try:
            for job in jobs:
                trainers += _open_job(job, where, holds)
        except BaseException:
            leave(trainers, batched.ALONE)
            raise
        if trainers:
            batched.train_batched(trainers, limits)
    done = [Run(job.path, trust=_trusted_code(job.config)) for job in jobs]
    for run, job in zip(done, jobs, strict=True):
        if run.info["status"] != "failed":
            _write_report(run, job.dataset)
    return done


def _open_job(job: TrainingJob, device: torch.device, holds: ExitStack) -> list[Trainer]:
    """Create or restore the trainer of a job and lock its folder; no trainer if the run is finished."""
    if not (job.path / runs.INFO).is_file():
        trainer = create_trainer(job.config, job.dataset, job.path, device=device, callback=job.callback)
        holds.enter_context(lock_run(job.path))
        restore(trainer)  # as in `lso.vae.training.loop.train_model`
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
    model: OwnModule | None = None,
    callback: Callback | None = None,
    progress: bool = False,
    limits: Limits = Limits(),
    trust: Trust = False,
) -> Run:
    """Continue a training from its last checkpoint.

    Args:
        run: the run or its folder.
        device: ``"auto"``, ``"cpu"`` or ``"cuda[:N]"``.
        dataset: the dataset of a run that was trained on one given in Python; None reads the data again.
        model: the module of your own that it was begun with, as `train` takes it, where it cannot be imported; its
            weights are those of the checkpoint.
        callback: gets the progress, and may ask to stop.
        progress: whether to draw it, with rich: on a terminal, in a notebook or as lines.
        limits: steps, epochs or seconds after which this session stops.
        trust: which code named by the folder may run, if ``run`` is a path; see `lso.vae.utils.trust`.
    Returns:
        The run. A finished one is left as it is, but for its report if that is missing.
    Raises:
        UsageError: if the folder names a tokenizer that is not trusted.
        RunError: if it is not a training run, its data changed, its checkpoint is damaged, or another process works
            there.
    """
    begun = run if isinstance(run, Run) else Run(run, trust=trust)
    begun.require("train")
    refuse_changes(begun.path)
    _remember_for(begun, model)
    if begun.info["status"] == "finished":
        page = begun.path / runs.REPORT
        there = page.is_file() and page.with_suffix(".json").is_file()
        if there or not is_main_process():
            return begun
        with suppress(DataError):  # killed between its end and its report; without the data there are no examples
            dataset = reload_dataset(begun) if dataset is None else dataset
        return _write_report(begun, dataset)
    data = reload_dataset(begun) if dataset is None else dataset
    done = training.resume_training(begun, data, device=resolve_device(device), callback=callback, limits=limits)
    return _write_report(done, data) if is_main_process() else done


def _record_examples(run: Run, dataset: Dataset) -> None:
    """Keep examples of what a model decodes for its report: texts in run.json, images in examples.npz."""
    from lso.tasks.exploration import image_examples, text_examples

    model = run.model()
    with suppress(RunError), Lock(run.path):  # another process may have resumed the run, and writes its own
        if dataset.kind == "sequence":
            runs.update_run(run, examples=text_examples(model, dataset))
        else:
            codes = run.codes()
            arrays = image_examples(model, dataset, None if codes is None else codes.mean)
            runs.write_files(run, {runs.EXAMPLES: checkpoint.pack_examples(arrays)})


def _write_report(run: Run, dataset: Dataset | None) -> Run:
    """Write the run's report.html and report.json, and before them the examples that they show, if there are data."""
    from lso.reports.search_report import training_report

    if dataset is not None:
        _record_examples(run, dataset)
    training_report(run)
    return run


def reload_dataset(run: Run) -> Dataset:
    """Read the data of a training run again from where its configuration says, and check that they are the same."""
    if run.config.data.task == IN_MEMORY:
        raise DataError(
            f"the data of {run.path} were given in Python, not as a task or file",
            "Pass the same dataset again, as dataset=....",
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
            "Restore the same files, or train a new run; images to search for can be given as files.",
        )
    return dataset


def _remember_for(run: Run, model: OwnModule | None) -> None:
    """Keep the user's own module for the run that it was trained in; None changes nothing."""
    if model is None:
        return
    name = run.config.architecture.name
    if not is_user_module(name):
        raise UsageError(
            f"the networks of {run.path} are {name} of this library, and a model was given", "Leave it out."
        )
    remember(name, model)


def load(run: str | Path | Run, device: str = "cpu", *, model: OwnModule | None = None, trust: Trust = False) -> VAE:
    """Load the model that a run kept, in eval mode.

    Args:
        run: the run, its folder, or a model.safetensors file.
        device: device of the model: the CPU, where tensors of yours are, unless told otherwise (commands: auto).
        model: the module of your own that the run was trained with, as `train` takes it, where it cannot be imported;
            a copy gets the weights of the run, and this process opens the run by it from now on.
        trust: whether the module that the run names may be imported, if ``run`` is a path.
    Returns:
        The model; `lso.VAE.module` is the module of your own.
    Raises:
        RunError: if there is no model or the file is damaged.
        UsageError: if the run's networks are a module of the user's own that cannot be imported, is not trusted, or has
            other weights or computes something else than when it was trained.
    """
    where = str(resolve_device(device))
    path = run.path if isinstance(run, Run) else Path(run)
    if path.is_file():
        if model is not None:
            remember(str(checkpoint.read_model(path)[0].get("architecture", {}).get("name", "")), model)
        return checkpoint.load_model(path, where, trust=trust)
    opened = run if isinstance(run, Run) else Run(path, trust=trust)
    _remember_for(opened, model)
    return opened.model(where)


@renamed_arguments(watch="callback")
def evaluate(
    model: VAE,
    dataset: Dataset,
    *,
    split: Split = "test",
    iw_samples: int = 500,
    limit: int | None = None,
    seed: int = 0,
    callback: StepCallback | None = None,
    progress: bool = False,
) -> Metrics:
    """Compute all metrics of a model on one split, in nats per datum.

    Args:
        model: the VAE.
        dataset: the data.
        split: ``"train"``, ``"validation"`` or ``"test"``.
        iw_samples: number of importance samples for the NLL; 0 leaves it out.
        limit: use only the first ``limit`` data.
        seed: seed of the samples.
        callback: called with (data done, all data) of the importance-weighted NLL, which takes most of the time; or a
            `lso.vae.callbacks.Callback`.
        progress: whether to draw a progress bar.
    Returns:
        The metrics.
    """
    device = next(model.parameters()).device
    x = model_inputs(dataset, split)[:limit].to(device)
    with draw_progress(as_callback(callback), progress) as seen, count_steps(seen, "evaluation") as count:
        return evaluation.evaluate_split(model, x, iw_samples=iw_samples, seed=seed, split=split, callback=count)
