"""The result of a gradient search: one record for each element, values along the way, status and sentence."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lso.objectives.latent_objective import LatentObjective


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """One code, what it decodes to and what that is worth: an element of a gradient search at its end, or one call of a
    black-box search.

    Args:
        z: the code.
        decoded_hash: of the decoded datum; equal where all values agree to the objective's ``decimals``.
        value: as the objective gives it, never negated; NaN where there is none.
        valid: whether the value is finite.
        duplicate_of: number of the first evaluation of this search with the same decoded datum, or None;
            -1 where an earlier search scored it.
        norm_percentile: percentile of the code's norm under the prior, in [0, 1].
        reencoding_error: mean over dimensions of (z - encoder mean of the decoded datum)^2; None without an encoder.
        seconds: time until the element of a gradient search was seen to have stopped, or time that the call took.
        decoded: the decoded datum itself, where it is a text.
        target: index of the target, 0 without targets.
        start: index of the start.
        steps: number of steps after which a gradient search stopped.
        stopped: why it stopped: tolerance, max_steps, not_finite, line_search (L-BFGS only: no lower loss along the
            gradient) or stopped; empty for a call.
        call: number of the call in a black-box search; None in a gradient search.
        ask: number of the ask that proposed it.
        outcome: of a call: evaluated, invalid, failed, timed_out or lost (see `lso.black_box.ask_tell.OUTCOMES`).
        reason: why there is no value.
        fault: distinguishes failures of the score, see `lso.objectives.score_calls.ScoreOutcome`.
        elapsed: seconds from the start of the search until the call was recorded, over all its sessions.
    """

    z: list[float]
    decoded_hash: str
    value: float
    valid: bool
    duplicate_of: int | None
    norm_percentile: float
    reencoding_error: float | None
    seconds: float
    decoded: str | None = None
    target: int = 0
    start: int = 0
    steps: int = 0
    stopped: str = ""
    call: int | None = None
    ask: int | None = None
    outcome: str = "evaluated"
    reason: str = ""
    fault: str = ""
    elapsed: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trace:
    """Values of all elements along the search; a finished element keeps its last value.

    Args:
        steps: ``(k,)`` steps at which values were recorded, from 0 to the last step of the search.
        value: ``(k, T, S)`` values, never negated.
    """

    steps: Int[Tensor, " k"]
    value: Float[Tensor, "k target start"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Result:
    """A finished gradient search over T targets (1 without targets) from S starts each; values are never negated.

    Args:
        status: ``converged`` (all by tolerance, or by a line search that found nothing lower), ``max_steps`` (all
            there), ``failed`` (all not finite), ``mixed``, or ``stopped`` (from outside).
        sentence: the status in words, with counts.
        objective: what was optimized, with all its targets.
        optimizer: name of the optimizer.
        settings: learning rate, tolerance, window, steps and further options.
        z0: ``(T, S, d)`` starts.
        z: ``(T, S, d)`` ends.
        value0: ``(T, S)`` values at the starts.
        value: ``(T, S)`` values at the ends.
        steps: ``(T, S)`` steps at which each stopped.
        stopped: for each target a list of S reasons (see `Evaluation`).
        start_names: S names.
        trace: values along the way.
        seconds: duration of the whole search.
        counters: calls, unique, duplicate, invalid, failed, timed_out, seconds.
        weights_hash: of the frozen decoder, verified after the search.
        records: one for each element, targets first.
    """

    status: str
    sentence: str
    objective: LatentObjective
    optimizer: str
    settings: Mapping[str, Any]
    z0: Float[Tensor, "target start latent"]
    z: Float[Tensor, "target start latent"]
    value0: Float[Tensor, "target start"]
    value: Float[Tensor, "target start"]
    steps: Int[Tensor, "target start"]
    stopped: list[list[str]]
    start_names: list[str]
    trace: Trace
    seconds: float
    counters: Mapping[str, float | int]
    weights_hash: str
    records: tuple[Evaluation, ...] = field(repr=False, default=())

    def __repr__(self) -> str:
        targets, starts, latent = self.z.shape
        return (
            f"Result({self.objective.name}, {self.optimizer}, {targets} x {starts} searches in {latent} dimensions, "
            f"{self.status}: {self.sentence})"
        )

    def evaluations(self) -> list[Evaluation]:
        """One record for each element, targets first.

        Returns:
            T * S records.
        """
        return list(self.records)

    @property
    def best(self) -> Int[Tensor, " target"]:
        """``(T,)`` start with the best value for each target; -1 where none is finite."""
        return self._best_of(torch.isfinite(self.value))

    @property
    def best_typical(self) -> Int[Tensor, " target"]:
        """``(T,)`` best start among the typical ends (norm percentile 0.5 % to 99.5 %); -1 where there is none."""
        return self._best_of(torch.isfinite(self.value) & self.objective.space.typical(self.z))

    @property
    def best_z(self) -> Float[Tensor, "target latent"]:
        """``(T, d)`` codes of the best starts (the first start where none is finite)."""
        return self.z[torch.arange(len(self.z), device=self.z.device), self.best.clamp_min(0)]

    @property
    def best_value(self) -> Float[Tensor, " target"]:
        """``(T,)`` values of the best starts (of the first start where none is finite)."""
        return self.value[torch.arange(len(self.z), device=self.z.device), self.best.clamp_min(0)]

    def _best_of(self, allowed: Tensor) -> Tensor:
        loss = torch.where(allowed, self.objective.sign * self.value, torch.inf)
        return torch.where(allowed.any(1), loss.argmin(1), -1)

    def report(self, path: str | Path, **facts: Any) -> Path:
        """Write the report of this search.

        Args:
            path: ``.html`` file, or a folder for ``report.html``; the numbers go beside it as JSON.
            **facts: further arguments of `lso.reports.search_report.search_report`; ``codes=run.codes()`` and
                ``verdict=run.verdict`` bring in what the training knows of each dimension.
        Returns:
            The HTML file.
        """
        from lso.reports.search_report import search_report

        return search_report(self, path, **facts)

    def _repr_html_(self) -> str:
        """Verdict, numbers and best objects, for a notebook; it takes as long as `report`."""
        from lso.reports.search_report import show_search

        return show_search(self)


def status_of(reasons: list[str], interrupted: str | None) -> tuple[str, str]:
    """Status and sentence of a search, from why its elements stopped."""
    count = Counter(reasons)
    words = {
        "tolerance": "met the tolerance",
        "max_steps": "reached the step limit",
        "not_finite": "met a value that is not finite",
        "line_search": "found no lower loss along the gradient",
        "stopped": "were cut off",
    }
    counts = ", ".join(f"{count[reason]} {text}" for reason, text in words.items() if count[reason])
    sentence = f"Of {len(reasons)} searches {counts}."
    if count["tolerance"] + count["line_search"] == len(reasons) and interrupted is None:
        return "converged", sentence
    if interrupted is not None:
        return "stopped", f"Stopped early ({interrupted}). {sentence}"
    pure = {"max_steps": "max_steps", "not_finite": "failed"}
    return (pure.get(reasons[0], "mixed") if len(count) == 1 else "mixed"), sentence
