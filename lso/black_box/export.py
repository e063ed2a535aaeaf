"""The result files of a black-box search: a table of all calls, their codes, and the best distinct objects."""

from pathlib import Path

import torch
from torch import Tensor

from lso.black_box.result import SearchResult
from lso.results.export import save_image, to_json
from lso.results.result import Evaluation
from lso.vae.utils.files import make_folder, replace_arrays, replace_table

MAX_BEST_ROWS = 20  # best objects that are written
COLUMNS = (
    "call",
    "ask",
    "value",
    "outcome",
    "reason",
    "duplicate_of",
    "norm_percentile",
    "reencoding_error",
    "seconds",
    "elapsed",
    "decoded_hash",
    "decoded",
)


def write_search_files(folder: str | Path, result: SearchResult) -> Path:
    """Write the results of a search:

    results/results.csv    one row for each call
    results/codes.npz      z (n, d), value (n,)
    results/best.csv       the best distinct objects, best first: value, call, and the text of an object that is one
    results/images/        images as NNNN_best.png; other arrays are in best.npz instead
    """
    results = Path(folder) / "results"
    make_folder(results)
    replace_table(results / "results.csv", COLUMNS, [to_json(record) for record in result.records])
    replace_arrays(results / "codes.npz", {"z": result.z.numpy(), "value": result.value.numpy()})
    best = best_distinct(result, MAX_BEST_ROWS)
    columns = ("value", "call", "norm_percentile", "decoded")
    replace_table(results / "best.csv", columns, [to_json(record) for record in best])
    if best and best[0].decoded is None:
        _write_objects(results, result, best)
    return results


def best_distinct(result: SearchResult, count: int) -> list[Evaluation]:
    """The best valid calls with distinct objects, best first."""
    fresh = [record for record in result.records if record.valid and record.duplicate_of is None]
    return sorted(fresh, key=lambda record: result.objective.sign * record.value)[:count]


def _write_objects(results: Path, result: SearchResult, best: list[Evaluation]) -> None:
    z = torch.tensor([record.z for record in best], dtype=torch.float64)
    with torch.no_grad():
        x = result.objective.decode(z)
    if not isinstance(x, Tensor):
        return
    if x.ndim == 4 and x.shape[1] in (1, 3):
        images = results / "images"
        make_folder(images)
        for index, image in enumerate(x):
            save_image(images / f"{index:04d}_best.png", image)
    else:
        replace_arrays(results / "best.npz", {"best": x.cpu().numpy()})
