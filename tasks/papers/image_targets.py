"""The latent search of NE-VAE (2021), section 5.4: several models search for codes of the same target images.

The decoder is frozen, and Adam minimizes the squared pixel error, summed over an image, from two starts: a draw from
the prior and the encoder's mean. `BenchmarkConfig` and the report say what was chosen where the paper leaves it open.
"""

import dataclasses
import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from glob import escape
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lso.analysis.latent_dimensions import decode_on_cpu
from lso.decoders.decoder import Decoder
from lso.gradient import initial_points as starts
from lso.gradient.search import minimize
from lso.gradient.thresholds import ThresholdEnds, search_to_thresholds
from lso.objectives.latent_objective import CONTEXTS, LatentObjective
from lso.optimizers import GRADIENT_OPTIMIZERS
from lso.space import LatentSpace
from lso.tasks.datasets.loading import model_inputs
from lso.tasks.training.experiment import reload_dataset, resolve_device
from lso.vae.checkpoint import first_line, load_last
from lso.vae.config.components import Constant, Linear
from lso.vae.config.training import TrainConfig
from lso.vae.data.corpus import Corpus
from lso.vae.errors import RunError, UsageError, unknown_name
from lso.vae.metrics.active_units import is_active, mean_variance
from lso.vae.runs import MODEL, Run
from lso.vae.utils import reading
from lso.vae.utils.files import make_folder, printable, replace_file
from lso.vae.utils.random import generator
from lso.vae.utils.validation import require

TASK = "omniglot"  # whose images the paper searches for
# The paper's rows by method: the role, and the last KL weight that the row has, where it says.
ROLES: Mapping[str, tuple[str, float | None]] = {
    "ne-vae-se": ("se", None),
    "aggressive": ("aggressive", None),
    "vae": ("vae", None),
    "vae-anneal": ("vae", None),
    "beta-vae": ("beta", 0.9),
}
THRESHOLDS = (0.01, 0.005, 0.002, 0.001, 0.0005, 0.0)
CONTROL_STEPS = 2000  # at most, of each control


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkConfig:
    """Settings of the searches.

    Args:
        targets: number of target images, the first ones of the test split.
        thresholds: a search stops after the first window of steps in which its loss falls by no more than this.
        lr: learning rate of Adam; the paper does not say.
        window: steps in a window; published counts are multiples of 100.
        max_steps: largest number of steps.
        context: pixels on which an autoregressive decoder is conditioned (see `LatentObjective.reconstruct`).
        controls: other gradient optimizers from the same starts, to compare the gap and the distances of their ends.
        seed: of the random starts, which are the same for models of one latent size.
        as_one: whether to count as well how many steps the sum of all images' losses takes to meet each threshold, as
            if they were one problem. All images then stay in the batch until the last sum has met its threshold.
    Raises:
        UsageError: if a value is out of range.
    """

    targets: int = 50
    thresholds: tuple[float, ...] = THRESHOLDS
    lr: float = 0.01
    window: int = 100
    max_steps: int = 50_000
    context: str = "target"
    controls: tuple[str, ...] = ("sgd", "lbfgs")
    seed: int = 0
    as_one: bool = True

    def __post_init__(self) -> None:
        require(self.targets >= 1, "targets >= 1", self.targets, "50 are those of the paper.")
        require(len(self.thresholds) > 0, "at least one threshold", self.thresholds, "For example 0.01,0.")
        require(
            min(self.thresholds) >= 0, "thresholds >= 0", self.thresholds, "0: the first window without a decrease."
        )
        require(self.max_steps >= self.window >= 1, "max_steps >= 100", self.max_steps, "A window has 100 steps.")
        if self.context not in CONTEXTS:
            raise unknown_name("context", self.context, CONTEXTS)
        for name in self.controls:
            if name not in GRADIENT_OPTIMIZERS:
                raise unknown_name("optimizer", name, GRADIENT_OPTIMIZERS)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TargetOutcome:
    """The results of one model's searches, for k thresholds, T targets and two starts (prior, encoder).

    Args:
        name: name of the run.
        role: row of the paper: ``se``, ``vae``, ``aggressive``, ``beta``, or empty.
        annealed: whether the KL weight was raised during training, as in all of the paper's rows.
        method: method that trained the model.
        latent_dim: size of z.
        active_units: number of dimensions whose posterior mean varies over the validation split.
        thresholds: in falling order.
        gap: ``(k, T)`` absolute difference of the final losses from the two starts.
        distance_active: ``(k, T)`` squared distance of their final codes over active dimensions.
        distance_dead: ``(k, T)`` the same over the others. Either is NaN where a model has no such dimension.
        distance_decoded: ``(k, T)`` squared distance of the decoded final codes.
        loss: ``(k, T, 2)`` final losses.
        steps: ``(k, T, 2)`` steps of Adam.
        reached: ``(k, T, 2)`` whether the search met the threshold within the steps it had.
        together: ``(k, 2)`` steps of all images as one problem (see `BenchmarkConfig`); 0 where they were not counted.
        together_reached: ``(k, 2)`` whether these met the threshold.
        controls: optimizer -> gap, distance_active, distance_dead, each ``(T,)``, and loss, ``(T, 2)``.
        free_running: ``(T, 2)`` squared error of images sampled from the final codes without conditioning on the
            target, by the same uniform random numbers for all; None for a factorised decoder.
        decoded: ``(T, 2, ...)`` decoded final codes at the last threshold.
        finished: whether all searches ended, rather than being interrupted.
        part: of an interrupted search the fields of the `ThresholdEnds` from which it continues; empty otherwise.
    """

    name: str
    role: str
    method: str
    latent_dim: int
    active_units: int
    thresholds: tuple[float, ...]
    gap: Float[Tensor, "k target"]
    distance_active: Float[Tensor, "k target"]
    distance_dead: Float[Tensor, "k target"]
    distance_decoded: Float[Tensor, "k target"]
    loss: Float[Tensor, "k target start"]
    steps: Int[Tensor, "k target start"]
    reached: Tensor
    together: Int[Tensor, "k start"]
    together_reached: Tensor
    controls: Mapping[str, Mapping[str, Tensor]]
    free_running: Float[Tensor, "target start"] | None
    decoded: Tensor
    finished: bool
    part: Mapping[str, Any] = field(default_factory=dict)
    annealed: bool = True

    @property
    def searched(self) -> bool:
        """Whether Adam ended by its thresholds or ``max_steps``, rather than being interrupted."""
        return self.finished or bool(self.part.get("finished"))

    def met(self, k: int) -> Bool[Tensor, " target"]:
        """Which targets were searched for until both starts met the k-th threshold."""
        return self.reached[k].all(1)


def check_same_images(runs: Sequence[Run]) -> None:
    """Refuse runs that cannot search for the same images, as they are no trainings or have other data."""
    if not runs:
        raise UsageError("no models given", "Name training runs: --models runs/a --models runs/b")
    for run in runs:
        if run.kind != "train":
            raise RunError(f"{run.path} is a {run.kind}, not a training", "Give training runs.")
        if not run.config.architecture.latent_dim:
            raise RunError(f"{run.path} has no latents to search", "Leave it out.")
        if run.info["dataset"]["hash"] != runs[0].info["dataset"]["hash"]:
            raise RunError(
                f"{run.path} was trained on other data than {runs[0].path}",
                "Give runs of the same task, data and limit.",
            )
    names = [run.path.resolve() for run in runs]
    if len(set(names)) < len(names):
        raise UsageError("a model is named twice", "Name each once.")


def role_of(config: TrainConfig) -> str:
    """The row of the paper that a training corresponds to, whether or not its KL weight was annealed.

    Args:
        config: of the training.
    Returns:
        ``se``, ``aggressive``, ``beta`` or ``vae``; empty for another method, and on other data than OMNIGLOT.
    """
    method = config.method
    if config.data.task != TASK or not isinstance(method.schedule, Constant | Linear):
        return ""
    role, end = ROLES.get(method.name, ("", None))
    return role if end in (None, method.schedule.end) else ""


def is_annealed(config: TrainConfig) -> bool:
    """Whether the KL weight was raised during training, as in every row of the paper's search."""
    return not isinstance(config.method.schedule, Constant)


def target_images(run: Run, config: BenchmarkConfig) -> Tensor:
    """The target images: the first ones of the test split."""
    images = model_inputs(reload_dataset(run), "test")
    if isinstance(images, Corpus):
        raise UsageError(f"{run.path} is of sequences, and this benchmark searches for images", "Leave it out.")
    return images[: config.targets]


def benchmark(
    run: Run,
    images: Tensor,
    config: BenchmarkConfig,
    *,
    device: str = "auto",
    stop: Callable[[int], bool] | None = None,
    begun: ThresholdEnds | None = None,
) -> TargetOutcome:
    """Search for codes of the images with one model.

    Args:
        run: a training run.
        images: from `target_images`.
        config: settings of the searches.
        device: device to search on.
        stop: called with the number of steps done, every few steps; true interrupts the search.
        begun: an interrupted search to continue, from `read_interrupted`.
    """
    model = run.model(str(resolve_device(device)))
    decoder, codes = Decoder(model), run.codes()
    mask = is_active(mean_variance(codes.mean)) if codes is not None else torch.ones(model.latent_dim, dtype=torch.bool)
    space = LatentSpace(model.latent_dim)
    objective = LatentObjective.reconstruct(decoder, images, "sse", space=space, context=config.context)
    draws = generator(config.seed, "image-targets")
    z0 = starts.make_starts(["prior", "mean"], space, decoder, objective.targets, 2, draws).to(torch.float32)
    ends = search_to_thresholds(
        objective,
        z0,
        config.thresholds,
        lr=config.lr,
        window=config.window,
        max_steps=config.max_steps,
        as_one=config.as_one,
        stop=stop,
        begun=begun,
    )
    controls = _controls(objective, z0, mask, config, stop) if ends.finished else None
    decoded = torch.stack([decode_on_cpu(objective, z) for z in ends.z])
    return TargetOutcome(
        name=printable(run.path.name),
        role=role_of(run.config),
        annealed=is_annealed(run.config),
        method=run.config.method.name,
        latent_dim=model.latent_dim,
        active_units=int(mask.sum()),
        thresholds=ends.thresholds,
        **_between(ends.value, ends.z, mask),
        distance_decoded=(decoded[:, :, 0] - decoded[:, :, 1]).flatten(2).square().sum(-1),
        loss=ends.value,
        steps=ends.steps,
        reached=ends.reached,
        together=ends.together_steps,
        together_reached=ends.together_reached,
        controls=controls or {},
        free_running=_free_running(objective, ends) if decoder.autoregressive else None,
        decoded=decoded[-1].to(torch.float32),
        finished=controls is not None,
        part=fields_as_dict(ends) if controls is None else {},
    )


def _between(value: Tensor, z: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """Gap and distances between the ends of the two starts of each target; the start is the last axis of the losses."""
    squared = (z[..., 0, :] - z[..., 1, :]).square()
    none = torch.full_like(squared[..., 0], torch.nan)
    return {
        "gap": (value[..., 0] - value[..., 1]).abs(),
        "distance_active": squared[..., mask].sum(-1) if bool(mask.any()) else none,
        "distance_dead": squared[..., ~mask].sum(-1) if not bool(mask.all()) else none,
    }


class _StopCallback:
    """Makes the caller's ``stop`` a callback of `minimize`."""

    def __init__(self, stop: Callable[[int], bool] | None, steps: int) -> None:
        self._stop, self._steps = stop, steps

    def step(self, done: int, total: int, best: float) -> None:
        """Progress of controls is not shown."""

    def stop(self) -> str | None:
        """A reason to stop, or None."""
        return "stopped" if self._stop is not None and self._stop(self._steps) else None


def _controls(
    objective: LatentObjective,
    z0: Tensor,
    mask: Tensor,
    config: BenchmarkConfig,
    stop: Callable[[int], bool] | None,
) -> dict[str, dict[str, Tensor]] | None:
    """Search with the control optimizers from the same starts; None where the caller interrupted it."""
    ends, callback = {}, _StopCallback(stop, config.max_steps)
    for name in config.controls:
        result = minimize(
            objective, z0, name, max_steps=min(config.max_steps, CONTROL_STEPS), tol=1e-4, callback=callback
        )
        if result.status == "stopped":
            return None
        value = result.value.double().cpu()
        ends[name] = {**_between(value, result.z.double().cpu(), mask), "loss": value}
    return ends


def _free_running(objective: LatentObjective, ends: ThresholdEnds) -> Tensor:
    """``(T, 2)`` squared error of images sampled from the final codes, by the same uniform numbers for all."""
    assert objective.targets is not None
    z = ends.z[-1].to(objective.decoder.device, objective.decoder.dtype)
    drawn = torch.stack([objective.decoder.own(z[:, s]) for s in range(z.shape[1])], 1)
    return (drawn - objective.targets[:, None]).square().flatten(2).sum(2).double().cpu()


def fields_as_dict(item: TargetOutcome | ThresholdEnds) -> dict[str, Any]:
    """The fields of an outcome or of interrupted searches, for a file."""
    return {one.name: getattr(item, one.name) for one in dataclasses.fields(item)}


DISTANCES = ("distance_active", "distance_dead")
SURFACES = ("gap", *DISTANCES, "distance_decoded")  # of each threshold and target
WHAT, REMEDY = "an outcome of this benchmark", "remove it, and the search is made again"


def read_outcome(run: Run, config: BenchmarkConfig, folder: Path) -> TargetOutcome | None:
    """Read the outcome of an earlier call with the same weights and settings; None if there is no finished one."""
    outcome = _read_outcome(run, config, folder)
    return outcome if outcome is not None and outcome.finished else None


def read_interrupted(run: Run, config: BenchmarkConfig, folder: Path) -> ThresholdEnds | None:
    """Read an interrupted search with the same weights and settings, which `benchmark` continues; None without one."""
    outcome = _read_outcome(run, config, folder)
    return ThresholdEnds(**outcome.part) if outcome is not None and outcome.part else None


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedCount:
    """The number of Adam steps that the paper's table gives, as found in the folder of a benchmark.

    Args:
        steps: steps of all images as one problem, from the prior, to the last threshold; None where not known.
        why: why it is not known; empty where it is.
        again: whether a search would give it.
    """

    steps: float | None = None
    why: str = ""
    again: bool = False


def published_count(run: Run, folder: Path, config: BenchmarkConfig = BenchmarkConfig()) -> PublishedCount:
    """Look up the number of steps that the paper counts in the outcome of an earlier search."""
    try:
        outcome = _read_outcome(run, config, folder)
    except RunError as error:
        return PublishedCount(why=error.message)
    if outcome is None:
        paths = sorted((folder / "outcomes").glob(escape(_name(run, ""))[: -len(".pt")] + "*.pt"))
        others = [told for path in paths if (told := _other(path, run, config))]
        why = f"searched with other settings ({others[0]})" if others else "not searched yet"
        return PublishedCount(why=why, again=True)
    if outcome.together_reached[-1, 0]:
        return PublishedCount(steps=float(outcome.together[-1, 0]))
    if not outcome.searched:
        return PublishedCount(why="the search was cut off", again=True)
    return PublishedCount(why=f"met the cap of {config.max_steps:,} steps before threshold {outcome.thresholds[-1]:g}")


def _other(path: Path, run: Run, config: BenchmarkConfig) -> str:
    """How the settings of an earlier outcome differ; empty if it is of other weights or cannot be read."""
    try:
        weights, there = json.loads(_read(path)["key"])
    except RunError:
        return ""
    asked = json.loads(json.dumps(dataclasses.asdict(config)))
    if weights != _weights(run):
        return ""
    return "; ".join(f"{key} {there.get(key)}, not {value}" for key, value in asked.items() if there.get(key) != value)


def write_outcome(outcome: TargetOutcome, run: Run, config: BenchmarkConfig, folder: Path) -> None:
    """Write an outcome, which `read_outcome` reads."""
    path = _path(run, config, folder)
    make_folder(path.parent)
    content = io.BytesIO()
    torch.save({"key": _key(run, config), **fields_as_dict(outcome)}, content)
    replace_file(path, content.getvalue())


def _read_outcome(run: Run, config: BenchmarkConfig, folder: Path) -> TargetOutcome | None:
    path = _path(run, config, folder)
    if not path.is_file():
        return None
    content = _read(path)
    if content.pop("key") != _key(run, config):
        return None
    content |= {"role": role_of(run.config), "annealed": is_annealed(run.config)}
    try:
        outcome = TargetOutcome(**content)
        _require(outcome)
    except (TypeError, ValueError, AttributeError, IndexError) as error:
        raise _damaged(path, error) from None
    for key in _without(outcome):  # earlier versions wrote 0 for a distance over no dimension
        getattr(outcome, key).fill_(torch.nan)
        for control in outcome.controls.values():
            control[key].fill_(torch.nan)
    return outcome


def _read(path: Path) -> dict[str, Any]:
    """The content of a file, with its key in the form of `_key`."""
    content = load_last(path, "cpu", WHAT, REMEDY)
    try:
        weights, settings = json.loads(content["key"])
        if not isinstance(weights, str) or not isinstance(settings, dict):
            raise ValueError("it does not say of which weights and settings it is")
        # Outcomes of earlier versions do not name as_one: they all counted it.
        content["key"] = json.dumps([weights, {**settings, "as_one": settings.get("as_one", True)}])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise _damaged(path, error) from None
    return content


def _damaged(path: Path, error: Exception) -> RunError:
    return RunError(f"{path} cannot be read as {WHAT} ({first_line(error)})", f"It is damaged; {REMEDY}.")


def _require(outcome: TargetOutcome) -> None:
    """Raise where fields have other shapes than those of an outcome, or an interrupted search cannot be continued."""
    k, count = len(outcome.thresholds), outcome.gap.shape[1]
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(SURFACES, (k, count))
    shapes |= dict.fromkeys(("loss", "steps", "reached"), (k, count, 2))
    shapes |= dict.fromkeys(("together", "together_reached"), (k, 2))
    wrong = [name for name, shape in shapes.items() if tuple(getattr(outcome, name).shape) != shape]
    wrong += ["decoded"] if tuple(outcome.decoded.shape[:2]) != (count, 2) else []
    wrong += [name for name, control in outcome.controls.items() if not {"gap", *DISTANCES, "loss"} <= set(control)]
    if outcome.part:
        ThresholdEnds(**outcome.part)
    if wrong or not k:
        raise ValueError(f"other than expected: {', '.join(wrong) or 'no threshold'}")


def _without(outcome: TargetOutcome) -> list[str]:
    counts = {"distance_active": outcome.active_units, "distance_dead": outcome.latent_dim - outcome.active_units}
    return [key for key, count in counts.items() if not count]


def _path(run: Run, config: BenchmarkConfig, folder: Path) -> Path:
    # Runs of one name may lie in different folders; the hash of the weights tells them apart.
    return folder / "outcomes" / _name(run, f"{config.lr:g}")


def _name(run: Run, lr: str) -> str:
    return f"{run.path.name}-{_weights(run)[:8]}-lr{lr}.pt"


def _key(run: Run, config: BenchmarkConfig) -> str:
    return json.dumps([_weights(run), dataclasses.asdict(config)])


def _weights(run: Run) -> str:
    return hashlib.sha256(reading.read_content(run.path / MODEL)).hexdigest()
