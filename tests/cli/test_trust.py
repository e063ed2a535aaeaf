"""A run folder of a stranger's: nothing that it names runs unless the user says so."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

import lso as face
from lso.tasks.training.experiment import reload_dataset
from lso.vae.errors import DataError, LsoError, UsageError
from lso.vae.runs import Run, update_run
from tests.charts import leave_charts_out
from tests.tasks.search.test_sentences import LINES, SIZES

Lso = Callable[..., Result]
# Both leave a trace: a module when it is imported, its functions when they are called.
EVIL = """
from pathlib import Path
Path("imported").touch()

def halves(text):
    Path("called").touch()
    return text.split()

def score(xs):
    Path("called").touch()
    return [float(len(str(x))) for x in xs]
"""
SMALL = ("--latent-dim", 2, "--width", 4, "--epochs", 1, "--device", "cpu")


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hardly trained run on a few sentences, split at white space. Do not write into it."""
    folder = tmp_path_factory.mktemp("spoken")
    (folder / "data.txt").write_text("\n".join(LINES))
    settings = {"architecture": SIZES, "protocol": {"epochs": 1, "batch_size": 8}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lso.tasks.training.experiment._write_report", lambda run, _: run)
        return face.train("vae", data=folder / "data.txt", settings=settings, out=folder / "run", device="cpu").path


@pytest.fixture
def foreign(spoken: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy whose configuration names a function of a module that lies in the working folder."""
    folder = Path(shutil.copytree(spoken, elsewhere / "runs" / "words"))
    rename(folder / "config.toml", 'tokenizer = "words"', 'tokenizer = "evil:halves"')
    Run(folder, accept_changes=True)  # its maker seals it
    Path("evil.py").write_text(EVIL)
    monkeypatch.delitem(sys.modules, "evil", raising=False)
    return folder


def rename(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


def traces() -> set[str]:
    return {name for name in ("imported", "called") if Path(name).exists()}


COMMANDS: dict[str, tuple[object, ...]] = {
    "evaluate": ("evaluate", "runs/words", "--iw-samples", 0),
    "encode": ("encode", "runs/words", "--data", "test"),
    "encode a sentence": ("encode", "runs/words", "--data", "the old man"),
    "interpolate": ("interpolate", "runs/words", "the man", "a dog"),
    "optimize": ("optimize", "--model", "runs/words", "--target", "the man", "--starts", 1, "--max-steps", 2),
    "turbo": ("optimize", "--model", "runs/words", "--target", "test:1", "--optimizer", "random", "--budget", 2),
    "train --config": ("train", "--config", "runs/words/config.toml", "--out", "again", *SMALL),
    "sweep --config": ("sweep", "--method", "vae", "--config", "runs/words/config.toml", "--out", "several"),
}


@pytest.mark.parametrize("arguments", COMMANDS.values(), ids=COMMANDS)
def test_a_tokenizer_that_a_folder_names_is_not_imported(
    lso: Lso, foreign: Path, arguments: tuple[object, ...]
) -> None:
    result = lso(*arguments)
    assert result.exit_code == 2 and not traces(), result.output
    first, second = result.stderr.splitlines()[-2:]
    assert "evil:halves" in first and "import and run" in first and "--trust" in second


def test_a_command_of_the_systems_is_not_run_with_the_lines_of_the_data(lso: Lso, foreign: Path) -> None:
    """Its module is imported already, so that the name alone would do."""
    rename(foreign / "config.toml", '"evil:halves"', '"os:system"')
    Run(foreign, accept_changes=True)
    data = foreign.parent / "commands.txt"
    data.write_text("touch called\n" * 30)
    found = Run(foreign).config.data.path
    rename(foreign / "config.toml", found, str(data))
    Run(foreign, accept_changes=True)
    assert lso("evaluate", foreign).exit_code == 2 and not traces()
    with pytest.raises(UsageError, match="os:system"):
        reload_dataset(Run(foreign))
    with pytest.raises(UsageError, match="os:system"):
        face.load_dataset(Run(foreign).config.data, "none", 0)
    with pytest.raises(DataError, match="have changed"):  # the word is given, and other data are not touched
        reload_dataset(Run(foreign, trust=True))
    assert not traces()


def test_text_with_other_line_ends_is_the_same(spoken: Path, tmp_path: Path) -> None:
    """As git checks it out on another system: it holds the same tokens, and other ones are told."""
    folder, data = shutil.copytree(spoken, tmp_path / "run"), tmp_path / "data.txt"
    rename(folder / "config.toml", str(spoken.parent / "data.txt"), str(data))
    data.write_bytes("\r\n".join(LINES).encode())
    assert len(reload_dataset(Run(folder, accept_changes=True)).train)
    data.write_text("\n".join(LINES[1:]))
    with pytest.raises(DataError, match="have changed"):
        reload_dataset(Run(folder))


def test_a_folder_that_is_trusted_runs_what_it_names(lso: Lso, foreign: Path) -> None:
    told = lso("evaluate", foreign, "--iw-samples", 0, "--trust")
    assert told.exit_code == 0 and traces() == {"imported", "called"}, told.output
    assert len(reload_dataset(Run(foreign, trust={"evil:halves"})).train)
    with pytest.raises(UsageError, match="evil:halves"):
        reload_dataset(Run(foreign, trust={"evil:others"}))


@pytest.mark.usefixtures("no_report")
def test_going_on_needs_the_users_word(lso: Lso, foreign: Path) -> None:
    update_run(Run(foreign), status="stopped")
    refused = lso("train", "--resume", foreign)
    assert refused.exit_code == 2 and "--trust" in refused.stderr and not traces()
    with pytest.raises(UsageError, match="evil:halves"):
        face.resume(foreign)
    other = lso("train", "--resume", foreign, "--tokenizer", "characters")
    assert other.exit_code == 2 and "evil:halves" in other.stderr and not traces()
    told = lso("train", "--resume", foreign, "--tokenizer", "evil:halves")
    assert told.exit_code == 0 and traces() == {"imported", "called"}, told.output


@pytest.mark.usefixtures("no_report")
def test_what_the_user_names_runs_and_the_run_can_be_used(lso: Lso, elsewhere: Path) -> None:
    Path("evil.py").write_text(EVIL)
    Path("own.txt").write_text("\n".join(LINES))
    told = lso("train", "--method", "vae", "--data", "own.txt", "--tokenizer", "evil:halves", "--out", "own", *SMALL)
    assert told.exit_code == 0 and traces() == {"imported", "called"}, told.output
    small = {"architecture": {"latent_dim": 2, "width": 4}, "protocol": {"epochs": 1}}
    settings: dict[str, Any] = small | {"data": {"tokenizer": "evil:halves"}}
    run = face.train("vae", data="own.txt", settings=settings, out="python", device="cpu")
    assert len(reload_dataset(run).train)  # trained by this very process, in which the user named it
    with pytest.raises(UsageError, match="evil:halves"):
        face.train("vae", config="python/config.toml", out="again")
    assert face.train(config="python/config.toml", out="again", trust=True, device="cpu").info["status"] == "finished"


@pytest.mark.usefixtures("plain_report")
@pytest.mark.parametrize("more", [(), ("--retrain-every", 2, "--retrain-data", 4)], ids=["plain", "retraining"])
def test_a_score_that_a_search_names_is_not_imported(
    lso: Lso, run: Run, monkeypatch: pytest.MonkeyPatch, more: tuple[object, ...]
) -> None:
    leave_charts_out(monkeypatch)
    Path("evil.py").write_text(EVIL)
    search = ("optimize", "--objective", "evil:score", "--maximize", "--optimizer", "random", "--device", "cpu")
    begun = lso(*search, "--budget", 2, "--batch", 1, *more, "--out", "found")
    assert begun.exit_code == 0, begun.output
    for name in traces():
        Path(name).unlink()
    monkeypatch.delitem(sys.modules, "evil")
    refused = lso("optimize", "--resume", "found", "--budget", 3)
    assert refused.exit_code == 2 and not traces(), refused.output
    first, second = refused.stderr.splitlines()[-2:]
    assert "the objective evil:score" in first and "--trust" in second and "--objective" in second
    other = lso("optimize", "--resume", "found", "--budget", 3, "--objective", "evil:halves")
    assert other.exit_code == 2 and "evil:score" in other.stderr and not traces()
    told = lso("optimize", "--resume", "found", "--budget", 3, "--objective", "evil:score")
    assert told.exit_code == 0 and traces() == {"imported", "called"}, told.output
    assert lso("optimize", "--resume", "found", "--budget", 4, "--trust").exit_code == 0


@pytest.mark.parametrize("told", [None, {}, {"task": "a", "target": "b"}, {"objective": 3}, {"unknown": "x"}, [1]])
def test_a_search_that_does_not_say_what_is_sought_is_refused(told: object) -> None:
    from lso.tasks.goals import SearchTarget

    with pytest.raises(LsoError, match="does not say what the search is for"):
        SearchTarget.recorded({"sought": told}, True)
