"""The embedded digits: scikit-learn's file, read by path because importing scikit-learn takes five times as long."""

import gzip
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from lso.tasks.datasets.download import Progress, file_hash
from lso.tasks.datasets.image_dataset import Raw
from lso.tasks.datasets.splits import WHOLE
from lso.vae.config.training import DataConfig
from lso.vae.errors import DataError, UsageError

GREYS = 16  # levels above black


def load(data: DataConfig, progress: Progress | None = None) -> Raw:
    """1,797 digits of 8x8 pixels in 17 grey levels, ink bright; split 1,439 / 179 / 179, always the same.

    Source: Alpaydin, Kaynak (1998), Optical Recognition of Handwritten Digits, UCI (test part).
    """
    if data.path:
        raise UsageError(
            f"task digits is embedded and reads no path, got {data.path}", "For your own images leave --task out."
        )
    path = _file()
    with gzip.open(path, "rt") as file:
        table = np.loadtxt(file, delimiter=",", dtype=np.float32)
    images = torch.from_numpy(table[:, :64] / GREYS).reshape(-1, 1, 8, 8)
    labels = torch.from_numpy(table[:, 64].astype(np.int64))
    record = {"source": "scikit-learn's digits.csv.gz", "sha256": file_hash(path)}
    return Raw(splits={WHOLE: images}, labels={WHOLE: labels}, provenance=record)


def _file() -> Path:
    spec = find_spec("sklearn")  # finds the package without importing it
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / "datasets" / "data" / "digits.csv.gz"
        if path.is_file():
            return path
    raise DataError("scikit-learn's digits.csv.gz is not installed", "Install it: pip install scikit-learn")
