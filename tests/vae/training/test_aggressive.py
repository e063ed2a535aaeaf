"""Aggressive encoder updates: the plan on scripted numbers, and which half moves in which step."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from lso.vae.config.components import Aggressive, Joint, Updates
from lso.vae.metrics import evaluation
from lso.vae.training import aggressive
from lso.vae.training import cuda_graphs as replay
from lso.vae.training import loop as training
from lso.vae.training import step as stepping
from lso.vae.training.aggressive import Plan
from lso.vae.training.loop import Limits, train_model
from lso.vae.training.step import Group, State, StepInputs, StepMetrics, StepNoise
from lso.vae.vocabulary import PAD
from tests.vae.small import STEPS, config, digits, sentences


def inner_steps(updates: Aggressive, losses: list[float]) -> int:
    """Inner steps before an outer one, when the windows have these mean losses."""
    plan, steps, more = aggressive.initial_phase(updates), 0, True
    script = iter(losses)
    while more:
        steps += aggressive.window(updates, plan)
        plan, more = aggressive.after_window(updates, plan, next(script))
    assert plan == aggressive.initial_phase(updates)  # ready for the next outer step
    return steps


@pytest.mark.parametrize("windows", range(2, 11))
def test_loop_ends_at_the_first_rise_after_20_30_to_90_or_99_steps(windows: int) -> None:
    falling = [100.0 - i for i in range(windows - 1)]
    assert inner_steps(Aggressive(), [*falling, falling[-1] + 1e-9]) == min(10 * windows, 99)


def test_equal_losses_go_on_and_the_cap_ends_everything() -> None:
    assert inner_steps(Aggressive(), [5.0] * 10) == 99
    assert inner_steps(Aggressive(), [5.0] * 3 + [5.1]) == 40
    assert inner_steps(Aggressive(window=15), [9.0, 8.0, 8.5]) == 45
    assert inner_steps(Aggressive(), [float("nan")]) == 10


@pytest.mark.parametrize("budget", [10, 30, 50, 70])
def test_a_budget_is_spent_whatever_the_loss(budget: int) -> None:
    assert inner_steps(Aggressive(budget=budget), [1e9]) == budget


def phase(updates: Aggressive, information: list[float]) -> int:
    """Epochs until the phase ends, when validation gives these MI; 0 where it does not."""
    plan = aggressive.initial_phase(updates)
    for epoch, mi in enumerate(information, 1):
        plan = aggressive.after_epoch(updates, plan, mi, epoch)
        if not plan.active:
            assert not aggressive.after_epoch(updates, plan, 99.0, epoch + 1).active  # for good
            return epoch
    return 0


def test_misses_count_against_the_best_and_are_never_forgotten() -> None:
    assert phase(Aggressive(tolerance=0), [1.0, 0.9, 1.1, 1.0, 1.0, 1.2, 1.1, 1.1]) == 8
    assert phase(Aggressive(tolerance=0), [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]) == 0
    assert phase(Aggressive(patience=2, tolerance=0), [1.0, 0.9, 0.95]) == 3


TRIFLES = [1.5e-4, 7e-5, 1.5e-4, 7e-5, 1.5e-4, 7e-5]  # of an encoder that has not begun to learn


def test_trifles_do_not_end_the_phase_by_default_and_did_as_published() -> None:
    previous = {"patience": 1, "against": "previous"}
    assert phase(Aggressive(tolerance=0, **previous), TRIFLES) == 2  # type: ignore[arg-type]
    assert phase(Aggressive(**previous), TRIFLES * 5) == 0  # type: ignore[arg-type]
    assert phase(Aggressive(**previous), [*TRIFLES, 1.0, 0.99, 0.96]) == 9  # type: ignore[arg-type]


def test_against_the_best_trifles_are_passed_over_in_the_first_epochs_alone() -> None:
    assert phase(Aggressive(patience=1), TRIFLES[:5]) == 0 and phase(Aggressive(patience=1), TRIFLES) == 6
    assert phase(Aggressive(patience=1, tolerance=0), TRIFLES) == 2
    assert phase(Aggressive(patience=1), [1.0, 0.99, 0.97]) == 3
    assert phase(Aggressive(patience=1, early=0), TRIFLES * 5) == 0  # as a tolerance was before there was `early`
    assert phase(Aggressive(patience=1, early=2), TRIFLES) == 4


def test_papers_reading_ends_at_the_first_fall() -> None:
    assert phase(Aggressive(patience=1, against="previous", tolerance=0), [-0.1, 0.5, 0.4]) == 3
    assert phase(Aggressive(patience=1, against="previous", tolerance=0.2), [0.5, 0.4, 0.3, 0.05]) == 4


def test_joint_updates_have_no_inner_steps() -> None:
    plan = aggressive.initial_phase(Joint())
    assert not plan.active and aggressive.window(Joint(), plan) == 0
    assert aggressive.after_epoch(Joint(), plan, 1.0, 1) == plan


@pytest.mark.parametrize(("lengths", "epochs"), [("equal", 3), ("any", 2)])
def test_the_phase_is_ended_by_information_within_one_length_but_in_folders_of_before(
    lengths: str, epochs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixed = iter([0.0, 2.0, 1.0, 0.5])

    def scripted(*args, **kwargs):  # type: ignore[no-untyped-def]
        row, q = evaluation.validate(*args, **kwargs)
        return {**row, "mi": 1.0, "mi_mixed": next(mixed)}, q

    monkeypatch.setattr(training, "validate", scripted)
    chosen = config("aggressive:budget=1,patience=1", arch="lstm", anneal=0, epochs=3, mi_lengths=lengths)
    rows = train_model(chosen, sentences(), tmp_path / "r").metrics()[1:]
    assert sum(row["inner_steps"] > 0 for row in rows) == epochs


Call = tuple[tuple[Group, ...], Tensor, StepNoise, float, bool, bool]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Call]:
    """Every step of a training: groups, data, noise, loss, and whether encoder and decoder moved."""
    found: list[Call] = []
    real = stepping.step

    def spy(state: State, x: Tensor, noise: StepNoise, knobs: StepInputs, groups: tuple[Group, ...]) -> StepMetrics:
        halves = (state.model.encoder, state.model.decoder)
        before = [torch.cat([p.detach().flatten() for p in half.parameters()]).clone() for half in halves]
        info = real(state, x, noise, knobs, groups)
        after = [torch.cat([p.detach().flatten() for p in half.parameters()]) for half in halves]
        moved = [not torch.equal(a, b) for a, b in zip(before, after, strict=True)]
        found.append((groups, x.clone(), noise, info.loss.item(), moved[0], moved[1]))
        return info

    monkeypatch.setattr(replay, "step", spy)
    return found


@pytest.mark.parametrize("scope", ["joint", "stepped"])
def test_inner_steps_move_the_encoder_alone_and_outer_ones_the_decoder(
    scope: str, calls: list[Call], tmp_path: Path
) -> None:
    chosen = config("aggressive:budget=3", anneal=0, epochs=1, clip_scope=scope)
    row = train_model(chosen, digits(), tmp_path / "r").metrics()[-1]
    assert len(calls) == 4 * STEPS and row["inner_steps"] == 3
    for i, (groups, _, _, _, encoder, decoder) in enumerate(calls):
        inner = i % 4 < 3
        assert groups == (("encoder",) if inner else ("decoder",)) and encoder == inner and decoder != inner


def test_first_inner_batch_is_the_outer_one_and_the_others_are_drawn_anew(calls: list[Call], tmp_path: Path) -> None:
    train_model(config("aggressive:budget=3", anneal=0, epochs=1), digits(), tmp_path / "r")
    (_, x1, n1, *_), (_, x2, n2, *_), (_, x3, _, *_), (_, outer, noise, *_) = calls[:4]
    assert (
        torch.equal(x1, outer)
        and n1.binarize is noise.binarize
        and not torch.equal(n1.drawn["posterior"], noise.drawn["posterior"])
    )
    assert n1.binarize is not None and n2.binarize is not None
    assert not torch.equal(x2, x3) and not torch.equal(n2.binarize, n1.binarize)
    assert not torch.equal(x2, calls[5][1])  # nor are they those of the next outer step
    assert len({tuple(row.flatten().tolist()) for row in x2}) == 32  # distinct data


def test_training_follows_losses_and_information(
    calls: list[Call], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The windows end where the recorded losses say, and the phase where the MI of the rows does."""
    monkeypatch.setattr(training, "validate", _with_mi([0.0, 1.0, 0.5, 2.0], evaluation.validate))
    chosen = config("aggressive:window=2,cap=9,patience=1", anneal=0, epochs=3)
    rows = train_model(chosen, digits(), tmp_path / "r").metrics()
    assert rows[1]["inner_steps"] > 0 < rows[2]["inner_steps"] and rows[3]["inner_steps"] == 0
    assert all(call[0] == ("encoder", "decoder") for call in calls[-STEPS:])
    first = [loss for groups, _, _, loss, *_ in calls[: [c[0] for c in calls].index(("decoder",))]]
    means = [sum(first[i : i + 2]) / len(first[i : i + 2]) for i in range(0, len(first), 2)]
    assert means[:-1] == sorted(means[:-1], reverse=True)
    assert len(first) == 9 or means[-1] > means[-2]


def test_windows_of_sequences_are_compared_by_the_token(
    calls: list[Call], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches differ in length, so that sums by the sentence would tell which were drawn, not how good they are."""
    seen: list[float] = []

    def spy(updates: Updates, plan: Plan, mean_loss: float) -> tuple[Plan, bool]:
        seen.append(mean_loss)
        return plan, False

    monkeypatch.setattr(aggressive, "after_window", spy)
    chosen = config("aggressive:window=5", arch="lstm", anneal=0, epochs=1, batch_size=8, lengths="near")
    train_model(chosen, sentences(), tmp_path / "r", limits=Limits(steps=4))
    assert len(calls) == 6 * len(seen) == 24
    for i, mean in enumerate(seen):
        window = [(x, loss) for groups, x, _, loss, *_ in calls[6 * i : 6 * i + 5]]
        tokens = sum(token != PAD for x, _ in window for row in x.tolist() for token in row[1:])
        assert mean == pytest.approx(sum(loss * len(x) for x, loss in window) / tokens, rel=1e-6)


def _with_mi(script: list[float], real):  # type: ignore[no-untyped-def]
    values = iter(script)

    def fake(*args, **kwargs):  # type: ignore[no-untyped-def]
        row, q = real(*args, **kwargs)
        return {**row, "mi": next(values)}, q

    return fake
