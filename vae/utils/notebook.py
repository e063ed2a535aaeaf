"""What a notebook shows of runs and metrics: a small table."""

import html
from collections.abc import Mapping
from typing import Any


def html_table(title: str, values: Mapping[str, Any]) -> str:
    """Names and values as an HTML table under a title; what is None is left out, numbers have four digits."""
    rows = "".join(
        f"<tr><th style='text-align: left'>{html.escape(key)}</th><td>{html.escape(_format(value))}</td></tr>"
        for key, value in values.items()
        if value is not None
    )
    return f"<strong>{html.escape(title)}</strong><table>{rows}</table>"


def _format(value: Any) -> str:
    return f"{value:,.4g}" if isinstance(value, float) else str(value)
