"""Tells which kind of report lies in a folder, so that no report overwrites one of another kind. Needs no torch."""

import json
from pathlib import Path

from lso.vae.errors import RunError
from lso.vae.runs import INFO

KIND_KEY = "report_kind"  # key of report.json
# Keys by which reports that do not state their kind are recognized: version 0.1.0 wrote no kind.
KEYS_OF_KIND = {
    "sweep": {"cells", "trainings"},
    "reproduction": {"table", "rows", "trainings"},
    "lagging": {"claims", "endings"},
    "image-targets": {"claims", "learning_rates"},
    "trainings": {"runs"},
    "searches": {"searches"},
    "search": {"verdict", "essence"},
}
KINDS_IN_RUNS = ("trainings", "search")  # kinds that lie in the folder of the run that they are about


def page_path(path: Path, name: str = "report") -> Path:
    """Path of a page."""
    return path if path.suffix in (".html", ".htm") else path / f"{name}.html"


def require_own(path: Path, kind: str, *others: str) -> None:
    """Refuse a path where a report would overwrite something that is no report of its kind."""
    page = page_path(path)
    if page.parent.exists() and not page.parent.is_dir():
        raise RunError(f"{page.parent} is a file, expected a folder", "Choose another --out.")
    if (page.parent / INFO).is_file():
        if kind in KINDS_IN_RUNS:
            return
        raise RunError(f"{page.parent} is a run folder, and its report would be overwritten", "Choose another --out.")
    if kind == kind_of(page.with_suffix(".json")):
        return
    found = [file for file in (page, page.with_suffix(".json")) if file.exists()]
    found += [file for pattern in others for file in sorted(page.parent.glob(pattern))]
    if found:
        what = f"{found[0]} was not made by this command, and would be overwritten"
        raise RunError(what, "Choose another --out, or move it away.")


def kind_of(numbers: Path) -> str:
    """The kind of the report whose JSON file this is; empty where it is none, or does not exist."""
    try:
        content = json.loads(numbers.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return ""
    if not isinstance(content, dict):
        return ""
    matching = (kind for kind, keys in KEYS_OF_KIND.items() if keys <= content.keys())
    return str(content.get(KIND_KEY) or next(matching, ""))
