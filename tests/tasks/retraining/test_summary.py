"""What a report on weighted retraining says, from rounds made up so that the truth is known."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lso.reports.tables import MISSING
from lso.results.result import Evaluation
from lso.tasks.goals import Goal
from lso.tasks.retraining.drift import CodeStatistics, Drift
from lso.tasks.retraining.labelled_data import LabelledData
from lso.tasks.retraining.plots import plot_codes, plot_progress
from lso.tasks.retraining.records import RetrainingResult, Round
from lso.tasks.retraining.report import retraining_key_numbers, retraining_table, search_table
from lso.tasks.retraining.summary import RetrainingSummary, Stage, format_distinct, retraining_summary
from lso.vae.errors import UsageError
from lso.vae.metrics.collapse import LatentUse
from lso.vae.runs import Run

HERE = Path("nowhere")


def goal(maximize: bool = False) -> Goal:
    return Goal(name="made up", score=len, maximize=maximize)


def call(value: float, duplicate_of: int | None = None, percentile: float = 0.5) -> Evaluation:
    about: dict[str, Any] = {"z": [0.0], "decoded_hash": "", "valid": True, "reencoding_error": 0.1, "seconds": 0.0}
    return Evaluation(value=value, duplicate_of=duplicate_of, norm_percentile=percentile, **about)


def round_row(number: int, unique: int, reproduced: float = 0.9) -> Round:
    stands = CodeStatistics(active_units=4, reencoding_error=0.1, reproduced=reproduced)
    drift = Drift(total=0.3, active=0.2, dead=0.1, per_active=0.05)
    about: dict[str, Any] = {"drawn": 10, "effective_size": 3.0, "best": None, "status": "finished", "sentence": ""}
    about |= {"training_seconds": 1.0, "search_seconds": 2.0, "drift": drift, "anchors": stands, "history": None}
    return Round(number=number, unique=unique, **about)


def result(parts: list[list[Evaluation]], rows: list[Round], maximize: bool = False) -> RetrainingResult:
    data = LabelledData(x=torch.zeros(3, 1), value=torch.tensor([9.0, torch.nan, 6.0], dtype=torch.float64))
    about: dict[str, Any] = {"status": "finished", "sentence": "Done.", "data": data, "goal": goal(maximize)}
    about |= {"run": Run(HERE, made=False), "folder": HERE, "seconds": 6.0}
    return RetrainingResult(rounds=tuple(rows), parts=tuple(map(tuple, parts)), **about)


def carries(information: float) -> LatentUse:
    return LatentUse(latent_dim=8, data=500, mutual_information=information, kl=6.0, used=5, active_units=1)


def summary(
    *values: list[float],
    standing: float | None = 0.25,
    maximize: bool = False,
    percentile: float = 0.5,
    information: float = 4.0,
) -> RetrainingSummary:
    """Complete rounds that found these values."""
    parts = [[call(value, percentile=percentile) for value in one] for one in values]
    rows = [round_row(i, 0) for i in range(len(parts))]
    stages = [Stage(row=one, records=part, standing=standing) for one, part in zip(rows, parts, strict=True)]
    about: dict[str, Any] = {"training": "", "latent_dim": 8, "use": carries(information)}
    return RetrainingSummary(result=result(parts, rows, maximize), stages=stages, **about)


def levels(told: RetrainingSummary) -> dict[str, str]:
    return {check.name: check.level for check in told.verdict.checks}


def found(told: RetrainingSummary, name: str) -> str:
    return told.verdict.check(name).found


def test_a_search_that_gained_is_believed_with_care_for_want_of_a_control() -> None:
    told = summary([5.0, 4.0], [3.0, 2.0], [1.0, 2.5], standing=0.75)
    expected = dict.fromkeys(("model", "calls", "retraining", "data", "typicality", "anchors", "codes"), "fine")
    assert levels(told) == {**expected, "control": "care"} and told.verdict.level == "care"
    assert "from 4 after the first retraining to 1 in the end" in told.verdict.sentence
    assert "came to 4, those after the other 2 to 1; the median object of the first round is worth 4.5" in (
        found(told, "retraining")
    )
    assert told.stale == (4, 0.75)  # of those before the last retraining


@pytest.mark.parametrize("maximize", [False, True])
def test_what_gets_no_better_did_not_pay(maximize: bool) -> None:
    rising = [[1.0, 2.0], [3.0, 4.0]]
    assert levels(summary(*rising, maximize=maximize))["retraining"] == ("fine" if maximize else "care")
    told = summary(*rising[::-1], maximize=maximize)
    assert levels(told)["retraining"] == ("care" if maximize else "fine")
    assert ("which is no better" in found(told, "retraining")) == maximize


def test_a_better_best_among_worse_objects_is_told() -> None:
    told = summary([3.0, 3.0, 3.0], [2.0, 5.0, 5.0])
    assert levels(told)["retraining"] == "care" and found(told, "retraining").endswith("the last 5, which is no better")


@pytest.mark.parametrize(
    ("change", "name", "level", "words"),
    [
        ({"standing": 0.25}, "codes", "care", "25 % are still what the last model decodes"),
        (
            {"information": 0.4},
            "model",
            "doubt",
            "the codes carry 0.40 nats about the data (mutual information over the split, drawn anew; KL 6.00)",
        ),
        ({"percentile": 1.0}, "typicality", "doubt", "4 of the best 4 codes are atypical, 0 % of the proposals"),
    ],
)
def test_each_rule_finds_what_it_is_for(change: dict[str, Any], name: str, level: str, words: str) -> None:
    told = summary([5.0, 4.0], [3.0, 2.0], **change)
    assert levels(told)[name] == level and words in found(told, name)


def test_a_model_that_forgets_its_data_is_told() -> None:
    told = summary([5.0], [4.0])
    rows = [round_row(0, 1, reproduced=0.8), round_row(1, 2, reproduced=0.08)]
    told = RetrainingSummary(result=result([], rows), stages=told.stages, training="", latent_dim=8)
    assert levels(told)["anchors"] == "care" and "the last 8 %: it has" in found(told, "anchors")


@pytest.mark.parametrize(("exact", "first"), [(False, 0.8), (True, 0.05)])
def test_pictures_and_what_was_hardly_known_are_not_called_forgotten(exact: bool, first: float) -> None:
    rows = [round_row(0, 1, reproduced=first), round_row(1, 2, reproduced=0.0)]
    told = RetrainingSummary(result=result([], rows), stages=[], training="", latent_dim=8, exact=exact)
    assert levels(told)["anchors"] == "fine" and "which is not judged" in found(told, "anchors")


def test_numbers_are_told_apart_where_they_differ() -> None:
    assert format_distinct(0.99997, 0.99998) == ("0.99997", "0.99998") and format_distinct(1.0, 1.0) == ("1", "1")
    assert format_distinct(None, 2.0) == (MISSING, "2")


def test_nothing_better_than_the_training_data_is_told() -> None:
    assert levels(summary([7.0], [6.0]))["data"] == "care" and levels(summary([7.0], [5.9]))["data"] == "fine"
    assert summary([7.0]).best_of_data == 6.0 and summary([7.0], maximize=True).best_of_data == 9.0


def test_equal_values_are_no_search() -> None:
    assert levels(summary([2.0, 2.0], [2.0]))["retraining"] == "doubt"


def test_duplicates_count_as_calls_alone() -> None:
    parts = [[call(3.0), call(3.0, duplicate_of=0)], [call(3.0, duplicate_of=-1), call(1.0)]]
    rows = [round_row(0, 1), round_row(1, 2)]
    stages = [Stage(row=row, records=part, standing=1.0) for row, part in zip(rows, parts, strict=True)]
    told = RetrainingSummary(result=result(parts, rows), stages=stages, training="", latent_dim=8)
    numbers = retraining_key_numbers(told, "random, retraining")
    assert (numbers["calls, all seeds"], numbers["unique, all seeds"], numbers["duplicate, all seeds"]) == (4, 2, 2)
    assert numbers["share of calls wasted"] == 0.5 and numbers["seconds retraining"] == 2.0
    assert [row[1:5] for row in search_table(told).rows] == [["3", "3", "3", "2"], ["1", "1", "1", "2"]]
    assert [row[3:7] for row in retraining_table(told).rows] == [["0.3", "0.2", "0.1", "0.05"]] * 2


def test_a_round_that_was_cut_is_shown_and_not_judged() -> None:
    whole = summary([5.0], [4.0])
    stages = [*whole.stages, Stage(row=None, records=[call(0.5)])]
    told = RetrainingSummary(result=result([], whole.rows), stages=stages, training="", latent_dim=8)
    assert told.ends == (5.0, 4.0) and search_table(told).rows[-1][-1] == "cut"
    assert told.ranked[0][0] == 2 and len(retraining_table(told).rows) == 2


def test_nothing_to_report_on_is_said() -> None:
    with pytest.raises(UsageError, match="no call was made yet"):
        retraining_summary(result([], []))


def test_the_charts_show_each_object_and_each_retraining() -> None:
    levels = {"best of the training data": 2.0, "best attainable": None}
    figure = plot_progress([np.array([3.0, 1.0]), np.array([2.0])], False, "made up", levels)
    axis = figure.axes[0]
    lines = {line.get_label(): np.asarray(line.get_ydata()).tolist() for line in axis.get_lines()}
    assert lines["an object"] == [3.0, 1.0, 2.0] and lines["best so far"] == [3.0, 1.0, 1.0]
    upright = [line.get_xdata() for line in axis.get_lines() if len(set(np.asarray(line.get_xdata()).tolist())) == 1]
    assert [float(np.asarray(x)[0]) for x in upright][:2] == [0.5, 2.5]
    assert "best of the training data" in lines and "best attainable" not in lines
    figure = plot_codes({"training data": [0.9, 0.8], "before": [None, 0.5]}, [0.1, 1.5])
    assert [len(line.get_xdata()) for line in figure.axes[0].get_lines()] == [2, 1]  # type: ignore[arg-type]
    assert [bar.get_height() for bar in figure.axes[1].containers[0]] == [0.1, 1.5]
