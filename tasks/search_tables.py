"""Published figures of searches: the best value of each seed, or what else was published, and the protocol.

``tables/search/*.toml`` hold them. A figure that is not there was not published, or is lost in our copies; none is
filled in.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from statistics import fmean

from lso.vae.errors import DataError, unknown_name


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
    """All tables of searches.

    Returns:
        Name -> table, by name.
    Raises:
        DataError: if a file is damaged.
    """
    folder = files("lso.tasks") / "tables" / "search"
    found = sorted((path.name, path) for path in folder.iterdir() if path.name.endswith(".toml"))
    return {
        name.removesuffix(".toml"): parse(name.removesuffix(".toml"), path.read_text("utf-8")) for name, path in found
    }


def search_table(task: str) -> SearchTable:
    """The table about a task.

    Args:
        task: row of `lso.tasks.TASKS`.
    Returns:
        The table.
    Raises:
        UsageError: if there is none.
    """
    known = {table.task: table for table in search_tables().values()}
    if task not in known:
        raise unknown_name("task with a published search", task, known)
    return known[task]


def parse(name: str, text: str) -> SearchTable:
    """Read a file of published searches.

    Args:
        name: of the file.
        text: TOML, as in ``tables/search/``.
    Returns:
        The table.
    Raises:
        DataError: if it is not one.
    """
    try:
        values = tomllib.loads(text)
        rows = tuple(SearchRow(**{**row, "values": tuple(row.pop("values", ()))}) for row in values.pop("row"))
        protocol, remarks = tuple(values.pop("protocol", ())), tuple(values.pop("remarks", ()))
        return SearchTable(name=name, rows=rows, protocol=protocol, remarks=remarks, **values)
    except (tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise DataError(f"{name}.toml is not a table of searches: {error}", "Install lso again.") from None
