"""Reports: pages that say whether a result can be believed, with the same numbers as JSON beside them.

`search_report` is for a search, `training_report` and `compare_runs` for trainings, `compare_searches` for several
searches, `pictures` for grids of images; `key_number_table` is the table for a terminal.
"""

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lso.analysis.convergence import cost_of, finite_median
from lso.analysis.plausibility import share_true
from lso.analysis.summary import SearchSummary, search_summary, to_json_value
from lso.decoders.probing import Probe
from lso.reports import images
from lso.reports import search_tables as tables
from lso.reports.comparison import compare_runs as compare_runs
from lso.reports.comparison import compare_searches as compare_searches
from lso.reports.comparison import training_report as training_report
from lso.reports.gallery import gallery, gallery_note, text_rows
from lso.reports.html import report_paths
from lso.reports.key_numbers import key_number_table as key_number_table
from lso.reports.key_numbers import key_numbers
from lso.reports.report import Card, Chart, Note, Part, Report, Section, Sections, slug, verdict_box
from lso.reports.shared_sections import (
    active_card,
    activity_rule,
    activity_sentence,
    activity_table,
    whether_to_believe,
)
from lso.reports.tables import facts, number, percent, pluralize
from lso.results.result import Result
from lso.vae.checkpoint import Codes, as_codes
from lso.vae.distributions.gaussian import DiagonalGaussian
from lso.vae.utils.files import replace_file, utf8

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def search_report(
    result: Result,
    path: str | os.PathLike[str],
    *,
    codes: Codes | DiagonalGaussian | None = None,
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
        codes: posteriors of data that the search did not see: ``run.codes()``, of the training's validation split, or
            a `DiagonalGaussian` of your own encoder's means and log variances, ``(n, d)``.
        probe: how the decoder reacts to redrawn dimensions; without codes it is measured here unless it is given.
        control: the same search by another optimizer.
        verdict: the verdict of the training run on its latents.
        target_names: one for each target.
        extra: facts for the end of the page, e.g. model, data, notes.
    Returns:
        The path of the page.
    """
    summary = search_summary(
        result, codes=as_codes(codes), probe=probe, control=control, training_verdict=verdict, target_names=target_names
    )
    return write_search(summary, path, extra)


def write_search(summary: SearchSummary, path: str | os.PathLike[str], extra: Mapping[str, Any] | None = None) -> Path:
    """Write the report of a search whose numbers have been computed."""
    return make_search_report(summary, extra).save(path)


def make_search_report(summary: SearchSummary, extra: Mapping[str, Any] | None = None) -> Report[SearchSummary]:
    """The report of a search whose numbers have been computed."""
    result, (targets, starts, latent) = summary.result, summary.result.z.shape
    size = f"{pluralize(targets, 'target')} × {pluralize(starts, 'start')} · {pluralize(latent, 'latent dimension')}"
    return Report(
        kind="search",
        title="Search report",
        subtitle=f"{result.objective.name} · {result.optimizer} · {size} · {number(float(result.seconds), 3)} s",
        about=summary,
        sections=SEARCH_SECTIONS,
        verdicts=[verdict_box(summary.verdict)],
        cards=_cards(summary),
        numbers=search_numbers(summary, extra),
        extra=extra or {},
        tile=48 if starts <= 6 else 36,
    )


def show_search(result: Result) -> str:
    """What a notebook shows of a search: HTML."""
    return make_search_report(search_summary(result))._repr_html_()


def search_numbers(summary: SearchSummary, extra: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The content of report.json."""
    return summary.to_json() | {
        "essence": to_json_value(key_numbers(summary)),
        "best_object": to_json_value(_best_object(summary)),
        "extra": to_json_value(dict(extra or {})),
    }


def _best_object(summary: SearchSummary) -> dict[str, Any]:
    """The best end of all targets: its value, code and typicality, and the text where there is one."""
    result, decoder = summary.result, summary.result.objective.decoder
    target = int(cost_of(result, result.value).min(1).values.argmin())
    start = _best_start(summary, target)
    return {
        "target": summary.target_names[target],
        "start": result.start_names[start],
        "value": float(result.value[target, start]),
        "z": result.z[target, start].detach().cpu().tolist(),
        "typical": not bool(summary.best.atypical[target]),
        "percentile": float(summary.best.percentile_active[target]),
        "object": None if decoder.vocabulary is None else decoder.texts(summary.decoded[target, start][None])[0],
    }


def _cards(summary: SearchSummary) -> list[Card]:
    steps, starts = summary.convergence, summary.sensitivity
    rest = 1 - share_true(steps.moving | steps.failed)
    at_start, count = number(float(finite_median(steps.value0))), number(float(finite_median(steps.steps)))
    best, spread = number(float(finite_median(steps.best))), percent(float(finite_median(starts.relative_spread)))
    cards = [
        Card("best value", best, f"median target; start {at_start}"),
        Card("spread over starts", spread, "of the gain, median target"),
        Card("levelled off", percent(rest), f"of {steps.failed.numel()} searches; median {count} steps"),
        active_card(summary.dimensions, summary.mutual_information),
    ]
    if summary.explained is not None:
        cards.append(Card("reproduced", percent(float(finite_median(summary.explained))), _reproduced(summary)))
    if summary.texts is not None:
        exact, edits = int(summary.texts.exact.sum()), float(finite_median(summary.texts.edits.double()))
        count = f"{exact} of {len(summary.texts.target)}"
        cards.append(Card("exactly reproduced", count, f"median {number(edits, 3)} tokens to edit"))
    typical = percent(1 - share_true(summary.best.atypical))
    return [*cards, Card("typical best codes", typical, "over active dimensions")]


def _reproduced(summary: SearchSummary) -> str:
    found = summary.reproduction
    missed = 0 if found is None else int(found.missed.sum())
    others = f"; {missed} of {len(summary.target_names)} are not" if missed else ""
    return f"of the median target, best result{others}"


# --- the sections of the page ---------------------------------------------------------------------------------------


def _best_objects(summary: SearchSummary) -> Section:
    """What was searched for and found, and how well each target is reproduced."""
    result = summary.result
    cost = cost_of(result, result.value).min(1).values
    worst = int(cost.argmax())
    name, value = (
        summary.target_names[worst],
        number(float(result.value[worst].detach().cpu()[_best_start(summary, worst)])),
    )
    told = f"Worst of {len(cost)} targets: {name}, best value {value}." if len(cost) > 1 else None
    parts = [gallery(summary), *text_rows(summary), told, tables.targets(summary), tables.reproduction(summary)]
    return Section("Best objects", [Note(gallery_note(summary)), *parts])


def _best_start(summary: SearchSummary, target: int) -> int:
    return int(summary.best_index[1][target])


def _whether_to_believe(summary: SearchSummary) -> Section:
    """What each check of the verdict found, and its rule."""
    return whether_to_believe(summary.verdict)


def _convergence(summary: SearchSummary) -> Section:
    """Values over steps, and why searches stopped."""
    from lso.reports import search_plots as figures

    caption = "Thin: one line for each target and start. Bold: median over the starts of a kind. The share is of the "
    caption += "gain from the target's median start to its best end."
    charts = [
        Chart(figures.convergence_figure(summary), "Value per step", caption),
        Chart(figures.final_values_figure(summary), "Final values by target"),
    ]
    made = (tables.final_values_table, tables.thresholds_table, tables.stopped)
    return Section("Convergence", [*charts, *(make(summary) for make in made)])


def _sensitivity_to_the_start(summary: SearchSummary) -> Section:
    """How far apart what the starts of a target found lies."""
    from lso.reports import search_plots as figures

    apart: list[Part] = [
        "There was one start per target, so nothing can be said about sensitivity to the start. Search again with "
        "several starts."
    ]
    if summary.sensitivity.starts > 1:
        caption = "Left: dimensions by falling effect on the decoded data; a bar above the dashed line means farther "
        caption += "apart than unrelated codes. Right: one mark for each pair of starts of one target."
        figure = figures.distances_figure(summary)
        apart = [Chart(figure, "Distances between what the starts found", caption), tables.distances_table(summary)]
    missing = "No control optimizer was run, so it is unknown how much of this sensitivity is due to the landscape and "
    missing += "how much to the optimizer."
    return Section(
        "Sensitivity to the start", [*apart, tables.by_kind(summary), tables.control(summary) or Note(missing)]
    )


def _activity(summary: SearchSummary) -> Section:
    """Which dimensions the decoder hears."""
    from lso.reports import search_plots as figures

    moved_by = {
        "moved by search": summary.dimensions.moved,
        "squared distance of starts": summary.sensitivity.per_dimension,
    }
    moved = "Moved: mean absolute distance between start and end, in prior standard deviations. Decoder use: rise of "
    moved += "the reconstruction NLL when the dimension is redrawn from the prior."
    return Section(
        "Activity per dimension",
        [
            activity_sentence(summary.dimensions, summary.mutual_information),
            Note(f"{activity_rule(summary.dimensions)} {moved}"),
            Chart(figures.activity_figure(summary.dimensions), "Activity per dimension"),
            activity_table(summary.dimensions, moved_by),
        ],
    )


def _typicality(summary: SearchSummary) -> Section:
    """How typical of the prior the codes are, and what a typical code costs."""
    from lso.reports import search_plots as figures

    chart = Chart(figures.plausibility_figure(summary), "Norms, percentiles and re-encoding errors")
    return Section("Typicality", [chart, tables.plausibility_table(summary), tables.best_and_typical(summary)])


def _counters(summary: SearchSummary) -> Section:
    """Numbers of decoder calls."""
    return Section("Counters", [tables.counters(summary)])


def _settings(summary: SearchSummary) -> Section:
    """How the search was made and ended."""
    result = summary.result
    ended = {"status": result.status, "sentence": result.sentence}
    return Section("Settings", [facts("", {**ended, **result.settings, "weights sha256": result.weights_hash})])


SEARCH_SECTIONS: Sections[SearchSummary] = (
    _best_objects,
    _whether_to_believe,
    _convergence,
    _sensitivity_to_the_start,
    _activity,
    _typicality,
    _counters,
    _settings,
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
    pngs = {
        heading: images.png(figure) if isinstance(figure, np.ndarray) else images.figure_png(figure)
        for heading, figure in figures.items()
    }
    for heading, content in pngs.items():
        replace_file(page.parent / f"{picture_name(heading)}.png", content)
    sections = [partial(_picture, heading) for heading in pngs]
    report = Report(
        kind="", title=title, subtitle=subtitle, about=pngs, sections=sections, extra=extra or {}, numbered=False
    )
    replace_file(page, utf8(report.html(report.made_sections())))
    return page


def _picture(heading: str, pngs: Mapping[str, bytes]) -> Section:
    return Section(heading, [Chart(pngs[heading], f"{heading}: {picture_name(heading)}.png")])


def picture_name(heading: str) -> str:
    """The file name of a picture, without its ending."""
    return slug(heading) or "picture"
