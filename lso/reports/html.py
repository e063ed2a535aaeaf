"""Renders templates and charts into self-contained pages, and writes the same numbers as JSON beside them."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lso.analysis.verdict import Level, Verdict
from lso.reports.images import data_uri, figure_png
from lso.reports.report_kind import KIND_KEY, page_path, require_own
from lso.reports.tables import Table, facts
from lso.vae.utils.files import make_folder, remove_leftovers, replace_file, utf8
from lso.vae.utils.reading import normalize_line_ends, replace_sealed

if TYPE_CHECKING:
    from matplotlib.figure import Figure

VERDICT_WORDS: dict[Level, str] = {"fine": "✓ believe", "care": "! believe with care", "doubt": "✗ do not believe"}


def render(template: str, **values: Any) -> str:
    """Render a template of the package into one page."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    from lso import __version__

    environment = Environment(
        loader=PackageLoader("lso"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    shared = {"version": __version__, "json_name": "", "tile": 48}
    return environment.get_template(template).render(shared | values)


def report_paths(path: str | os.PathLike[str], name: str = "report") -> tuple[Path, Path]:
    """Paths of a page and of its JSON; the folder is made."""
    page = page_path(Path(path), name)
    make_folder(page.parent)
    return page, page.with_suffix(".json")


def write_report(path: str | os.PathLike[str], html: str, numbers: Mapping[str, Any], kind: str) -> Path:
    """Write a page and its numbers, the numbers first: they say which kind of report lies there."""
    require_own(Path(path), kind)
    page, beside = report_paths(path)
    for file in (page, beside):
        remove_leftovers(file)
    replace_sealed(beside, {KIND_KEY: kind, **numbers}, indent=None)
    replace_file(page, append_hash(html))
    return page


HASH_START, PAGE_END = "<!-- sha256 ", "</html>"


def append_hash(html: str) -> bytes:
    """Append the hash of a page to it, by which `lso doctor` can tell whether it is whole."""
    raw = utf8(html.rstrip().removesuffix(PAGE_END))
    return raw + f"{HASH_START}{hashlib.sha256(raw).hexdigest()} -->{PAGE_END}\n".encode()


def is_whole(raw: bytes) -> bool:
    """Whether the content of a page's file is as it was written.

    Pages of earlier versions have no hash and count as whole if they come to an end.
    """
    if HASH_START.encode() not in raw:
        return raw.rstrip().endswith(PAGE_END.encode())
    parts = (one.rpartition(HASH_START.encode()) for one in (raw, normalize_line_ends(raw)))
    return any(after == f"{hashlib.sha256(before).hexdigest()} -->{PAGE_END}\n".encode() for before, _, after in parts)


def figure_uri(figure: "Figure") -> str:
    """A chart as a data URI inside a page."""
    return data_uri(figure_png(figure))


def verdict_values(verdict: Verdict) -> dict[str, str]:
    """The fields of a verdict that the template shows."""
    word = VERDICT_WORDS[verdict.level]
    return {"level": verdict.level, "word": word, "sentence": verdict.sentence, "training": verdict.training}


def extra_tables(extra: Mapping[str, Any] | None) -> list[Table]:
    """The table of facts at the end of a page."""
    return [facts("Where it came from", extra)] if extra else []
