"""Tables as data: words and numbers in cells, for a page or a terminal to lay out."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lso.vae.utils.validation import pluralize as pluralize

NONE = "–"


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table whose cells are text already.

    Args:
        columns: headings; the first column names the row.
        rows: as many cells as headings.
        title: of the table.
        note: what a reader needs to know to read it.
        fold: whether a page shows it only on demand.
        marked: rows to set off from the others.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""
    note: str = ""
    fold: bool = False
    marked: Sequence[int] = ()


def number(value: Any, digits: int = 4) -> str:
    """A number for reading: significant digits, no exponent between 1e-3 and 1e6.

    Args:
        value: number, text or None.
        digits: significant ones.
    Returns:
        Text; a dash for None and for what is not finite.
    """
    if value is None or (isinstance(value, float) and not abs(value) < float("inf")):
        return NONE
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    if value != 0 and not 1e-3 <= abs(value) < 1e6:
        return f"{value:.{digits - 2}e}"
    text = f"{value:z.{digits}g}" if abs(value) < 10**digits else f"{value:z,.0f}"
    return text if "e" not in text else f"{value:z,.0f}"


def percent(value: float | None) -> str:
    """A share as a percentage.

    Args:
        value: in [0, 1].
    Returns:
        Such as ``12 %``; tenths under 10 % and from 99 to 100 %.
    """
    if value is None or not abs(value) < float("inf"):
        return NONE
    hundred = 100 * value
    whole = hundred == round(hundred) or 10 <= hundred <= 99 or hundred > 100
    return f"{hundred:z.0f} %" if whole else f"{hundred:z.1f} %" if hundred >= 0.1 else f"{hundred:z.2g} %"


def facts(title: str, values: Mapping[str, Any], note: str = "") -> Table:
    """Settings or provenance as two columns; nested mappings are flattened with dots."""
    return Table(
        columns=["name", "value"], rows=[[k, number(v)] for k, v in flat(values).items()], title=title, note=note
    )


def flat(values: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings and dataclasses as one mapping with dotted names; lists become text."""
    if dataclasses.is_dataclass(values) and not isinstance(values, type):
        values = {field.name: getattr(values, field.name) for field in dataclasses.fields(values)}
    found: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) or (dataclasses.is_dataclass(value) and not isinstance(value, type)):
            found |= flat(value, f"{name}.")
        else:
            found[name] = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else value
    return found
