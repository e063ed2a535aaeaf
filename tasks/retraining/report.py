"""The report of weighted retraining: ``report.html`` and ``report.json`` with the same numbers."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from lso.analysis.summary import to_json_value
from lso.reports.black_box_tables import COUNTERS
from lso.reports.report import Card, Chart, Note, Part, Report, Section, Sections, Texts, TileRow, Tiles, verdict_box
from lso.reports.shared_sections import STRANGE, ranked_text, ranked_tile, whether_to_believe
from lso.reports.tables import Table, number, percent, side_by_side
from lso.results.result import Evaluation
from lso.tasks.goals import Goal
from lso.tasks.retraining.records import RetrainingResult
from lso.tasks.retraining.rounds import ANCHORS, ROUNDS_FOLDER
from lso.tasks.retraining.summary import (
    SHOWN_OBJECTS,
    RetrainingSummary,
    Stage,
    decode_best,
    retraining_summary,
    share_typical,
    typical,
)
from lso.vae.runs import Run
from lso.vae.utils.validation import pluralize

KIND = "weighted retraining"


def retraining_report(result: RetrainingResult, path: str | Path | None = None) -> Path:
    """Write the report of weighted retraining.

    Args:
        result: with at least one call.
        path: a file ending in ``.html``, or a folder; None is its own.
    Returns:
        Where the page is.
    Raises:
        UsageError: if no call was made yet.
    """
    return write_report_page(retraining_summary(result), path or result.folder)


def write_report_page(summary: RetrainingSummary, path: str | Path) -> Path:
    """`retraining_report` from numbers that are there already."""
    return make_retraining_report(summary).save(path)


def make_retraining_report(summary: RetrainingSummary) -> Report[RetrainingSummary]:
    """The report of weighted retraining, from numbers that are there already."""
    goal, info = summary.goal, Run(summary.result.folder).info
    settings, extra = dict(info["search"]), _extra(summary, info)
    rounds, latent = pluralize(len(summary.rows), "round"), pluralize(summary.latent_dim, "latent dimension")
    return Report(
        kind="search",
        title="Weighted retraining report",
        subtitle=f"{goal.name} ({_sense_word(goal)}) · {settings['optimizer']} · {rounds} · {latent}",
        about=summary,
        sections=RETRAINING_SECTIONS,
        verdicts=[verdict_box(summary.verdict)],
        cards=_cards(summary, summary.result.best),
        numbers=retraining_numbers(summary, settings, extra),
        extra=extra,
        tile=72,
    )


def retraining_numbers(
    summary: RetrainingSummary, settings: Mapping[str, Any], extra: Mapping[str, Any]
) -> dict[str, Any]:
    """The content of report.json: enough for `lso report` to set it beside black-box searches."""
    goal, result = summary.goal, summary.result
    name = f"{settings['optimizer']}, retraining"
    best = result.best_so_far.tolist()
    bands = {"unique": list(range(1, len(best) + 1)), "seconds": _seconds(summary)}
    numbers: dict[str, Any] = {
        "kind": KIND,
        "verdict": summary.verdict,
        "search": {
            "objective": goal.name,
            "sense": "maximize" if goal.maximize else "minimize",
            "latent_dim": summary.latent_dim,
            "bounds": settings["bounds"],
            "chart": "box",
            "best_possible": goal.best,
        },
        "groups": [
            {
                "name": name,
                "best_so_far": {key: {"x": x, "median": best, "low": best, "high": best} for key, x in bands.items()},
                "searches": [{"seed": settings["seed"], "counters": dict(summary.counters)}],
            }
        ],
        "rounds": [_round_entry(summary, number) for number in range(len(summary.stages))],
        "top": [_best_entry(number, record) for number, record in summary.ranked[:SHOWN_OBJECTS]],
        "best_object": _best_object(summary),
        "best_of_data": summary.best_of_data,
        "earlier_codes": None if summary.stale is None else dict(zip(("objects", "share"), summary.stale, strict=True)),
        "essence": retraining_key_numbers(summary, name),
        "settings": {name: dict(settings)},
        "extra": dict(extra),
    }
    told: dict[str, Any] = to_json_value(numbers)
    return told


def retraining_key_numbers(summary: RetrainingSummary, name: str) -> dict[str, Any]:
    """The few numbers that one compares searches by, named as those of black-box searches are."""
    best, calls, rows = summary.result.best, max(1, summary.counters["calls"]), summary.rows
    whole = summary.whole
    return {
        "verdict": summary.verdict.level,
        "optimizer": name,
        "seeds": 1,
        "best value": None if best is None else best.value,
        "best typical value": summary.best_typical,
        "best of the first round": summary.best_of(whole[0].values) if whole else None,
        "best of the training data": summary.best_of_data,
        "rounds": len(rows),
        **{f"{key.replace('_', ' ')}, all seeds": summary.counters[key] for key in COUNTERS},
        "share of calls wasted": 1 - summary.counters["unique"] / calls,
        "share of proposals typical": share_typical(summary),
        "latent dims": summary.latent_dim,
        "active units (encoder)": rows[-1].anchors.active_units if rows else None,
        "re-encoding error of best": None if best is None else best.reencoding_error,
        "drift of the last retraining, active dim": rows[-1].drift.per_active if rows else None,
        "share of training data reproduced": rows[-1].anchors.reproduced if rows else None,
        "share of earlier codes that still stand": None if summary.stale is None else summary.stale[1],
        "seconds retraining": sum(row.training_seconds for row in rows),
        "seconds searching": sum(row.search_seconds for row in rows),
    }


def _round_entry(summary: RetrainingSummary, number: int) -> dict[str, Any]:
    stage = summary.stages[number]
    row = {"number": number} if stage.row is None else dataclasses.asdict(stage.row)
    found = {"best_of_round": summary.best_of(stage.values), "median": stage.median, "values": stage.values.tolist()}
    counters = {key: stage.counters[key] for key in COUNTERS}
    return row | {"complete": stage.row is not None, "counters": counters, **found, "still_standing": stage.standing}


def _best_entry(number: int, record: Evaluation) -> dict[str, Any]:
    again = {"reencoding": record.reencoding_error, "percentile": record.norm_percentile, "z": record.z}
    about = {"value": record.value, "round": number, "call": record.call, "text": record.decoded}
    return about | {"typical": typical(record), **again}


def _best_object(summary: RetrainingSummary) -> dict[str, Any] | None:
    """The best of the distinct objects, with the keys that reports of other searches have."""
    if not summary.ranked:
        return None
    entry = _best_entry(*summary.ranked[0])
    return {**entry, "object": entry["text"]}


def _seconds(summary: RetrainingSummary) -> list[float]:
    """When each distinct object was scored, retraining counted in."""
    found, before = [], 0.0
    for i, stage in enumerate(summary.stages):
        row = stage.row
        place = summary.result.folder / ROUNDS_FOLDER / f"{i:02d}" / "train"
        before += float(Run(place).info["seconds"]) if row is None else row.training_seconds
        found += [before + record.elapsed for record in stage.fresh]
        before += 0.0 if row is None else row.search_seconds
    return found


# --- the page ---------------------------------------------------------------------------------------------------------


def _extra(summary: RetrainingSummary, info: Mapping[str, Any]) -> dict[str, Any]:
    data = summary.result.data
    without = 0 if data is None else int((~torch.isfinite(data.value)).sum())
    told = {"model begun with": info["model"], "model of the last round": str(summary.result.run.path)}
    told |= {"training data": 0 if data is None else len(data), "of them without a value": without}
    return told | ({"goal": summary.goal.summary} if summary.goal.summary else {})


def _capitalize(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _sense_word(goal: Goal) -> str:
    return "maximized" if goal.maximize else "minimized"


def _cards(summary: RetrainingSummary, best: Evaluation | None) -> list[Card]:
    count, goal, rows = summary.counters, summary.goal, summary.rows
    where = f"found in round {summary.ranked[0][0]}" if summary.ranked else "nothing was valid"
    attainable = "" if goal.best is None else f"; attainable {number(goal.best)}"
    first = summary.best_of(summary.whole[0].values) if summary.whole else None
    cards = [
        Card("best value", number(None if best is None else best.value), where + attainable),
        Card("best typical", number(summary.best_typical), "at a code typical of the prior"),
        Card("first round's best", number(first), f"best of the training data {number(summary.best_of_data)}"),
        Card("distinct valid objects", number(count["unique"]), f"of {number(count['calls'])} calls"),
    ]
    if summary.stale is not None:
        objects, share = summary.stale
        cards.append(Card("earlier codes that stand", percent(share), f"of {number(objects)} objects"))
    if rows:
        last = rows[-1]
        small = f"training data reproduced {percent(last.anchors.reproduced)}"
        cards.append(Card("active units", f"{last.anchors.active_units} of {summary.latent_dim}", small))
    return cards


# --- the sections of the page ---------------------------------------------------------------------------------------


def _best_objects(summary: RetrainingSummary) -> Section:
    """The best distinct objects, decoded by the model of the round that found each."""
    return Section("Best objects", [*_best(summary), best_table(summary)])


def _whether_to_believe(summary: RetrainingSummary) -> Section:
    """What each check of the verdict found, and its rule."""
    return whether_to_believe(summary.verdict)


def _progress(summary: RetrainingSummary) -> Section:
    """The best value so far, whether retraining paid, and why the search ended."""
    from lso.tasks.retraining import plots as figures

    goal = summary.goal
    levels = {"best of the training data": summary.best_of_data, "best attainable": goal.best}
    values = [stage.values.numpy() for stage in summary.stages]
    figure = figures.plot_progress(values, goal.maximize, f"{goal.name} ({_sense_word(goal)})", levels)
    caption = "At each vertical line the model was trained further, on the training data and all objects found so "
    caption += "far, of which the best are drawn most often."
    chart = Chart(figure, "Best so far against distinct valid objects scored", caption)
    paid, ending = _capitalize(summary.verdict.check("retraining").found), Note(summary.result.sentence)
    return Section("Progress", [paid, chart, search_table(summary), ending])


def _models_and_codes(summary: RetrainingSummary) -> Section:
    """What each retraining did to the codes."""
    from lso.tasks.retraining import plots as figures

    rows, chart = summary.rows, None
    if rows:
        shares: dict[str, Sequence[float | None]] = {
            "training data": [row.anchors.reproduced for row in rows],
            "objects found before": [None if row.history is None else row.history.reproduced for row in rows],
            "the round's codes, by the last model": [stage.standing for stage in summary.whole],
        }
        caption = "Left: share of the training data and of earlier objects that the round's model reproduces from the "
        caption += "codes that it gives them, and share of the round's objects that the last model reproduces from the "
        caption += "codes at which they were found. Right: mean squared distance between the codes of a sample of the "
        caption += "training data before and after retraining."
        figure = figures.plot_codes(shares, [row.drift.per_active for row in rows])
        chart = Chart(figure, "Shares reproduced and drift of codes by round", caption)
    stale = _capitalize(summary.verdict.check("codes").found)
    models = (
        f"The model of round NN is a training run, {ROUNDS_FOLDER}/NN/train: lso sample, encode and decode take it."
    )
    return Section("Models and codes", [stale, chart, retraining_table(summary), Note(models)])


def _settings(summary: RetrainingSummary) -> Section:
    """How it was made."""
    return Section("Settings", [side_by_side("", {"": dict(Run(summary.result.folder).info["search"])})])


RETRAINING_SECTIONS: Sections[RetrainingSummary] = (
    _best_objects,
    _whether_to_believe,
    _progress,
    _models_and_codes,
    _settings,
)


def search_table(summary: RetrainingSummary) -> Table:
    """What each round's search found.

    Args:
        summary: of weighted retraining.
    Returns:
        One row a round, one that was cut among them.
    """
    rows = []
    for i, stage in enumerate(summary.stages):
        row, so_far = stage.row, torch.cat([one.values for one in summary.stages[: i + 1]])
        cells = [summary.best_of(stage.values), stage.median, summary.best_of(so_far)]
        counts = [stage.counters[key] for key in COUNTERS]
        seconds = number(None if row is None else row.search_seconds, 3)
        rows.append([str(i), *map(number, [*cells, *counts]), seconds, "cut" if row is None else row.status])
    columns = ["round", "best", "median", "best so far", *(key.replace("_", " ") for key in COUNTERS)]
    columns += ["seconds", "status"]
    note = (
        "Best and median: of the distinct valid objects of the round, which the budget counts. Duplicates, of earlier "
        "rounds too, are answered from memory."
    )
    return Table(columns=columns, rows=rows, title="The searches", note=note)


def retraining_table(summary: RetrainingSummary) -> Table:
    """What each retraining did."""
    rows = [_retraining_row(stage) for stage in summary.whole]
    columns = ["round", "drawn", "effective size", "drift", "active", "dead", "for an active dimension", "active units"]
    columns += ["re-encoding error", "training data reproduced", "earlier objects reproduced", "codes that still stand"]
    columns += ["seconds"]
    note = (
        "Drawn: data that the model was trained on, with replacement by the rank of their values; effective size: how "
        "many equally weighted data are as varied. Drift: mean squared distance of the codes of up to "
        f"{ANCHORS} training data before and after, over dimensions active before or after, and over the others; two "
        "independent codes have 2 for a dimension. Reproduced: share of data that the model decodes from the codes it "
        "gives them (images: every pixel, as 0 and 1). Codes that still stand: share of the round's objects that the "
        "last model decodes from the codes they were found at (images: nearer to them than to any other object found)."
    )
    return Table(columns=columns, rows=rows, title="The retrainings", note=note)


def _retraining_row(stage: Stage) -> list[str]:
    row = stage.row
    assert row is not None
    moved = [row.drift.total, row.drift.active, row.drift.dead, row.drift.per_active]
    return [
        str(row.number),
        number(row.drawn),
        number(row.effective_size, 3),
        *(number(value, 3) for value in moved),
        number(row.anchors.active_units),
        number(row.anchors.reencoding_error, 3),
        percent(row.anchors.reproduced),
        percent(None if row.history is None else row.history.reproduced),
        percent(stage.standing),
        number(row.training_seconds, 3),
    ]


def best_table(summary: RetrainingSummary) -> Table:
    """The best distinct objects."""
    texts = any(record.decoded is not None for _, record in summary.ranked[:SHOWN_OBJECTS])
    rows = [
        [
            str(rank),
            number(record.value),
            *([record.decoded or ""] if texts else []),
            str(i),
            number(record.call),
            "yes" if typical(record) else "no",
            percent(record.norm_percentile),
            number(record.reencoding_error, 3),
        ]
        for rank, (i, record) in enumerate(summary.ranked[:SHOWN_OBJECTS], 1)
    ]
    columns = ["rank", "value", *(["object"] if texts else []), "round", "call", "typical", "norm percentile"]
    return Table(columns=[*columns, "re-encoding error"], rows=rows, fold=True, title="More on each")


def _best(summary: RetrainingSummary) -> list[Part]:
    """The best distinct objects as pictures or texts, or a note why they are not shown."""
    top = summary.ranked[:SHOWN_OBJECTS]
    if not top:
        return [Note("No object was valid.")]
    note = "The best distinct objects of all rounds, best first, with value and round."
    if any(record.decoded is not None for _, record in top):
        lines = [
            ranked_text(rank, one.value, one.decoded, f"round {i}{'' if typical(one) else ', atypical'}")
            for rank, (i, one) in enumerate(top, 1)
        ]
        return [Note(note), Texts(lines=lines)]
    images = decode_best(summary, SHOWN_OBJECTS)
    if images is None:
        return [Note("Only images and texts are shown.")]
    row = [
        ranked_tile(image, rank, one.value, f"round {i}", typical(one))
        for rank, (image, (i, one)) in enumerate(zip(images, top, strict=True), 1)
    ]
    return [Note(note + STRANGE * any(not typical(one) for _, one in top)), Tiles(rows=[TileRow(tiles=row)])]
