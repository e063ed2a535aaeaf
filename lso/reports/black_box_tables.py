"""Tables of a report on black-box searches, and their key numbers for a terminal."""

from typing import Any

from lso.analysis.black_box_groups import Group
from lso.analysis.black_box_summary import FITTED_SEARCHES, BlackBoxSummary
from lso.analysis.black_box_traces import SearchTrace
from lso.analysis.convergence import finite_median
from lso.analysis.start_sensitivity import BASIN_LINK, Sensitivity
from lso.analysis.summary import to_json_value
from lso.analysis.surrogate_calibration import LEVELS, MAX_EVALUATIONS, Calibration, all_equal, coverage
from lso.black_box.budget import CALL_CATEGORIES
from lso.optimizers import BLACK_BOX_OPTIMIZERS
from lso.reports.key_numbers import format_key_number
from lso.reports.tables import MISSING, Table, number, percent

COUNTERS = ("calls", *CALL_CATEGORIES)


def searches_table(summary: BlackBoxSummary) -> Table:
    """What each search found, and what its calls came to."""
    rows = [
        [
            f"{group.name}, seed {trace.seed}",
            number(trace.best),
            number(trace.best_typical),
            number(trace.best_call + 1 if trace.best_call >= 0 else None),
            number(trace.design_best),
            *[number(int(trace.counters.get(key, 0))) for key in COUNTERS],
            trace.status,
        ]
        for group, trace in _each(summary)
    ]
    columns = ["search", "best", "best typical", "at call", "initial design"]
    columns += [*(key.replace("_", " ") for key in COUNTERS), "status"]
    sizes = ", ".join(str(size) for size in sorted({trace.design for _, trace in _each(summary)}) if size)
    known = any(trace.known_best == trace.known_best for _, trace in _each(summary))
    design = [f"of the first {sizes} objects scored"] * bool(sizes) + ["of the data known before"] * known
    note = (
        "Unique: distinct valid objects scored, which the budget counts; duplicates are not scored again. Calls count "
        f"from 1 here, from 0 in the files. Initial design: the best {' and '.join(design)}."
    )
    return Table(columns=columns, rows=rows, title="The searches", note=note)


def moves(summary: BlackBoxSummary) -> Table:
    """Where each search proposed codes, and what took the time."""
    rows = [
        [
            f"{group.name}, seed {trace.seed}",
            percent(trace.typical_share),
            percent(trace.at_bound),
            number(trace.step, 3),
            *[number(value, 3) for value in (trace.ask_seconds, trace.score_seconds, trace.seconds)],
        ]
        for group, trace in _each(summary)
    ]
    columns = [
        "search",
        "typical proposals",
        "coordinates at a bound",
        "last step",
        "seconds asking",
        "scoring",
        "in all",
    ]
    note = (
        "Last step: median distance of the last tenth of the proposals from the best code before each; two prior draws "
        "have 1. Scoring is summed over calls, which may run in parallel; the rest of the time went into decoding, "
        "records and waiting."
    )
    return Table(columns=columns, rows=rows, title="Where codes were proposed, and the time", note=note)


def _each(summary: BlackBoxSummary) -> list[tuple[Group, SearchTrace]]:
    return [(group, trace) for group in summary.groups for trace in group.traces]


def endings(summary: BlackBoxSummary) -> list[str]:
    """Why each search ended."""
    searches_by_sentence: dict[str, list[str]] = {}
    for group, trace in _each(summary):
        searches_by_sentence.setdefault(trace.sentence, []).append(f"{group.name} {trace.seed}")
    if len(searches_by_sentence) == 1:
        return list(searches_by_sentence)
    return [f"{', '.join(who)}: {text}" for text, who in searches_by_sentence.items()]


def surrogate(summary: BlackBoxSummary) -> Table | None:
    """How well a surrogate predicts left-out values, one row a group; None where no surrogate could be fitted."""
    known = [(group, group.pooled) for group in summary.groups]
    rows = [_surrogate(group, found) for group, found in known if found is not None]
    columns = ["group", "values", "rank correlation", "explained"]
    columns += [f"within {100 * level:z.0f} %" for level in LEVELS]
    columns += ["lengthscale, active dims", "weak and dead", "judged"]
    note = (
        "BoTorch's default Gaussian process on the chart's unit cube, fitted afresh to the values of the first "
        f"{FITTED_SEARCHES} searches (at most {MAX_EVALUATIONS} evenly spaced objects of each); each value is "
        "predicted from the others with the hyperparameters kept. Explained: share of the variance of each third of "
        "the values that a surrogate refitted to the others predicts; under 5 % it is flat. Lengthscales: medians, in "
        "standard deviations of the prior; a dimension whose lengthscale is many times the box does not matter to the "
        "surrogate. A trust region fits its own model to its own neighbourhood; "
        f"{' and '.join(row.label for row in BLACK_BOX_OPTIMIZERS.values() if row.surrogate_free)} use no model, so "
        "that this one is fitted for the report alone."
    )
    return Table(columns=columns, rows=rows, title="Leave-one-out calibration", note=note) if rows else None


def _surrogate(group: Group, found: Calibration) -> list[str]:
    active = group.dimensions.active
    scales = [float(finite_median(found.lengthscales[mask])) for mask in (active, ~active)]
    judged = (
        "flat: all values are equal"
        if all_equal(found)
        else "flat: no better than the mean"
        if group.flat
        else "predicts"
    )
    return [
        group.name,
        number(len(found.observed)),
        number(found.rank_correlation, 3),
        percent(max(0.0, found.explained)),
        *[percent(coverage(found, level)) for level in LEVELS],
        *[number(scale, 3) for scale in scales],
        judged,
    ]


def seeds(group: Group) -> Table | None:
    """Distances between the seeds' best codes and objects."""
    found = group.agreement
    if found is None:
        return None
    every = found.pairs[0]
    rows = [
        ["spread of best values", number(float(found.spread[0]))],
        ["as a share of the gain over the median initial design", percent(float(found.relative_spread[0]))],
        ["different best objects", f"{group.distinct_best} of {found.starts}"],
        [
            "squared code distance, active dimensions",
            f"{number(every.active)} (prior draws: {found.baseline_active:g})",
        ],
        ["squared code distance, weak and dead", f"{number(every.other)} (prior draws: {found.baseline_other:g})"],
        [f"distance of decoded results ({found.unit})", f"{number(every.decoded)} (two prior draws: {_scale(found)})"],
        ["groups of similar results", number(int(found.basins[0]))],
    ]
    note = (
        "Distances are medians over pairs of seeds. Similar: linked by steps of at most a tenth of the "
        "distance of two prior draws."
    )
    return Table(columns=["number", "over seeds"], rows=rows, title="The seeds' bests", note=note)


def _scale(found: Sensitivity) -> str:
    return number(found.tolerance / BASIN_LINK, 3)


def top(summary: BlackBoxSummary) -> Table:
    """The best distinct objects of all searches."""
    texts = any(found.text is not None for found in summary.top)
    rows = [
        [
            str(found.rank),
            number(found.value),
            *([found.text or ""] if texts else []),
            "yes" if found.typical else "no",
            percent(found.percentile),
            number(found.reencoding, 3),
            f"{found.group}, seed {found.seed}, call {found.call + 1}",
            number(found.times),
        ]
        for found in summary.top
    ]
    columns = ["rank", "value", *(["object"] if texts else []), "typical", "norm percentile", "re-encoding error"]
    return Table(columns=[*columns, "found by", "searches"], rows=rows, fold=True, title="Details of each")


def black_box_key_numbers(group: Group) -> dict[str, Any]:
    """The few numbers by which one compares searches; None where not known.

    They are medians over seeds unless the key says otherwise.
    """
    dims, found, pooled = group.dimensions, group.agreement, group.pooled
    calls = max(1, group.total("calls"))
    numbers = {
        "verdict": group.verdict.level,
        "optimizer": group.name,
        "seeds": len(group.traces),
        "best value": group.median("best"),
        "best typical value": group.median("best_typical"),
        "best value, best seed": group.best,
        "best of the initial design": group.median("design_best"),
        "spread over seeds, share of the gain": None if found is None else float(found.relative_spread[0]),
        "code distance, active dims": None if found is None else found.pairs[0].active,
        "code distance, weak and dead dims": None if found is None else found.pairs[0].other,
        "distance of decoded results": None if found is None else found.pairs[0].decoded,
        "different best objects": group.distinct_best,
        **{f"{key.replace('_', ' ')}, all seeds": group.total(key) for key in COUNTERS},
        "share of calls wasted": 1 - group.total("unique") / calls,
        "share of proposals typical": group.median("typical_share"),
        "share of coordinates at a bound": group.median("at_bound"),
        "rank correlation, left out": None if pooled is None else pooled.rank_correlation,
        "share within 95 % intervals": None if pooled is None else pooled.coverage_95,
        "latent dims": len(dims.sensitivity),
        "active dims (decoder)": int(dims.active.sum()),
        "active units (encoder)": dims.active_units,
        "mutual information (nats)": group.mutual_information,
        "re-encoding error of best": group.best_reencoding,
        "re-encoding error of prior draws": group.prior_reencoding,
        "seconds asking": group.median("ask_seconds"),
        "seconds scoring": group.median("score_seconds"),
    }
    known: dict[str, Any] = to_json_value(numbers)
    return known


def black_box_key_number_table(summary: BlackBoxSummary) -> Table:
    """The key numbers of black-box searches, one column a group; the note is the verdict on the first."""
    columns = {group.name: black_box_key_numbers(group) for group in summary.groups}
    keys = [key for key in columns[summary.main.name] if key not in ("verdict", "optimizer")]
    rows = [[key, *[format_key_number(key, found[key]) for found in columns.values()]] for key in keys]
    rows = [row for row in rows if any(text != MISSING for text in row[1:])]
    note = " ".join(filter(None, (summary.verdict.sentence, summary.verdict.training)))
    return Table(columns=["number", *columns], rows=rows, title="Black-box search, median over seeds", note=note)
