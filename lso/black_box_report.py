"""The report of black-box searches over one objective."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lso.search_result import SearchResult


def black_box_report(results: Sequence[SearchResult], path: str | Path, **facts: Any) -> Path:
    """Write the report of searches that differ in their initial designs."""
    raise NotImplementedError
