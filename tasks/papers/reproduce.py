"""A published table trained again: which trainings stand for its rows, and where a protocol was cut. Torch-free."""

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
    OF_LATENTS,
    EvaluationSpec,
    Member,
    Planned,
    evaluations,
    folder_name,
    is_finished,
)
from lso.vae.config.methods import parse_method
from lso.vae.errors import UsageError, unknown_name
from lso.vae.runs import INFO, Run


@dataclass(frozen=True, slots=True, kw_only=True)
class TableJob:
    """A training that stands for a row of a table.

    Args:
        row: which, from 0.
        part: of the figures that it is told beside, where a row stands for several trainings; else empty.
        planned: the training.
    """

    row: int
    part: str
    planned: Planned


@dataclass(frozen=True, slots=True, kw_only=True)
class TableReproduction:
    """A published table and the trainings that stand for it.

    Args:
        table: as published.
        jobs: the trainings.
        asked: how they are measured; None where only their time or a search is told.
        cuts: what was less than the paper's protocol.
        notes: sentences on what leaves its levels comparable.
    """

    table: PublishedTable
    jobs: tuple[TableJob, ...]
    asked: EvaluationSpec | None
    cuts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def planned(self) -> list[Planned]:
        """The trainings."""
        return [job.planned for job in self.jobs]


def chosen_rows(table: PublishedTable, names: Sequence[str]) -> list[int]:
    """Rows of a table that can be trained.

    Args:
        table: published.
        names: labels, numbers from 1 or methods, several in a text with commas between them; none is all. What is
            written as a label is one, before it is a method.
    Returns:
        Row numbers from 0, in the order of the table.
    Raises:
        UsageError: if a name is not of a row, or of one that has no configuration.
    """
    trained = [index for index, row in enumerate(table.rows) if row.train]
    if not names:
        return trained
    parts = [part.strip() for name in names for part in ([name] if _hits(table, name) else name.split(","))]
    found: set[int] = set()
    for part in filter(None, parts):
        hits = _hits(table, part)
        if not hits:
            raise unknown_name(f"row of {table.name}", part, [table.rows[index].label for index in trained])
        if not hits & set(trained):
            raise UsageError(f"{table.rows[min(hits)].label} has published figures only", "Name another row.")
        found |= hits & set(trained)
    return sorted(found)


def _hits(table: PublishedTable, name: str) -> set[int]:
    """Rows of a name: VAE is the paper's label, vae the method that trains another row; 30 is inner iterations: 30."""
    label = "".join(name.split())
    same: Sequence[Callable[[int, Row], bool]] = (
        lambda index, row: label in (str(index + 1), "".join(row.label.split())),
        lambda index, row: label in (row.train, row.label.rpartition(": ")[2]),
        lambda index, row: label.lower() == "".join(row.label.lower().split()),
    )
    found = [{index for index, row in enumerate(table.rows) if one(index, row)} for one in same]
    return next(filter(None, found), set())


def plan_table(
    table: PublishedTable,
    rows: Sequence[int],
    settings: Settings,
    *,
    seeds: int | None = None,
    iw_samples: int | None = None,
    test_limit: int = 0,
) -> TableReproduction:
    """The trainings that stand for rows of a table.

    Args:
        table: published.
        rows: of `chosen_rows`.
        settings: laid over the table's own and those of its scale, nested as in the TOML file.
        seeds: runs of each row; None is the paper's number, or the scale's.
        iw_samples: of the importance-weighted NLL; None is the paper's.
        test_limit: measure on the first so many test data; 0 is all.
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
        for index in _in_order(table, rows)
        for part, latent in _parts(table).items()
        for seed in range(_runs(table, table.rows[index]) if seeds is None else seeds)
    ]
    samples = table.iw_samples if iw_samples is None else iw_samples
    measured = any(quantity in EVALUATED for _, quantity in table.compared)
    asked = EvaluationSpec(iw_samples=samples, limit=test_limit, repeats=table.repeats) if measured else None
    return _reproduction(table, jobs, asked)


def with_finished(plan: TableReproduction, root: Path, settings: Settings) -> TableReproduction:
    """A plan and every finished training of its protocol that lies in its folder, so that no call forgets another's.

    Args:
        plan: of `plan_table`.
        root: the folder above its trainings.
        settings: as for `plan_table`.
    Returns:
        The plan with more jobs. What was measured in another way than this plan asks for is left out, with a note.
    """
    table = plan.table
    jobs = {(job.row, job.part, job.planned.config.seed): job for job in plan.jobs}
    otherwise: list[str] = []
    for index, (part, latent) in product(chosen_rows(table, []), _parts(table).items()):
        for seed in count(0):
            try:
                planned = _planned(table, table.rows[index], settings, latent, seed)
            except UsageError:  # a row that these networks cannot train
                break
            if not (root / planned.name / INFO).is_file():
                break
            if (index, part, seed) not in jobs and is_finished(planned, root):
                if plan.asked is None or len(evaluations(Run(root / planned.name), plan.asked)) >= plan.asked.repeats:
                    jobs[index, part, seed] = TableJob(row=index, part=part, planned=planned)
                else:
                    otherwise.append(planned.name)
    parts = list(_parts(table))
    ordered = [jobs[key] for key in sorted(jobs, key=lambda key: (key[0], parts.index(key[1]), key[2]))]
    found = _reproduction(table, ordered, plan.asked)
    left = f"Left out, as they were not measured as here: {', '.join(otherwise)}; name their rows to have it done."
    return replace(found, notes=(*found.notes, left)) if otherwise else found


def _own(table: PublishedTable, row: Row) -> Settings:
    """The paper's settings of a row."""
    return merge(merge({"data": {"task": table.task}}, table.settings), row.settings)


def _in_order(table: PublishedTable, rows: Sequence[int]) -> list[int]:
    """Rows as they are trained: those that the scale has first, then as in the table."""
    first = table.scale.first if table.scale else ()
    return sorted(rows, key=lambda index: _place(first, table.rows[index].label))


def _place(first: Sequence[str], label: str) -> int:
    return first.index(label) if label in first else len(first)


def _turn(table: PublishedTable, row: Row) -> int:
    """First what the scale has first, then readings of those rows, then the others."""
    if table.scale is None or row.label in table.scale.first:
        return 0
    return 1 if row.reading_of else 2


def _runs(table: PublishedTable, row: Row) -> int:
    """Runs of a row: the paper's number, or the scale's."""
    return table.scale.seeds.get(row.label, table.seeds) if table.scale else table.seeds


def _parts(table: PublishedTable) -> Mapping[str, int | None]:
    return table.latent_dims or {"": None}


def _reproduction(table: PublishedTable, jobs: Sequence[TableJob], asked: EvaluationSpec | None) -> TableReproduction:
    kind = TASKS[table.task].kind if table.task else ""
    cuts = _cuts(table, jobs, kind)
    if asked and asked.iw_samples < table.iw_samples:
        cuts.append(f"{asked.iw_samples} importance samples instead of {table.iw_samples}")
    if asked and asked.limit:
        cuts.append(f"measured on the first {pluralize(asked.limit, f'test {kind}')} alone")
    runs = sorted(set(Counter((job.row, job.part) for job in jobs).values()))
    here = " to ".join(str(number) for number in dict.fromkeys((runs[0], runs[-1]))) if runs else ""
    notes = (f"Runs of each row: {here} here, {table.seeds} in the paper.",) if runs not in ([], [table.seeds]) else ()
    return TableReproduction(table=table, jobs=tuple(jobs), asked=asked, cuts=tuple(cuts), notes=notes)


WORDS = {"name": "networks"}
EVALUATED = {  # quantity of a published table -> member of the metrics; without latents -ELBO is the exact NLL
    "nll": "iw_nll",
    "neg_elbo": "neg_elbo",
    "kl": "kl",
    "mi": "mi",
    "au": "active_units",
    "ppl": "iw_nll",
    "ppl_bound": "neg_elbo",
}
PER_TOKEN = ("ppl", "ppl_bound")  # the exponential of that member, a token


def _planned(table: PublishedTable, row: Row, settings: Settings, latent: int | None, seed: int) -> Planned:
    scale = table.scale.settings if table.scale else {}
    method, full = parse_method(row.train), merge(merge(_own(table, row), scale), settings)
    size = {"latent_dim": latent} if latent is not None else {} if method.latents else {"latent_dim": 0}
    try:
        config = plan(merge(full, {"method": row.train, "seed": seed, "architecture": size}))
    except UsageError as error:
        raise UsageError(
            f"row {row.label}: {error.message}", f"{error.hint} --rows trains only the rows that it names."
        ) from None
    name = folder_name(row.training, config.architecture.latent_dim, seed)
    return Planned(name=name, label=row.training, config=config, turn=_turn(table, row))


def _cuts(table: PublishedTable, jobs: Sequence[TableJob], kind: str) -> list[str]:
    """How the trainings are less than, or other than, the table's protocol says."""
    found: dict[str, None] = {}
    for job in jobs:
        row = table.rows[job.row]
        config, own = job.planned.config, _own(table, row)
        if config.data.limit:
            found[f"{pluralize(config.data.limit, f'training {kind}')} instead of all"] = None
        if config.data.size != own["data"].get("size", 0):
            found[f"{kind}s of {config.data.size}x{config.data.size}"] = None
        for section in ("architecture", "protocol"):
            for key, wanted in own[section].items():
                value = getattr(getattr(config, section), key)
                if value != wanted and not (key == "latent_dim" and not config.method.latents):
                    found[f"{WORDS.get(key, key.replace('_', ' '))} {value} instead of {wanted}"] = None
        if row.instead:
            found[f"{row.train} instead of {row.instead}"] = None
    return list(found)


def places(table: PublishedTable, out: Path) -> tuple[Path, Path]:
    """Where a table's report and its trainings go; tables of one protocol share trainings.

    Args:
        table: published.
        out: the folder above both.
    Returns:
        The folder of the report and that of the trainings.
    """
    return out / f"reproduce-{table.name}", out / f"reproduce-{table.trainings or table.name}"


def measured(member: Member, quantity: str) -> list[float]:
    """What a training gave for a quantity of a published table.

    Args:
        member: of `lso.tasks.training.multi_run.train_all`.
        quantity: of `lso.tasks.papers.published_tables.HEADINGS`.
    Returns:
        One number, or one for each evaluation; none where it is not finished or not measured.
    """
    if member.status != "finished":
        return []
    if quantity in ("hours", "relative"):
        return [member.info["seconds"] / 3600]
    key = EVALUATED.get(quantity, quantity)
    if not member.planned.config.architecture.latent_dim:
        if key in OF_LATENTS or quantity == "ppl_bound":  # which is exact there
            return []
        key = "neg_elbo" if key == "iw_nll" else key
    found = [one for one in member.evaluations if one.get(key) is not None]
    if quantity in PER_TOKEN:
        return [math.exp(one[key] / one["tokens"]) for one in found]
    return [float(one[key]) for one in found]


def provenance(members: Sequence[Member]) -> list[dict[str, Any]]:
    """The data of the trainings that have begun, each once."""
    found: dict[str, dict[str, Any]] = {}
    for member in members:
        if here := member.info.get("dataset", {}).get("provenance"):
            found.setdefault(source(here), here)
    return list(found.values())


def source(provenance: Mapping[str, Any]) -> str:
    """What the data of a training are called."""
    texts = provenance.get("files")
    if isinstance(texts, Mapping) and texts:
        return ", ".join(dict.fromkeys(str(file["name"]) for file in texts.values()))
    return str(provenance.get("source", provenance.get("path", "?")))
