"""The engine of verdicts, and what every row of every table of rules has to do."""

import doctest
import math
import operator
from collections.abc import Mapping, Sequence
from string import Formatter
from typing import Any

import pytest

from lso.analysis.black_box_verdict import BLACK_BOX_RULES
from lso.analysis.diagnosis import DIAGNOSES
from lso.analysis.verdict import SEARCH_RULES
from lso.reports.training_verdict import TRAINING_RULES
from lso.tasks.retraining.summary import RETRAINING_RULES
from lso.vae.metrics import verdict
from lso.vae.metrics.collapse import LATENTS
from lso.vae.metrics.verdict import CARE_IF, DOUBT_IF, OPTIONAL, Case, Limit, Rule, judge, phrase

TABLES: Mapping[str, Sequence[Rule[Any]]] = {
    "trained model": [LATENTS],
    "training": TRAINING_RULES,
    "search": SEARCH_RULES,
    "black box": BLACK_BOX_RULES,
    "retraining": RETRAINING_RULES,
    "doctor": DIAGNOSES,
}
ROWS = [(table, rule) for table, rules in TABLES.items() for rule in rules]


def rule(**row: Any) -> Rule[Any]:
    return Rule(**{"name": "share", "measure": lambda share: {"share": share}, "found": "{share:.0%}", **row})


@pytest.mark.parametrize(
    ("limit", "values", "levels"),
    [
        (Limit(care=0.1, doubt=0.5), (0.1, 0.2, 0.5, 0.6, math.nan), "fine care care doubt fine"),
        (Limit(care=0.5, doubt=0.1, beyond=operator.lt), (0.5, 0.4, 0.1, 0.0, math.nan), "fine care care doubt fine"),
        (Limit(doubt=0.5), (0.4, 0.6), "fine doubt"),
        (CARE_IF, (False, True, 0, 3), "fine care fine care"),
        (DOUBT_IF, (False, True), "fine doubt"),
    ],
)
def test_a_limit_is_passed_beyond_its_threshold(limit: Limit, values: Sequence[float], levels: str) -> None:
    assert " ".join(map(limit.grade, values)) == levels


def test_the_worst_limit_counts_and_unknown_facts_are_fine() -> None:
    limits = {"share": Limit(care=0.1), "late": DOUBT_IF, "missing": DOUBT_IF, "none": DOUBT_IF}
    row = rule(limits=limits, measure=lambda late: {"share": 0.2, "late": late, "none": None})
    assert [judge([row], late).level for late in (False, True)] == ["care", "doubt"]


def test_the_first_case_that_holds_takes_the_place_of_limits_and_words() -> None:
    cases = {"alone": Case(level="fine", found="alone"), "share": Case(level="doubt", found="never reached")}
    row = rule(cases=cases, limits={"share": Limit(doubt=0.1)}, measure=lambda alone: {"alone": alone, "share": 0.9})
    assert judge([row], True).sentence == "This result can be believed: alone."
    assert judge([row], False).checks[0].found == "never reached"


def test_a_rule_that_does_not_apply_gives_no_check() -> None:
    assert judge([rule(measure=lambda _: None)], 0).sentence == "This result can be believed."


def test_words_follow_facts_levels_and_thresholds() -> None:
    row = rule(
        limits={"share": Limit(care=0.1, doubt=0.5)},
        found="{share:.0%} are late[doubt?: stop][!doubt?, go on]",
        rule="care over {share.care:.0%}, doubt over {share.doubt:.0%} of {all}",
        remedy="Hurry[care? a little].",
        terms={"all": 7},
    )
    told = [judge([row], share).check("share") for share in (0.05, 0.2, 0.7)]
    assert [check.found for check in told] == ["5 % are late, go on", "20 % are late, go on", "70 % are late: stop"]
    assert [check.remedy for check in told] == ["", "Hurry a little.", "Hurry."]
    assert {check.rule for check in told} == {"care over 10 %, doubt over 50 % of 7"}


def test_what_was_measured_is_never_read_as_a_format() -> None:
    assert phrase("{name}[name?: {name}]", {"name": "{x} [y?z] %"}) == "{x} [y?z] %: {x} [y?z] %"


def test_a_rule_serves_a_table_whose_results_hold_its_own() -> None:
    rates = verdict.ErrorRates(unsound=3, doubted=2, sound=1)
    row: Rule[Any] = rule(limits={"share": CARE_IF}).on(lambda pair: pair[0], rates)
    assert row.rates == rates and judge([row], (0.5, None)).checks == judge([rule(limits=row.limits)], 0.5).checks


def test_the_example_of_the_engine_holds() -> None:
    assert doctest.testmod(verdict).failed == 0


def test_names_are_unique_within_a_table() -> None:
    for table, rules in TABLES.items():
        assert len({row.name for row in rules}) == len(rules), table


@pytest.mark.parametrize(("table", "row"), ROWS, ids=[f"{table}: {row.name}" for table, row in ROWS])
def test_every_row_has_thresholds_and_words(table: str, row: Rule[Any]) -> None:
    """Texts are well formed, every threshold of care or doubt can be told, and reasons of failures have remedies."""
    for text in (row.found, row.rule, row.remedy, *(case.found for case in row.cases.values())):
        assert text.count("[") == text.count("]") == len(OPTIONAL.findall(text))
        assert all(name != "" for _, name, _, _ in Formatter().parse(text)), "fields have names"
    assert row.limits or any(case.level != "fine" for case in row.cases.values())
    assert all(limit.care == limit.care or limit.doubt == limit.doubt for limit in row.limits.values())
    assert bool(row.remedy) if table == "doctor" else bool(row.rule)
    assert row.rates is None or 0 <= row.rates.doubted <= row.rates.unsound
