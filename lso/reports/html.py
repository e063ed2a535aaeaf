"""The one renderer: templates and charts into self-contained pages, and the same numbers into JSON beside them."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lso.analysis.verdict import Level, Verdict
from lso.reports.images import data_uri, figure_png
from lso.reports.report_kind import KIND, page_of, require_own
from lso.reports.tables import Table, facts
from lso.vae.utils.files import clean, make_folder, replace_file, utf8
from lso.vae.utils.reading import replace_sealed, unix

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WORDS: dict[Level, str] = {"fine": "✓ believe", "care": "! believe with care", "doubt": "✗ do not believe"}


def render(template: str, **values: Any) -> str:
    """One page from a template of the package."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    from lso import __version__

    environment = Environment(
        loader=PackageLoader("lso"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    shared = {"version": __version__, "json_name": "", "tile": 48}
    return environment.get_template(template).render(shared | values)


def places(path: str | os.PathLike[str], name: str = "report") -> tuple[Path, Path]:
    """Where a page and its JSON go."""
    page = page_of(Path(path), name)
    make_folder(page.parent)
    return page, page.with_suffix(".json")


def write(path: str | os.PathLike[str], html: str, numbers: Mapping[str, Any], kind: str) -> Path:
    """Put a page and its numbers in place, the numbers first: they say whose report it is."""
    require_own(Path(path), kind)
    page, beside = places(path)
    for file in (page, beside):
        clean(file)
    replace_sealed(beside, {KIND: kind, **numbers}, indent=None)
    replace_file(page, stamped(html))
    return page


STAMP, END = "<!-- sha256 ", "</html>"


def stamped(html: str) -> bytes:
    """A page that ends in the hash of what stands before it, so that `lso doctor` can tell whether it is whole."""
    raw = utf8(html.rstrip().removesuffix(END))
    return raw + f"{STAMP}{hashlib.sha256(raw).hexdigest()} -->{END}\n".encode()


def is_whole(raw: bytes) -> bool:
    """Whether a page is as it was written.

    Args:
        raw: the content of its file; a page of earlier versions has no hash, and is whole if it comes to an end.
    Returns:
        Whether it is.
    """
    if STAMP.encode() not in raw:
        return raw.rstrip().endswith(END.encode())
    parts = (one.rpartition(STAMP.encode()) for one in (raw, unix(raw)))
    return any(after == f"{hashlib.sha256(before).hexdigest()} -->{END}\n".encode() for before, _, after in parts)


def uri(figure: "Figure") -> str:
    """A chart as text inside a page."""
    return data_uri(figure_png(figure))


def shown(verdict: Verdict) -> dict[str, str]:
    """A verdict as the template takes it."""
    word = WORDS[verdict.level]
    return {"level": verdict.level, "word": word, "sentence": verdict.sentence, "training": verdict.training}


def extra_tables(extra: Mapping[str, Any] | None) -> list[Table]:
    """Facts for the end of a page."""
    return [facts("Where it came from", extra)] if extra else []
