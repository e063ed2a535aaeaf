"""Run folders: made in one move, never overwritten, read strictly, found again."""

import json
import os
from pathlib import Path

import pytest

from lso.vae import runs
from lso.vae.errors import LsoError, RunError, WriteError
from lso.vae.runs import Run
from lso.vae.training.state import update_status
from lso.vae.utils.files import replace_file
from lso.vae.utils.run_schema import FORMAT
from tests.vae.small import config


def make(path: Path, kind: runs.Kind = "train", *, model: bool = True, **info: object) -> Run:
    run = runs.create(path, kind, {"status": "finished", **info}, config())
    if model:
        (path / runs.MODEL).touch()
    return run


def test_folder_appears_complete(tmp_path: Path) -> None:
    run = make(tmp_path / "deep" / "r", model=False, seed=3, verdict="collapsed")
    assert sorted(os.listdir(run.path)) == [runs.CONFIG, runs.INFO]
    assert os.listdir(tmp_path / "deep") == ["r"]  # nothing beside is left
    assert run.config == config() and run.kind == "train" and run.verdict == "collapsed"
    assert run.info == {"format": FORMAT, "kind": "train", "status": "finished", "seed": 3, "verdict": "collapsed"}
    assert run.metrics() == [] and run.best() == {} and run.codes() is None


@pytest.mark.parametrize("taken", ["folder", "file", "run"])
def test_a_taken_place_is_refused_and_left_alone(tmp_path: Path, taken: str) -> None:
    path = tmp_path / "r"
    if taken == "run":
        make(path)
    elif taken == "folder":
        path.mkdir()
        (path / "precious").touch()
    else:
        path.touch()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(LsoError, match=r"r exists and runs are never|cannot write .*r: Not a directory"):
        runs.create(path, "train", {}, config())
    assert sorted(tmp_path.rglob("*")) == before


def test_creation_is_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(WriteError, match="No space left on device\nMake room on the disk"):
        runs.create(tmp_path / "r", "train", {}, config())
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_is_taken_and_the_working_folder_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    assert runs.choose_folder("x", tmp_path / "empty") == tmp_path / "empty"
    assert make(tmp_path / "empty").kind == "train"
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(WriteError, match=r"cannot write \.: "):
        runs.create(Path("."), "train", {}, config())


def test_chosen_folder_never_exists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LSO_RUNS", str(tmp_path / "all"))
    found = []
    for _ in range(3):
        path = runs.choose_folder("digits-vae")
        assert path.parent == tmp_path / "all" and path.name.startswith("digits-vae-2") and not path.exists()
        path.mkdir(parents=True)
        found.append(path)
    assert len(set(found)) == 3
    (found[0] / "x").touch()
    with pytest.raises(RunError, match=r"runs are never overwritten\nChoose another --out"):
        runs.choose_folder("digits-vae", found[0])


def test_update_replaces_keys_and_leaves_no_half_file(tmp_path: Path) -> None:
    run = make(tmp_path / "r", model=False, sentence="")
    runs.update_run(run, status="stopped", sentence="why", extra=[1, 2])
    assert run.info == {"format": FORMAT, "kind": "train", "status": "stopped", "sentence": "why", "extra": [1, 2]}
    assert sorted(os.listdir(run.path)) == [runs.CONFIG, runs.INFO]


def test_a_script_under_torchrun_writes_its_searches_in_every_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "a", "MASTER_PORT": "1"}
    for name, value in launch.items():
        monkeypatch.setenv(name, value)
    search, training = (make(tmp_path / kind, kind, status="running") for kind in ("search", "train"))
    runs.update_run(search, status="finished")
    update_status(training, status="finished")
    assert search.info["status"] == "finished" and training.info["status"] == "running"


def test_replacing_keeps_the_old_file_when_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace_file(tmp_path / "f", b"old")

    def cut(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", cut)
    with pytest.raises(KeyboardInterrupt):
        replace_file(tmp_path / "f", b"new")
    assert (tmp_path / "f").read_bytes() == b"old"


def test_a_folder_that_is_no_run_is_named(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    with pytest.raises(RunError, match=r"is not a run folder \(no run.json\)\n`lso list runs`"):
        Run(tmp_path / "plain")
    with pytest.raises(RunError, match="nowhere does not exist"):
        Run(tmp_path / "nowhere")


@pytest.mark.parametrize("content", ["{", "[1]", "3", "", '{"kind": "cake"}', "{}"])
def test_damaged_information_is_one_error(tmp_path: Path, content: str) -> None:
    run = make(tmp_path / "r")
    (run.path / runs.INFO).write_text(content)
    with pytest.raises(RunError, match=r"run.json"):
        assert run.kind


def test_a_search_has_no_configuration(tmp_path: Path) -> None:
    run = runs.create(tmp_path / "s", "search", {})
    with pytest.raises(RunError, match=r"has no config.toml\nOnly a training run has one"):
        assert run.config


def test_rows_are_read_in_order_without_a_torn_one(tmp_path: Path) -> None:
    run = make(tmp_path / "r")
    values = [{"epoch": i, "best": better} for i, better in enumerate([True, True, False, False])]
    (run.path / runs.METRICS).write_text("".join(json.dumps(row) + "\n" for row in values) + '{"epoch": 4, "neg')
    assert run.metrics() == values
    assert run.best() == values[1]


def test_newest_run_is_the_last_started_of_its_kind(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no trained model found under .*\nMake one first: lso train"):
        runs.newest_run("train", tmp_path)
    make(tmp_path / "b", started="2026-01-01")
    make(tmp_path / "a", started="2026-01-02")
    make(tmp_path / "cut-at-once", started="2026-01-03", model=False)
    make(tmp_path / "search", "search", started="2026-01-04", model=False)
    make(tmp_path / ".half.123", started="2026-01-05")
    assert runs.newest_run("train", tmp_path).path.name == "a"
    assert runs.newest_run("search", tmp_path).path.name == "search"
    assert [run.path.name for run in runs.list_runs(tmp_path)] == ["b", "a", "cut-at-once", "search"]


@pytest.mark.parametrize("content", ['{"kind": "tr', '{"kind": "of another program"}', "[]"])
def test_a_damaged_run_does_not_hide_the_others(content: str, tmp_path: Path) -> None:
    make(tmp_path / "good", started="2026-01-01")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / runs.INFO).write_text(content)
    assert [run.path.name for run in runs.list_runs(tmp_path)] == ["bad", "good"]
    assert runs.newest_run("train", tmp_path).path.name == "good"


def test_the_command_can_be_pasted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["lso", "optimize", "--target", "my images"])
    assert runs.Provenance.here().command == "lso optimize --target 'my images'"


def test_sweep_removes_half_files_alone(tmp_path: Path) -> None:
    run = make(tmp_path / "r")
    for name in (".last.pt.123", ".run.json.9", "last.pt", ".notes"):
        (run.path / name).touch()
    runs.remove_half_written(run)
    assert sorted(os.listdir(run.path)) == sorted([".notes", runs.CONFIG, runs.INFO, runs.LAST, runs.MODEL])


def test_provenance_names_versions_and_command() -> None:
    here = runs.Provenance.here()
    assert here.versions["torch"] != "not installed" and here.command and here.python and "T" in here.started
    assert runs.versions(["no-such-package"]) == {"no-such-package": "not installed"}
