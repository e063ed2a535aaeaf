"""The report on black-box searches for one objective: ``report.html`` and ``report.json`` with the same numbers."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from lso.analysis.black_box_groups import BestObject, Group
from lso.analysis.black_box_summary import BlackBoxSummary, black_box_summary
from lso.analysis.black_box_traces import MIN_SEARCHES_FOR_QUARTILES
from lso.analysis.latent_dimensions import WEAK_BELOW, decode_on_cpu
from lso.analysis.summary import to_json_value
from lso.analysis.verdict import describe_inactive
from lso.black_box.result import SearchResult
from lso.decoders.decoder import is_image
from lso.reports import black_box_tables as tables
from lso.reports.comparison import side_by_side
from lso.reports.html import extra_tables, figure_uri, render, report_paths, verdict_values, write_report
from lso.reports.images import data_uri, image_png
from lso.reports.tables import Table, number, percent, pluralize
from lso.vae.checkpoint import Codes


def black_box_report(
    results: Sequence[SearchResult],
    path: str | os.PathLike[str],
    *,
    codes: Codes | None = None,
    verdict: str = "",
    best_possible: float | None = None,
    names: Sequence[str] | None = None,
    target: str = "",
    extra: Mapping[str, Any] | None = None,
) -> Path:
    """Write the report of one search, of several that differ in their seeds, or of several optimizers side by side.

    Args:
        results: searches for one objective; those with the same name form a group, and the report is on the first.
        path: a file ending in ``.html``, or a folder.
        codes: posterior codes of the training's validation split.
        verdict: the verdict of the training run on its latents.
        best_possible: the best attainable value, where known.
        names: of the group of each result; None takes the optimizers' names.
        target: name of the datum that is searched for, where there is one.
        extra: facts for the end of the page, e.g. model, data, notes.
    Returns:
        The path of the page.
    Raises:
        UsageError: if there is no result, or they are of different objectives.
    """
    known: dict[str, Any] = {"codes": codes, "verdict": verdict, "best_possible": best_possible}
    summary = black_box_summary(results, names=names, target=target, **known)
    settings = {f"{r.optimizer}, seed {r.settings.get('seed')}": dict(r.settings) for r in results}
    return write_black_box(summary, path, settings, extra)


def write_black_box(
    summary: BlackBoxSummary,
    path: str | os.PathLike[str],
    settings: Mapping[str, Any] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Path:
    """Write the report of black-box searches whose numbers have been computed."""
    main, objective = summary.main, summary.main.objective
    searches = sum(len(group.traces) for group in summary.groups)
    optimizers = ", ".join(group.name for group in summary.groups)
    size = f"{searches} {'search' if searches == 1 else 'searches'} · {pluralize(objective.dim, 'latent dimension')}"
    html = render(
        "black_box.html",
        title="Black-box search report",
        subtitle=f"{objective.name} ({_sense(main)}) · {optimizers} · {size}",
        v=verdict_values(summary.verdict),
        others=[{"name": group.name} | verdict_values(group.verdict) for group in summary.groups[1:]],
        main=main.name,
        cards=_cards(summary),
        charts=_charts(summary),
        tables=_tables(summary)
        | {"settings": side_by_side("", settings) if settings else None, "extra": extra_tables(extra)},
        tiles=_tiles(summary),
        inactive=_activity(main),
        rule=_rule(main),
        endings=tables.endings(summary),
        band=_band(summary),
        json_name=report_paths(path)[1].name,
        tile=72,
    )
    return write_report(path, html, black_box_numbers(summary, settings, extra), "search")


def black_box_numbers(
    summary: BlackBoxSummary, settings: Mapping[str, Any] | None = None, extra: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The content of report.json."""
    essence = {group.name: tables.black_box_key_numbers(group) for group in summary.groups}
    rest = {"essence": essence[summary.main.name], "essences": essence}
    return (
        summary.to_json()
        | rest
        | {"settings": to_json_value(dict(settings or {})), "extra": to_json_value(dict(extra or {}))}
    )


def _charts(summary: BlackBoxSummary) -> dict[str, str]:
    from lso.reports import black_box_plots as figures

    pooled = summary.main.pooled
    return {
        "progress": figure_uri(figures.progress(summary)),
        "calibration": "" if pooled is None else figure_uri(figures.calibration_figure(pooled)),
        "activity": figure_uri(figures.activity_by_dimension(summary.main)),
        "typicality": figure_uri(figures.typicality(summary)),
        "agreement": "" if summary.main.agreement is None else figure_uri(figures.agreement(summary.main)),
    }


def _tables(summary: BlackBoxSummary) -> dict[str, Any]:
    main = summary.main
    compared = tables.black_box_key_number_table(summary) if len(summary.groups) > 1 else None
    return {
        "checks": tables.group_checks(main),
        "rules": tables.group_rules(main),
        "compared": None if compared is None else _without_note(compared),
        "top": tables.top(summary),
        "searches": tables.searches_table(summary),
        "moves": tables.moves(summary),
        "surrogate": tables.surrogate(summary),
        "dimensions": tables.dimensions(main),
        "seeds": tables.seeds(main),
    }


def _without_note(table: Table) -> Table:
    return Table(columns=table.columns, rows=table.rows, title="Side by side, medians over seeds")


def _sense(group: Group) -> str:
    return "maximized" if group.objective.maximize else "minimized"


def _cards(summary: BlackBoxSummary) -> list[tuple[str, str, str]]:
    main, dims = summary.main, summary.main.dimensions
    calls, unique, pooled = main.total("calls"), main.total("unique"), main.pooled
    many = len(main.traces) > 1
    attainable = "" if summary.best_possible is None else f"; attainable {number(summary.best_possible)}"
    units = "" if dims.active_units is None else f"encoder (AU): {dims.active_units}"
    known = "" if main.mutual_information is None else f"MI {number(main.mutual_information, 3)} nats"
    spread = f"median of {len(main.traces)} seeds {number(main.median('best'))}" if many else "one search"
    lost = [f"{main.total(key)} {word}" for key, word in LOST.items() if main.total(key)]
    return [
        ("best value", number(main.best), spread + attainable),
        ("best typical", number(main.best_typical), "at a code typical of the prior"),
        ("distinct valid objects", number(unique), f"of {number(calls)} calls" + "".join(f"; {part}" for part in lost)),
        ("typical proposals", percent(main.median("typical_share")), f"at a bound {percent(main.median('at_bound'))}"),
        (
            "active dimensions",
            f"{int(dims.active.sum())} of {main.objective.dim}",
            ", ".join(filter(None, (units, known))),
        ),
        *([] if pooled is None else [("left-out values", number(pooled.rank_correlation, 3), _surrogate(main))]),
    ]


LOST = {"duplicate": "duplicate", "invalid": "invalid", "failed": "failed", "timed_out": "timed out"}


def _band(summary: BlackBoxSummary) -> str:
    many = max(len(group.traces) for group in summary.groups)
    shown = "the middle half of the seeds" if many >= MIN_SEARCHES_FOR_QUARTILES else "from the worst seed to the best"
    return f"Thin lines: one search each. Bold: the median over seeds. Band: {shown}." if many > 1 else ""


def _surrogate(group: Group) -> str:
    pooled = group.pooled
    assert pooled is not None
    flat = "; flat" if group.flat else ""
    return f"rank correlation; {percent(pooled.coverage_95)} within 95 % intervals{flat}"


def _tiles(summary: BlackBoxSummary) -> dict[str, Any]:
    """The best distinct objects as pictures or texts, or a note why they are not shown."""
    objective = summary.main.objective
    if not summary.top:
        return {"rows": [], "note": "No object was valid."}
    if objective.decoder.vocabulary is not None or objective.decoder.makes_objects:
        if all(found.text is None for found in summary.top):
            return {"rows": [], "note": "Decoded data are objects; only images and texts are shown."}
        note = "The best distinct objects of all searches, best first, with their values."
        texts = [(number(found.value), found.text, "" if found.typical else "atypical") for found in summary.top]
        return {"rows": [], "texts": texts, "note": note}
    z = torch.tensor([found.z for found in summary.top], dtype=torch.float64)
    if len({one.objective.decoder.hash for one in summary.groups}) > 1:
        return {"rows": [], "note": "The searches have different decoders; their objects are not shown."}
    decoded = decode_on_cpu(objective, z)
    if not is_image(decoded.shape[1:]):
        note = f"Decoded data have shape {tuple(decoded.shape[1:])}; only images and texts are shown."
        return {"rows": [], "note": note}
    rows = [_tile(found, data_uri(image_png(image))) for found, image in zip(summary.top, decoded, strict=True)]
    note = (
        "The best distinct objects of all searches, best first, with their value and the percentile of the code's norm."
    )
    return {"rows": rows, "note": note + " Red frame: the code is atypical." * any(not f.typical for f in summary.top)}


def _tile(found: BestObject, picture: str) -> dict[str, Any]:
    value = number(found.value, 4)
    return {
        "uri": picture,
        "alt": f"rank {found.rank}, value {value}",
        "value": value,
        "small": f"{percent(found.percentile)}{'' if found.typical else ', atypical'}",
        "strange": not found.typical,
    }


def _activity(group: Group) -> str:
    dims, parts = group.dimensions, [describe_inactive(group.dimensions)]
    if dims.active_units is not None:
        parts.append(
            f"Active units of the encoder (AU, variance of posterior means of at least 0.01): {dims.active_units}."
        )
    if group.mutual_information is not None:
        parts.append(
            f"Data and codes share {number(group.mutual_information, 3)} nats of mutual information (MI, over "
            "the validation split)."
        )
    return " ".join(parts)


def _rule(group: Group) -> str:
    return (
        f"Sensitivity is the mean {group.dimensions.how}. A dimension is dead if its sensitivity is exactly 0, weak if "
        f"it is under {100 * WEAK_BELOW:.0f} % of the largest ({100 * WEAK_BELOW**0.5:.0f} % in norm), else active. "
        "Dimensions count from z0. Best code: mean distance of the searches' best codes from the prior's mean. Spread: "
        "standard deviation of the proposals after the initial design; prior draws have 1, and a search that learnt "
        "where to look has less in the dimensions that matter. Lengthscale: that of the surrogate, in standard "
        "deviations of the prior; it is short where the value varies quickly. A surrogate with short lengthscales in "
        "dead dimensions has fitted noise."
    )
