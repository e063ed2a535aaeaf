"""Published tables: every figure as it was printed, and the configurations of the rows that can be trained here.

The tables are in ``tables/*.toml``. A figure that is missing there was not published, or is missing in our copy of the
paper; none is filled in. If a table has no figures at all, its ``told`` lists the quantities to show of trainings. A
file with ``[parts.NAME]`` holds one table for each part, a dataset, with the columns of that name; values of a part
override or extend those of the file. A row's ``train`` is one method for all parts, or a mapping from part to method.
"""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import cache
from importlib.resources import files
from statistics import fmean
from typing import Any

from lso.vae.errors import DataError, UsageError, unknown_name

LABEL_KEYS = ("model", "method", "dataset", "encoder_learning_rate", "inner_iterations")  # one of them labels a row
NUMBER_KEYS = ("encoder_learning_rate", "inner_iterations")  # numbers, whose label needs the name of the key
HEADINGS = {
    "nll": "NLL",
    "neg_elbo": "-ELBO",
    "neg_elbo_or_nll": "-ELBO or NLL",
    "kl": "KL",
    "mi": "MI",
    "au": "AU",
    "relative": "relative time",
    "hours": "hours",
    "iterations": "iterations",
    "ppl": "perplexity",
    "ppl_bound": "perplexity bound",
}
SYNONYMS = {"iw_nll": "nll", "exact_nll": "nll"}  # importance-weighted for models with latents, exact for others
Column = tuple[str, str]  # part (dataset or latent size; empty if there is only one) and quantity, a key of `HEADINGS`


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A published number."""

    mean: Decimal  # as printed
    text: str  # with its deviation, to print
    std: float | None = None  # printed standard deviation, or root of a printed variance; None if there is none
    floor: float = 0.0  # rounding error: half of the last printed digit of the mean or of the deviation, the larger one

    @property
    def scale(self) -> float | None:
        """The deviation that a z-score divides by, at least the rounding error; None without a deviation."""
        return None if self.std is None else max(self.std, self.floor)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row of a published table."""

    label: str  # as in the paper
    group: str = ""  # heading above the row, if any
    train: str = ""  # method that trains it here, "name:key=value,..."; empty if it can only be shown
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # of its trainings; override the table's
    figures: Mapping[Column, Figure] = field(default_factory=dict)
    instead: str = ""  # the paper's method, if a scale trains another one
    # Label of the row whose figures these are, if this row trains another reading of its method.
    reading_of: str = ""

    @property
    def training(self) -> str:
        """The method and the settings of the row, e.g. ``vae, word_drop=0.25``."""
        own = {key: value for section in self.settings.values() for key, value in section.items()}
        texts = (f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}" for key, value in own.items())
        return ", ".join((self.train, *texts))


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How the trainings of a table are changed so that a smaller machine can run them."""

    name: str
    what: str  # a line that describes it
    settings: Mapping[str, Any] = field(default_factory=dict)  # override those of the table; nested as in config.toml
    first: tuple[str, ...] = ()  # labels of the rows that are trained first, in this order; then come the others
    seeds: Mapping[str, int] = field(default_factory=dict)  # label of a row -> runs, if not as many as in the paper
    train: Mapping[str, str] = field(default_factory=dict)  # label of a row -> method, if it is not the table's
    # Label of a row -> further readings of its method that the paper allows: label of the reading -> method.
    readings: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedTable:
    """A published table, and how its rows are trained."""

    name: str  # of its file, followed by that of its part if the file has several
    title: str  # what it shows
    source: str  # the paper
    note: str  # how the figures were made
    rows: tuple[Row, ...]  # in the order of the paper
    task: str = ""  # row of `lso.tasks.TASKS`; empty if no row can be trained
    column: str = ""  # the part of the figures that belongs to the task; empty if all do
    told: tuple[str, ...] = ()  # quantities of the trainings that have a column although no figure was published
    # The table whose trainings it shares, and also task, settings, protocol and scales unless it has its own; empty for
    # trainings of its own.
    trainings: str = ""
    seeds: int = 1  # runs of each row
    iw_samples: int = 500  # of the importance-weighted NLL
    repeats: int = 1  # evaluations of each run
    latent_dims: Mapping[str, int] = field(default_factory=dict)  # part -> latent size, if a row stands for several
    settings: Mapping[str, Any] = field(default_factory=dict)  # of all trainings, nested as in config.toml
    protocol: tuple[str, ...] = ()  # sentences on the trainings
    remarks: tuple[str, ...] = ()  # other sentences
    scales: Mapping[str, Scale] = field(default_factory=dict)  # other sizes at which it can be trained, by name
    scale: Scale | None = None  # the one that was chosen (`at_scale`); None for the size of the paper

    @property
    def columns(self) -> list[Column]:
        """All columns in the order of their first figures, those that only untrained rows have after the others.

        The columns of ``told``, which have no figures, come last.
        """
        rows = sorted(self.rows, key=lambda row: not row.train)
        figures = [column for row in rows for column in row.figures]
        return list(dict.fromkeys([*figures, *((self.column, quantity) for quantity in self.told)]))

    @property
    def compared(self) -> list[Column]:
        """The columns in which trainings can be compared with the published figures."""
        parts = tuple(self.latent_dims) or (self.column,)
        return [column for column in self.columns if column[0] in parts] if self.task else []


def column_heading(column: Column, alone: bool = False) -> str:
    """The heading of a column; without its part if that is the only one (``alone``)."""
    part, quantity = column
    return HEADINGS[quantity] if alone or not part else f"{part} {HEADINGS[quantity]}"


@cache
def published() -> Mapping[str, PublishedTable]:
    """All published tables by name."""
    folder = files("lso.tasks") / "tables"
    names = sorted(path.name for path in folder.iterdir() if path.name.endswith(".toml"))
    tables = [table for name in names for table in parse_table(name[:-5], (folder / name).read_text(encoding="utf-8"))]
    known = {table.name: table for table in tables}
    return {name: _complete(table, known) for name, table in known.items()}


def _complete(table: PublishedTable, known: Mapping[str, PublishedTable]) -> PublishedTable:
    """Fill in what a table takes from the one whose trainings it shares."""
    if not table.trainings:
        return table
    if table.trainings not in known:
        raise DataError(
            f"{table.name} shares the trainings of an unknown table {table.trainings}", "Install lso again."
        )
    other = known[table.trainings]
    shared = ("task", "settings", "protocol", "scales")
    return replace(table, **{key: getattr(other, key) for key in shared if not getattr(table, key)})


def published_table(name: str) -> PublishedTable:
    """A published table by its name or the beginning of it."""
    known = published()
    if name in known:
        return known[name]
    begun = [full for full in known if full.startswith(name)]
    whole = [full for full in begun if full.startswith(f"{name}_")]  # table1 is not table10
    if len(whole or begun) != 1 or not name:
        if not begun or not name:
            raise unknown_name("table", name, known)
        raise UsageError(f"several tables begin with {name!r}", f"Name one of {', '.join(whole or begun)}.")
    return known[(whole or begun)[0]]


def at_scale(table: PublishedTable, name: str) -> PublishedTable:
    """A table at one of its scales, named ``TABLE-SCALE``, with the scale's methods and a row for each reading.

    Raises:
        UsageError: if the table has no such scale.
    """
    if not table.scales:
        having = ", ".join(key for key, one in published().items() if one.scales)
        raise UsageError(f"{table.name} has only the scale of the paper", f"Tables with other scales: {having}.")
    if name not in table.scales:
        raise unknown_name(f"scale of {table.name}", name, table.scales)
    scale = table.scales[name]
    if table.trainings:  # readings belong to the table whose trainings these are
        scale = replace(scale, readings={})
    rows = tuple(
        replace(row, train=scale.train[row.label], instead=row.train) if row.label in scale.train else row
        for row in table.rows
    )
    known = {row.label: row for row in rows}
    readings = tuple(
        replace(known[of], label=label, train=train, instead="", reading_of=of)
        for of, others in scale.readings.items()
        for label, train in others.items()
    )
    shared = f"{table.trainings}-{name}" if table.trainings else ""
    return replace(table, name=f"{table.name}-{name}", trainings=shared, rows=rows + readings, scale=scale)


def parse_table(name: str, text: str) -> list[PublishedTable]:
    """Read the tables in a file of published figures."""
    try:
        values = tomllib.loads(text, parse_float=Decimal)
        parts, rows = values.pop("parts", {}), values.pop("row")
        if not parts:
            return [_table(name, values, rows)]
        return [_table(f"{name}_{part}", _merge(values, own), rows, part) for part, own in parts.items()]
    except (tomllib.TOMLDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{name}.toml is not a published table: {error}", "Install lso again.") from None


def _merge(values: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Values of a file with those of a part: tables are merged key by key, and lists are joined."""
    merged = dict(values)
    for key, value in own.items():
        if key in merged and isinstance(value, Mapping):
            value = _merge(merged[key], value)
        merged[key] = [*merged[key], *value] if key in merged and isinstance(value, list) else value
    return merged


def _table(name: str, values: Mapping[str, Any], rows: list[dict[str, Any]], part: str = "") -> PublishedTable:
    """Build a table; that of a part has only the rows with figures in that part."""
    own = {**values, "column": part} if part else dict(values)
    latent_dims = own.get("latent_dims", {})
    read = [_row(row, latent_dims, part) for row in rows]
    return PublishedTable(
        name=name,
        rows=tuple(row for row in read if row.figures or not part),
        told=_check_quantities(own.pop("told", ())),
        remarks=tuple(own.pop("remarks", ())),
        protocol=tuple(own.pop("protocol", ())),
        settings=_floats(own.pop("settings", {})),
        scales={key: _scale(key, one, read) for key, one in own.pop("scales", {}).items()},
        **own,
    )


def _check_quantities(names: Sequence[str]) -> tuple[str, ...]:
    if unknown := [name for name in names if name not in HEADINGS]:
        raise ValueError(f"quantities {', '.join(unknown)}")
    return tuple(names)


def _scale(name: str, values: Mapping[str, Any], rows: Sequence[Row]) -> Scale:
    left = dict(values)
    scale = Scale(name=name, first=tuple(left.pop("first", ())), settings=_floats(left.pop("settings", {})), **left)
    labels = {row.label for row in rows}
    if unknown := {*scale.first, *scale.seeds, *scale.train, *scale.readings} - labels:
        raise ValueError(f"scale {name} names unknown rows: {', '.join(sorted(unknown))}")
    return scale


def _row(values: Mapping[str, Any], latent_dims: Mapping[str, int], part: str) -> Row:
    left = dict(values)
    (name,) = [key for key in LABEL_KEYS if key in left]
    label, group, train = left.pop(name), left.pop("group", ""), left.pop("train", "")
    label = f"{name.replace('_', ' ')}: {label}" if name in NUMBER_KEYS else label
    settings = _floats(left.pop("settings", {}))
    figures: dict[Column, Figure] = {}
    for of, quantity, value in _numbers(left):
        column = (quantity, of) if latent_dims else (of, quantity)
        column = (column[0], SYNONYMS.get(column[1], column[1]))
        if column[1] not in HEADINGS or column in figures:
            raise ValueError(f"{quantity} of {label}")
        figures[column] = _figure(value)
    if part:
        train = train.get(part, "") if isinstance(train, Mapping) else train
        figures = {column: figure for column, figure in figures.items() if column[0] == part}
    return Row(label=label, group=group, train=train, settings=settings, figures=figures)


def _numbers(values: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """Part, quantity and number of each figure; in a row with several parts the figures are one table deeper."""
    for key, value in values.items():
        if isinstance(value, Mapping) and "mean" not in value:
            yield from ((key, inner, number) for inner, number in value.items())
        else:
            yield "", key, value


def _figure(value: Any) -> Figure:
    given = {key: Decimal(number) for key, number in (value if isinstance(value, Mapping) else {"mean": value}).items()}
    if not given.keys() <= {"mean", "std", "variance"}:
        raise ValueError(f"statistics {', '.join(given)}")
    halves = {key: 0.5 * 10.0 ** int(number.as_tuple().exponent) for key, number in given.items()}
    mean, floor = given["mean"], halves["mean"]
    if "std" in given:
        text = f"{mean} ± {given['std']}"
        return Figure(mean=mean, text=text, std=float(given["std"]), floor=max(floor, halves["std"]))
    if "variance" in given:
        std = float(given["variance"]) ** 0.5
        hidden = halves["variance"] ** 0.5  # the deviation that a variance rounded to 0 may still have
        text = f"{mean} ± {std:.2g}" if std else f"{mean} ± < {hidden:.2g}"
        return Figure(mean=mean, text=text, std=std, floor=max(floor, hidden))
    return Figure(mean=mean, text=str(mean), floor=floor)


def _floats(values: Any) -> Any:
    if isinstance(values, Mapping):
        return {key: _floats(value) for key, value in values.items()}
    return float(values) if isinstance(values, Decimal) else values


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRow:
    """A row of a published comparison of searches."""

    label: str  # as in the paper
    values: tuple[float, ...] = ()  # best value of each seed; empty if they are not known
    mean: float | None = None  # over seeds, as published; None if it is not
    low: float | None = None  # least over seeds or settings, if known
    high: float | None = None  # greatest

    @property
    def average(self) -> float | None:
        """The mean of the values if they are known, else the published mean."""
        return fmean(self.values) if self.values else self.mean


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchTable:
    """A published comparison of searches for one goal."""

    name: str  # of its file
    title: str  # what it shows
    source: str  # the paper
    note: str  # what the figures are
    task: str  # row of `lso.tasks.TASKS`
    maximize: bool
    calls: int  # of the score
    rows: tuple[SearchRow, ...]
    protocol: tuple[str, ...] = ()  # sentences on how the searches were made
    remarks: tuple[str, ...] = ()  # other sentences


@cache
def search_tables() -> Mapping[str, SearchTable]:
    """All published comparisons of searches, by name."""
    folder = files("lso.tasks") / "tables" / "search"
    found = sorted((path.name, path) for path in folder.iterdir() if path.name.endswith(".toml"))
    return {
        name.removesuffix(".toml"): parse_search_table(name.removesuffix(".toml"), path.read_text("utf-8"))
        for name, path in found
    }


def table_of_goal(task: str) -> SearchTable:
    """The published comparison of searches for the goal of a task."""
    known = {table.task: table for table in search_tables().values()}
    if task not in known:
        raise unknown_name("task with a published search", task, known)
    return known[task]


def parse_search_table(name: str, text: str) -> SearchTable:
    """Read a file of a published comparison of searches."""
    try:
        values = tomllib.loads(text)
        rows = tuple(SearchRow(**{**row, "values": tuple(row.pop("values", ()))}) for row in values.pop("row"))
        protocol, remarks = tuple(values.pop("protocol", ())), tuple(values.pop("remarks", ()))
        return SearchTable(name=name, rows=rows, protocol=protocol, remarks=remarks, **values)
    except (tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise DataError(f"{name}.toml is not a table of searches: {error}", "Install lso again.") from None
