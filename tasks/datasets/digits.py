"""The task `digits`: 1,797 handwritten digits of 8x8 pixels, which come with scikit-learn."""

import gzip
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from lso.tasks.datasets.download import Progress, file_hash
from lso.tasks.datasets.image_dataset import RawImages
from lso.tasks.datasets.splits import UNSPLIT
from lso.vae.config.protocol import DataConfig
from lso.vae.errors import DataError, UsageError

GREY_LEVELS = 16  # levels above black


def load(data: DataConfig, progress: Progress | None = None) -> RawImages:
    """Read 1,797 digits of 8x8 pixels in 17 grey levels, ink bright; they are split 1,439 / 179 / 179, always alike.

    Source: Alpaydin, Kaynak (1998), Optical Recognition of Handwritten Digits, UCI (test part).
    """
    if data.path:
        raise UsageError(
            f"task digits is embedded and reads no path, got {data.path}", "For your own images leave --task out."
        )
    path = _find_file()
    with gzip.open(path, "rt") as file:
        table = np.loadtxt(file, delimiter=",", dtype=np.float32)
    images = torch.from_numpy(table[:, :64] / GREY_LEVELS).reshape(-1, 1, 8, 8)
    labels = torch.from_numpy(table[:, 64].astype(np.int64))
    record = {"source": "scikit-learn's digits.csv.gz", "sha256": file_hash(path)}
    return RawImages(splits={UNSPLIT: images}, labels={UNSPLIT: labels}, provenance=record)


def _find_file() -> Path:
    spec = find_spec("sklearn")  # finds the package without importing it, which would take five times as long
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / "datasets" / "data" / "digits.csv.gz"
        if path.is_file():
            return path
    raise DataError("scikit-learn's digits.csv.gz is not installed", "Install it: pip install scikit-learn")
