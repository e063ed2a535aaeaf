"""The page of a reproduction: published and ours side by side, and what the trained models do with their latents."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lso.analysis.summary import to_json_value
from lso.reports.data_notes import data_notes
from lso.reports.report import Chart, Report, Section, Sections
from lso.reports.sweep_plots import beside_published, units_and_likelihood
from lso.reports.tables import side_by_side
from lso.tasks.papers import latent_use
from lso.tasks.papers.comparison import (
    comparison_table,
    opposite_table,
    rank_table,
    reading_table,
    reproduction_banners,
)
from lso.tasks.papers.published_tables import PublishedTable
from lso.tasks.papers.reproduce import TableReproduction, measured
from lso.tasks.training.run_set import Member
from lso.vae.config.methods import parse_method
from lso.vae.config.training import to_dict
from lso.vae.runs import Run


def write_reproduction_report(
    reproduction: TableReproduction, members: Sequence[Member], numbers: Mapping[str, Any], folder: Path
) -> Path:
    """Write ``report.html`` and ``report.json`` of a reproduction."""
    published = reproduction.table
    infos = {member.planned.name: member.info for member in members if member.run}
    banners = reproduction_banners(numbers, members)
    trainings = {
        name: {key: info.get(key) for key in ("status", "sentence", "seconds", "device")}
        for name, info in infos.items()
    }
    told = {"table": published.name, "source": published.source, "banners": banners, **numbers}
    report = Report(
        kind="reproduction",
        title=f"Reproduction of {published.name}",
        subtitle=published.source,
        about=Reproduced(reproduction=reproduction, members=members, numbers=numbers),
        sections=REPRODUCTION_SECTIONS,
        banners=banners,
        numbers=to_json_value({**told, "asked": reproduction.asked, "trainings": trainings}),
        notes=[*data_notes(infos), *_devices(infos)],
    )
    return report.save(folder)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reproduced:
    """What the report is made from: the plan, its trainings, and ours beside the published numbers."""

    reproduction: TableReproduction
    members: Sequence[Member]
    numbers: Mapping[str, Any]

    @property
    def models(self) -> dict[str, Run]:
        """One run with latents of each method, by the paper's name for it."""
        return latent_use.first_runs(self.members, labels_of(self.reproduction.table))


def _published_and_ours(about: Reproduced) -> Section:
    """Every row of the table, published and ours."""
    return Section("Published and ours", [comparison_table(about.numbers, about.reproduction.table)])


def _ours_against_published(about: Reproduced) -> Section:
    """The same as a chart, and whether the order of the rows agrees."""
    numbers, chart = about.numbers, None
    if panels := _panels(numbers):
        names = {index: row["label"] for index, row in enumerate(numbers["rows"], start=1)}
        chart = Chart(beside_published(panels, names), "Our means beside the published ones", FIGURE)
    readings = reading_table(numbers, about.reproduction.table)
    return Section("Ours against published", [chart, rank_table(numbers), opposite_table(numbers), readings])


def _likelihood_and_units(about: Reproduced) -> Section | None:
    """Likelihood against active units, ours and published."""
    if not (found := _points(about.reproduction, about.members)):
        return None
    chart = Chart(units_and_likelihood(*found), "Likelihood against active units", UNITS)
    return Section("Likelihood and active units", [chart])


def _activity_by_dimension(about: Reproduced) -> Section | None:
    """Which dimensions each model uses."""
    return latent_use.activity_section(about.models)


def _reencoding_over_training(about: Reproduced) -> Section | None:
    """Re-encoding error by epoch."""
    return latent_use.reencoding_section(about.models)


def _traversals(about: Reproduced) -> Section | None:
    """Images along live and dead dimensions."""
    return latent_use.traversals_section(about.models)


def _configuration(about: Reproduced) -> Section:
    """Settings of the first seed of each training, what differs first."""
    first = [job.planned for job in about.reproduction.jobs if not job.planned.config.seed]
    configs = {planned.name: to_dict(planned.config) for planned in first}
    return Section("Configuration", [side_by_side("", configs) if configs else None])


REPRODUCTION_SECTIONS: Sections[Reproduced] = (
    _published_and_ours,
    _ours_against_published,
    _likelihood_and_units,
    _activity_by_dimension,
    _reencoding_over_training,
    _traversals,
    _configuration,
)


def labels_of(published: PublishedTable) -> dict[str, str]:
    """What the paper calls each training, where that names one row alone.

    Args:
        published: the table.
    Returns:
        Training -> label.
    """
    counts = Counter(row.label for row in published.rows)
    return {row.training: row.label for row in published.rows if row.train and counts[row.label] == 1}


FIGURE = "A line for each row of the table: published (circle) and ours (diamond); axes may be logarithmic."


UNITS = "As He et al. (2019), Figure 4: on the test split, a point for each run of ours; those of equal units stand a "
UNITS += "little beside one another. A model without latents is a level."


def _points(
    reproduction: TableReproduction, members: Sequence[Member]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]] | None:
    """Our runs and the published rows as `units_and_likelihood` takes them, by NLL where there is one, else by -ELBO.

    None for a table without active units, or of several latent sizes, and where nothing is measured yet.
    """
    table = reproduction.table
    part = next((part for part, quantity in table.compared if quantity == "au" and not table.latent_dims), None)
    runs = [
        (table.rows[job.row].label, {quantity: measured(member, quantity) for quantity in ("nll", "neg_elbo", "au")})
        for job, member in zip(reproduction.jobs, members, strict=True)
        if not table.rows[job.row].reading_of
    ]
    runs = [(label, found) for label, found in runs if found["neg_elbo"]]
    if part is None or not any(found["au"] for _, found in runs):
        return None
    nll = (part, "nll") in table.compared and all(found["nll"] for _, found in runs)
    quantity, key = ("nll", "iw_nll") if nll else ("neg_elbo", "neg_elbo")

    def point(label: str, found: Mapping[str, float]) -> dict[str, Any]:
        value = {"neg_elbo": found[quantity], key: found[quantity]}
        return {"method": label, "latent_dim": int("au" in found), "active_units": found.get("au"), **value}

    ours = [point(label, {key: values[0] for key, values in found.items() if values}) for label, found in runs]
    figures = {
        row.label: {key: float(one.mean) for (of, key), one in row.figures.items() if of == part} for row in table.rows
    }
    # A row whose active units were not published need not be of a model without latents.
    shown = [
        row
        for row in table.rows
        if not row.reading_of and ("au" in figures[row.label] or (row.train and not parse_method(row.train).latents))
    ]
    printed = [point(row.label, found) for row in shown if quantity in (found := figures[row.label])]
    return ours, printed


def _panels(numbers: Mapping[str, Any]) -> dict[str, list[tuple[int, float, float]]]:
    panels: dict[str, list[tuple[int, float, float]]] = {name: [] for name in numbers["columns"]}
    for index, row in enumerate(numbers["rows"], start=1):
        for name, cell in row["cells"].items():
            if cell["published"] and cell["ours"] and not row["reading_of"]:
                panels[name].append((index, cell["published"]["mean"], cell["ours"]["mean"]))
    return {name: entries for name, entries in panels.items() if entries}


def _devices(infos: Mapping[str, Mapping[str, Any]]) -> list[str]:
    found = {f"{info['device']} ({info['threads']} CPU threads)" for info in infos.values()}
    return [f"Trained on {', '.join(sorted(found))}."] if found else []
