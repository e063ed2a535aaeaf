"""Reading a journal for a resumed search: the rows that count, each with the number of its line."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from lso.black_box.budget import Ledger, SearchLimits
from lso.black_box.journal import Journal
from lso.results.export import count_rows, from_json
from lso.vae.utils.reading import line_error

Rows = list[tuple[int, Mapping[str, Any]]]


def read_counting_rows(journal: Journal, limits: SearchLimits) -> Rows:
    """Read the rows that count, after retracting the failures of a broken score (`Ledger.retracted_calls`)."""
    ledger = Ledger()
    for line, row in _counting_rows(journal):
        if "event" not in row:
            with at_line(journal, line):
                record = from_json(row)
                ledger.add(record, record.decoded_hash)
    if calls := ledger.retracted_calls(limits):
        journal.write_retracted(calls)
    return _counting_rows(journal)


def _counting_rows(journal: Journal) -> Rows:
    rows = journal.rows()
    return [(line, row) for line, (row, counts) in enumerate(zip(rows, count_rows(rows), strict=True), 1) if counts]


@contextmanager
def at_line(journal: Journal, line: int) -> Iterator[None]:
    """Turn an error about the content of a row into the error that names its line."""
    try:
        yield
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise line_error(journal.path, line, f"{type(error).__name__}: {error}") from None
