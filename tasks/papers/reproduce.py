"""Reproductions of published tables: the trainings for each row, and how they differ from the paper's. Torch-free."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count, product
from pathlib import Path
from typing import Any

from lso.reports.tables import pluralize
from lso.tasks.papers.published_tables import PublishedTable, Row
from lso.tasks.task import TASKS
from lso.tasks.training.plan import Settings, merge, plan
from lso.tasks.training.run_set import (
    LATENT_METRICS,
    EvaluationSpec,
    Member,
    PlannedRun,
    folder_name,
    is_finished,
    stored_evaluations,
)
from lso.vae.config.methods import parse_method
from lso.vae.errors import UsageError, unknown_name
from lso.vae.runs import INFO, Run


@dataclass(frozen=True, slots=True, kw_only=True)
class TableJob:
    """A training that reproduces a row of a table."""

    row: int  # number of the row, from 0
    part: str  # part of the figures to compare with, if the row stands for several trainings; else empty
    planned: PlannedRun


@dataclass(frozen=True, slots=True, kw_only=True)
class TableReproduction:
    """A published table and the trainings that reproduce it."""

    table: PublishedTable
    jobs: tuple[TableJob, ...]
    asked: EvaluationSpec | None  # how trainings are evaluated; None if only their time or a search is compared
    cuts: tuple[str, ...] = ()  # how the protocol is smaller than the paper's: then levels do not compare
    notes: tuple[str, ...] = ()  # differences from the paper under which levels still compare

    @property
    def planned(self) -> list[PlannedRun]:
        """The trainings."""
        return [job.planned for job in self.jobs]


def chosen_rows(table: PublishedTable, names: Sequence[str]) -> list[int]:
    """Numbers, from 0, of the rows that are to be trained, in the order of the table.

    Args:
        table: the published table.
        names: labels, numbers from 1 or methods, also several separated by commas; none means all rows that can be
            trained. A name that is a label and a method is taken as the label.
    Raises:
        UsageError: if a name fits no row, or one that cannot be trained.
    """
    trained = [index for index, row in enumerate(table.rows) if row.train]
    if not names:
        return trained
    # A label may contain commas itself, so the whole name is tried first.
    parts = [part.strip() for name in names for part in ([name] if _matching_rows(table, name) else name.split(","))]
    chosen: set[int] = set()
    for part in filter(None, parts):
        matches = _matching_rows(table, part)
        if not matches:
            raise unknown_name(f"row of {table.name}", part, [table.rows[index].label for index in trained])
        if not matches & set(trained):
            raise UsageError(
                f"{table.rows[min(matches)].label} has published figures only and cannot be trained",
                "Name another row.",
            )
        chosen |= matches & set(trained)
    return sorted(chosen)


def _matching_rows(table: PublishedTable, name: str) -> set[int]:
    """Rows that a name fits, by the strictest of three comparisons that finds any.

    ``VAE`` may be the label of one row and ``vae`` the method of another; ``30`` stands for ``inner iterations: 30``.
    """
    label = "".join(name.split())
    comparisons: Sequence[Callable[[int, Row], bool]] = (
        lambda index, row: label in (str(index + 1), "".join(row.label.split())),
        lambda index, row: label in (row.train, row.label.rpartition(": ")[2]),
        lambda index, row: label.lower() == "".join(row.label.lower().split()),
    )
    matches = [{index for index, row in enumerate(table.rows) if fits(index, row)} for fits in comparisons]
    return next(filter(None, matches), set())


def plan_table(
    table: PublishedTable,
    rows: Sequence[int],
    settings: Settings,
    *,
    seeds: int | None = None,
    iw_samples: int | None = None,
    test_limit: int = 0,
) -> TableReproduction:
    """Plan the trainings for rows of a table.

    Args:
        table: the published table, or one at a scale.
        rows: numbers from `chosen_rows`.
        settings: override those of the table and its scale; nested as in config.toml.
        seeds: runs of each row; None is the number of the paper or the scale.
        iw_samples: of the importance-weighted NLL; None is the paper's number.
        test_limit: evaluate on the first so many test data; 0 is all.
    Returns:
        The plan.
    Raises:
        UsageError: for a wrong value, or a row that the architecture cannot train.
        DataError: if the data path does not exist.
    """
    if seeds is not None and seeds < 1:
        raise UsageError(f"expected at least 1 seed, got {seeds}", f"The paper has {table.seeds}.")
    jobs = [
        TableJob(row=index, part=part, planned=_planned(table, table.rows[index], settings, latent, seed))
        for index in _training_order(table, rows)
        for part, latent in _parts(table).items()
        for seed in range(_runs(table, table.rows[index]) if seeds is None else seeds)
    ]
    samples = table.iw_samples if iw_samples is None else iw_samples
    measured = any(quantity in METRIC_OF for _, quantity in table.compared)
    asked = EvaluationSpec(iw_samples=samples, limit=test_limit, repeats=table.repeats) if measured else None
    return _reproduction(table, jobs, asked)


def with_finished(plan: TableReproduction, root: Path, settings: Settings) -> TableReproduction:
    """Add to a plan every finished training of the same protocol in its folder, so that reports show earlier rows too.

    Args:
        plan: from `plan_table`.
        root: the folder above its trainings.
        settings: as for `plan_table`.
    Returns:
        The plan with more jobs. Trainings that were evaluated in another way than the plan asks are left out, with a
        note.
    """
    table = plan.table
    jobs = {(job.row, job.part, job.planned.config.seed): job for job in plan.jobs}
    evaluated_otherwise: list[str] = []
    for index, (part, latent) in product(chosen_rows(table, []), _parts(table).items()):
        for seed in count(0):
            try:
                planned = _planned(table, table.rows[index], settings, latent, seed)
            except UsageError:  # a row that these networks cannot train
                break
            if not (root / planned.name / INFO).is_file():
                break
            if (index, part, seed) not in jobs and is_finished(planned, root):
                if (
                    plan.asked is None
                    or len(stored_evaluations(Run(root / planned.name), plan.asked)) >= plan.asked.repeats
                ):
                    jobs[index, part, seed] = TableJob(row=index, part=part, planned=planned)
                else:
                    evaluated_otherwise.append(planned.name)
    parts = list(_parts(table))
    ordered = [jobs[key] for key in sorted(jobs, key=lambda key: (key[0], parts.index(key[1]), key[2]))]
    found = _reproduction(table, ordered, plan.asked)
    note = (
        f"Left out, as they were evaluated with other settings: {', '.join(evaluated_otherwise)}; name their rows to "
    )
    note += "evaluate them again."
    return replace(found, notes=(*found.notes, note)) if evaluated_otherwise else found


def _paper_settings(table: PublishedTable, row: Row) -> Settings:
    """The paper's settings of a row."""
    return merge(merge({"data": {"task": table.task}}, table.settings), row.settings)


def _training_order(table: PublishedTable, rows: Sequence[int]) -> list[int]:
    """Rows in the order of training: those that the scale puts first, then as in the table."""
    first = table.scale.first if table.scale else ()

    def rank(index: int) -> int:
        label = table.rows[index].label
        return first.index(label) if label in first else len(first)

    return sorted(rows, key=rank)


def _turn(table: PublishedTable, row: Row) -> int:
    """Priority of a row: 0 for those that the scale puts first, 1 for other readings of methods, 2 for the rest."""
    if table.scale is None or row.label in table.scale.first:
        return 0
    return 1 if row.reading_of else 2


def _runs(table: PublishedTable, row: Row) -> int:
    """Number of runs of a row: that of the scale, or of the paper."""
    return table.scale.seeds.get(row.label, table.seeds) if table.scale else table.seeds


def _parts(table: PublishedTable) -> Mapping[str, int | None]:
    """Latent size of each part of a table; None takes that of the settings."""
    return table.latent_dims or {"": None}


def _reproduction(table: PublishedTable, jobs: Sequence[TableJob], asked: EvaluationSpec | None) -> TableReproduction:
    kind = TASKS[table.task].kind if table.task else ""
    cuts = _cuts(table, jobs, kind)
    if asked and asked.iw_samples < table.iw_samples:
        cuts.append(f"{asked.iw_samples} importance samples instead of {table.iw_samples}")
    if asked and asked.limit:
        cuts.append(f"evaluated on the first {pluralize(asked.limit, f'test {kind}')} only")
    runs = sorted(set(Counter((job.row, job.part) for job in jobs).values()))
    here = " to ".join(str(number) for number in dict.fromkeys((runs[0], runs[-1]))) if runs else ""
    notes = (f"Runs of each row: {here} here, {table.seeds} in the paper.",) if runs not in ([], [table.seeds]) else ()
    return TableReproduction(table=table, jobs=tuple(jobs), asked=asked, cuts=tuple(cuts), notes=notes)


SETTING_WORDS = {"name": "networks"}  # words for keys of the configuration in sentences
# Quantity of a published table -> field of the metrics; without latents -ELBO is the exact NLL.
METRIC_OF = {
    "nll": "iw_nll",
    "neg_elbo": "neg_elbo",
    "kl": "kl",
    "mi": "mi",
    "au": "active_units",
    "ppl": "iw_nll",
    "ppl_bound": "neg_elbo",
}
PER_TOKEN = ("ppl", "ppl_bound")  # exp(metric / number of tokens)


def _planned(table: PublishedTable, row: Row, settings: Settings, latent: int | None, seed: int) -> PlannedRun:
    scale = table.scale.settings if table.scale else {}
    method, full = parse_method(row.train), merge(merge(_paper_settings(table, row), scale), settings)
    size = {"latent_dim": latent} if latent is not None else {} if method.latents else {"latent_dim": 0}
    try:
        config = plan(merge(full, {"method": row.train, "seed": seed, "architecture": size}))
    except UsageError as error:
        raise UsageError(
            f"row {row.label}: {error.message}", f"{error.hint} With --rows only the rows that it names are trained."
        ) from None
    name = folder_name(row.training, config.architecture.latent_dim, seed)
    return PlannedRun(name=name, label=row.training, config=config, turn=_turn(table, row))


def _cuts(table: PublishedTable, jobs: Sequence[TableJob], kind: str) -> list[str]:
    """How the trainings are smaller than, or differ from, the protocol of the table."""
    cuts: dict[str, None] = {}
    for job in jobs:
        row = table.rows[job.row]
        config, own = job.planned.config, _paper_settings(table, row)
        if config.data.limit:
            cuts[f"{pluralize(config.data.limit, f'training {kind}')} instead of all"] = None
        if config.data.size != own["data"].get("size", 0):
            cuts[f"{kind}s of {config.data.size}x{config.data.size}"] = None
        for section in ("architecture", "protocol"):
            for key, wanted in own[section].items():
                value = getattr(getattr(config, section), key)
                if value != wanted and not (key == "latent_dim" and not config.method.latents):
                    cuts[f"{SETTING_WORDS.get(key, key.replace('_', ' '))} {value} instead of {wanted}"] = None
        if row.instead:
            cuts[f"{row.train} instead of {row.instead}"] = None
    return list(cuts)


def places(table: PublishedTable, out: Path) -> tuple[Path, Path]:
    """Folders of a table's report and of its trainings, in ``out``; tables of one protocol share their trainings."""
    return out / f"reproduce-{table.name}", out / f"reproduce-{table.trainings or table.name}"


def measured(member: Member, quantity: str) -> list[float]:
    """The values of a training for a quantity of a published table.

    Args:
        member: from `lso.tasks.training.multi_run.train_all`.
        quantity: a key of `lso.tasks.papers.published_tables.HEADINGS`.
    Returns:
        One number, or one for each evaluation; none if the training is not finished or not evaluated.
    """
    if member.status != "finished":
        return []
    if quantity in ("hours", "relative"):
        return [member.info["seconds"] / 3600]
    key = METRIC_OF.get(quantity, quantity)
    if not member.planned.config.architecture.latent_dim:
        if key in LATENT_METRICS or quantity == "ppl_bound":  # without latents a perplexity is exact and no bound
            return []
        key = "neg_elbo" if key == "iw_nll" else key
    measurements = [evaluation for evaluation in member.evaluations if evaluation.get(key) is not None]
    if quantity in PER_TOKEN:
        return [math.exp(evaluation[key] / evaluation["tokens"]) for evaluation in measurements]
    return [float(evaluation[key]) for evaluation in measurements]


def study_provenances(members: Sequence[Member]) -> list[dict[str, Any]]:
    """The provenances of the data of trainings that have begun, each data source once."""
    provenances: dict[str, dict[str, Any]] = {}
    for member in members:
        if here := member.info.get("dataset", {}).get("provenance"):
            provenances.setdefault(source(here), here)
    return list(provenances.values())


def source(provenance: Mapping[str, Any]) -> str:
    """The name of a data source: its files, else its download source or path."""
    texts = provenance.get("files")
    if isinstance(texts, Mapping) and texts:
        return ", ".join(dict.fromkeys(str(file["name"]) for file in texts.values()))
    return str(provenance.get("source", provenance.get("path", "?")))
