"""The study of verdicts: its arithmetic, its records, and a few of its cases."""

import importlib
import json
import math
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from lso.vae.runs import Run

ROOT = Path(__file__).resolve().parents[1]
# Cases of the slow test: searches of each kind that need one small model, or none.
SOME = (
    "targets/mlp-good/prior-draws/adam",
    "targets/mlp-good/prior-means/adam",
    "targets/mlp-good/held-out/adam",
    "targets/mlp-good/noise/adam",
    "targets/mlp-good/inverted/adam",
    "targets/mlp-good/photographs/adam",
    "targets/mlp-good/one-photograph/adam",
    "targets/mlp-good/prior-draws/adam/steps-2/prior",
    "targets/mlp-good/prior-draws/adam/lr-0.0001/steps-150/prior",
    "targets/mlp-good/dead-160/prior-draws/adam",
    "targets/mlp-good/noise-10%/prior-draws/adam/steps-200",
    "targets/mlp-good/drift-slow/prior-draws/adam/steps-200",
    "targets/mlp-good/centred/prior-draws/adam/steps-200",
    "targets/mlp-good/sorted/prior-draws/adam/steps-200",
    "targets/mlp-collapsed/held-out/adam",
    "training/mlp-good",
    "training/mlp-collapsed",
    "black-box/bowl-2/cmaes",
    "black-box/bowl-2/wrong-sign-cmaes",
    "black-box/bowl-5/constant",
    "black-box/branin/turbo",
)
MISSES = 1  # of the dozen among them that are not to be believed


@pytest.fixture
def study(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return importlib.import_module("verdict_study")


@pytest.mark.parametrize("cases", [1, 7, 60])
def test_interval_of_no_error_and_of_nothing_else_is_the_closed_form(study: ModuleType, cases: int) -> None:
    """Clopper and Pearson: of no error in n the upper limit p has (1 - p)^n = 0.025, and the other way round."""
    low, high = study.Rate(errors=0, cases=cases).interval
    assert low == 0 and math.isclose((1 - high) ** cases, 0.025, rel_tol=1e-6)
    low, high = study.Rate(errors=cases, cases=cases).interval
    assert high == 1 and math.isclose(low**cases, 0.025, rel_tol=1e-6)


def test_interval_holds_the_tails_of_the_binomial(study: ModuleType) -> None:
    """At the limits, as many errors or more (fewer) have probability 0.025."""
    low, high = study.Rate(errors=3, cases=20).interval

    def chance(p: float, upto: int) -> float:
        return sum(math.comb(20, k) * p**k * (1 - p) ** (20 - k) for k in range(upto + 1))

    assert math.isclose(1 - chance(low, 2), 0.025, rel_tol=1e-6)
    assert math.isclose(chance(high, 3), 0.025, rel_tol=1e-6)
    assert study.Rate(errors=0, cases=0).interval == (0.0, 1.0)


def test_rates_count_the_four_errors_and_the_flags(study: ModuleType) -> None:
    def record(truth: str, said: str, each: Any = (), flagged: Any = ()) -> dict[str, Any]:
        return {"truth": truth, "said": said, "each": list(each), "flagged": list(flagged)}

    done = [
        record("doubt", "doubt"),
        record("doubt", "care"),
        record("doubt", "believe", [False, False, True, None], [True, False, True, True]),
        record("neither", "believe"),
        record("believe", "doubt"),
        record("believe", "care"),
        record("believe", "believe"),
        record("doubt", "doubt", [], [True, True]),  # by its model or decoder: of single targets nothing is known
    ]
    found = {name: (rate.errors, rate.cases) for name, rate in study.rates(done).items()}
    assert found == {
        "missed": (2, 4),
        "false alarm": (1, 3),
        "overpraised": (2, 5),
        "grudged": (2, 3),
        "target not flagged": (1, 2),
        "target flagged wrongly": (1, 1),
    }


def test_rates_are_read_by_the_rows_of_the_tables(study: ModuleType) -> None:
    """Each rule of each table has a line, by its name; a rule that did not apply to a case is not counted there."""

    def record(truth: str, **checks: str) -> dict[str, Any]:
        return {"truth": truth, "checks": checks}

    done = {
        "targets/a": record("doubt", fit="doubt", starts="care"),
        "targets/b": record("doubt", fit="fine"),
        "targets/c": record("believe", fit="care", starts="doubt"),
        "targets/d": record("neither", fit="doubt"),
        "black-box/a": record("doubt", seeds="doubt"),
    }
    lines = study.by_rule(done).splitlines()
    assert len(lines) == 2 + sum(map(len, study.TABLES.values()))
    assert any(line.startswith("| targets: fit | 1 of 2 | 0 of 1 | 1 of 1 |") for line in lines)
    assert any(line.startswith("| targets: starts | 0 of 1 | 1 of 1 | 0 of 1 |") for line in lines)
    assert any(line.startswith("| black-box: seeds | 1 of 1 | 0 of 0 |") for line in lines)
    assert all(f"| {kind}: {row.name} |" in "\n".join(lines) for kind, rows in study.TABLES.items() for row in rows)


def test_halves_are_fixed_by_the_name_and_about_equal(study: ModuleType) -> None:
    assert study.half_of("black-box/bowl-2/random") == study.half_of("black-box/bowl-2/random")
    share = sum(study.half_of(name) == "tuning" for name in study.CASES) / len(study.CASES)
    assert 0.4 < share < 0.6 and len(study.CASES) >= 200


def test_a_rerun_skips_what_is_done_and_mends_a_line_cut_off(
    study: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def case(out: Path) -> dict[str, Any]:
        asked.append("again")
        return {"truth": "doubt", "said": "doubt", "each": [], "flagged": [], "checks": {}}

    monkeypatch.setattr(study, "CASES", {"a": case, "b": case})
    results = tmp_path / "cases.jsonl"
    study.carry_out(["a"], tmp_path, results, 1e9)
    with results.open("a") as file:
        file.write('{"case": "b", "tru')
    study.carry_out(["a", "b"], tmp_path, results, 1e9)
    assert len(asked) == 2 and set(study.records(results)) == {"a", "b"}
    assert [json.loads(line)["case"] for line in results.read_text().splitlines() if line.endswith("}")] == ["a", "b"]


def test_two_searches_and_their_truth(
    study: ModuleType, trained: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search for noise in a model of three epochs, and a black box whose optimizer goes nowhere."""
    targets = importlib.import_module("verdict_targets")
    models = importlib.import_module("verdict_models")
    for module in (targets, models):
        monkeypatch.setattr(module, "trained", lambda name, out: trained)
    summary, truth = targets.hunted(targets.Hunt(model="mlp-good", targets="noise", steps=60), tmp_path)
    assert truth.says == "doubt" and summary.verdict.level == "doubt"
    record = study.CASES["black-box/bowl-5/constant"](tmp_path)
    assert record["truth"] != "believe" and record["said"] == "doubt" and "regret" in record["why"]


@pytest.mark.slow
def test_some_cases_are_told_truly(study: ModuleType, tmp_path: Path) -> None:
    study.carry_out(SOME, tmp_path, tmp_path / "cases.jsonl", 1e9)
    found = study.rates(study.records(tmp_path / "cases.jsonl").values())
    assert found["missed"].cases >= 10 and found["missed"].errors <= MISSES
    assert found["false alarm"].cases >= 5 and found["false alarm"].errors == 0
