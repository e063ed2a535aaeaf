"""Goals of searches by name: those of tasks, users' functions, and targets. Torch-free until a goal is built."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from lso.tasks.task import TASKS, task
from lso.vae.errors import RunError, UsageError, unknown_name
from lso.vae.runs import Run
from lso.vae.utils.lazy import resolve
from lso.vae.utils.trust import Trust, require_trust
from lso.vae.utils.trust import import_function as import_function


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """A score of decoded data that a search optimizes, with its direction and initial data.

    Args:
        name: name in reports and run folders.
        score: function to optimize, picklable, so that other processes can run it. With ``on="objects"`` it maps a list
            of strings or arrays to a list of floats, None for an invalid one; with ``on="tensors"`` a batch
            ``(n, *event)`` to values ``(n,)``.
        maximize: whether larger values are better.
        on: ``"objects"`` or ``"tensors"``, what the score takes.
        best: best attainable value; None if it is unknown.
        known: function from (count, seed) to data and their values, which a search may start from at no cost: a list of
            strings or a tensor ``(n, *event)`` as the model's encoder takes it, and n floats; None if there are none.
        decimals: number of decimals by which two decoded data are told apart, see
            `lso.objectives.latent_objective.LatentObjective`.
        summary: one line for reports.
    """

    name: str
    score: Callable[..., Any]
    maximize: bool
    on: str = "objects"
    best: float | None = None
    known: Callable[[int, int], tuple[Any, Sequence[float]]] | None = None
    decimals: int = 4
    summary: str = ""


def task_goal(name: str, run: Run) -> Goal:
    """The goal of a task, for a training run on data of the same kind.

    The name is ``"task"`` for the task's default goal, or ``"task:goal"`` for a row of its module's ``GOALS``, such as
    ``molecules:plogp`` or ``digits-preference:7``.
    """
    base, _, variant = name.partition(":")
    row = task(base)
    if not row.goal:
        having = ", ".join(key for key, other in TASKS.items() if other.goal)
        raise UsageError(
            f"task {base} has nothing to optimize but reconstruction",
            f"Give --target, or --objective module:function. Tasks with a goal: {having}.",
        )
    if row.kind != run.config.kind:
        raise UsageError(
            f"task {base} is about {row.kind}s, and {run.path} was trained on {run.config.kind}s",
            f"Train a model for it: lso train --task {base}",
        )
    build: Callable[[Run], Goal] = resolve(row.goal)
    if variant:
        others: Mapping[str, Any] = getattr(import_module(row.goal.partition(":")[0]), "GOALS", {})
        if variant not in others:
            raise unknown_name(f"goal of task {base}", variant, others)
        build = resolve(others[variant]) if isinstance(others[variant], str) else others[variant]
    return build(run)


def goal_from_function(what: str, maximize: bool | None, on: str | None = None) -> Goal:
    """Make a goal of a user's function, named ``"module:function"``, as `Goal.score` describes it.

    Where ``maximize`` or ``on`` is None, the function's own attribute of that name is used; ``on`` is else
    ``"objects"``, and a function that does not state its direction is refused.
    """
    score = import_function(what, "objective")
    sense = getattr(score, "maximize", None) if maximize is None else maximize
    if sense is None:
        raise UsageError(f"{what} does not say whether more is better", "Add --maximize or --minimize.")
    if not _takes_one_argument(score):
        raise UsageError(
            f"the objective {what} does not take one argument",
            "It is given a list of decoded objects, and gives one float (or None) for each.",
        )
    return Goal(name=what, score=score, maximize=bool(sense), on=on or str(getattr(score, "on", "objects")))


def _takes_one_argument(function: Any) -> bool:
    try:
        inspect.signature(function).bind(None)
    except TypeError:
        return False
    except ValueError:  # some built-in functions have no signature
        return True
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchTarget:
    """What a search is for: a task's goal, a user's function, or targets to reproduce; exactly one of them.

    Args:
        task: ``"name"`` or ``"name:goal"``.
        objective: ``"module:function"``.
        target: name of the data to reproduce, as `lso.tasks.search.targets.load_data` takes it.
        maximize: whether larger values are better, for a function that does not state it.
        pixels: how files of targets become pixels where that differs from the run, as
            `lso.tasks.search.targets.load_data` takes it.
    Raises:
        UsageError: unless exactly one of the three is given, or if pixels are given without targets.
    """

    task: str | None = None
    objective: str | None = None
    target: str | None = None
    maximize: bool | None = None
    pixels: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        given = [name for name in ("task", "objective", "target") if getattr(self, name) is not None]
        if len(given) != 1:
            raise UsageError(
                f"expected exactly one of task, objective and target, got {' and '.join(given) or 'none'}",
                "Say what to search for: --target images/, --task expressions, or --objective module:function",
            )
        if self.pixels and self.target is None:
            raise UsageError(
                f"pixel settings {dict(self.pixels)} apply to targets, and the search has none", "Leave them out."
            )

    def goal(self, run: Run) -> Goal | None:
        """The goal to optimize; None for a search that reproduces targets."""
        if self.task is not None:
            return task_goal(self.task, run)
        return None if self.objective is None else goal_from_function(self.objective, self.maximize)

    @classmethod
    def recorded(cls, info: Mapping[str, Any], trust: Trust) -> "SearchTarget":
        """Read what a search is for from the run.json of its folder; a user's function there needs the user's trust."""
        recorded = info["sought"]
        known = dict(recorded) if isinstance(recorded, Mapping) else {}
        try:
            target = cls(**known)
        except (TypeError, UsageError):
            target = None
        changes = known.pop("pixels", {})
        plain = [*known.values(), *(changes.values() if isinstance(changes, Mapping) else [changes])]
        if target is None or not all(isinstance(value, str | bool | int | None) for value in plain):
            raise RunError(
                f"run.json does not say what the search is for: {recorded!r}",
                "The file is damaged; start the search again.",
            )
        if isinstance(trust, tuple) and trust and target.objective not in trust:
            raise UsageError(f"{', '.join(trust)} is not what this search is for: {target}", "Leave --objective out.")
        if target.objective is not None:
            require_trust(target.objective, "objective", trust)
        return target

    def __str__(self) -> str:
        return str(self.task or self.objective or self.target)
