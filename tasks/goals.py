"""What a search is for: goals of tasks and functions of the user's, by name. Torch-free until a goal is asked for."""

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from lso.tasks.task import TASKS, task
from lso.vae.errors import RunError, UsageError, unknown_name
from lso.vae.runs import Run
from lso.vae.utils.lazy import resolve
from lso.vae.utils.trust import Trust, require_trust


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """A score on decoded data, its sense, and what is known of it beforehand.

    Args:
        name: for reports.
        score: picklable, so that other processes can run it. ``on="objects"``: a list of strings or arrays to a list of
            floats, None for an invalid one; ``on="tensors"``: a batch ``(n, *event)`` to values ``(n,)``.
        maximize: sense of the score.
        on: what the score takes.
        best: the best value that can be attained; None where nobody knows.
        known: ``(count, seed)`` to data and their values that the search may start from without paying for them: a list
            of strings or a tensor ``(n, *event)`` as the model's encoder takes it, and n floats; None where there are
            none.
        decimals: of decoded values that tell one datum from another, see
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


def imported(what: str, noun: str) -> Any:
    """A user's function by name, also from the current folder."""
    name, _, path = what.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:  # and there it stays: other processes that are to run the function look there too
        sys.path.append(here)
    try:
        found: Any = import_module(name)
        for attribute in path.split("."):
            found = getattr(found, attribute)
    except Exception as error:  # a user's module may raise anything
        raise UsageError(
            f"cannot import the {noun} {what}: {error}", "Write module:function, importable from this folder."
        ) from None
    if not callable(found):
        raise UsageError(f"the {noun} {what} is no function", "Name a function: module:function.")
    return found


def task_goal(name: str, run: Run) -> Goal:
    """The goal of a task.

    Args:
        name: ``"task"``, or ``"task:goal"`` for another than the task's usual one (a row of its module's ``GOALS``),
            such as ``molecules:plogp`` or ``digits-preference:7``.
        run: a training run, of the task or of data of the same kind.
    Returns:
        The goal.
    Raises:
        UsageError: if there is no such task or goal, or the run is of another kind of data.
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


def own_goal(what: str, maximize: bool | None, on: str | None = None) -> Goal:
    """A goal from a function of the user's.

    Args:
        what: ``"module:function"``: list of decoded objects (strings or arrays) to a list of floats, None for an
            invalid one. Its attributes ``maximize`` and ``on`` (``"objects"`` or ``"tensors"``), where it has them,
            state its sense and what it takes.
        maximize: sense; None is the function's own.
        on: what it takes; None is the function's own, else ``"objects"``.
    Returns:
        The goal.
    Raises:
        UsageError: if it cannot be imported, is no function of one argument, or nobody says its sense.
    """
    score = imported(what, "objective")
    sense = getattr(score, "maximize", None) if maximize is None else maximize
    if sense is None:
        raise UsageError(f"{what} does not say whether more is better", "Add --maximize or --minimize.")
    if not _takes_one(score):
        raise UsageError(
            f"the objective {what} does not take one argument",
            "It is given a list of decoded objects, and gives one float (or None) for each.",
        )
    return Goal(name=what, score=score, maximize=bool(sense), on=on or str(getattr(score, "on", "objects")))


def _takes_one(function: Any) -> bool:
    try:
        inspect.signature(function).bind(None)
    except TypeError:
        return False
    except ValueError:  # some built-in functions have no signature
        return True
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchTarget:
    """What is searched for: one of a task's goal, a function of the user's, or targets.

    Args:
        task: ``"name"`` or ``"name:goal"``.
        objective: ``"module:function"``.
        target: as `lso.tasks.search.targets.pick` takes it.
        maximize: sense of a function that does not state it.
        pixels: of targets, how files become pixels where that differs from the run, as `lso.tasks.search.targets.pick`
            takes it.
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
            raise UsageError(f"pixels are changed of targets, and there are none: {dict(self.pixels)}", "Leave it out.")

    def goal(self, run: Run) -> Goal | None:
        """The goal."""
        if self.task is not None:
            return task_goal(self.task, run)
        return None if self.objective is None else own_goal(self.objective, self.maximize)

    @classmethod
    def recorded(cls, info: Mapping[str, Any], trust: Trust) -> "SearchTarget":
        """What a search was begun for, as its folder says."""
        told = info["sought"]
        known = dict(told) if isinstance(told, Mapping) else {}
        try:
            found = cls(**known)
        except (TypeError, UsageError):
            found = None
        changes = known.pop("pixels", {})
        plain = [*known.values(), *(changes.values() if isinstance(changes, Mapping) else [changes])]
        if found is None or not all(isinstance(value, str | bool | int | None) for value in plain):
            raise RunError(f"run.json does not say what is sought: {told!r}", "It is damaged; start the search again.")
        if isinstance(trust, tuple) and trust and found.objective not in trust:
            raise UsageError(f"{', '.join(trust)} is not what this search is for: {found}", "Leave --objective out.")
        if found.objective is not None:
            require_trust(found.objective, "objective", trust)
        return found

    def __str__(self) -> str:
        return str(self.task or self.objective or self.target)
