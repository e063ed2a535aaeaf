"""One process at a time trains in a run folder: until it has ended, a second one is refused and changes nothing."""

import errno
import fcntl
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

import pytest

from lso.vae import runs
from lso.vae.errors import DivergedError, RunError, WriteError
from lso.vae.runs import Run
from lso.vae.training import loop as training
from lso.vae.training import setup as opening
from lso.vae.training.loop import Limits, TrainingCallback, resume_training, train_model
from lso.vae.utils.files import Lock
from tests.vae.small import Stop, assert_same_run, config, contents, digits

ROOT = Path(__file__).resolve().parents[3]
CUT = 6  # steps of the 8


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted training."""
    return train_model(config(), digits(), tmp_path_factory.mktemp("unbroken") / "r").path


# --- another process --------------------------------------------------------------------------------------------------

CHILD = """
import sys, torch
from pathlib import Path
from lso.vae.training.loop import Limits, TrainingCallback, train_model
from tests.vae.small import config, digits
torch.set_num_threads(1)

class Wait(TrainingCallback):
    def step(self, done):
        if done == 6:
            print("at work", flush=True)
            sys.stdin.readline()

for name, steps in (("finished", None), ("stopped", 7), ("killed", None)):
    train_model(config(), digits(), Path(sys.argv[1]) / name, callback=Wait(), limits=Limits(steps=steps))
    print("over", flush=True)
"""


@pytest.fixture
def child(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """A process that trains, and waits in the middle of it."""
    command, pipe = [sys.executable, "-c", CHILD, str(tmp_path)], subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_second_process_is_refused_until_the_first_is_done(
    child: "subprocess.Popen[str]", tmp_path: Path, unbroken: Path
) -> None:
    """It finishes one training, stops one and is killed in one."""
    assert child.stdin is not None and child.stdout is not None
    for name in ("finished", "stopped", "killed"):
        assert child.stdout.readline() == "at work\n"
        run = Run(tmp_path / name)
        before = contents(run.path)
        with pytest.raises(RunError, match=r"^another process is at work in .*\n.*choose another folder"):
            resume_training(run, digits())
        assert contents(run.path) == before and run.info["status"] == "running"
        if name == "killed":
            child.kill()
            child.wait()
        else:
            child.stdin.write("\n")
            child.stdin.flush()
            assert child.stdout.readline() == "over\n" and run.info["status"] == name
        assert resume_training(run, digits()).info["status"] == "finished"
        assert_same_run(run.path, unbroken)


# --- this process -----------------------------------------------------------------------------------------------------


class Twice(TrainingCallback):
    """Tries in the middle of a training to go on with it."""

    said = ""

    def start(self, run: Run, steps: int, done: int) -> None:
        self.run = run

    def step(self, done: int) -> None:
        if done == CUT:
            before = contents(self.run.path)
            with pytest.raises(RunError) as caught:
                resume_training(self.run, digits())
            assert contents(self.run.path) == before
            self.said = caught.value.message


@pytest.mark.parametrize("cut", [0, 3], ids=["trained", "resumed"])
def test_a_second_session_in_one_process_is_refused(cut: int, tmp_path: Path, unbroken: Path) -> None:
    callback = Twice()
    if cut:
        run = resume_training(
            train_model(config(), digits(), tmp_path / "r", limits=Limits(steps=cut)), digits(), callback=callback
        )
    else:
        run = train_model(config(), digits(), tmp_path / "r", callback=callback)
    assert callback.said == f"this process is at work in {run.path}"
    assert_same_run(run.path, unbroken)


class Raise(TrainingCallback):
    """Ends the session by an error, as it starts or in a step."""

    def __init__(self, error: type[BaseException], at: int) -> None:
        self.error, self.at = error, at

    def start(self, run: Run, steps: int, done: int) -> None:
        self._raise(0)

    def step(self, done: int) -> None:
        self._raise(done)

    def _raise(self, now: int) -> None:
        if now == self.at:
            raise self.error


@pytest.mark.parametrize(
    "callback",
    [
        TrainingCallback(),
        Stop(CUT),
        *(Raise(error, at) for error in (KeyboardInterrupt, MemoryError, SystemExit) for at in (0, 7)),
    ],
    ids=lambda one: f"{type(one).__name__}-{getattr(one, 'error', TrainingCallback).__name__}-{getattr(one, 'at', '')}",
)
def test_the_folder_is_let_go_of_however_a_session_ends(callback: TrainingCallback, tmp_path: Path) -> None:
    begun = train_model(config(), digits(), tmp_path / "begun", limits=Limits(steps=3))
    with suppress(KeyboardInterrupt, MemoryError, SystemExit):
        train_model(config(), digits(), tmp_path / "new", callback=callback)
    with suppress(KeyboardInterrupt, MemoryError, SystemExit):
        resume_training(begun, digits(), callback=callback)
    Lock(tmp_path / "new").release()
    Lock(begun.path).release()


def test_a_diverged_training_is_let_go_of(tmp_path: Path) -> None:
    wild = config(learning_rate=1e30, clip=0.0, optimizer="sgd")
    with pytest.raises(DivergedError):
        train_model(wild, digits(), tmp_path / "r")
    with pytest.raises(DivergedError):
        resume_training(Run(tmp_path / "r"), digits())
    Lock(tmp_path / "r").release()


def test_a_training_that_cannot_be_opened_is_let_go_of(tmp_path: Path) -> None:
    run = train_model(config(), digits(), tmp_path / "r", limits=Limits(steps=CUT))
    (run.path / runs.LAST).write_bytes(b"damaged")
    with pytest.raises(RunError, match=r"last\.pt"):
        resume_training(run, digits())
    Lock(run.path).release()


def test_a_finished_training_is_returned_though_it_is_held(unbroken: Path) -> None:
    with Lock(unbroken):
        assert resume_training(Run(unbroken), digits()).path == unbroken


# --- what another process did just before the folder was held ---------------------------------------------------------


Held = Callable[[Path], AbstractContextManager[None]]


def ahead(what: Callable[[], Any], patch: pytest.MonkeyPatch) -> Held:
    """`held`, before which another session comes and goes."""

    def late(path: Path) -> AbstractContextManager[None]:
        patch.setattr(training, "lock_run", opening.lock_run)
        what()
        return opening.lock_run(path)

    return late


@pytest.mark.parametrize("steps", [1, CUT, None])
def test_a_new_folder_that_was_found_and_trained_in_at_once_is_gone_on_with(
    steps: int | None, tmp_path: Path, unbroken: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = ahead(lambda: resume_training(Run(tmp_path / "r"), digits(), limits=Limits(steps=steps)), monkeypatch)
    monkeypatch.setattr(training, "lock_run", other)
    assert_same_run(train_model(config(), digits(), tmp_path / "r").path, unbroken)


class Steps(TrainingCallback):
    """The steps that a session does."""

    def __init__(self) -> None:
        self.done: list[int] = []

    def step(self, done: int) -> None:
        self.done.append(done)


@pytest.mark.parametrize(("steps", "left"), [(CUT, [7, 8]), (None, [])])
def test_a_training_that_went_on_elsewhere_is_gone_on_with_from_there(
    steps: int | None, left: list[int], tmp_path: Path, unbroken: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, callback = train_model(config(), digits(), tmp_path / "r", limits=Limits(steps=3)), Steps()
    seen: list[Mapping[str, bytes]] = []

    def other() -> None:
        resume_training(run, digits(), limits=Limits(steps=steps))
        seen.append(contents(run.path))

    monkeypatch.setattr(training, "lock_run", ahead(other, monkeypatch))
    assert resume_training(run, digits(), callback=callback).info["status"] == "finished" and callback.done == left
    assert_same_run(run.path, unbroken)
    assert left or contents(run.path) == seen[0]


# --- the lock itself --------------------------------------------------------------------------------------------------


def test_a_folder_that_cannot_be_written_in_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(WriteError, match=r"cannot write .*gone/.lock: No such file"):
        Lock(tmp_path / "gone")


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_worked_on(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some clusters mount theirs so; this process still keeps itself out."""

    def without(*_: Any) -> None:
        raise OSError(number, "no locks")

    monkeypatch.setattr(fcntl, "lockf", without)
    with Lock(tmp_path), pytest.raises(RunError, match="this process is at work"):
        Lock(tmp_path)


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.EACCES])
def test_either_answer_of_a_system_means_taken(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def taken(*_: Any) -> None:
        raise OSError(number, "taken")

    monkeypatch.setattr(fcntl, "lockf", taken)
    with pytest.raises(RunError, match="another process is at work"):
        Lock(tmp_path)
