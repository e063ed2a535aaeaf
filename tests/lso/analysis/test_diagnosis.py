"""The doctor's rules: each planted fault is named, from the files alone."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import lso
from lso.analysis.diagnosis import STEP_FLOOR, Diagnostics, diagnose, diagnostics_from_records, diagnostics_from_report
from lso.black_box.ask_tell import BlackBox
from lso.decoders.decoder import Decoder
from lso.objectives.latent_objective import LatentObjective
from lso.tasks.doctor import check_run
from tests.lso.black_box_cases import SCALES, far, noted, objective, seeds, unfitted, uniform
from tests.lso.example_decoders import Planted, draws

__all__ = ["unfitted"]
pytestmark = pytest.mark.usefixtures("unfitted")

FINE: dict[str, Any] = {"optimizer": "gp", "counts": {"calls": 100, "unique": 100}, "latent_dim": 10, "active": 9}
PLANTED = [
    ({"counts": {"calls": 100, "unique": 30, "failed": 70}, "failure": "no licence"}, "no licence"),
    ({"counts": {"calls": 100, "unique": 90, "timed_out": 10}}, "timed out"),
    ({"counts": {"calls": 100, "unique": 30, "invalid": 70}}, "invalid objects"),
    ({"counts": {"calls": 100, "unique": 30, "duplicate": 70}}, "many codes decode to the same object"),
    ({"counts": {"calls": 100, "unique": 30, "duplicate": 70}, "active": 1}, "the decoder ignores most"),
    ({"counts": {"calls": 100, "unique": 30, "duplicate": 70}, "step": 1e-3}, "no longer moves"),
    ({"active": 1}, "collapsed: the decoder reacts to 1 of 10 latent dimensions"),
    ({"information": 0.3}, "collapsed: the decoder reacts to 9 of 10 latent dimensions, the codes carry 0.30 nats"),
    ({"dead": [3, 4]}, "are dead (z3, z4)"),
    ({"constant": True}, "all values are equal"),
    ({"flat": True, "explained": -0.02}, "predicts next to nothing of them (0 % of their variance)"),
    ({"flat": False, "coverage": 0.5, "points": 50}, "too sure of itself"),
    ({"typical": 0.0}, "all proposals are atypical"),
    ({"atypical_best": 1.0}, "best code is atypical"),
    ({"at_bound": 0.3}, "at a bound"),
    ({"step": STEP_FLOOR / 2}, "step size is at its floor"),
    ({"in_design": 1.0}, "nothing better than their initial design"),
    ({"unsearched": 1.0}, "within the initial design: they drew"),
    ({"late": 1.0}, "still gaining"),
]


@pytest.mark.parametrize(("fault", "said"), PLANTED)
def test_each_planted_fault_is_named_with_a_remedy(fault: dict[str, Any], said: str) -> None:
    causes = diagnose(Diagnostics(**FINE | fault))
    assert any(said in cause.found for cause in causes) and all(cause.remedy for cause in causes)


def test_a_sound_search_has_no_cause() -> None:
    sound = {"typical": 1.0, "atypical_best": 0.0, "at_bound": 0.0, "step": 0.4, "flat": False, "coverage": 0.95}
    assert diagnose(Diagnostics(**FINE | sound)) == []
    assert diagnose(Diagnostics(**FINE | {"optimizer": "random", "flat": True})) == []  # a control has no surrogate


def test_dead_dimensions_beside_full_ones_are_no_collapse() -> None:
    """8 latents that carry 4 nats with 152 dead ones: the verdict calls them fine, and so does the doctor."""
    many = FINE | {"latent_dim": 160, "active": 8}
    assert [Diagnostics(**many, information=known).collapsed for known in (4.0, 2.0, 0.3, None)] == [
        False,
        True,
        True,
        True,
    ]
    assert (
        not Diagnostics(**FINE, information=2.0).collapsed
        and Diagnostics(**FINE | {"active": 0}, information=4.0).collapsed
    )


def found(path: Path) -> str:
    return " | ".join(f"{one.level}: {one.what}" for one in check_run(path))


def test_the_doctor_reads_the_report_of_a_run_whose_model_is_gone(tmp_path: Path) -> None:
    aim = objective(far, bounds=6.0)
    folder = tmp_path / "run"
    result = lso.optimize(aim, BlackBox("gp", aim.space, uniform), 24, out=folder)
    noted([result], folder)
    told = found(folder)
    assert "proposals are atypical" in told and "1 of 4 latent dimensions are dead (z2)" in told
    assert "verdict: Do not believe" in told


def test_the_doctor_reads_the_record_where_no_report_was_written(tmp_path: Path) -> None:
    aim = objective(far, bounds=6.0)
    lso.optimize(aim, BlackBox("gp", aim.space, uniform), 24, out=tmp_path / "run")
    told = found(tmp_path / "run")
    assert "proposals are atypical" in told and "report.json is missing" in told


def test_a_constant_decoder_is_named(tmp_path: Path) -> None:
    aim = LatentObjective(Decoder(lambda z: torch.ones(len(z), 3), latent_dim=2), lambda x: x.sum(1))
    result = lso.optimize(aim, "random", 10, patience=20, out=tmp_path / "run")
    noted([result], tmp_path / "run")
    told = found(tmp_path / "run")
    assert "decoder_ignores_latent" in told and "collapsed: the decoder reacts to 0 of 2" in told
    assert "2 of 2 latent dimensions are dead" not in told  # nor is there an active one to search
    assert "the score is flat" not in told  # it saw one object


def test_report_and_record_agree_on_what_both_tell(tmp_path: Path) -> None:
    noted([seeds()[0]], tmp_path)
    one = diagnostics_from_report(json.loads((tmp_path / "report.json").read_text()))
    other = diagnostics_from_records(seeds()[0].records, seeds()[0].settings)
    for name in ("optimizer", "failure", "constant", "typical", "atypical_best", "in_design", "late", "latent_dim"):
        assert getattr(one, name) == getattr(other, name), name
    assert one.step == pytest.approx(other.step, rel=1e-4)
    assert {key: one.counts[key] for key in other.counts} == other.counts


def test_a_search_that_stands_still_is_told_from_files(tmp_path: Path) -> None:
    def still(history: Any, n: int, seed: int) -> Tensor:
        return 0.3 + (1.0 if len(history.z) < 10 else 1e-4) * draws(n, 4, seed=seed % 97)

    aim = objective(lambda x: -x.square().flatten(1).sum(1))
    lso.optimize(aim, BlackBox("turbo", aim.space, still), 30, out=tmp_path / "run", patience=400)
    assert "step size is at its floor" in found(tmp_path / "run") or "no longer moves" in found(tmp_path / "run")


def test_the_reason_of_a_failure_is_of_a_call_that_failed() -> None:
    ink = iter([[float("nan")], ["three"], [1.0], [2.0]])
    aim = LatentObjective(Decoder(Planted(SCALES)), lambda x: next(ink, [3.0]), on="objects")
    signs = diagnostics_from_records((result := lso.optimize(aim, "random", 3)).records, result.settings)
    assert "str 'three'" in signs.failure
    told = " ".join(cause.found for cause in diagnose(signs))
    assert "failed in 1 of 5 calls: the score gave str 'three'" in told


def test_the_doctor_reads_a_record_that_was_cut_off(tmp_path: Path) -> None:
    """A search that was killed may leave half a line: what is whole before it counts; damage elsewhere is said."""
    aim = objective(far, bounds=6.0)
    lso.optimize(aim, BlackBox("gp", aim.space, uniform), 24, out=tmp_path / "run")
    journal = tmp_path / "run" / "evaluations.jsonl"
    whole, told = journal.read_bytes(), found(tmp_path / "run")
    journal.write_bytes(whole + b'{"event": "as')
    assert found(tmp_path / "run") == told and "proposals are atypical" in told
    journal.write_bytes(whole[1:])
    assert "line 1 is damaged" in found(tmp_path / "run")
