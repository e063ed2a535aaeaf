"""The report on black-box searches for one objective: ``report.html`` and ``report.json`` with the same numbers."""

import dataclasses
import os
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from lso.analysis.black_box_groups import Group
from lso.analysis.black_box_summary import BlackBoxSummary, black_box_summary
from lso.analysis.black_box_traces import MIN_SEARCHES_FOR_QUARTILES
from lso.analysis.black_box_verdict import facts_of_calls
from lso.analysis.latent_dimensions import decode_on_cpu
from lso.analysis.summary import to_json_value
from lso.black_box.result import SearchResult
from lso.decoders.decoder import is_image
from lso.reports import black_box_tables as tables
from lso.reports.report import Card, Chart, Note, Part, Report, Section, Sections, Texts, TileRow, Tiles, verdict_box
from lso.reports.shared_sections import (
    STRANGE,
    active_card,
    activity_rule,
    activity_sentence,
    activity_table,
    check_tables,
    ranked_text,
    ranked_tile,
)
from lso.reports.tables import number, percent, pluralize, side_by_side
from lso.vae.checkpoint import Codes, as_codes
from lso.vae.distributions.gaussian import DiagonalGaussian

MAX_FAILURE_CHARS = 100  # of the score's first error, in the card that counts calls
MAX_ROWS_SHOWN = 40  # dimensions; of more, the page folds the table


def black_box_report(
    results: Sequence[SearchResult],
    path: str | os.PathLike[str],
    *,
    codes: Codes | DiagonalGaussian | None = None,
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
        codes: posteriors of data: ``run.codes()``, or a `DiagonalGaussian` of your own encoder, ``(n, d)``.
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
    known: dict[str, Any] = {"codes": as_codes(codes), "verdict": verdict, "best_possible": best_possible}
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
    return make_black_box_report(summary, settings, extra).save(path)


def make_black_box_report(
    summary: BlackBoxSummary, settings: Mapping[str, Any] | None = None, extra: Mapping[str, Any] | None = None
) -> Report[BlackBoxSummary]:
    """The report of black-box searches whose numbers have been computed."""
    main, objective = summary.main, summary.main.objective
    searches = sum(len(group.traces) for group in summary.groups)
    optimizers = ", ".join(group.name for group in summary.groups)
    size = f"{searches} {'search' if searches == 1 else 'searches'} · {pluralize(objective.dim, 'latent dimension')}"

    def settings_section(_: BlackBoxSummary) -> Section:
        return Section("Settings", [side_by_side("", settings) if settings else None])

    return Report(
        kind="search",
        title="Black-box search report",
        subtitle=f"{objective.name} ({_sense(main)}) · {optimizers} · {size}",
        about=summary,
        sections=[*BLACK_BOX_SECTIONS, settings_section],
        verdicts=[verdict_box(main.verdict)],
        cards=_cards(summary),
        numbers=black_box_numbers(summary, settings, extra),
        extra=extra or {},
        tile=72,
    )


def show_black_box(result: SearchResult) -> str:
    """What a notebook shows of a search: HTML."""
    return make_black_box_report(black_box_summary([result]))._repr_html_()


def black_box_numbers(
    summary: BlackBoxSummary, settings: Mapping[str, Any] | None = None, extra: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The content of report.json."""
    essence = {group.name: tables.black_box_key_numbers(group) for group in summary.groups}
    best = None if not summary.top else {**dataclasses.asdict(summary.top[0]), "object": summary.top[0].text}
    rest = {"essence": essence[summary.main.name], "essences": essence, "best_object": to_json_value(best)}
    return (
        summary.to_json()
        | rest
        | {"settings": to_json_value(dict(settings or {})), "extra": to_json_value(dict(extra or {}))}
    )


def _sense(group: Group) -> str:
    return "maximized" if group.objective.maximize else "minimized"


def _cards(summary: BlackBoxSummary) -> list[Card]:
    main = summary.main
    calls, unique, pooled = main.total("calls"), main.total("unique"), main.pooled
    many = len(main.traces) > 1
    attainable = "" if summary.best_possible is None else f"; attainable {number(summary.best_possible)}"
    spread = f"median of {len(main.traces)} seeds {number(main.median('best'))}" if many else "one search"
    lost = facts_of_calls(main.total)["lost"]
    failure = next((trace.failure for trace in main.traces if trace.failure), "")
    if failure:
        lost += f" (first: {textwrap.shorten(failure, MAX_FAILURE_CHARS, placeholder=' ...')})"
    count = f"of {number(calls)} calls" + (f"; {lost}" if lost else "")
    bound = f"at a bound {percent(main.median('at_bound'))}"
    cards = [
        Card("best value", number(main.best), spread + attainable),
        Card("best typical", number(main.best_typical), "at a code typical of the prior"),
        Card("distinct valid objects", number(unique), count),
        Card("typical proposals", percent(main.median("typical_share")), bound),
        active_card(main.dimensions, main.mutual_information),
    ]
    if pooled is not None:
        cards.append(Card("left-out values", number(pooled.rank_correlation, 3), _surrogate(main)))
    return cards


def _band(summary: BlackBoxSummary) -> str:
    many = max(len(group.traces) for group in summary.groups)
    shown = "the middle half of the seeds" if many >= MIN_SEARCHES_FOR_QUARTILES else "from the worst seed to the best"
    return f"Thin lines: one search each. Bold: the median over seeds. Band: {shown}." if many > 1 else ""


def _surrogate(group: Group) -> str:
    pooled = group.pooled
    assert pooled is not None
    flat = "; flat" if group.flat else ""
    return f"rank correlation; {percent(pooled.coverage_95)} within 95 % intervals{flat}"


# --- the sections of the page ---------------------------------------------------------------------------------------


def _best_objects(summary: BlackBoxSummary) -> Section:
    """The best distinct objects of all searches, as pictures or texts."""
    return Section("Best objects", [*_best(summary), tables.top(summary)])


def _best(summary: BlackBoxSummary) -> list[Part]:
    """The best distinct objects, or a note why they are not shown."""
    objective, top = summary.main.objective, summary.top
    if not top:
        return [Note("No object was valid.")]
    if objective.decoder.vocabulary is not None or objective.decoder.makes_objects:
        if all(found.text is None for found in top):
            return [Note("Decoded data are objects; only images and texts are shown.")]
        lines = [ranked_text(found.rank, found.value, found.text, "" if found.typical else "atypical") for found in top]
        return [
            Note("The best distinct objects of all searches, best first, with their values."),
            Texts(lines=lines),
        ]
    if len({one.objective.decoder.hash for one in summary.groups}) > 1:
        return [Note("The searches have different decoders; their objects are not shown.")]
    decoded = decode_on_cpu(objective, torch.tensor([found.z for found in top], dtype=torch.float64))
    if not is_image(decoded.shape[1:]):
        return [Note(f"Decoded data have shape {tuple(decoded.shape[1:])}; only images and texts are shown.")]
    row = [
        ranked_tile(image, found.rank, found.value, percent(found.percentile), found.typical)
        for found, image in zip(top, decoded, strict=True)
    ]
    note = "The best distinct objects of all searches, best first, with value and percentile of the code's norm."
    return [Note(note + STRANGE * any(not found.typical for found in top)), Tiles(rows=[TileRow(tiles=row)])]


def _whether_to_believe(summary: BlackBoxSummary) -> Section:
    """What each check of the verdict found, its rule, and the verdicts of further groups."""
    others = [f"{group.name}: {group.verdict.sentence}" for group in summary.groups[1:]]
    note = (
        f"The verdict, the numbers above and the sections on the seed and on activity are those of {summary.main.name}."
    )
    compared = tables.black_box_key_number_table(summary) if others else None
    beside = None if compared is None else replace(compared, title="Side by side, medians over seeds", note="")
    told: list[Part] = [Note(f"{note} The others:"), *others] if others else []
    return Section("Whether to believe it", [*told, *check_tables(summary.main.verdict.checks), beside])


def _progress(summary: BlackBoxSummary) -> Section:
    """The best value so far, and why searches ended."""
    from lso.reports import black_box_plots as figures

    chart = Chart(figures.progress(summary), "Best so far", _band(summary))
    endings = map(Note, tables.endings(summary))
    return Section("Progress", [chart, tables.searches_table(summary), *endings, tables.moves(summary)])


def _sensitivity_to_the_seed(summary: BlackBoxSummary) -> Section:
    """How far apart what the seeds found lies."""
    from lso.reports import black_box_plots as figures

    if summary.main.agreement is None:
        why = "there was one search" if len(summary.main.traces) == 1 else "the searches have different decoders"
        remedy = "Search again with other seeds, and report on all of them together."
        return Section("Sensitivity to the seed", [f"There is nothing to compare: {why}. {remedy}"])
    caption = "Left: dimensions by falling effect on the decoded data; a bar above the dashed line means farther apart "
    caption += "than unrelated codes. Right: one mark for each pair of seeds."
    chart = Chart(figures.agreement(summary.main), "Distances between what the seeds found", caption)
    return Section("Sensitivity to the seed", [chart, tables.seeds(summary.main)])


def _surrogate_section(summary: BlackBoxSummary) -> Section:
    """How well a surrogate predicts left-out values."""
    from lso.reports import black_box_plots as figures

    if summary.main.pooled is None:
        return Section("Surrogate", ["There are too few values to fit a surrogate to."])
    caption = "Left: the prediction of each value from the others against the value, with 95 % intervals. Right: a "
    caption += "calibrated surrogate follows the dashed line; below it the surrogate is too sure of itself."
    chart = Chart(figures.calibration_figure(summary.main.pooled), "Leave-one-out predictions", caption)
    return Section("Surrogate", [chart, tables.surrogate(summary)])


def _activity(summary: BlackBoxSummary) -> Section:
    """Which dimensions the decoder hears, and where the searches proposed."""
    from lso.reports import black_box_plots as figures

    group = summary.main
    searched = {
        "best |z|": group.dimensions.moved,
        "spread of proposals": group.spread,
        "lengthscale": group.lengthscale,
    }
    rule = (
        "Best code: mean distance of the searches' best codes from the prior's mean. Spread: standard deviation of the "
        "proposals after the initial design; prior draws have 1, and a search that learnt where to look has less in "
        "the dimensions that matter. Lengthscale: that of the surrogate, in standard deviations of the prior; it is "
        "short where the value varies quickly. A surrogate with short lengthscales in dead dimensions has fitted noise."
    )
    return Section(
        "Activity per dimension",
        [
            activity_sentence(group.dimensions, group.mutual_information),
            Note(f"{activity_rule(group.dimensions)} {rule}"),
            Chart(figures.activity_by_dimension(group), "Activity, movement and lengthscale per dimension"),
            activity_table(group.dimensions, searched, fold=len(group.dimensions.sensitivity) > MAX_ROWS_SHOWN),
        ],
    )


def _typicality(summary: BlackBoxSummary) -> Section:
    """Values against how typical their codes are."""
    from lso.reports import black_box_plots as figures

    alt = "Values against norm percentiles and re-encoding errors"
    return Section("Typicality", [Chart(figures.typicality(summary), alt)])


BLACK_BOX_SECTIONS: Sections[BlackBoxSummary] = (
    _best_objects,
    _whether_to_believe,
    _progress,
    _sensitivity_to_the_seed,
    _surrogate_section,
    _activity,
    _typicality,
)
