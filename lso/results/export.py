"""Writes what a gradient search leaves on disk: `evaluations.jsonl`, and `results/` with data, codes and a table."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lso.results.result import Evaluation, Result
from lso.vae.utils.files import make_folder, replace_arrays, replace_file, replace_lines, replace_table
from lso.vae.utils.reading import format_checked_lines, line_error, read_lines

if TYPE_CHECKING:
    import numpy

TAKEN_BACK_EVENT = "taken back"  # event of a row that names calls; their evaluations in earlier rows do not count

COLUMNS = (
    "target",
    "name",
    "start",
    "start_name",
    "value0",
    "value",
    "best",
    "steps",
    "stopped",
    "seconds",
    "norm_percentile",
    "reencoding_error",
    "duplicate_of",
    "decoded_hash",
    "decoded",
)


def write_evaluations(folder: str | Path, result: Result, *, names: Sequence[str] | None = None) -> Path:
    """Write a finished search into a folder.

        evaluations.jsonl      one `Evaluation` a line, targets first; a value that is not finite is null
        results/results.csv    one line an element
        results/codes.npz      z, z0 (T, S, d), value0, value (T, S), best (T,)
        results/images/        NNNN_target.png, NNNN_best.png for images; decoded.npz for other arrays; best.txt for
        objects, and targets.txt beside it for sequences: one a line

    Args:
        folder: is made if it does not exist; files of these names are replaced.
        result: of the search.
        names: of the targets, for the table; None numbers them.
    Returns:
        The ``results`` folder.
    """
    folder = Path(folder)
    results = folder / "results"
    make_folder(results)
    records = result.evaluations()
    replace_file(folder / "evaluations.jsonl", format_checked_lines([to_json(record) for record in records]))
    known = list(names) if names is not None else [str(i) for i in range(len(result.z))]
    _write_table(results / "results.csv", result, records, known)
    _write_codes(results / "codes.npz", result)
    _write_decoded(results, result)
    return results


def read_evaluations(folder: str | Path) -> list[Evaluation]:
    """Read the `evaluations.jsonl` of a gradient or black-box search back, in the order of writing.

    A null value becomes NaN. Left out are the asks of a black-box search, calls that were taken back later, and a last
    line that was cut off when the search was killed.

    Raises:
        RunError: if another line is damaged.
    """
    path = Path(folder) / "evaluations.jsonl"
    evaluations: list[Evaluation] = []
    rows = read_lines(path)
    for number, (row, counts) in enumerate(zip(rows, count_rows(rows), strict=True), 1):
        if "event" in row or not counts:
            continue
        try:
            evaluations.append(from_json(row))
        except (TypeError, ValueError) as error:
            raise line_error(path, number, str(error)) from None
        if len(evaluations[-1].z) != len(evaluations[0].z):
            raise line_error(
                path, number, f"its code has {len(evaluations[-1].z)} numbers, the first {len(evaluations[0].z)}"
            )
    return evaluations


def count_rows(rows: Sequence[Mapping[str, Any]]) -> list[bool]:
    """Which rows of a record count: all but evaluations of calls that a later row takes back."""
    taken: list[Any] = []
    whole = []
    for row in reversed(rows):
        if row.get("event") == TAKEN_BACK_EVENT:
            taken += calls if isinstance(calls := row.get("calls"), list) else []
        counts = "event" in row or row.get("call") not in taken
        if not counts:
            taken.remove(row["call"])
        whole.append(counts)
    return whole[::-1]


NUMBER, INTEGER = (int, float), (int,)
# Types that the fields of a record may have; those in NULLABLE may be null as well.
FIELD_TYPES: Mapping[str, tuple[type, ...]] = {
    "decoded_hash": (str,),
    "value": NUMBER,
    "valid": (bool,),
    "duplicate_of": INTEGER,
    "norm_percentile": NUMBER,
    "reencoding_error": NUMBER,
    "seconds": NUMBER,
    "decoded": (str,),
    "target": INTEGER,
    "start": INTEGER,
    "steps": INTEGER,
    "stopped": (str,),
    "call": INTEGER,
    "ask": INTEGER,
    "outcome": (str,),
    "reason": (str,),
    "elapsed": NUMBER,
}
NULLABLE = ("value", "duplicate_of", "norm_percentile", "reencoding_error", "decoded", "call", "ask")


def from_json(row: Mapping[str, Any]) -> Evaluation:
    """Make a record from a row that `to_json` made."""
    for name, value in row.items():
        if name == "z":
            fits = isinstance(value, list) and all(type(part) in NUMBER and math.isfinite(part) for part in value)
        else:
            fits = type(value) in FIELD_TYPES.get(name, (type(value),)) or (value is None and name in NULLABLE)
        if not fits:
            raise ValueError(f"{name} is {str(value)[:60]!r}")
    return Evaluation(**{**row, "value": math.nan if row.get("value") is None else row["value"]})


def to_json(record: Evaluation) -> dict[str, Any]:
    """A record as a JSON object; what is not finite becomes null."""

    def plain(value: Any) -> Any:
        if isinstance(value, list):
            return [plain(item) for item in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return {field.name: plain(getattr(record, field.name)) for field in dataclasses.fields(record)}


def _write_table(path: Path, result: Result, records: list[Evaluation], names: list[str]) -> None:
    best, value0 = result.best.tolist(), result.value0.flatten().tolist()
    rows = (
        to_json(record)
        | {
            "name": names[record.target],
            "start_name": result.start_names[record.start],
            "value0": start_value,
            "best": int(best[record.target] == record.start),
        }
        for record, start_value in zip(records, value0, strict=True)
    )
    replace_table(path, COLUMNS, rows)


def _write_codes(path: Path, result: Result) -> None:
    _save_arrays(
        path, {"z": result.z, "z0": result.z0, "value0": result.value0, "value": result.value, "best": result.best}
    )


def _write_decoded(results: Path, result: Result) -> None:
    with torch.no_grad():
        best = result.objective.decode(result.best_z)
    targets = result.objective.targets
    if not isinstance(best, Tensor):
        replace_lines(results / "best.txt", best)
        if targets is not None:
            replace_lines(results / "targets.txt", result.objective.decoder.texts(targets))
    elif best.ndim == 4 and best.shape[1] in (1, 3):
        images = results / "images"
        make_folder(images)
        for kind, batch in (("best", best), ("target", targets)):
            for index, image in enumerate(() if batch is None else batch):
                save_image(images / f"{index:04d}_{kind}.png", image)
    else:
        _save_arrays(results / "decoded.npz", {"best": best} | ({} if targets is None else {"target": targets}))


def _save_arrays(path: Path, arrays: dict[str, Tensor]) -> None:
    replace_arrays(path, {name: array.detach().cpu().numpy() for name, array in arrays.items()})


def to_uint8(image: Tensor) -> "numpy.ndarray[Any, Any]":
    """Pixels of an image as bytes, channels last: ``(C, H, W)`` becomes ``(H, W)`` or ``(H, W, 3)``.

    Values outside [0, 1] are clipped, NaN becomes 0; C is 1 or 3.
    """
    pixels = (torch.nan_to_num(image.detach().float()).clamp(0, 1) * 255).round().to(torch.uint8).cpu()
    return pixels[0].numpy() if len(pixels) == 1 else pixels.permute(1, 2, 0).numpy()


def save_image(path: Path, image: Tensor) -> None:
    """Write one image as a PNG file."""
    from PIL import Image

    content = BytesIO()
    Image.fromarray(to_uint8(image)).save(content, "PNG")
    replace_file(path, content.getvalue())
