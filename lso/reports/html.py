"""Renders templates and charts into self-contained pages, and writes the same numbers as JSON beside them."""

import hashlib
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lso.reports.report_kind import KIND_KEY, page_path, require_own
from lso.vae.utils.files import make_folder, remove_leftovers, replace_file, utf8
from lso.vae.utils.reading import normalize_line_ends, replace_sealed

if TYPE_CHECKING:
    from jinja2 import Environment


def render(template: str, **values: Any) -> str:
    """Render a template of the package; its filter ``uri`` encodes pictures."""
    from lso import __version__

    return _templates().get_template(template).render(version=__version__, **values)


@cache
def _templates() -> "Environment":
    """The templates, each compiled once a process, which takes longer than to fill it in."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("lso"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["uri"] = picture_uri
    return environment


def picture_uri(picture: Any) -> str:
    """A chart, an image ``(C, H, W)``, pixels ``(H, W, 3)`` or a PNG file as a data URI inside a page."""
    import numpy as np
    from torch import Tensor

    from lso.reports import images

    if isinstance(picture, bytes):
        return images.data_uri(picture)
    if isinstance(picture, np.ndarray):
        return images.data_uri(images.png(picture))
    return images.data_uri(images.image_png(picture) if isinstance(picture, Tensor) else images.figure_png(picture))


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
