"""Accounts, statuses and records of the loop, in this process."""

import json
import math
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lso.black_box.ask_tell import BlackBox, History
from lso.black_box.budget import Ledger, SearchLimits
from lso.black_box.loop import optimize
from lso.black_box.runner import SearchCallback
from lso.decoders.decoder import Decoder
from lso.gradient.search import minimize
from lso.objectives.latent_objective import LatentObjective
from lso.results.export import read_evaluations
from lso.space import LatentSpace
from lso.vae.config.methods import method
from lso.vae.distributions.gaussian import DiagonalGaussian
from lso.vae.errors import LsoError, RunError, ShapeError, UsageError
from lso.vae.runs import Run, update_run
from tests.lso import scorers
from tests.lso.example_decoders import draws, reconstruction
from tests.lso.searches import bowl, climb, climber, lines, objects, rows, run, tensors
from tests.vae.small import small_model


class Counted:
    """A score that counts its data."""

    maximize = True

    def __init__(self, score: Any = scorers.first) -> None:
        self.score, self.seen = score, []  # type: ignore[var-annotated]

    def __call__(self, batch: Any) -> Any:
        self.seen += list(batch)
        return self.score(batch)


def signs(z: Tensor) -> list[str]:
    """Three outputs."""
    return [f"{int(np.sign(round(value)))} 0" for value in z[:, 0].tolist()]


# --- accounts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("batch", [1, 7])
def test_budget_counts_unique_valid_objects(batch: int, asynchronous: bool) -> None:
    score = Counted(scorers.half)
    result = run(objects(score, digits=1), 40, batch=batch, asynchronous=asynchronous)
    assert result.status == "finished" and result.counters["unique"] == 40
    assert len(score.seen) == len(set(score.seen)) == 40 + result.counters["invalid"]
    valid = {record.decoded for record in result.records if record.valid}
    assert len(valid) == 40 and result.counters["duplicate"] > 0 and result.counters["invalid"] > 0
    assert sum(result.counters[k] for k in ("unique", "duplicate", "invalid", "failed", "timed_out")) == len(
        result.records
    )
    assert [record.call for record in result.records] == list(range(len(result.records)))


def test_duplicates_have_the_answer_of_the_first(tmp_path: Path) -> None:
    result = run(objects(scorers.half, digits=0), 5, batch=30, out=tmp_path / "run")
    for record in result.records:
        first = result.records[record.duplicate_of if record.duplicate_of is not None else record.call or 0]
        assert (first.decoded, first.outcome, first.reason) == (record.decoded, record.outcome, record.reason)
        assert first.duplicate_of is None and (first.value == record.value or not record.valid)
    read = sorted(read_evaluations(tmp_path / "run"), key=lambda record: record.call or 0)
    assert [json.dumps(r.z) for r in read] == [json.dumps(r.z) for r in result.records]


@pytest.mark.parametrize("options", [{}, {"batch": 8}, {"batch": 8, "asynchronous": True}])
@pytest.mark.parametrize("on", ["objects", "tensors"])
def test_constant_decoder_ends_the_search(on: str, options: dict[str, Any]) -> None:
    score = Counted(scorers.first if on == "objects" else bowl)
    decoder = Decoder(lambda z: ["1"] * len(z) if on == "objects" else torch.zeros(len(z), 4), latent_dim=2)
    result = run(LatentObjective(decoder, score, on=on), 100, **options)
    assert result.status == "decoder_ignores_latent" and "The decoder ignores its latent" in result.sentence
    assert 201 <= len(result.records) <= 208 and len(score.seen) == 1


def test_decoder_with_three_outputs_ends_by_patience_or_by_calls() -> None:
    decoder = Decoder(signs, latent_dim=2)
    result = run(LatentObjective(decoder, Counted(), on="objects"), 100, batch=4)
    assert result.status == "decoder_ignores_latent" and result.counters["unique"] == 3
    few = run(LatentObjective(decoder, Counted(), on="objects"), 5, batch=4)
    assert few.status == "decoder_ignores_latent" and len(few.records) == 50  # max_calls, ten times the budget
    assert "All 50 calls were made, for 3 of 5 unique valid objects." in few.sentence


@pytest.mark.parametrize("asynchronous", [False, True])
def test_score_that_calls_all_invalid_ends_the_search(asynchronous: bool) -> None:
    result = run(objects(lambda words: [None] * len(words)), 100, batch=3, asynchronous=asynchronous)
    assert result.status == "invalid" and result.best is None and math.isnan(result.best_value)
    assert 200 <= len(result.records) <= 203 and bool(result.best_z.isnan().all())


def test_max_calls_are_not_exceeded() -> None:
    result = run(objects(), 20, batch=4, max_calls=11)
    assert len(result.records) == 11 and result.status == "max_calls"
    result = run(objects(scorers.half), 20, batch=4, max_calls=11, asynchronous=True)
    assert len(result.records) == 11


@pytest.mark.parametrize("maximize", [True, False])
def test_each_duplicate_has_its_own_part_of_the_prior(maximize: bool) -> None:
    result = run(objects(digits=0, maximize=maximize, prior_weight=0.5), 60, batch=20, max_calls=60)
    assert result.counters["duplicate"] > 3
    for record in result.records:
        prior = 0.25 * sum(x * x for x in record.z) * (-1 if maximize else 1)
        assert record.value == pytest.approx(scorers.first([record.decoded or ""])[0] + prior, abs=1e-12)


def test_reconstruction_has_its_exact_value_once_and_the_prior_once() -> None:
    plain = reconstruction(1)
    objective = LatentObjective.reconstruct(plain.decoder, plain.targets, prior_weight=2.0)  # type: ignore[arg-type]
    again = draws(1, 4).repeat(3, 1) + torch.tensor([[0.0], [1e-9], [2e-9]], dtype=torch.float64)  # decode alike
    box = BlackBox("given", objective.space, lambda history, n, seed: again, maximize=False)
    result = optimize(objective, box, 5, batch=3, max_calls=3)
    assert [record.duplicate_of for record in result.records] == [None, 0, 0]
    torch.testing.assert_close(result.value, objective(again), rtol=1e-8, atol=0)
    assert result.value[0] == objective(again)[0]
    with pytest.raises(UsageError, match="one target at a time"):
        optimize(reconstruction(3), "random", 5)
    with pytest.raises(UsageError, match="scored in this process"):
        optimize(plain, "random", 5, timeout=3)


# --- scores that misbehave --------------------------------------------------------------------------------------------


def test_bad_datum_does_not_take_its_batch_along() -> None:
    def score(x: Tensor) -> Tensor:
        if bool((x[:, 0] < 0).any()):
            raise ValueError("negative")
        return x.sum(1)

    result = run(tensors(score), 10, batch=5)
    assert {record.outcome for record in result.records} == {"evaluated", "failed"}
    assert result.status == "finished" and result.counters["failed"] > 2


def test_keyboard_interrupt_leaves_a_search_to_go_on_with(tmp_path: Path) -> None:
    score = Counted()
    whole = rows(run(objects(), 12, batch=4))

    def interrupted(words: list[str]) -> list[float]:
        if len(score.seen) == 8:
            raise KeyboardInterrupt
        return score(words)  # type: ignore[no-any-return]

    with pytest.raises(KeyboardInterrupt):
        run(objects(interrupted), 12, batch=4, out=tmp_path / "run")
    assert Run(tmp_path / "run").info["status"] == "stopped" and len(read_evaluations(tmp_path / "run")) == 8
    objective = objects(score)
    objective.name = "interrupted"
    assert rows(run(objective, 12, batch=4, out=tmp_path / "run", resume=True)) == whole
    assert len(score.seen) == 12 and Run(tmp_path / "run").info["status"] == "finished"


def test_decoder_that_changes_is_noticed(tmp_path: Path) -> None:
    layer = torch.nn.Linear(2, 2)

    def score(x: Tensor) -> Tensor:
        layer.weight.data += 1
        return x.sum(1)

    with pytest.raises(LsoError, match="changed after it was frozen"):
        run(LatentObjective(Decoder(layer, latent_dim=2), score), 3, out=tmp_path / "run")
    info = Run(tmp_path / "run").info
    assert info["status"] == "failed" and "changed" in info["sentence"]


# --- the record -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("asynchronous", [False, True])
def test_all_before_an_ask_is_on_disk(tmp_path: Path, asynchronous: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    synced = [0]
    real = os.fsync

    def fsync(number: int) -> None:
        real(number)
        synced[0] = os.fstat(number).st_size

    monkeypatch.setattr("lso.black_box.journal.os.fsync", fsync)
    seen = []

    def looking(history: History, n: int, seed: int) -> Tensor:
        content = (tmp_path / "run" / "evaluations.jsonl").read_bytes()
        written = [json.loads(line) for line in content.splitlines()]
        asks = sum(row.get("event") == "ask" for row in written)
        calls = [row for row in written if "event" not in row]
        assert asks == history.number and len(calls) == len(history.z)
        assert not content or synced[0] == len(content)
        seen.append(asks)
        return climb(history, n, seed)

    objective = objects()
    box = BlackBox("looking", objective.space, looking)
    run(objective, 9, optimizer=box, batch=3, asynchronous=asynchronous, out=tmp_path / "run")
    assert seen == list(range(len(seen))) and len(seen) >= 3


def test_known_points_are_told_recorded_once_and_not_counted(tmp_path: Path) -> None:
    z = draws(3, 2)
    known = (z, [0.25, None, float("nan")])
    score = Counted()
    result = run(objects(score), 4, known=known, out=tmp_path / "run", optimizer=climber(objects()))
    assert len(score.seen) == result.counters["calls"] == 4 and torch.equal(result.known, z)
    assert result.known_value[0] == 0.25 and bool(result.known_value[1:].isnan().all())
    again = run(objects(score), 8, known=known, out=tmp_path / "run", optimizer=climber(objects()), resume=True)
    assert sum(b'"known"' in line for line in lines(tmp_path / "run")) == 1 and torch.equal(again.known, z)
    other = run(objects(), 8, known=known, optimizer=climber(objects()))
    assert rows(other) == rows(again) and rows(other) != rows(run(objects(), 8, optimizer=climber(objects())))


def test_known_points_that_do_not_fit_leave_no_record(tmp_path: Path) -> None:
    with pytest.raises(ShapeError, match="expected codes"):
        run(objects(), 4, known=(draws(3, 5), [0.0] * 3), out=tmp_path / "run")
    assert lines(tmp_path / "run") == []


def test_finished_search_is_read_back_without_a_call(tmp_path: Path) -> None:
    first = run(objects(), 6, batch=2, out=tmp_path / "run")
    score = Counted()
    score.__dict__["__name__"] = "first"
    again = run(objects(score), 6, batch=2, out=tmp_path / "run", resume=True)
    assert score.seen == [] and rows(first) == rows(again) and again.sentence == first.sentence
    assert again.best_value == first.best_value and again.counters["seconds"] >= first.records[-1].elapsed
    more = run(objects(), 9, batch=2, out=tmp_path / "run", resume=True)
    assert rows(more)[:6] == rows(first) and rows(more) == rows(run(objects(), 9, batch=2))


CHANGES: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"seed": 1}, {}, "seed was 0, now 1"),
    ({"batch": 3}, {}, "batch was 2, now 3"),
    ({"asynchronous": True}, {}, "asynchronous was False"),
    ({"kind": "sobol"}, {}, "options was"),
    ({}, {"maximize": False}, "maximize was True"),
    ({}, {"prior_weight": 1.0}, "prior_weight was 0.0"),
    ({}, {"score": scorers.half}, "objective was 'first', now 'half'"),
    ({}, {"dim": 3}, "space was"),
]


@pytest.mark.parametrize(("options", "changed", "message"), CHANGES, ids=[c[2].split()[0] for c in CHANGES])
def test_other_search_is_refused(
    tmp_path: Path, options: dict[str, Any], changed: dict[str, Any], message: str
) -> None:
    run(objects(), 2, batch=2, out=tmp_path / "run")
    before = lines(tmp_path / "run")
    with pytest.raises(RunError, match=message):
        run(objects(**changed), 4, **{"batch": 2, "out": tmp_path / "run", "resume": True} | options)
    assert lines(tmp_path / "run") == before and Run(tmp_path / "run").info["status"] == "finished"


def test_other_decoder_and_other_targets_are_refused(tmp_path: Path) -> None:
    def linear(seed: int) -> LatentObjective:
        torch.manual_seed(seed)
        return LatentObjective(Decoder(torch.nn.Linear(2, 2), latent_dim=2), bowl)

    run(linear(0), 2, out=tmp_path / "run")
    with pytest.raises(RunError, match="weights was"):
        run(linear(1), 4, out=tmp_path / "run", resume=True)
    aims = reconstruction(2)
    run(aims.take([0]), 2, out=tmp_path / "other")
    with pytest.raises(RunError, match="targets was"):
        run(aims.take([1]), 2, out=tmp_path / "other", resume=True)


def test_folders_that_hold_no_search_are_left_alone(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="resume needs a run folder"):
        run(objects(), resume=True)
    with pytest.raises(RunError, match="does not exist"):
        run(objects(), out=tmp_path / "none", resume=True)
    (tmp_path / "run.json").write_text('{"kind": "train"}')
    with pytest.raises(RunError, match="holds no black-box search"):
        run(objects(), out=tmp_path, resume=True)
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
    with pytest.raises(RunError, match="never overwritten"):
        run(objects(), out=tmp_path)


@pytest.mark.parametrize(
    ("line", "text"),
    [(1, '{"event": "ask", "ask": 4, "z": [[0, 0]], "seconds": 0}'), (2, "{}"), (2, '{"call": 7, "ask": 0}'), (3, "")],
)
def test_rows_that_do_not_follow_are_refused_by_line(tmp_path: Path, line: int, text: str) -> None:
    run(objects(), 3, out=tmp_path / "run")
    parts = (tmp_path / "run" / "evaluations.jsonl").read_text().splitlines()
    parts[line - 1] = text or parts[line - 2]
    (tmp_path / "run" / "evaluations.jsonl").write_text("\n".join(parts) + "\n")
    with pytest.raises(RunError, match=f"line {line} is damaged"):
        run(objects(), 3, out=tmp_path / "run", resume=True)


def test_search_under_way_keeps_others_out(tmp_path: Path) -> None:
    caught = []

    class Second(SearchCallback):
        def called(self, ledger: Ledger, limits: SearchLimits) -> None:
            with pytest.raises(RunError, match="is at work in") as error:
                run(objects(), 2, out=tmp_path / "run", resume=True)
            caught.append(error)

    run(objects(), 2, out=tmp_path / "run", callback=Second())
    assert len(caught) == 2


def test_watch_stops_the_search(tmp_path: Path) -> None:
    class Stop(SearchCallback):
        ledger: Ledger | None = None

        def called(self, ledger: Ledger, limits: SearchLimits) -> None:
            self.ledger = ledger

        def stop(self) -> str | None:  # asked between batches
            return "interrupted" if self.ledger is not None and len(self.ledger.records) >= 5 else None

    result = run(objects(), 12, batch=4, out=tmp_path / "run", callback=Stop())
    assert result.status == "stopped" and "8 of 12" in result.sentence and "resume" in result.sentence
    assert rows(run(objects(), 12, batch=4, out=tmp_path / "run", resume=True)) == rows(run(objects(), 12, batch=4))


def test_calls_under_way_when_it_is_stopped_are_waited_for_and_kept(tmp_path: Path) -> None:
    """Four threads, of eight calls asked for: those that have begun are answered, the others are not begun."""
    asked: list[str] = []
    gate, told = threading.Event(), list[int]()

    def slow(words: Sequence[str]) -> list[float]:
        asked.extend(words)
        if len(asked) > 1:
            gate.wait(10)
        return scorers.first(words)

    class Stop(SearchCallback):
        def stop(self) -> str | None:
            return "interrupted" if asked else None

        def finishing(self, calls: int) -> None:
            told.append(calls)
            threading.Timer(0.1, gate.set).start()

    settings: dict[str, Any] = {"budget": 24, "batch": 8, "out": tmp_path / "r"}
    found = run(objects(slow), executor=lambda: ThreadPoolExecutor(4), callback=Stop(), **settings)
    assert found.status == "stopped" and told and told[0] > 1
    assert found.counters["unique"] == len(asked) < 8
    again = run(objects(slow), executor=lambda: ThreadPoolExecutor(4), resume=True, **settings)
    assert len(asked) == len(set(asked)) == again.counters["unique"] == 24
    assert rows(again) == rows(run(objects(), budget=24, batch=8))


@pytest.mark.parametrize("status", ["running", "stopped"])
def test_after_a_kill_it_is_told_how_many_calls_are_made_again(tmp_path: Path, status: str) -> None:
    told: list[int] = []

    class Told(SearchCallback):
        def repeated(self, calls: int) -> None:
            told.append(calls)

    run(objects(), budget=8, batch=4, out=tmp_path / "r")
    journal = tmp_path / "r" / "evaluations.jsonl"
    journal.write_bytes(b"".join(lines(tmp_path / "r")[:-3]))  # of the second batch one answer is there
    update_run(Run(tmp_path / "r"), status=status)
    run(objects(), budget=8, batch=4, out=tmp_path / "r", resume=True, callback=Told())
    assert told == [3] * (status == "running")


@pytest.mark.parametrize("options", [{"budget": 0}, {"batch": 0}, {"max_calls": 0}, {"timeout": 0}, {"patience": 0}])
def test_numbers_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="expected"):
        run(objects(), **options)


def test_optimizer_that_was_used_or_does_not_fit_is_refused() -> None:
    used = climber(objects())
    used.tell(draws(1, 2), 0.0)
    with pytest.raises(UsageError, match="was used before"):
        run(objects(), optimizer=used)
    with pytest.raises(UsageError, match="does not fit"):
        run(objects(maximize=False), optimizer=climber(objects()))
    with pytest.raises(UsageError, match="with an optimizer that is already made"):
        run(objects(), optimizer=climber(objects()), kind="sobol")


# --- sense ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("maximize", [True, False])
def test_both_kinds_of_optimizers_improve_in_the_users_sense(maximize: bool) -> None:
    def score(x: Tensor) -> Tensor:
        return bowl(x) if maximize else -bowl(x)

    objective, sign = tensors(score, dim=6, maximize=maximize), 1 if maximize else -1
    search = optimize(objective, "turbo", 32, batch=4, seed=1, initial=8, candidates=64)
    so_far = sign * search.best_so_far()
    assert bool((so_far.diff() >= 0).all()) and so_far[-1] > so_far[7]  # better than its initial design
    assert search.best is not None and search.best_value == sign * float((sign * search.value).max())
    gradient = minimize(objective, search.z[:1, None], max_steps=100)
    assert sign * float(gradient.value) > sign * float(gradient.value0)


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_a_search_is_not_gone_on_with_under_another_model(tmp_path: Path, part: str) -> None:
    """Another encoder has other posteriors, of which the space keeps the means alone, and the same decodes."""
    model = small_model(method("vae"))

    def ask(posterior: DiagonalGaussian, **options: Any) -> None:
        space = LatentSpace(4, codes=posterior)
        objective = LatentObjective(Decoder(model), lambda x: x.flatten(1).sum(1), space=space, maximize=True)
        optimize(objective, "random", 4, out=tmp_path / "r", **options)

    posterior = DiagonalGaussian(draws(9, 4), torch.zeros(9, 4))
    ask(posterior)
    ask(posterior, resume=True)
    next(getattr(model, part).parameters()).data.flatten()[0] += 1
    with pytest.raises(RunError, match="is another search: weights was"):
        ask(DiagonalGaussian(posterior.mean, posterior.log_var - 1), resume=True)
