"""Published tables: every figure as it was printed, and for rows that can be trained here the configuration.

``tables/*.toml`` hold them. A figure that is not there was not published, or is lost in our copies; none is filled in.
Where all are, ``told`` says what is told of the trainings all the same. A file with ``[parts.NAME]`` is a table for
each part, a data set, with the columns of that name; what a part says goes over what its file says. A row's ``train``
is one for all parts, or a mapping by part.
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

NAMES = ("model", "method", "dataset", "encoder_learning_rate", "inner_iterations")  # what a row may be known by
NUMBERS = ("encoder_learning_rate", "inner_iterations")  # of these, what says nothing without its name
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
SAME = {"iw_nll": "nll", "exact_nll": "nll"}  # importance-weighted for models with latents, exact for others
Column = tuple[str, str]  # part (data set or latent size; empty where there is one alone) and quantity of `HEADINGS`


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A published number.

    Args:
        mean: as printed.
        text: with its deviation, for reading.
        std: standard deviation as printed, or the root of a printed variance; None where there is none.
        floor: half of the last printed digit, of the mean or of the deviation, whichever is more.
    """

    mean: Decimal
    text: str
    std: float | None = None
    floor: float = 0.0

    @property
    def scale(self) -> float | None:
        """The deviation that a z-score divides by: never below what rounding hides; None without a deviation."""
        return None if self.std is None else max(self.std, self.floor)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row of a published table.

    Args:
        label: what it is called there.
        group: heading that it stands under, if any.
        train: method that trains it here, ``"name:key=value,..."``; empty where only the figures are known.
        settings: of its trainings, over those of the table.
        figures: of each column.
        instead: the paper's method, where a scale trains another.
        reading_of: label of the row whose figures these are, where this is another reading of its method.
    """

    label: str
    group: str = ""
    train: str = ""
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    figures: Mapping[Column, Figure] = field(default_factory=dict)
    instead: str = ""
    reading_of: str = ""

    @property
    def training(self) -> str:
        """The method and the settings that are the row's own, e.g. ``vae, word_drop=0.25``."""
        own = {key: value for section in self.settings.values() for key, value in section.items()}
        told = (f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}" for key, value in own.items())
        return ", ".join((self.train, *told))


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """A table at a size that another machine can train.

    Args:
        name: what it is called.
        what: it is, in a line.
        settings: over those of the table, nested as in ``config.toml``.
        first: labels of the rows that are trained first, in that order; the others come after, as in the table.
        seeds: runs of some rows, by label, where they are not the paper's number.
        train: method of some rows, by label, where it is not the table's.
        readings: label of a row -> what its method may also mean where the paper leaves that open, label -> method.
    """

    name: str
    what: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    first: tuple[str, ...] = ()
    seeds: Mapping[str, int] = field(default_factory=dict)
    train: Mapping[str, str] = field(default_factory=dict)
    readings: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedTable:
    """A published table, and how its rows are trained.

    Args:
        name: of its file, and of its part where that has several.
        title: what it shows.
        source: where it was published.
        note: how its figures were made.
        rows: in the order of the paper.
        task: row of `lso.tasks.TASKS`; empty where no row can be trained.
        column: the part of the figures that is about that task; empty where all are.
        told: quantities of the trainings that have a column although none was published.
        trainings: the table whose trainings it shares, and what it does not say of task, settings, protocol and scales;
            empty for its own.
        seeds: runs of each row.
        iw_samples: of the importance-weighted NLL.
        repeats: evaluations of each run.
        latent_dims: part -> latent size, where a row stands for several.
        settings: of all trainings, nested as in ``config.toml``.
        protocol: sentences on them.
        remarks: other sentences.
        scales: sizes that it can be trained at instead, by name.
        scale: the one of them that this is, see `at_scale`; None for the paper's own size.
    """

    name: str
    title: str
    source: str
    note: str
    rows: tuple[Row, ...]
    task: str = ""
    column: str = ""
    told: tuple[str, ...] = ()
    trainings: str = ""
    seeds: int = 1
    iw_samples: int = 500
    repeats: int = 1
    latent_dims: Mapping[str, int] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    protocol: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    scales: Mapping[str, Scale] = field(default_factory=dict)
    scale: Scale | None = None

    @property
    def columns(self) -> list[Column]:
        """All columns, in the order in which they first have a figure; those of rows that are not trained come last.

        Columns without any figure are those of ``told``, after the others.
        """
        rows = sorted(self.rows, key=lambda row: not row.train)
        figures = [column for row in rows for column in row.figures]
        return list(dict.fromkeys([*figures, *((self.column, quantity) for quantity in self.told)]))

    @property
    def compared(self) -> list[Column]:
        """The columns in which trainings can be told beside the published figures."""
        parts = tuple(self.latent_dims) or (self.column,)
        return [column for column in self.columns if column[0] in parts] if self.task else []


def heading(column: Column, alone: bool = False) -> str:
    """What a column is called."""
    part, quantity = column
    return HEADINGS[quantity] if alone or not part else f"{part} {HEADINGS[quantity]}"


@cache
def published() -> Mapping[str, PublishedTable]:
    """All tables."""
    folder = files("lso.tasks") / "tables"
    found = sorted(path.name for path in folder.iterdir() if path.name.endswith(".toml"))
    tables = [one for name in found for one in parse_table(name[:-5], (folder / name).read_text(encoding="utf-8"))]
    known = {one.name: one for one in tables}
    return {name: _completed(one, known) for name, one in known.items()}


def _completed(table: PublishedTable, known: Mapping[str, PublishedTable]) -> PublishedTable:
    """A table with what it leaves to the one whose trainings it shares."""
    if not table.trainings:
        return table
    if table.trainings not in known:
        raise DataError(
            f"{table.name} shares the trainings of an unknown table {table.trainings}", "Install lso again."
        )
    other = known[table.trainings]
    shared = ("task", "settings", "protocol", "scales")
    left = {key: getattr(other, key) for key in shared if not getattr(table, key)}
    return replace(table, **left)


def table(name: str) -> PublishedTable:
    """A table by its name or the beginning of it."""
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
    """A table as another machine can train it.

    Args:
        table: published.
        name: of one of its scales.
    Returns:
        The table under the name ``TABLE-SCALE``, with the methods that the scale has for it; where its trainings are
        its own with a row for each reading, after all others.
    Raises:
        UsageError: if it has no such scale.
    """
    if not table.scales:
        having = ", ".join(key for key, one in published().items() if one.scales)
        raise UsageError(f"{table.name} has no other scale than the paper's", f"Those that have: {having}.")
    if name not in table.scales:
        raise unknown_name(f"scale of {table.name}", name, table.scales)
    scale = table.scales[name]
    if table.trainings:  # readings are told in the table that is trained
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
    """Read a file of published figures."""
    try:
        values = tomllib.loads(text, parse_float=Decimal)
        parts, rows = values.pop("parts", {}), values.pop("row")
        if not parts:
            return [_table(name, values, rows)]
        return [_table(f"{name}_{part}", _over(values, own), rows, part) for part, own in parts.items()]
    except (tomllib.TOMLDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{name}.toml is not a published table: {error}", "Install lso again.") from None


def _over(values: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """What a part says laid over what its file says: tables key by key, lists one after the other."""
    merged = dict(values)
    for key, value in own.items():
        if key in merged and isinstance(value, Mapping):
            value = _over(merged[key], value)
        merged[key] = [*merged[key], *value] if key in merged and isinstance(value, list) else value
    return merged


def _table(name: str, values: Mapping[str, Any], rows: list[dict[str, Any]], part: str = "") -> PublishedTable:
    """A table; of a part the rows that have figures there, and those alone."""
    own = {**values, "column": part} if part else dict(values)
    latent_dims = own.get("latent_dims", {})
    read = [_row(row, latent_dims, part) for row in rows]
    return PublishedTable(
        name=name,
        rows=tuple(row for row in read if row.figures or not part),
        told=_quantities(own.pop("told", ())),
        remarks=tuple(own.pop("remarks", ())),
        protocol=tuple(own.pop("protocol", ())),
        settings=_floats(own.pop("settings", {})),
        scales={key: _scale(key, one, read) for key, one in own.pop("scales", {}).items()},
        **own,
    )


def _quantities(names: Sequence[str]) -> tuple[str, ...]:
    if unknown := [name for name in names if name not in HEADINGS]:
        raise ValueError(f"quantities {', '.join(unknown)}")
    return tuple(names)


def _scale(name: str, values: Mapping[str, Any], rows: Sequence[Row]) -> Scale:
    left = dict(values)
    scale = Scale(name=name, first=tuple(left.pop("first", ())), settings=_floats(left.pop("settings", {})), **left)
    labels = {row.label for row in rows}
    if unknown := {*scale.first, *scale.seeds, *scale.train, *scale.readings} - labels:
        raise ValueError(f"rows of scale {name} that are none: {', '.join(sorted(unknown))}")
    return scale


def _row(values: Mapping[str, Any], latent_dims: Mapping[str, int], part: str) -> Row:
    left = dict(values)
    (name,) = [key for key in NAMES if key in left]
    label, group, train = left.pop(name), left.pop("group", ""), left.pop("train", "")
    label = f"{name.replace('_', ' ')}: {label}" if name in NUMBERS else label
    settings = _floats(left.pop("settings", {}))
    figures: dict[Column, Figure] = {}
    for of, quantity, value in _numbers(left):
        column = (quantity, of) if latent_dims else (of, quantity)
        column = (column[0], SAME.get(column[1], column[1]))
        if column[1] not in HEADINGS or column in figures:
            raise ValueError(f"{quantity} of {label}")
        figures[column] = _figure(value)
    if part:
        train = train.get(part, "") if isinstance(train, Mapping) else train
        figures = {column: figure for column, figure in figures.items() if column[0] == part}
    return Row(label=label, group=group, train=train, settings=settings, figures=figures)


def _numbers(values: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """Part, quantity and number of each figure: one table deep where a row has several parts."""
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
        hidden = halves["variance"] ** 0.5  # what a variance that was rounded to 0 may be the square of
        text = f"{mean} ± {std:.2g}" if std else f"{mean} ± < {hidden:.2g}"
        return Figure(mean=mean, text=text, std=std, floor=max(floor, hidden))
    return Figure(mean=mean, text=str(mean), floor=floor)


def _floats(values: Any) -> Any:
    if isinstance(values, Mapping):
        return {key: _floats(value) for key, value in values.items()}
    return float(values) if isinstance(values, Decimal) else values


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRow:
    """A published search.

    Args:
        label: what it is called there.
        values: best of each seed; empty where they are not known.
        mean: over seeds as published; None where it is not.
        low: least of the seeds or settings, where that is known.
        high: the most.
    """

    label: str
    values: tuple[float, ...] = ()
    mean: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def average(self) -> float | None:
        """The mean of the values, else the published one."""
        return fmean(self.values) if self.values else self.mean


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchTable:
    """A published comparison of searches.

    Args:
        name: of its file.
        title: what it shows.
        source: where it was published.
        note: what the figures are.
        task: row of `lso.tasks.TASKS` that it is about.
        maximize: sense of the score.
        calls: of the score, unless a row says others.
        rows: searches.
        protocol: sentences on how.
        remarks: other sentences.
    """

    name: str
    title: str
    source: str
    note: str
    task: str
    maximize: bool
    calls: int
    rows: tuple[SearchRow, ...]
    protocol: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


@cache
def search_tables() -> Mapping[str, SearchTable]:
    """All tables of searches."""
    folder = files("lso.tasks") / "tables" / "search"
    found = sorted((path.name, path) for path in folder.iterdir() if path.name.endswith(".toml"))
    return {
        name.removesuffix(".toml"): parse_search_table(name.removesuffix(".toml"), path.read_text("utf-8"))
        for name, path in found
    }


def search_table(task: str) -> SearchTable:
    """The table about a task."""
    known = {table.task: table for table in search_tables().values()}
    if task not in known:
        raise unknown_name("task with a published search", task, known)
    return known[task]


def parse_search_table(name: str, text: str) -> SearchTable:
    """Read a file of published searches."""
    try:
        values = tomllib.loads(text)
        rows = tuple(SearchRow(**{**row, "values": tuple(row.pop("values", ()))}) for row in values.pop("row"))
        protocol, remarks = tuple(values.pop("protocol", ())), tuple(values.pop("remarks", ()))
        return SearchTable(name=name, rows=rows, protocol=protocol, remarks=remarks, **values)
    except (tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise DataError(f"{name}.toml is not a table of searches: {error}", "Install lso again.") from None
