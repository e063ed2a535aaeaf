"""Images named for a run, and a run looked into."""

from pathlib import Path

import numpy as np
import pytest
import torch

from lso.tasks.datasets.image_dataset import load_dataset
from lso.tasks.doctor import check_run
from lso.tasks.search.targets import load_data, load_datum
from lso.tasks.training import experiment
from lso.vae import runs
from lso.vae.errors import DataError, UsageError
from lso.vae.runs import Run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    settings = {"architecture": {"latent_dim": 2, "width": 8}, "protocol": {"epochs": 0}, "data": {"limit": 100}}
    return experiment.train("vae", settings=settings, out=tmp_path_factory.mktemp("pick") / "run", device="cpu")


def test_a_part_of_the_runs_own_data_is_as_the_model_sees_it(run: Run) -> None:
    own = load_dataset(run.config.data, "dynamic", 0).pixels("test")
    assert torch.equal(load_data(run, "test:5").batch, own[:5])
    assert torch.equal(load_data(run, "test").batch, own)
    train = load_data(run, "train").batch
    assert bool(((train == 0) | (train == 1)).all())  # drawn once, where training draws anew for every batch
    assert torch.equal(load_datum(run, "test:4").batch, own[4:5])
    assert load_data(run, "test:2").names == ("test 0", "test 1")


@pytest.mark.parametrize("what", ["test:0", "test:100000", "test:x", "test:-1"])
def test_a_part_that_is_not_there_is_refused(run: Run, what: str) -> None:
    with pytest.raises(UsageError, match="expected test:N"):
        load_data(run, what)


def test_grey_files_are_drawn_to_black_and_white_on_request_alone(run: Run, tmp_path: Path) -> None:
    grey = np.random.default_rng(0).integers(1, 255, (2, 8, 8), dtype=np.uint8)
    np.save(tmp_path / "grey.npy", grey)
    found = load_data(run, tmp_path / "grey.npy").batch
    torch.testing.assert_close(found, torch.from_numpy(grey)[:, None] / 255)
    drawn = load_data(run, tmp_path / "grey.npy", pixels={"binarize": True}).batch
    assert bool(((drawn == 0) | (drawn == 1)).all())
    np.save(tmp_path / "one.npy", grey[:1])
    assert torch.equal(load_datum(run, tmp_path / "one.npy").batch, found[:1])
    assert torch.equal(load_datum(run, tmp_path / "one.npy", pixels={"binarize": True}).batch, drawn[:1])
    for ask in (load_data, load_datum):
        with pytest.raises(UsageError, match="--binarize is for files, and test:1 is a part"):
            ask(run, "test:1", pixels={"binarize": True})


def test_a_file_of_the_name_of_a_split_is_a_file(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "test").mkdir()
    with pytest.raises(DataError, match="test"):
        load_data(run, "test")


def test_data_that_changed_are_not_the_runs_own(run: Run) -> None:
    before = run.info["dataset"]
    runs.update_run(run, dataset={**before, "hash": "other"})
    with pytest.raises(DataError, match="have changed"):
        load_data(run, "test:5")
    with pytest.raises(DataError, match="have changed"):
        experiment.reload_dataset(run)  # what `lso evaluate` measures
    runs.update_run(run, dataset=before)


@pytest.mark.parametrize(
    ("status", "sentence", "remedy"),
    [
        ("running", "", "--resume"),
        ("stopped", "interrupted after 1 epochs", "--resume"),
        ("failed", "the training loss was not finite by step 3", "lower --learning-rate"),
    ],
)
def test_a_checkup_says_what_to_do(run: Run, status: str, sentence: str, remedy: str) -> None:
    before = run.info
    runs.update_run(run, status=status, sentence=sentence)
    first = check_run(run.path)[0]
    runs.update_run(run, **before)
    assert first.level != "ok" and remedy in first.remedy


def test_a_checkup_of_a_run_whose_data_are_gone_says_so(run: Run) -> None:
    text = (run.path / runs.CONFIG).read_text()
    runs.write_files(run, {runs.CONFIG: text.replace('path = ""', 'path = "/nowhere/at/all"').encode()})
    found = [finding.what for finding in check_run(run.path) if finding.level == "problem"]
    runs.write_files(run, {runs.CONFIG: text.encode()})
    assert found[0] == "the data are missing: /nowhere/at/all"
