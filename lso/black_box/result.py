"""The result of a black-box search."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lso.objectives.latent_objective import LatentObjective
from lso.results.result import Evaluation


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SearchResult:
    """The result of a black-box search. Values are in the sense of the user's score.

    Args:
        status: ``finished`` (the budget is spent), ``max_calls``, ``decoder_ignores_latent``, ``stands_still``,
            ``invalid``, ``failed``, or ``stopped`` (by the caller).
        sentence: the status in words.
        objective: the objective that was optimized.
        optimizer: name of the optimizer.
        settings: seed, batch, budget, limit of calls, timeout and the optimizer's options.
        records: the evaluation of each call, in the order of their numbers.
        known: ``(k, d)`` codes whose values were told beforehand, outside the budget.
        known_value: ``(k,)`` their values.
        ask_seconds: seconds that each ask took.
        counters: calls, unique, duplicate, invalid, failed, timed_out, seconds.
        weights_hash: hash of the frozen decoder, verified after the search.
        folder: the run folder, or None.
    """

    status: str
    sentence: str
    objective: LatentObjective
    optimizer: str
    settings: Mapping[str, Any]
    records: tuple[Evaluation, ...] = field(repr=False)
    known: Float[Tensor, "k latent"] = field(repr=False)
    known_value: Float[Tensor, " k"] = field(repr=False)
    ask_seconds: Sequence[float] = field(repr=False)
    counters: Mapping[str, float | int]
    weights_hash: str
    folder: Path | None = None

    def __repr__(self) -> str:
        best = "nothing valid" if self.best is None else f"best {self.best_value:z.6g}"
        return f"SearchResult({self.objective.name}, {self.optimizer}, {best}, {self.status}: {self.sentence})"

    @property
    def z(self) -> Float[Tensor, "n latent"]:
        """``(n, d)`` codes of all calls, double."""
        rows = [record.z for record in self.records]
        return torch.tensor(rows, dtype=torch.float64).reshape(-1, self.objective.dim)

    @property
    def value(self) -> Float[Tensor, " n"]:
        """``(n,)`` values of all calls; NaN for a call without a value."""
        return torch.tensor([record.value for record in self.records], dtype=torch.float64)

    @property
    def best(self) -> Evaluation | None:
        """The best call, the first of equals; None where nothing was valid."""
        return self._best([record.valid for record in self.records])

    @property
    def best_typical(self) -> Evaluation | None:
        """The best call whose code is typical of the prior (see `LatentSpace.typical`)."""
        typical = self.objective.space.typical(self.z).tolist()
        return self._best([record.valid and flag for record, flag in zip(self.records, typical, strict=True)])

    @property
    def best_value(self) -> float:
        """Value of the best call; NaN where nothing was valid."""
        return float("nan") if self.best is None else self.best.value

    @property
    def best_z(self) -> Float[Tensor, " latent"]:
        """``(d,)`` code of the best call; NaN where nothing was valid."""
        if self.best is None:
            return torch.full((self.objective.dim,), torch.nan, dtype=torch.float64)
        return torch.tensor(self.best.z, dtype=torch.float64)

    def _best(self, allowed: Sequence[bool]) -> Evaluation | None:
        sign = self.objective.sign
        rows = [record for record, flag in zip(self.records, allowed, strict=True) if flag]
        return min(rows, key=lambda record: sign * record.value, default=None)

    def best_so_far(self, unique: bool = True) -> Float[Tensor, " n"]:
        """The best value up to each call.

        Args:
            unique: one entry for each unique valid object, which the budget counts, instead of each call.
        Returns:
            ``(n,)``; NaN before the first value.
        """
        sign, best, values = self.objective.sign, float("inf"), []
        for record in self.records:
            if record.valid:
                best = min(best, sign * record.value)
            if not unique or (record.duplicate_of is None and record.outcome == "evaluated"):
                values.append(sign * best if best < float("inf") else float("nan"))
        return torch.tensor(values, dtype=torch.float64)

    def report(self, path: str | Path, **facts: Any) -> Path:
        """Write the report of this search.

        Args:
            path: ``.html`` file, or a folder for ``report.html``; the numbers are written beside it as JSON.
            **facts: further facts for the report, as `lso.reports.black_box_report.black_box_report` takes it.
        Returns:
            The HTML file.
        """
        from lso.reports.black_box_report import black_box_report

        return black_box_report([self], path, **facts)

    def _repr_html_(self) -> str:
        """Verdict, numbers and best objects, for a notebook; it takes as long as `report`."""
        from lso.reports.black_box_report import show_black_box

        return show_black_box(self)
