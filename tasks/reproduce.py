"""A published table trained again: which trainings stand for its rows, and where a protocol was cut. Torch-free."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lso.tasks.members import Asked, Member, Planned, folder_name
from lso.tasks.plan import Settings, merge, plan
from lso.tasks.tables import PublishedTable, Row
from lso.vae.config import TrainConfig
from lso.vae.errors import UsageError, unknown_name
from lso.vae.methods import parse_method


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
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
class Reproduction:
    """A published table and the trainings that stand for it.

    Args:
        table: as published.
        jobs: the trainings.
        asked: how they are measured; None where only their time or a search is told.
        cuts: what was less than the paper's protocol.
        notes: sentences on what leaves its levels comparable.
    """

    table: PublishedTable
    jobs: tuple[Job, ...]
    asked: Asked | None
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
    """Rows of a name: VAE is the paper's label, vae the method that trains another row."""
    label = "".join(name.split())
    same: Sequence[Callable[[int, Row], bool]] = (
        lambda index, row: label in (str(index + 1), "".join(row.label.split())),
        lambda index, row: label == row.train,
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
) -> Reproduction:
    """The trainings that stand for rows of a table.

    Args:
        table: published.
        rows: of `chosen_rows`.
        settings: laid over the table's own, nested as in the TOML file.
        seeds: runs of each row; None is the paper's number.
        iw_samples: of the importance-weighted NLL; None is the paper's.
        test_limit: measure on the first so many test images; 0 is all.
    Returns:
        The plan.
    Raises:
        UsageError: for a wrong value, or a row that the architecture cannot train.
        DataError: if the data path does not exist.
    """
    count = table.seeds if seeds is None else seeds
    if count < 1:
        raise UsageError(f"expected at least 1 seed, got {count}", f"The paper has {table.seeds}.")
    own = merge({"data": {"task": table.task}}, table.settings)
    parts: Mapping[str, int | None] = table.latent_dims or {"": None}
    jobs = [
        Job(row=index, part=part, planned=_planned(table.rows[index], merge(own, settings), latent, seed))
        for index in rows
        for part, latent in parts.items()
        for seed in range(count)
    ]
    samples = table.iw_samples if iw_samples is None else iw_samples
    measured = any(quantity in EVALUATED for _, quantity in table.compared)
    asked = Asked(iw_samples=samples, limit=test_limit, repeats=table.repeats) if measured else None
    cuts = _cuts(table, own, [job.planned.config for job in jobs])
    if asked and samples < table.iw_samples:
        cuts.append(f"{samples} importance samples instead of {table.iw_samples}")
    if asked and test_limit:
        cuts.append(f"measured on the first {test_limit:,} test images alone")
    notes = (f"Runs of each row: {count} here, {table.seeds} in the paper.",) if count != table.seeds else ()
    return Reproduction(table=table, jobs=tuple(jobs), asked=asked, cuts=tuple(cuts), notes=notes)


WORDS = {"name": "networks"}
EVALUATED = {  # quantity of a published table -> member of the metrics; without latents -ELBO is the exact NLL
    "nll": "iw_nll",
    "neg_elbo": "neg_elbo",
    "kl": "kl",
    "mi": "mi",
    "au": "active_units",
}


def _planned(row: Row, settings: Settings, latent: int | None, seed: int) -> Planned:
    method = parse_method(row.train)
    size = {"latent_dim": latent} if latent is not None else {} if method.latents else {"latent_dim": 0}
    try:
        config = plan(merge(settings, {"method": row.train, "seed": seed, "architecture": size}))
    except UsageError as error:
        raise UsageError(
            f"row {row.label}: {error.message}", f"{error.hint} --rows trains only the rows that it names."
        ) from None
    name = folder_name(row.train, config.architecture.latent_dim, seed)
    return Planned(name=name, label=row.train, config=config)


def _cuts(table: PublishedTable, own: Settings, configs: Sequence[TrainConfig]) -> list[str]:
    """How the trainings are less than, or other than, the table's protocol says."""
    found: dict[str, None] = {}
    for config in configs:
        if config.data.limit:
            found[f"{config.data.limit:,} training images instead of all"] = None
        for section in ("architecture", "protocol"):
            for key, wanted in own[section].items():
                value = getattr(getattr(config, section), key)
                if value != wanted and not (key == "latent_dim" and not config.method.latents):
                    found[f"{WORDS.get(key, key.replace('_', ' '))} {value} instead of {wanted}"] = None
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
        member: of `lso.tasks.grid.train_all`.
        quantity: of `lso.tasks.tables.HEADINGS`.
    Returns:
        One number, or one for each evaluation; none where it is not finished or not measured.
    """
    if member.status != "finished":
        return []
    if quantity in ("hours", "relative"):
        return [member.info["seconds"] / 3600]
    key = EVALUATED.get(quantity, quantity)
    if key == "iw_nll" and not member.planned.config.architecture.latent_dim:
        key = "neg_elbo"
    return [float(one[key]) for one in member.evaluations if one.get(key) is not None]


def provenance(members: Sequence[Member]) -> list[dict[str, Any]]:
    """The data of the trainings that have begun, each once.

    Args:
        members: of `lso.tasks.grid.train_all`.
    Returns:
        Their provenance, as in run.json.
    """
    found: list[dict[str, Any]] = []
    for member in members:
        here = member.info.get("dataset", {}).get("provenance")
        if here and here.get("source") not in [known.get("source") for known in found]:
            found.append(here)
    return found
