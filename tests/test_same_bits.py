"""The comparison of two revisions: which of its cases are chosen by name."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def same_bits(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return importlib.import_module("same_bits")


def test_without_names_all_cases_are_compared(same_bits: ModuleType) -> None:
    assert same_bits.select("") == list(same_bits.cases())


def test_cases_are_those_whose_name_holds_one_of_the_words(same_bits: ModuleType) -> None:
    assert same_bits.select("thompson, resume text") == ["search thompson", "resume text-stopped"]


def test_a_word_that_no_case_has_is_refused_with_the_names_that_there_are(same_bits: ModuleType) -> None:
    with pytest.raises(SystemExit, match=r"no case is named like 'annealing'; the cases: train vae mlp, .*resume"):
        same_bits.select("thompson,annealing")
