"""Compares measured values with a published table: by z-scores, by differences, or by the order of the rows."""

from collections.abc import Mapping, Sequence
from typing import Any

from lso.reports.tables import MISSING, Table, number
from lso.tasks.papers.published_tables import Column, PublishedTable, column_heading
from lso.tasks.papers.reproduce import TableReproduction, measured, source, study_provenances
from lso.tasks.training.run_set import Member, mean_and_deviation

Ours = Mapping[str, Any]  # mean, std, n
MIN_RANKED_ROWS = 3  # with fewer rows their order is not compared


def compare(
    reproduction: TableReproduction, members: Sequence[Member], extra: Mapping[str, float] = {}
) -> dict[str, Any]:
    """Compare the measured value of every row and column with the published one.

    The measured value is the mean over the runs of a row, or over the repeated evaluations of its one run. With the
    paper's own data and its whole protocol it has a z-score, (measured - published) / published standard deviation, or
    where no deviation is published the difference. Otherwise values cannot be compared, only the order of the rows.

    Args:
        reproduction: the plan.
        members: of `lso.tasks.training.multi_run.train_all`, in the order of the plan.
        extra: numbers of trainings that were not measured on the test split, folder name -> iterations of a search.
    Returns:
        JSON-able: exact, cuts, rows (label, group, trainings, cells by heading), ranks by heading.
    """
    table = reproduction.table
    exact, columns = _exact(members), table.compared or table.columns
    rows: list[dict[str, Any]] = []
    for index, row in enumerate(table.rows):
        mine = [(job.part, member) for job, member in zip(reproduction.jobs, members, strict=True) if job.row == index]
        cells = {column: _ours(column, mine, extra) for column in columns}
        done = sum(member.status == "finished" for _, member in mine)
        failed = [
            f"{member.planned.name}: {member.info['sentence']}" for _, member in mine if member.status == "failed"
        ]
        rows.append({"label": row.label, "group": row.group, "train": row.training, "planned": len(mine), "done": done})
        rows[-1] |= {"failed": failed, "figures": row.figures, "ours": cells, "reading_of": row.reading_of}
    _make_relative(table, rows)
    compared = {column_heading(column, alone=bool(table.column)): column for column in columns}
    return {
        "exact": exact,
        "cuts": list(reproduction.cuts),
        "notes": list(reproduction.notes),
        "columns": list(compared),
        "rows": [_row_numbers(row, compared, exact and not reproduction.cuts) for row in rows],
        "ranks": {name: _ranks(rows, column) for name, column in _ranked_columns(compared).items()},
    }


def _exact(members: Sequence[Member]) -> bool:
    """Whether all runs were trained on the paper's own file, known by its checksum."""
    known = study_provenances(members)
    return bool(known) and all(one.get("exact", False) for one in known)


def _ours(column: Column, mine: Sequence[tuple[str, Member]], extra: Mapping[str, float]) -> Ours | None:
    part, quantity = column
    values: list[float] = []
    for own, member in mine:
        if own in ("", part):
            values += [extra[member.planned.name]] if member.planned.name in extra else measured(member, quantity)
    if not values:
        return None
    mean, std = mean_and_deviation(values)
    return {"mean": mean, "std": std, "n": len(values)}


def _make_relative(table: PublishedTable, rows: Sequence[dict[str, Any]]) -> None:
    """Replace hours by multiples of those of the row published as 1.00; by None where that row was not trained."""
    for column in table.compared:
        if column[1] != "relative":
            continue
        unit = [row["ours"][column] for row in rows if (f := row["figures"].get(column)) and float(f.mean) == 1.0]
        base = unit[0]["mean"] if unit and unit[0] else None
        for row in rows:
            ours = row["ours"][column]
            row["ours"][column] = ours and base and {"mean": ours["mean"] / base, "std": None, "n": ours["n"]}


def _row_numbers(row: Mapping[str, Any], columns: Mapping[str, Column], comparable: bool) -> dict[str, Any]:
    """A row for JSON: in each cell the published figure, the measured one, and the z-score or difference."""
    cells = {}
    for name, column in columns.items():
        figure, ours = row["figures"].get(column), row["ours"][column]
        cell: dict[str, Any] = {"published": None, "ours": ours}
        if figure is not None:
            cell["published"] = {"mean": float(figure.mean), "text": figure.text, "std": figure.std}
        if figure is not None and ours and comparable:
            difference = ours["mean"] - float(figure.mean)
            cell |= {"z": difference / figure.scale} if figure.scale else {"difference": difference}
        cells[name] = cell
    keys = ("label", "group", "train", "reading_of", "planned", "done", "failed")
    return {key: row[key] for key in keys} | {"cells": cells}


def _ranked_columns(columns: Mapping[str, Column]) -> dict[str, Column]:
    """The columns whose order is compared: not multiples of hours beside the hours, as both have the same order."""
    known = set(columns.values())
    return {name: one for name, one in columns.items() if not (one[1] == "relative" and (one[0], "hours") in known)}


def _ranks(rows: Sequence[Mapping[str, Any]], column: Column) -> dict[str, Any] | None:
    """Rank correlations and pairs of rows in the same and in the opposite order; None for too few rows."""
    from lso.analysis.rank_correlation import rank_order  # imports torch, which `lso --help` must not wait for

    own = [row for row in rows if not row["reading_of"]]
    both = [row for row in own if column in row["figures"] and row["ours"][column]]
    if len(both) < MIN_RANKED_ROWS:
        return None
    order = rank_order(
        [float(row["figures"][column].mean) for row in both], [float(row["ours"][column]["mean"]) for row in both]
    )
    names = [row["label"] for row in both]
    pairs = {"same": order.same, "opposite": [[names[i], names[j]] for i, j in order.opposite], "tied": order.tied}
    return {"rows": len(both), "spearman": order.spearman, "kendall": order.kendall, **pairs}


# --- words ------------------------------------------------------------------------------------------------------------


def reproduction_banners(numbers: Mapping[str, Any], members: Sequence[Member]) -> list[str]:
    """Warnings above all numbers: a shortened protocol, other data, trainings that are not finished or have failed."""
    banners = []
    few = f"With fewer than {MIN_RANKED_ROWS} rows not even their order is judged."
    judged = "Only the order of the rows is judged." if any(numbers["ranks"].values()) else few
    if numbers["cuts"]:
        banners.append(f"NOT the paper's protocol: {'; '.join(numbers['cuts'])}.")
    sources = ", ".join(source(one) for one in study_provenances(members))
    if not numbers["exact"] and sources:
        banners.append(
            f"NOT the paper's data, but a substitute ({sources}): levels do not compare with published ones."
        )
    if banners:  # said once, of both
        banners[-1] += f" {judged}"
    done, planned = (sum(row[key] for row in numbers["rows"]) for key in ("done", "planned"))
    if done < planned:
        banners.append(f"Trainings not finished: {planned - done} of {planned}; repeat the command.")
    return banners + [sentence for row in numbers["rows"] for sentence in row["failed"]]


def comparison_table(numbers: Mapping[str, Any], published: PublishedTable) -> Table:
    """Published and measured values: two lines a row, and a third with z-scores or differences where there are any."""
    names, lines, marked = numbers["columns"], [], []
    for index, row in enumerate(numbers["rows"], start=1):
        if row["reading_of"]:
            continue
        cells = [row["cells"][name] for name in names]
        shown = [cell["published"]["text"] if cell["published"] else MISSING for cell in cells]
        lines.append([f"{index} {row['label']}", "published", *shown])
        if not row["planned"]:
            continue
        runs = "" if row["done"] == row["planned"] else f", {row['done']} of {row['planned']} runs"
        marked.append(len(lines))
        lines.append([row["train"], f"ours{runs}", *(_own(cell["ours"]) for cell in cells)])
        if any("z" in cell for cell in cells):
            lines.append(["", "z", *(number(cell.get("z"), 2) for cell in cells)])
        if any("difference" in cell for cell in cells):
            lines.append(["", "difference", *(number(cell.get("difference"), 2) for cell in cells)])
    said = published.note[:1].upper() + published.note[1:]
    note = f"{published.source}. {said}. " + " ".join((*published.remarks, *published.protocol, *numbers["notes"]))
    columns = ["row", "", *names]
    return Table(columns=columns, rows=lines, title=published.title, note=note, marked=marked)


def _own(ours: Ours | None) -> str:
    if ours is None:
        return MISSING
    mean, std = ours["mean"], ours["std"]
    if std is None:
        return f"{mean:z,.0f}" if mean.is_integer() else f"{mean:z,.2f}" if abs(mean) >= 0.1 else number(mean, 3)
    return f"{mean:z,.2f} ± {std:z.2g}"


def rank_table(numbers: Mapping[str, Any]) -> Table | None:
    """How far the measured order of the rows agrees with the published one, column by column."""
    lines = []
    for name, ranks in numbers["ranks"].items():
        if ranks:
            pairs = [str(ranks["same"]), str(len(ranks["opposite"])), str(ranks["tied"])]
            lines.append([name, str(ranks["rows"]), number(ranks["spearman"], 2), number(ranks["kendall"], 2), *pairs])
    note = "Of all pairs of rows: how many ours puts in the published order, in the opposite one, and how many are "
    note += "equal in either. 1 is the same order, -1 the opposite."
    columns = ["column", "rows", "Spearman", "Kendall tau-b", "same", "opposite", "tied"]
    return Table(columns=columns, rows=lines, title="Order of the rows", note=note) if lines else None


def reading_table(numbers: Mapping[str, Any], published: PublishedTable) -> Table | None:
    """Compare the possible meanings of methods that the paper does not specify fully.

    At another size of data and networks values cannot be compared with published ones. Instead each value is given as
    its difference from the first trained row, beside the published difference.

    Args:
        numbers: of `compare`.
        published: the table, at a scale.
    Returns:
        The table; None where the scale has no readings or nothing is trained yet.
    """
    scale, names = published.scale, numbers["columns"]
    if scale is None or not scale.readings or not scale.first:
        return None
    rows = {row["label"]: row for row in numbers["rows"]}
    plain, lines, marked = rows[scale.first[0]], [], []
    for of, others in scale.readings.items():
        lines.append([of, "published", *(_difference(rows[of], plain, name, "published") for name in names)])
        for row in (rows[label] for label in (of, *others)):
            if row["done"]:
                marked.append(len(lines))
                lines.append([row["train"], "ours", *(_difference(row, plain, name, "ours") for name in names)])
    if not marked or not plain["done"]:
        return None
    note = f"Each less the row {plain['label']} of the same side. Positive: more than there."
    return Table(columns=["row", "", *names], rows=lines, title="Readings", note=note, marked=marked)


def _difference(row: Mapping[str, Any], plain: Mapping[str, Any], name: str, side: str) -> str:
    one, other = row["cells"][name][side], plain["cells"][name][side]
    return f"{one['mean'] - other['mean']:+z.2f}" if one and other else MISSING


def opposite_table(numbers: Mapping[str, Any]) -> Table | None:
    """The pairs of rows whose measured order is opposite to the published one."""
    lines = [
        [name, one, other] for name, ranks in numbers["ranks"].items() if ranks for one, other in ranks["opposite"]
    ]
    columns = ["column", "row", "and row"]
    return Table(columns=columns, rows=lines, title="Pairs in the opposite order", fold=True) if lines else None
