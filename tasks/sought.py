"""What a search is for, as a user names it. Torch-free until its goal is asked for."""

from dataclasses import dataclass

from lso.tasks.goal import Goal
from lso.tasks.goals import own_goal, task_goal
from lso.vae.errors import UsageError
from lso.vae.runs import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Sought:
    """What is searched for: one of a task's goal, a function of the user's, or targets.

    Args:
        task: ``"name"`` or ``"name:goal"``.
        objective: ``"module:function"``.
        target: as `lso.tasks.pick.pick` takes it.
        maximize: sense of a function that does not state it.
    Raises:
        UsageError: unless exactly one of the three is given.
    """

    task: str | None = None
    objective: str | None = None
    target: str | None = None
    maximize: bool | None = None

    def __post_init__(self) -> None:
        given = [name for name in ("task", "objective", "target") if getattr(self, name) is not None]
        if len(given) != 1:
            raise UsageError(
                f"expected exactly one of task, objective and target, got {' and '.join(given) or 'none'}",
                "Say what to search for: --target images/, --task expressions, or --objective module:function",
            )

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

    def __str__(self) -> str:
        return str(self.task or self.objective or self.target)
