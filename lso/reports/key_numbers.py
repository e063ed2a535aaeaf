"""The few numbers by which one compares searches, for terminals, pages and report.json (its key ``essence``)."""

from collections.abc import Mapping
from typing import Any

from lso.analysis.convergence import finite_median
from lso.analysis.plausibility import share_true
from lso.analysis.summary import SearchSummary, median_row
from lso.reports.tables import Table, number, percent

PERCENT_WORDS = ("share", "percentile")  # words in a key that make it a percentage


def key_numbers(summary: SearchSummary) -> dict[str, Any]:
    """The few numbers by which one compares searches; None where not known.

    They are medians over targets unless the key says otherwise.
    """
    steps, starts, dims = summary.convergence, summary.sensitivity, summary.dimensions
    ends = {pairs.name: pairs for pairs in starts.pairs}
    best = median_row(summary.best)
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
        "share of targets reproduced exactly": None if summary.texts is None else share_true(summary.texts.exact),
        "tokens to edit": None if summary.texts is None else float(finite_median(summary.texts.edits.double())),
        "spread over starts": float(finite_median(starts.spread)),
        "spread, share of the gain": float(finite_median(starts.relative_spread)),
        "share of targets with several basins": share_true(starts.basins > 1),
        "code distance, active dims": ends["all pairs"].active,
        "code distance, weak and dead dims": ends["all pairs"].other,
        "baseline 2 x weak and dead dims": starts.baseline_other,
        "distance of decoded results": ends["all pairs"].decoded,
        "steps": float(finite_median(steps.steps)),
        "share still gaining or failed": share_true(steps.moving | steps.failed),
        "latent dims": len(dims.sensitivity),
        "active dims (decoder)": int(dims.active.sum()),
        "active units (encoder)": dims.active_units,
        "mutual information (nats)": summary.mutual_information,
        "norm percentile of best, active dims": best["percentile_active"],
        "share of best codes atypical": best["atypical"],
        "re-encoding error of best, active dims": best["reencoding_active"],
        "re-encoding error of prior draws, active dims": median_row(summary.reference.plausibility)[
            "reencoding_active"
        ],
        "best value of the control": None if summary.control is None else summary.control.best,
        "seconds": float(summary.result.seconds),
    }


def format_key_number(key: str, value: Any) -> str:
    """Format one key number; shares become percentages."""
    is_share = isinstance(value, float) and any(word in key for word in PERCENT_WORDS)
    return percent(value) if is_share else number(value)


def key_number_table(summary: SearchSummary) -> Table:
    """The key numbers of one search as a table for a terminal."""
    found = {key: value for key, value in key_numbers(summary).items() if value is not None}
    rows = [[key, format_key_number(key, value)] for key, value in found.items() if key != "verdict"]
    note = " ".join(filter(None, (summary.verdict.sentence, summary.verdict.training)))
    return Table(columns=["number", "median over targets"], rows=rows, title="Search", note=note)


def compare_key_numbers(columns: Mapping[str, Mapping[str, Any]]) -> Table:
    """The key numbers of several searches side by side; rows that no search knows are left out."""
    keys = list(dict.fromkeys(key for found in columns.values() for key in found))
    known = [key for key in keys if any(found.get(key) is not None for found in columns.values())]
    rows = [[key, *(format_key_number(key, found.get(key)) for found in columns.values())] for key in known]
    box = any("seeds" in found for found in columns.values())
    over = ("seeds", "seeds") if box else ("targets", "starts")
    note = f"Medians over {over[0]} unless a row says otherwise; distances are squared, over pairs of {over[1]}."
    return Table(columns=["number", *columns], rows=rows, title="Searches side by side", note=note)
