"""Fenced blocks that need no network: formulas as MathML, and the diagrams of docs/house.md as tables."""

import html
import re
from typing import Any

from latex2mathml.converter import convert


def formula(source: str, language: str, css_class: str, options: dict[str, Any], md: Any, **rest: Any) -> str:
    """A block ```` ```math ```` of LaTeX as display MathML; lines that end in ``\\\\`` become formulas of their own."""
    lines = [line.strip() for line in re.split(r"\\\\\s*\n", source.strip())]
    return (
        '<div class="formula">' + "".join(convert(" ".join(line.split()), display="block") for line in lines) + "</div>"
    )


def dependencies(source: str, language: str, css_class: str, options: dict[str, Any], md: Any, **rest: Any) -> str:
    """A block ```` ```mermaid ```` of ``a -- 3 --> b`` as a table: each row's numbers of imports from the columns."""
    labels = dict(re.findall(r'^\s*(\w+)\["(.+?)"\]', source, re.MULTILINE))
    edges = {(one, other): number for one, number, other in re.findall(r"(\w+) -- (\d+) --> (\w+)", source)}
    columns = [name for name in labels if any(other == name for _, other in edges)]
    head = "".join(f"<th>{html.escape(name)}</th>" for name in columns)
    rows = "".join(
        f"<tr><th>{html.escape(label)}</th>"
        + "".join(f"<td>{edges.get((name, column), '')}</td>" for column in columns)
        + "</tr>"
        for name, label in labels.items()
    )
    table = f"<thead><tr><th>imports from</th>{head}</tr></thead><tbody>{rows}</tbody>"
    return f'<div class="imports"><table>{table}</table></div>'
