"""Which report lies in a folder, so that none is written over one of another kind. Torch-free."""

import json
from pathlib import Path

from lso.vae.errors import RunError
from lso.vae.runs import INFO

KIND = "report_kind"  # key of report.json
# Keys by which reports are told that do not say their kind: version 0.1.0 wrote none.
KEYS = {
    "sweep": {"cells", "trainings"},
    "reproduction": {"table", "rows", "trainings"},
    "lagging": {"claims", "endings"},
    "image-targets": {"claims", "learning_rates"},
    "trainings": {"runs"},
    "searches": {"searches"},
    "search": {"verdict", "essence"},
}
OF_RUNS = ("trainings", "search")  # lie in the folder of the run that they are about


def page_of(path: Path, name: str = "report") -> Path:
    """Where a page goes."""
    return path if path.suffix in (".html", ".htm") else path / f"{name}.html"


def require_own(path: Path, kind: str, *others: str) -> None:
    """Refuse a place where something lies that a report would be written over and that is none of its kind."""
    page = page_of(path)
    if page.parent.exists() and not page.parent.is_dir():
        raise RunError(f"{page.parent} is a file, expected a folder", "Choose another --out.")
    if (page.parent / INFO).is_file():
        if kind in OF_RUNS:
            return
        raise RunError(f"{page.parent} is a run, whose report would be written over", "Choose another --out.")
    if kind == kind_of(page.with_suffix(".json")):
        return
    found = [file for file in (page, page.with_suffix(".json")) if file.exists()]
    found += [file for pattern in others for file in sorted(page.parent.glob(pattern))]
    if found:
        what = f"{found[0]} was not made by this command, and would be written over"
        raise RunError(what, "Choose another --out, or move it away.")


def kind_of(numbers: Path) -> str:
    """The kind of a report.

    Args:
        numbers: its JSON file.
    Returns:
        One of `KEYS`; empty where it is none, or is not there.
    """
    try:
        content = json.loads(numbers.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return ""
    if not isinstance(content, dict):
        return ""
    told = (kind for kind, keys in KEYS.items() if keys <= content.keys())
    return str(content.get(KIND) or next(told, ""))
