"""Reports: pages that say whether a result can be believed, with the same numbers as JSON beside them.

`search_report` is for a search, `training_report` and `compare_runs` for trainings, `compare_searches` for several
searches, `pictures` for grids of images; `key_number_table` is the table for a terminal.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lso.analysis.convergence import finite_median
from lso.analysis.latent_dimensions import WEAK_BELOW
from lso.analysis.plausibility import share_true
from lso.analysis.reconstruction import TextComparison
from lso.analysis.summary import SearchSummary, search_summary, to_json_value
from lso.analysis.verdict import describe_inactive
from lso.decoders.probing import Probe
from lso.reports import search_tables as tables
from lso.reports.comparison import compare_runs as compare_runs
from lso.reports.comparison import compare_searches as compare_searches
from lso.reports.comparison import training_report as training_report
from lso.reports.gallery import gallery, text_rows
from lso.reports.html import extra_tables, figure_uri, render, report_paths, verdict_values, write_report
from lso.reports.images import data_uri, figure_png, png
from lso.reports.key_numbers import key_number_table as key_number_table
from lso.reports.key_numbers import key_numbers
from lso.reports.tables import facts, number, percent, pluralize
from lso.results.result import Result
from lso.vae.checkpoint import Codes
from lso.vae.utils.files import replace_file, utf8

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def search_report(
    result: Result,
    path: str | os.PathLike[str],
    *,
    codes: Codes | None = None,
    probe: Probe | None = None,
    control: Result | None = None,
    verdict: str = "",
    target_names: Sequence[str] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Path:
    """Write the report of a gradient search: ``report.html`` and ``report.json`` with the same numbers.

    Args:
        result: of the search.
        path: a file ending in ``.html``, or a folder.
        codes: posterior codes of the training's validation split.
        probe: how the decoder reacts to redrawn dimensions; without codes it is measured here unless it is given.
        control: the same search by another optimizer.
        verdict: the verdict of the training run on its latents.
        target_names: one for each target.
        extra: facts for the end of the page, e.g. model, data, notes.
    Returns:
        The path of the page.
    """
    summary = search_summary(
        result, codes=codes, probe=probe, control=control, training_verdict=verdict, target_names=target_names
    )
    return write_search(summary, path, extra)


def write_search(summary: SearchSummary, path: str | os.PathLike[str], extra: Mapping[str, Any] | None = None) -> Path:
    """Write the report of a search whose numbers have been computed."""
    result, (targets, starts, latent) = summary.result, summary.result.z.shape
    size = f"{pluralize(targets, 'target')} × {pluralize(starts, 'start')} · {pluralize(latent, 'latent dimension')}"
    settings = {
        "status": result.status,
        "sentence": result.sentence,
        **result.settings,
        "weights sha256": result.weights_hash,
    }
    html = render(
        "search.html",
        title="Search report",
        subtitle=f"{result.objective.name} · {result.optimizer} · {size} · {number(float(result.seconds), 3)} s",
        v=verdict_values(summary.verdict),
        cards=_cards(summary),
        charts=_charts(summary),
        tables=_tables(summary) | {"settings": facts("", settings), "extra": extra_tables(extra)},
        gallery=gallery(summary),
        texts=text_rows(summary),
        tile=48 if starts <= 6 else 36,
        inactive=_activity_sentence(summary),
        rule=_rule(summary),
        json_name=report_paths(path)[1].name,
    )
    return write_report(path, html, search_numbers(summary, extra), "search")


def search_numbers(summary: SearchSummary, extra: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The content of report.json."""
    return summary.to_json() | {
        "essence": to_json_value(key_numbers(summary)),
        "extra": to_json_value(dict(extra or {})),
    }


def _charts(summary: SearchSummary) -> dict[str, str]:
    from lso.reports import search_plots as figures

    return {
        "convergence": figure_uri(figures.convergence_figure(summary)),
        "finals": figure_uri(figures.final_values_figure(summary)),
        "distances": figure_uri(figures.distances_figure(summary)) if summary.sensitivity.starts > 1 else "",
        "activity": figure_uri(figures.activity_figure(summary.dimensions)),
        "plausibility": figure_uri(figures.plausibility_figure(summary)),
    }


def _tables(summary: SearchSummary) -> dict[str, Any]:
    makers = {
        "checks": tables.search_checks,
        "rules": tables.search_rules,
        "targets": tables.targets,
        "reproduction": tables.reproduction,
        "final_values": tables.final_values_table,
        "thresholds": tables.thresholds_table,
        "stopped": tables.stopped,
        "distances": tables.distances_table,
        "by_kind": tables.by_kind,
        "control": tables.control,
        "activity": tables.activity_table,
        "plausibility": tables.plausibility_table,
        "best_and_typical": tables.best_and_typical,
        "counters": tables.counters,
    }
    return {name: make(summary) for name, make in makers.items()}


def _cards(summary: SearchSummary) -> list[tuple[str, str, str]]:
    steps, starts, dims = summary.convergence, summary.sensitivity, summary.dimensions
    rest = 1 - share_true(steps.moving | steps.failed)
    units = "" if dims.active_units is None else f"encoder (AU): {dims.active_units}"
    known = None if summary.mutual_information is None else f"MI {number(summary.mutual_information, 3)} nats"
    return [
        (
            "best value",
            number(float(finite_median(steps.best))),
            f"median target; start {number(float(finite_median(steps.value0)))}",
        ),
        ("spread over starts", percent(float(finite_median(starts.relative_spread))), "of the gain, median target"),
        (
            "levelled off",
            percent(rest),
            f"of {steps.failed.numel()} searches; median {number(float(finite_median(steps.steps)))} steps",
        ),
        (
            "active dimensions",
            f"{int(dims.active.sum())} of {len(dims.sensitivity)}",
            ", ".join(filter(None, (units, known))),
        ),
        *(
            []
            if summary.explained is None
            else [("reproduced", percent(float(finite_median(summary.explained))), _reproduced(summary))]
        ),
        *([] if summary.texts is None else [_exactly_reproduced(summary.texts)]),
        ("typical best codes", percent(1 - share_true(summary.best.atypical)), "over active dimensions"),
    ]


def _reproduced(summary: SearchSummary) -> str:
    found = summary.reproduction
    missed = 0 if found is None else int(found.missed.sum())
    others = f"; {missed} of {len(summary.target_names)} are not" if missed else ""
    return f"of the median target, best result{others}"


def _exactly_reproduced(texts: TextComparison) -> tuple[str, str, str]:
    exact, total = int(texts.exact.sum()), len(texts.target)
    edits = float(finite_median(texts.edits.double()))
    return "exactly reproduced", f"{exact} of {total}", f"median {number(edits, 3)} tokens to edit"


def _activity_sentence(summary: SearchSummary) -> str:
    dims = summary.dimensions
    parts = [describe_inactive(dims)]
    if dims.active_units is not None:
        parts.append(
            f"Active units of the encoder (AU, variance of posterior means of at least 0.01): {dims.active_units}."
        )
    if summary.mutual_information is not None:
        parts.append(
            f"Data and codes share {number(summary.mutual_information, 3)} nats of mutual information (MI, over "
            "the validation split)."
        )
    return " ".join(parts)


def _rule(summary: SearchSummary) -> str:
    return (
        f"Sensitivity is the mean {summary.dimensions.how}. A dimension is dead if its sensitivity is exactly 0, weak "
        f"if it is under {100 * WEAK_BELOW:.0f} % of the largest ({100 * WEAK_BELOW**0.5:.0f} % in norm), else active. "
        "Dimensions count from z0. Moved: mean absolute distance between start and end, in prior standard deviations. "
        "Decoder use: rise of the reconstruction NLL when the dimension is redrawn from the prior."
    )


def pictures(
    title: str,
    figures: Mapping[str, "Figure | np.ndarray"],
    path: str | os.PathLike[str],
    *,
    subtitle: str = "",
    extra: Mapping[str, Any] | None = None,
) -> Path:
    """Write charts or image grids as PNG files and as one page.

    Args:
        title: of the page.
        figures: heading -> matplotlib figure or ``(H, W, 3)`` bytes (`lso.reports.images.grid`).
        path: a file ending in ``.html``, or a folder; the PNG files lie beside the page, named for their headings.
        subtitle: under the title.
        extra: facts for the end of the page.
    Returns:
        The path of the page.
    """
    page, _ = report_paths(path)
    entries = []
    for heading, figure in figures.items():
        content = png(figure) if isinstance(figure, np.ndarray) else figure_png(figure)
        replace_file(page.parent / f"{picture_name(heading)}.png", content)
        entries.append({"title": heading, "uri": data_uri(content)})
    html = render("pictures.html", title=title, subtitle=subtitle, pictures=entries, extra=extra_tables(extra))
    replace_file(page, utf8(html))
    return page


def picture_name(heading: str) -> str:
    """The file name of a picture, without its ending."""
    return "-".join("".join(c if c.isalnum() else " " for c in heading.lower()).split()) or "picture"
