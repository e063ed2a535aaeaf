"""The essence of a search: the few numbers that one compares searches by, for terminals, pages and report.json."""

from collections.abc import Mapping
from typing import Any

from lso.analysis.convergence import finite_median
from lso.analysis.plausibility import share_within
from lso.analysis.summary import SearchSummary, rows_of
from lso.reports.tables import Table, number, percent

PERCENT = ("share", "percentile")  # words in a key that make it a percentage


def essence_numbers(summary: SearchSummary) -> dict[str, Any]:
    """The few numbers that one compares searches by.

    Args:
        summary: of a search.
    Returns:
        Key -> plain value; None where not known. Medians over targets unless the key says otherwise.
    """
    steps, starts, dims = summary.convergence, summary.sensitivity, summary.dimensions
    ends = {pairs.name: pairs for pairs in starts.pairs}
    best = rows_of(summary.best)
    sign = -1 if summary.result.objective.maximize else 1
    return {
        "verdict": summary.verdict.level,
        "optimizer": summary.result.optimizer,
        "targets": len(steps.best),
        "starts": starts.starts,
        "best value": float(finite_median(steps.best)),
        "best value, worst target": float(sign * (sign * steps.best).max()),
        "value over all starts": starts.value,
        "share of the target reproduced": None
        if summary.explained is None
        else float(finite_median(summary.explained)),
        "targets not reproduced": None if summary.reproduction is None else int(summary.reproduction.missed.sum()),
        "share of targets reproduced exactly": None if summary.said is None else share_within(summary.said.exact),
        "tokens to edit": None if summary.said is None else float(finite_median(summary.said.edits.double())),
        "spread over starts": float(finite_median(starts.spread)),
        "spread, share of the gain": float(finite_median(starts.relative_spread)),
        "share of targets with several basins": share_within(starts.basins > 1),
        "code distance, active dims": ends["all pairs"].active,
        "code distance, weak and dead dims": ends["all pairs"].other,
        "baseline 2 x weak and dead dims": starts.baseline_other,
        "distance of decoded results": ends["all pairs"].decoded,
        "steps": float(finite_median(steps.steps)),
        "share still gaining or failed": share_within(steps.moving | steps.failed),
        "latent dims": len(dims.sensitivity),
        "active dims (decoder)": int(dims.active.sum()),
        "active units (encoder)": dims.active_units,
        "mutual information (nats)": summary.mutual_information,
        "norm percentile of best, active dims": best["percentile_active"],
        "share of best codes atypical": best["atypical"],
        "re-encoding error of best, active dims": best["reencoding_active"],
        "re-encoding error of prior draws, active dims": rows_of(summary.reference.plausibility)["reencoding_active"],
        "best value of the control": None if summary.control is None else summary.control.best,
        "seconds": float(summary.result.seconds),
    }


def cell(key: str, value: Any) -> str:
    """One number of the essence as text."""
    is_share = isinstance(value, float) and any(word in key for word in PERCENT)
    return percent(value) if is_share else number(value)


def essence(summary: SearchSummary) -> Table:
    """The essence of a search for a terminal."""
    found = {key: value for key, value in essence_numbers(summary).items() if value is not None}
    rows = [[key, cell(key, value)] for key, value in found.items() if key != "verdict"]
    note = " ".join(filter(None, (summary.verdict.sentence, summary.verdict.training)))
    return Table(columns=["number", "median over targets"], rows=rows, title="Search", note=note)


def essence_across(columns: Mapping[str, Mapping[str, Any]]) -> Table:
    """The essence of several searches side by side.

    Args:
        columns: run name -> `essence_numbers`, as report.json keeps them.
    Returns:
        One column a run; rows that no run knows are left out.
    """
    keys = list(dict.fromkeys(key for found in columns.values() for key in found))
    known = [key for key in keys if any(found.get(key) is not None for found in columns.values())]
    rows = [[key, *(cell(key, found.get(key)) for found in columns.values())] for key in known]
    box = any("seeds" in found for found in columns.values())
    over = ("seeds", "seeds") if box else ("targets", "starts")
    note = f"Medians over {over[0]} unless a row says otherwise; distances are squared, over pairs of {over[1]}."
    return Table(columns=["number", *columns], rows=rows, title="Searches side by side", note=note)
