"""Tables as data: text in cells, for a page or a terminal to lay out."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from lso.vae.utils.validation import pluralize as pluralize

MISSING = "–"
MIN_SENTENCE = 40  # letters; numbers with what they are compared with are shorter


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table whose cells are text.

    Args:
        columns: headings; the first column names the row.
        rows: as many cells as headings.
        title: of the table.
        note: what a reader needs to know to read it.
        fold: whether a page shows it only on demand.
        marked: numbers of rows to highlight.
    """

    form: ClassVar[str] = "table"
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""
    note: str = ""
    fold: bool = False
    marked: Sequence[int] = ()

    @property
    def prose(self) -> list[int]:
        """Numbers of the columns that hold sentences, which a page aligns to the left."""
        columns = range(len(self.columns))
        return [at for at in columns if any(len(row[at]) > MIN_SENTENCE for row in self.rows)]


def number(value: Any, digits: int = 4) -> str:
    """Format a number for reading: significant digits, no exponent between 1e-3 and 1e6.

    Text passes unchanged; None and what is not finite become a dash.
    """
    if value is None or (isinstance(value, float) and not abs(value) < float("inf")):
        return MISSING
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    if value != 0 and not 1e-3 <= abs(value) < 1e6:
        return f"{value:.{digits - 2}e}"
    text = f"{value:z.{digits}g}" if abs(value) < 10**digits else f"{value:z,.0f}"
    return text if "e" not in text else f"{value:z,.0f}"


def percent(value: float | None) -> str:
    """Format a share in [0, 1] as a percentage such as ``12 %``.

    It has tenths under 10 % and from 99 to 100 %, and is ``< 0.01 %`` below that; None and what is not finite become a
    dash.
    """
    if value is None or not abs(value) < float("inf"):
        return MISSING
    hundred = 100 * value
    if 0 < hundred < 0.01:
        return "< 0.01 %"
    whole = hundred == round(hundred) or 10 <= hundred <= 99 or hundred > 100
    return f"{hundred:z.0f} %" if whole else f"{hundred:z.1f} %" if hundred >= 0.1 else f"{hundred:z.2g} %"


def facts(title: str, values: Mapping[str, Any], note: str = "") -> Table:
    """Settings or provenance as a table of two columns; nested mappings are flattened with dots."""
    return Table(
        columns=["name", "value"], rows=[[k, number(v)] for k, v in flatten(values).items()], title=title, note=note
    )


def side_by_side(title: str, columns: Mapping[str, Any]) -> Table:
    """Settings of several runs as one table; rows that differ come first."""
    flats = {name: flatten(values) for name, values in columns.items()}
    keys = list(dict.fromkeys(key for found in flats.values() for key in found))
    rows = [
        [key, *(MISSING if found.get(key) is None else str(found[key]) for found in flats.values())] for key in keys
    ]
    rows.sort(key=lambda row: len(set(row[1:])) == 1)  # stable
    differing = sum(len(set(row[1:])) > 1 for row in rows)
    rows_differ = "row differs" if differing == 1 else f"{differing} rows differ"
    note = f"The first {rows_differ} between runs." if differing else ""
    return Table(
        columns=["name", *(["value"] if len(flats) == 1 else flats)],
        rows=rows,
        title=title,
        note=note,
        marked=range(differing),
    )


def flatten(values: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings and dataclasses as one mapping with dotted names; lists become text."""
    if dataclasses.is_dataclass(values) and not isinstance(values, type):
        values = {field.name: getattr(values, field.name) for field in dataclasses.fields(values)}
    found: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) or (dataclasses.is_dataclass(value) and not isinstance(value, type)):
            found |= flatten(value, f"{name}.")
        else:
            found[name] = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else value
    return found
