"""The toy latent search of NE-VAE (2021), section 5.4: the same images searched for through several models.

Decoder frozen, z the parameter, Adam, squared pixel error summed over an image; one start from the prior and one from
the encoder. What the paper leaves open is settled in `BenchmarkConfig` and said in the report.
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
    """How to search.

    Args:
        targets: images, the first of the test split.
        thresholds: decreases of an image's loss over a window at which it stops.
        lr: of Adam; the paper does not say.
        window: steps over which the decrease is taken; published counts are multiples of 100.
        max_steps: steps at most.
        context: what an autoregressive decoder is forced on (see `LatentObjective.reconstruct`).
        controls: gradient optimizers from the same starts, for the gap and the distance alone.
        seed: of the random starts, the same for models of one latent size.
        as_one: also count the steps of all images run as one, for which none leaves the batch before the slowest sum
            has stopped.
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
    """One model's searches, k thresholds and T targets.

    Args:
        name: of the run.
        role: ``se``, ``vae``, ``aggressive``, ``beta`` as the paper's rows, or empty.
        annealed: whether the KL weight was raised, as in all of the paper's rows.
        method: that trained it.
        latent_dim: size of z.
        active_units: latents whose posterior mean varies over the validation split.
        thresholds: falling.
        gap: ``(k, T)`` absolute difference of the losses that the two starts end at.
        distance_active: ``(k, T)`` squared distance of their codes over active dimensions.
        distance_dead: ``(k, T)`` over the others. Either is NaN where a model has no such dimension.
        distance_decoded: ``(k, T)`` squared distance of what they decode to.
        loss: ``(k, T, 2)`` at the ends.
        steps: ``(k, T, 2)``.
        reached: ``(k, T, 2)``.
        together: ``(k, 2)`` steps of all images run as one; 0 where they were not counted.
        together_reached: ``(k, 2)``.
        controls: optimizer -> gap, distance_active, distance_dead, each ``(T,)``, and loss, ``(T, 2)``.
        free_running: ``(T, 2)`` squared error of the model's own draw from the last codes, uniforms common to all;
            None for a factorised decoder.
        decoded: ``(T, 2, ...)`` at the last threshold.
        finished: whether it was not cut off.
        part: fields of the `ThresholdEnds` from which one that was cut off goes on; empty otherwise.
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
        """Whether Adam ended by itself or at the cap; what did not reach a threshold else was cut off before."""
        return self.finished or bool(self.part.get("finished"))

    def met(self, k: int) -> Bool[Tensor, " target"]:
        """Targets whose searches from both starts reached a threshold."""
        return self.reached[k].all(1)


def check_same_images(runs: Sequence[Run]) -> None:
    """Make sure that runs can be compared on the same images."""
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
    """Which row of the paper a training stands for, annealed or not.

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


def annealed(config: TrainConfig) -> bool:
    """Whether a training's KL weight was raised to its end, as in every row of the paper's search."""
    return not isinstance(config.method.schedule, Constant)


def target_images(run: Run, config: BenchmarkConfig) -> Tensor:
    """The images that are searched for: the first of the test split."""
    found = model_inputs(reload_dataset(run), "test")
    if isinstance(found, Corpus):
        raise UsageError(f"{run.path} is of sequences, and this benchmark searches for images", "Leave it out.")
    return found[: config.targets]


def benchmark(
    run: Run,
    images: Tensor,
    config: BenchmarkConfig,
    *,
    device: str = "auto",
    stop: Callable[[int], bool] | None = None,
    begun: ThresholdEnds | None = None,
) -> TargetOutcome:
    """Search for the images through one model.

    Args:
        run: a training run.
        images: from `target_images`.
        config: how.
        device: where.
        stop: called with the steps done, every few; true cuts the search.
        begun: from `begun`; the search goes on from there.
    Returns:
        The outcome.
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
        annealed=annealed(run.config),
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
        part=fields_of(ends) if controls is None else {},
    )


def _between(value: Tensor, z: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """What lies between the two starts of each target; the start is the last axis of the losses."""
    squared = (z[..., 0, :] - z[..., 1, :]).square()
    none = torch.full_like(squared[..., 0], torch.nan)
    return {
        "gap": (value[..., 0] - value[..., 1]).abs(),
        "distance_active": squared[..., mask].sum(-1) if bool(mask.any()) else none,
        "distance_dead": squared[..., ~mask].sum(-1) if not bool(mask.all()) else none,
    }


class _Waiting:
    """The caller's clock as the optimizers ask for it."""

    def __init__(self, stop: Callable[[int], bool] | None, steps: int) -> None:
        self._stop, self._steps = stop, steps

    def step(self, done: int, total: int, best: float) -> None:
        """Nothing to tell."""

    def stop(self) -> str | None:
        """Whether to end."""
        return "stopped" if self._stop is not None and self._stop(self._steps) else None


def _controls(
    objective: LatentObjective,
    z0: Tensor,
    mask: Tensor,
    config: BenchmarkConfig,
    stop: Callable[[int], bool] | None,
) -> dict[str, dict[str, Tensor]] | None:
    """None where the caller's time was over."""
    found, callback = {}, _Waiting(stop, config.max_steps)
    for name in config.controls:
        result = minimize(
            objective, z0, name, max_steps=min(config.max_steps, CONTROL_STEPS), tol=1e-4, callback=callback
        )
        if result.status == "stopped":
            return None
        value = result.value.double().cpu()
        found[name] = {**_between(value, result.z.double().cpu(), mask), "loss": value}
    return found


def _free_running(objective: LatentObjective, ends: ThresholdEnds) -> Tensor:
    """``(T, 2)`` squared error of images drawn from the last codes, uniforms common to all."""
    assert objective.targets is not None
    z = ends.z[-1].to(objective.decoder.device, objective.decoder.dtype)
    drawn = torch.stack([objective.decoder.own(z[:, s]) for s in range(z.shape[1])], 1)
    return (drawn - objective.targets[:, None]).square().flatten(2).sum(2).double().cpu()


def fields_of(item: TargetOutcome | ThresholdEnds) -> dict[str, Any]:
    """An outcome or ends as they are kept."""
    return {one.name: getattr(item, one.name) for one in dataclasses.fields(item)}


DISTANCES = ("distance_active", "distance_dead")
SURFACES = ("gap", *DISTANCES, "distance_decoded")  # of each threshold and target
WHAT, REMEDY = "an outcome of this benchmark", "remove it, and the search is made again"


def cached(run: Run, config: BenchmarkConfig, folder: Path) -> TargetOutcome | None:
    """The outcome of an earlier call with the same weights and settings.

    Args:
        run: a training run.
        config: how.
        folder: of the benchmark.
    Returns:
        The outcome, or None where there is none, or it was cut off.
    """
    found = _kept(run, config, folder)
    return found if found is not None and found.finished else None


def begun(run: Run, config: BenchmarkConfig, folder: Path) -> ThresholdEnds | None:
    """Where an earlier call with the same weights and settings was cut off.

    Args:
        run: a training run.
        config: how.
        folder: of the benchmark.
    Returns:
        For `benchmark`; None where there is nothing to go on from.
    """
    found = _kept(run, config, folder)
    return ThresholdEnds(**found.part) if found is not None and found.part else None


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkProgress:
    """What a folder holds for the published count of a run.

    Args:
        steps: Adam steps of all images run as one from the prior, to the last threshold; None where there are none.
        why: there are none, in words; empty where there are.
        again: whether searching would give them.
    """

    steps: float | None = None
    why: str = ""
    again: bool = False


def standing(run: Run, folder: Path, config: BenchmarkConfig = BenchmarkConfig()) -> BenchmarkProgress:
    """Steps of all images run as one from the prior, to the last threshold, of an outcome that was kept."""
    try:
        found = _kept(run, config, folder)
    except RunError as error:
        return BenchmarkProgress(why=error.message)
    if found is None:
        paths = sorted((folder / "outcomes").glob(escape(_name(run, ""))[: -len(".pt")] + "*.pt"))
        others = [told for path in paths if (told := _other(path, run, config))]
        why = f"searched with other settings ({others[0]})" if others else "not searched yet"
        return BenchmarkProgress(why=why, again=True)
    if found.together_reached[-1, 0]:
        return BenchmarkProgress(steps=float(found.together[-1, 0]))
    if not found.searched:
        return BenchmarkProgress(why="the search was cut off", again=True)
    return BenchmarkProgress(why=f"met the cap of {config.max_steps:,} steps before threshold {found.thresholds[-1]:g}")


def _other(path: Path, run: Run, config: BenchmarkConfig) -> str:
    """How the settings of an outcome differ; empty for one of other weights, and one that cannot be read."""
    try:
        weights, there = json.loads(_read(path)["key"])
    except RunError:
        return ""
    asked = json.loads(json.dumps(dataclasses.asdict(config)))
    if weights != _weights(run):
        return ""
    return "; ".join(f"{key} {there.get(key)}, not {value}" for key, value in asked.items() if there.get(key) != value)


def keep_outcome(outcome: TargetOutcome, run: Run, config: BenchmarkConfig, folder: Path) -> None:
    """Write an outcome for `cached`."""
    path = _path(run, config, folder)
    make_folder(path.parent)
    content = io.BytesIO()
    torch.save({"key": _key(run, config), **fields_of(outcome)}, content)
    replace_file(path, content.getvalue())


def _kept(run: Run, config: BenchmarkConfig, folder: Path) -> TargetOutcome | None:
    path = _path(run, config, folder)
    if not path.is_file():
        return None
    content = _read(path)
    if content.pop("key") != _key(run, config):
        return None
    content |= {"role": role_of(run.config), "annealed": annealed(run.config)}
    try:
        found = TargetOutcome(**content)
        _require(found)
    except (TypeError, ValueError, AttributeError, IndexError) as error:
        raise _damaged(path, error) from None
    for key in _without(found):  # earlier versions wrote 0 for a distance over no dimension
        getattr(found, key).fill_(torch.nan)
        for control in found.controls.values():
            control[key].fill_(torch.nan)
    return found


def _read(path: Path) -> dict[str, Any]:
    """What a file holds, its key in the form that `_key` gives."""
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


def _require(found: TargetOutcome) -> None:
    """Refuse what is no outcome: other shapes, other kinds of numbers, no part to go on from."""
    k, count = len(found.thresholds), found.gap.shape[1]
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(SURFACES, (k, count))
    shapes |= dict.fromkeys(("loss", "steps", "reached"), (k, count, 2))
    shapes |= dict.fromkeys(("together", "together_reached"), (k, 2))
    wrong = [name for name, shape in shapes.items() if tuple(getattr(found, name).shape) != shape]
    wrong += ["decoded"] if tuple(found.decoded.shape[:2]) != (count, 2) else []
    wrong += [name for name, control in found.controls.items() if not {"gap", *DISTANCES, "loss"} <= set(control)]
    if found.part:
        ThresholdEnds(**found.part)
    if wrong or not k:
        raise ValueError(f"other than expected: {', '.join(wrong) or 'no threshold'}")


def _without(outcome: TargetOutcome) -> list[str]:
    counts = {"distance_active": outcome.active_units, "distance_dead": outcome.latent_dim - outcome.active_units}
    return [key for key, count in counts.items() if not count]


def _path(run: Run, config: BenchmarkConfig, folder: Path) -> Path:
    """Runs of one name may lie in different folders."""
    return folder / "outcomes" / _name(run, f"{config.lr:g}")


def _name(run: Run, lr: str) -> str:
    return f"{run.path.name}-{_weights(run)[:8]}-lr{lr}.pt"


def _key(run: Run, config: BenchmarkConfig) -> str:
    return json.dumps([_weights(run), dataclasses.asdict(config)])


def _weights(run: Run) -> str:
    return hashlib.sha256(reading.read_content(run.path / MODEL)).hexdigest()
