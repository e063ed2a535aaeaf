"""One callback hears of every kind of work, and may be a plain function; what it is told is drawn from one table."""

from pathlib import Path

import pytest
import torch

import lso
from lso import Callback, Event
from lso.tasks.training.multi_run import BATCHED, EVALUATION, SWEEP, TRAINING, train_all
from lso.tasks.training.run_set import EvaluationSpec
from lso.vae.callbacks import CallbackList, PartCallback, as_callback, count_steps
from lso.vae.errors import UsageError
from lso.vae.progress import METRICS, WORK, RichProgress, format_fields
from lso.vae.training.callbacks import Limits
from lso.vae.training.loop import train_model
from tests.lso.example_decoders import draws, reconstruction
from tests.lso.searches import objects, run
from tests.tasks.grids import small
from tests.vae.small import config, digits


class Log(Callback):
    """Keeps all events with the names of the methods, and stops after so many steps and evaluations."""

    def __init__(self, stop: int = 1000) -> None:
        self.heard: list[tuple[str, Event]] = []
        self.left = stop

    def on_start(self, event: Event) -> None:
        self.heard.append(("start", event))

    def on_step(self, event: Event) -> None:
        self.heard.append(("step", event))
        self.left -= 1

    def on_epoch(self, event: Event) -> None:
        self.heard.append(("epoch", event))

    def on_evaluation(self, event: Event) -> None:
        self.heard.append(("evaluation", event))
        self.left -= 1

    def on_log(self, event: Event) -> None:
        self.heard.append(("log", event))

    def on_end(self, event: Event) -> None:
        self.heard.append(("end", event))

    def should_stop(self) -> str | None:
        return "enough" if self.left <= 0 else None

    def course(self) -> list[tuple[str, str, int, int]]:
        return [(method, event.work, event.done, event.total) for method, event in self.heard]


def test_a_training_tells_start_steps_epochs_and_end(tmp_path: Path) -> None:
    log = Log()
    train_model(config(), digits(), tmp_path / "r", callback=log)
    assert [(method, event.done) for method, event in log.heard] == [
        ("start", 0),
        ("epoch", 0),
        *[("step", step) for step in range(1, 5)],
        ("epoch", 1),
        *[("step", step) for step in range(5, 9)],
        ("epoch", 2),
        ("end", 8),
    ]
    assert {event.total for method, event in log.heard if method != "epoch"} == {8}
    assert {event.name for _, event in log.heard} == {"r"} and log.heard[-1][1].text
    assert log.heard[1][1].values["neg_elbo"] == lso.Run(tmp_path / "r").metrics()[0]["neg_elbo"]


def test_an_error_ends_the_work_too(tmp_path: Path) -> None:
    class Fails(Log):
        def on_step(self, event: Event) -> None:
            raise KeyboardInterrupt

    log = Fails()
    with pytest.raises(KeyboardInterrupt):
        train_model(config(), digits(), tmp_path / "r", callback=log)
    assert log.course()[-1] == ("end", "training", 1, 8)


def test_searches_tell_steps_and_evaluations_with_the_best_value_and_stop() -> None:
    log = Log(stop=2)
    result = lso.minimize(reconstruction(2), draws(2, 3, 4), max_steps=60, tol=0, callback=log)
    assert log.course() == [(method, "gradient search", done, 60) for method, done in (("start", 0), ("step", 0))] + [
        ("step", "gradient search", 20, 60),
        ("end", "gradient search", 0, 60),
    ]
    assert result.status == "stopped" and log.heard[-2][1].values["best"] == pytest.approx(float(result.value.min()))
    log = Log(stop=5)
    found = run(objects(), 12, callback=log)
    assert found.status == "stopped" and "enough" in found.sentence
    assert [method for method, *_ in log.course()] == ["start", *["evaluation"] * 5, "end"]
    last = log.heard[-1][1]
    assert (last.work, last.done, last.total, last.text) == ("black-box search", 5, 12, found.sentence)
    assert last.values["best"] == found.best_value and last.values["unique"] == 5


@pytest.mark.parametrize("together", [False, True])
def test_a_sweep_tells_of_its_trainings_and_evaluations_by_name(tmp_path: Path, together: bool) -> None:
    log, work = Log(), BATCHED if together else TRAINING
    planned = small(seeds=2)
    train_all(planned, tmp_path, spec=EvaluationSpec(iw_samples=2, limit=5), together=together, callback=log)
    names = [one.name for one in planned]
    for method in ("start", "end"):
        assert [e.name for m, e in log.heard if m == method and e.work == work] == names
        assert [e.name for m, e in log.heard if m == method and e.work == EVALUATION] == names
    assert log.course()[0] == ("start", SWEEP, 0, 2) and log.course()[-1] == ("end", SWEEP, 2, 2)


def test_a_plain_function_counts_steps_and_what_is_no_callback_is_refused() -> None:
    counted: list[tuple[int, int]] = []
    with count_steps(as_callback(lambda *counts: counted.append(counts)), "evaluation") as count:
        count(1, 2)
        count(2, 2)
    assert counted == [(1, 2), (2, 2)]
    with pytest.raises(UsageError, match="expected a callback, got int"):
        as_callback(3)


def test_a_list_asks_all_and_a_part_has_its_name() -> None:
    one, two = Log(), Log(stop=0)
    both = CallbackList(one, PartCallback(two, name="part", work="other"))
    both.on_step(Event(work="training"))
    assert (one.heard[0][1].name, two.heard[0][1].name, two.heard[0][1].work) == ("", "part", "other")
    assert both.should_stop() == "enough"


@pytest.mark.parametrize("work", sorted(WORK))
def test_every_kind_of_work_is_drawn_from_its_row(
    work: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever values there are."""
    monkeypatch.setattr("lso.vae.progress.LINE_SECONDS", 0.0)
    progress = RichProgress()
    progress.on_start(Event(work=work, name="this", total=4))
    progress.on_step(Event(work=work, name="this", done=1, total=4, values={"best": 2.0}))
    progress.on_epoch(Event(work=work, name="this", done=1, total=2, values={"epoch": 1, "epochs": 2, "neg_elbo": 3.0}))
    progress.on_evaluation(Event(work=work, name="this", done=2, total=4))
    progress.on_end(Event(work=work, name="this", done=4, total=4, text="done"))
    progress.close()
    told = capsys.readouterr().err
    assert "{" not in told and (not WORK[work].end or "this: done" in told)


def test_progress_is_drawn_from_python_where_it_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lso.vae.progress.LINE_SECONDS", 0.0)
    train_model(config(), digits(), tmp_path / "r", limits=Limits(steps=2))
    assert capsys.readouterr().err == ""
    train_model(config(), digits(), tmp_path / "s", progress=True)
    assert "epoch 2/2  -ELBO " in capsys.readouterr().err
    lso.minimize(reconstruction(2), draws(2, 3, 4), max_steps=40, tol=0, progress=True)
    assert "gradient search: 50 % after " in capsys.readouterr().err
    run(objects(), 3, progress=True)
    assert "3/3 unique" in capsys.readouterr().err
    train_all(small(), tmp_path / "sweep", progress=True)
    assert "[1/1] training: vae-d2-s0\nepoch 0/1  -ELBO " in capsys.readouterr().err


def test_an_event_of_a_new_kind_is_told_and_drawn_without_a_change_elsewhere(
    capsys: pytest.CaptureFixture[str],
) -> None:
    event = Event(work="training", name="r", values={"seconds": 0.02, "bytes": torch.tensor(3).item()})
    RichProgress(verbose=True).on_log(event)
    RichProgress().on_log(event)
    assert capsys.readouterr().err == "r: seconds 0.02  bytes 3\n"


def test_a_field_is_left_out_where_its_value_is_missing() -> None:
    values = {"epoch": 3, "epochs": 10, "neg_elbo": 22.309, "perplexity": 4.0}
    assert format_fields(METRICS, values) == "epoch  3/10  NLL 22.31, perplexity 4.00"
    assert format_fields(WORK["black-box search"].beside, {"done": 1, "total": 4, "best": 0.5, "failed": 2}) == (
        "best 0.5 typical –  1/4 unique, 2 failed"
    )
