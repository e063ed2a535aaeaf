"""Opens a training: builds its model, run folder and trainer, for a new run or from the last checkpoint."""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from lso.vae import checkpoint, distributed, runs
from lso.vae.callbacks import Callback
from lso.vae.config.training import TrainConfig, to_dict
from lso.vae.data.dataset import Dataset
from lso.vae.errors import LsoError, RunError, UsageError
from lso.vae.launch import is_main_process, process_info
from lso.vae.models.user_module import latent_size, make_module
from lso.vae.models.vae import VAE, build
from lso.vae.precision import explain_slowdown, explain_unsupported
from lso.vae.runs import Run
from lso.vae.training.module_checks import check_module
from lso.vae.training.random_layers import require_no_own_randomness
from lso.vae.training.state import Trainer, at_start, restore, update_status
from lso.vae.training.step import fresh_state
from lso.vae.utils.files import Lock
from lso.vae.utils.user_module import find_source, is_user_module


@contextmanager
def lock_run(path: Path) -> Iterator[None]:
    """Lock a run folder against other processes, from before it is opened until its session has recorded its end.

    Of processes that train a run together the main one holds the lock; if it is refused, all raise the error.
    """
    with ExitStack() as stack:
        refused = None
        if is_main_process():
            try:
                stack.enter_context(Lock(path))
            except RunError as error:
                refused = error.message, error.hint
        if refused := distributed.broadcast_object(refused):
            raise RunError(*refused)
        yield


def create_trainer(
    config: TrainConfig,
    dataset: Dataset,
    path: Path,
    *,
    start: VAE | None = None,
    device: torch.device | str = "cpu",
    callback: Callback | None = None,
) -> Trainer:
    """Create a run folder and a trainer before its first step.

    Args:
        config: method, architecture, protocol, data, seed.
        dataset: the data.
        path: run folder to make.
        start: a model of this architecture to go on from, kept in the folder; None draws the weights by the seed.
        device: where to train.
        callback: progress and stop requests.
    Returns:
        The trainer.
    Raises:
        UsageError: if the model to go on from has other networks or is for other data, the networks draw random numbers
            of their own, or the device cannot compute in the precision that was asked for.
        RunError: if the folder is taken.
    """
    model = _build(config, dataset, start)  # refuses what cannot be built
    if model.own:  # which may say itself how many latents it has
        config = replace(config, architecture=model.architecture)
    here = asdict(runs.Provenance.here())
    data: dict[str, Any] = {"name": dataset.name, "hash": dataset.hash(), "provenance": dict(dataset.provenance)}
    info = {
        "status": "running",
        "sentence": "",
        "seed": config.seed,
        "device": str(device),
        "shape": list(dataset.shape),
    }
    info |= {
        "dataset": data,
        "threads": torch.get_num_threads(),
        "processes": process_info().count,
        "verdict": "",
        **here,
    }
    # The first weights of a user's own module are not a function of the seed: they are kept.
    files = {} if start is None and not model.own else {runs.START: checkpoint.pack_model(model, model.state_dict())}
    if files:
        info["start"] = hashlib.sha256(files[runs.START]).hexdigest()
    _require_same(config, data["hash"], info.get("start"))
    caution = _precision(config, model, device)
    if is_main_process():
        runs.create(path, "train", info, config, files)
    run = Run(distributed.broadcast_object(path), made=is_main_process())
    state = fresh_state(model.to(device), config.method, config.protocol)
    trainer = at_start(config, dataset, run, state, callback or Callback())
    trainer.caution = caution
    return trainer


def restore_trainer(
    run: Run, dataset: Dataset, *, device: torch.device | str = "cpu", callback: Callback | None = None
) -> Trainer:
    """Return the trainer of an existing run at its last checkpoint, or at the start if it has none yet."""
    if dataset.hash() != run.info["dataset"]["hash"]:
        raise RunError(
            f"the data of {run.path} have changed since it was trained", "Give the same files, or train a new run."
        )
    config = run.config
    begun = checkpoint.load_model(run.checked(runs.START), trust=run.trust) if "start" in run.info else None
    model = _build(config, dataset, begun).to(device)
    caution = _precision(config, model, device)
    state = fresh_state(model, config.method, config.protocol)
    trainer = at_start(config, dataset, run, state, callback or Callback())
    trainer.caution = caution
    restore(trainer)
    _require_same(config, run.info["dataset"]["hash"], trainer.position.step)  # all have read before one writes
    update_status(run, status="running", sentence="", processes=process_info().count, threads=torch.get_num_threads())
    return trainer


def leave(trainers: Iterable[Trainer], why: str) -> None:
    """Record as stopped the trainings that were opened but whose session never began."""
    for trainer in trainers:
        if trainer.run.info["status"] == "running":
            with suppress(LsoError):  # e.g. a full disk: the error that ended the session is the one to report
                update_status(trainer.run, status="stopped", sentence=f"no step was taken: {why}", finished=runs.now())


def _require_same(config: TrainConfig, data: str, begun: Any) -> None:
    distributed.require_same((to_dict(config), data, begun), "trainings")


def _precision(config: TrainConfig, model: VAE, device: torch.device | str) -> str:
    """Refuse a precision that the device of any process does not support; returns a warning where it is slower."""
    asked, where = config.protocol.precision, torch.device(device)
    if refused := distributed.any_process_reason(explain_unsupported(asked, model, where) or None):
        raise UsageError(
            refused,
            f"Train in float32 (leave --precision out), or on a GPU or a CPU with {asked} instructions; a run that was "
            f"begun in {asked} goes on there.",
        )
    return distributed.any_process_reason(explain_slowdown(asked, model, where) or None) or ""


def _build(config: TrainConfig, dataset: Dataset, start: VAE | None) -> VAE:
    method, shape = config.method, dataset.shape
    architecture, module = config.architecture, None
    if is_user_module(architecture.name):
        if process_info().count > 1:
            raise UsageError(
                f"{architecture.name} is a module of your own, which one process trains, and there are "
                f"{process_info().count}",
                "Start the training without torchrun.",
            )
        source = find_source(architecture.name, True) if start is None else start.module
        module = make_module(source, architecture, shape, config.seed)
        architecture = replace(architecture, latent_dim=latent_size(module))
    if start is not None:
        # A sequence model keeps its maximum length, even if the sequences of these data are all shorter.
        shape = (start.shape[0], *shape[1:]) if start.kind == "sequence" else shape
        one = (start.architecture, start.skip, start.shape, start.vocabulary, start.posterior, start.prior_family)
        if one != (
            architecture,
            method.skip,
            shape,
            dataset.vocabulary,
            method.posterior,
            method.prior,
        ):
            raise UsageError(
                f"the model to start from is {start.architecture} for data {start.shape}, expected "
                f"{config.architecture} for {shape} and the vocabulary of the data",
                "Give a model trained with this configuration.",
            )
    model = build(
        architecture,
        method.skip,
        shape,
        config.seed,
        method.inference,
        dataset.vocabulary,
        posterior=method.posterior,
        prior=method.prior,
        module=module,
    )
    if model.own:
        check_module(model, method)
    else:
        require_no_own_randomness(model)
    if start is not None:
        model.load_state_dict(start.state_dict())
    return model
