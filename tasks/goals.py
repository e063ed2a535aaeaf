"""Goals by name: those of tasks, and functions of the user's."""

import inspect
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from lso.tasks.goal import Goal
from lso.tasks.imports import imported
from lso.tasks.task import TASKS, task
from lso.vae.errors import UsageError, unknown_name
from lso.vae.runs import Run


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
    build: Callable[[Run], Goal] = _resolved(row.goal)
    if variant:
        others: Mapping[str, Any] = getattr(import_module(row.goal.partition(":")[0]), "GOALS", {})
        if variant not in others:
            raise unknown_name(f"goal of task {base}", variant, others)
        build = _resolved(others[variant])
    return build(run)


def _resolved(what: Any) -> Any:
    """A function, or the one that ``"module:function"`` names."""
    if not isinstance(what, str):
        return what
    module, _, function = what.partition(":")
    return getattr(import_module(module), function)


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
