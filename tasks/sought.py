"""What a search is for, as a user names it. Torch-free until its goal is asked for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lso.tasks.goal import Goal
from lso.tasks.goals import own_goal, task_goal
from lso.vae.errors import RunError, UsageError
from lso.vae.runs import Run
from lso.vae.trust import Trust, require_trust


@dataclass(frozen=True, slots=True, kw_only=True)
class Sought:
    """What is searched for: one of a task's goal, a function of the user's, or targets.

    Args:
        task: ``"name"`` or ``"name:goal"``.
        objective: ``"module:function"``.
        target: as `lso.tasks.pick.pick` takes it.
        maximize: sense of a function that does not state it.
        pixels: of targets, how files become pixels where that differs from the run, as `lso.tasks.pick.pick` takes it.
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
        """The goal.

        Args:
            run: a training run.
        Returns:
            It; None for targets.
        Raises:
            UsageError: as `lso.tasks.goals`.
        """
        if self.task is not None:
            return task_goal(self.task, run)
        return None if self.objective is None else own_goal(self.objective, self.maximize)

    @classmethod
    def recorded(cls, info: Mapping[str, Any], trust: Trust) -> "Sought":
        """What a search was begun for, as its folder says.

        Args:
            info: its run.json.
            trust: what may run of the code that it names.
        Returns:
            The same.
        Raises:
            UsageError: if it names a function that is not to be trusted.
            RunError: if it does not say.
        """
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
