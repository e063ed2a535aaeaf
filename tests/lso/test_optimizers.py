"""What every row of `BLACK_BOX_OPTIMIZERS` does: it proposes codes as a pure function, searches, and is resumed."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lso.black_box.loop import optimize
from lso.black_box.result import SearchResult
from lso.decoders.decoder import Decoder
from lso.objectives.latent_objective import LatentObjective
from lso.optimizers import BLACK_BOX_OPTIMIZERS
from lso.space import LatentSpace
from lso.vae.utils.lazy import resolve
from tests.lso.black_boxes import told
from tests.lso.searches import bowl, rows

DIM = 2
SPACE = LatentSpace(DIM, bounds=3.0)


@pytest.fixture(params=BLACK_BOX_OPTIMIZERS)
def name(request: pytest.FixtureRequest) -> str:
    optimizer = str(request.param)
    if extra := BLACK_BOX_OPTIMIZERS[optimizer].extra:
        pytest.importorskip(extra)  # an extra has the name of the package that it installs
    return optimizer


def designed(name: str) -> int:
    """Points after which an optimizer's initial design is complete, so that its next proposals are those of a model."""
    return BLACK_BOX_OPTIMIZERS[name].design_size(DIM) + 1


def affine(z: Tensor) -> Tensor:
    return 0.5 * z + 0.2


def search(name: str, **options: Any) -> SearchResult:
    """Search for the maximum of a quadratic through an affine decoder, beginning with known points."""
    objective = LatentObjective(Decoder(affine, latent_dim=DIM), bowl, space=SPACE, maximize=True)
    known = SPACE.sample(designed(name), generator=torch.Generator().manual_seed(0)).double()
    return optimize(objective, name, budget=2, known=(known, bowl(affine(known))), **options)


def test_proposals_are_a_pure_function_of_history_number_and_seed(name: str) -> None:
    propose, history = resolve(BLACK_BOX_OPTIMIZERS[name].build)(SPACE), told(name, SPACE, designed(name)).history()
    found: list[Tensor] = []
    with torch.random.fork_rng(devices=[]):
        for global_seed in range(2):
            torch.manual_seed(global_seed)
            found.append(propose(history, 2, 5))
    assert found[0].shape == (2, DIM) and bool(torch.isfinite(found[0]).all())
    assert torch.equal(SPACE.clip(found[0]), found[0])
    assert torch.equal(*found)


def test_search_that_was_resumed_proposes_what_the_unbroken_one_does(name: str, tmp_path: Path) -> None:
    whole = search(name)
    assert whole.counters["unique"] == 2 and all(record.valid for record in whole.records)
    assert rows(search(name, out=tmp_path / "run", max_calls=1)) == rows(whole)[:1]
    assert rows(search(name, out=tmp_path / "run", resume=True)) == rows(whole)
