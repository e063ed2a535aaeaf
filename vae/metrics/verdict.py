"""Rules as rows of a table, and the verdict that follows from them. Does not import torch.

A `Rule` measures facts of a result, grades them by its limits and says in words what it found; `judge` applies a table
of rules. Tables: trainings in `lso.vae.metrics.collapse` and `lso.reports.training_verdict`, searches in
`lso.analysis.verdict` and `lso.analysis.black_box_verdict`, retraining in `lso.tasks.retraining.summary`, reasons of
failures in `lso.analysis.diagnosis`. To add a rule, add a row.

    >>> rule = Rule(
    ...     name="bounds",
    ...     measure=lambda codes: {"share": sum(abs(z) >= 3 for z in codes) / len(codes)},
    ...     limits={"share": Limit(care=0.2, doubt=0.5)},
    ...     found="{share:.0%} of the codes lie at a bound[doubt?: widen the box]",
    ...     rule="care if over {share.care:.0%} of the codes lie at a bound, doubt if over {share.doubt:.0%}",
    ... )
    >>> judge([rule], [0.0, 3.0, -3.0]).sentence
    'Do not believe this result: 67 % of the codes lie at a bound: widen the box.'
"""

import math
import operator
import re
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Literal, TypeVar, cast

Level = Literal["fine", "care", "doubt"]
LEVELS: tuple[Level, ...] = ("fine", "care", "doubt")
OPENINGS: Mapping[Level, str] = {
    "doubt": "Do not believe this result",
    "care": "Believe this result with care",
    "fine": "This result can be believed",
}
Facts = Mapping[str, Any]  # what a rule measured: name -> number, yes or no, or text
Results_contra = TypeVar("Results_contra", contravariant=True)
Whole = TypeVar("Whole")
OPTIONAL = re.compile(r"\[(!?)(\w+)\?(.*?)\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One rule, applied to one result.

    Args:
        name: such as "convergence".
        level: "fine", "care" or "doubt".
        found: what was measured, in words with the number.
        rule: the rule in words, with its thresholds.
        remedy: what to do where it is not fine; empty where the rule has no advice.
    """

    name: str
    level: Level
    found: str
    rule: str
    remedy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether a result can be believed.

    Args:
        level: the worst level of the checks.
        sentence: one or two plain sentences.
        checks: what the verdict follows from.
        training: the verdict of the training run on its latents; empty where it found no fault.
    """

    level: Level
    sentence: str
    checks: Sequence[Check]
    training: str = ""

    def check(self, name: str) -> Check:
        """The check of this name; KeyError where its rule did not apply."""
        return {check.name: check for check in self.checks}[name]


NOT_JUDGED = Verdict(level="fine", sentence="", checks=())  # before the rules were applied


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """The thresholds of one fact: from where on it is care, and from where on doubt.

    Args:
        care: threshold of care; NaN, which nothing is beyond, where the fact is never care.
        doubt: threshold of doubt; NaN where it is never doubt.
        beyond: (fact, threshold) -> whether it is passed; `operator.lt` where less is worse.
    """

    care: float = math.nan
    doubt: float = math.nan
    beyond: Callable[[float, float], bool] = operator.gt

    def grade(self, value: float) -> Level:
        """Level of a fact."""
        return "doubt" if self.beyond(value, self.doubt) else "care" if self.beyond(value, self.care) else "fine"


CARE_IF, DOUBT_IF = Limit(care=0), Limit(doubt=0)  # of facts that hold or do not


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A case with a level and words of its own, in which the limits of a rule do not count."""

    level: Level
    found: str
    remedy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorRates:
    """What a rule said of results whose truth is known (``benchmarks/verdict_study.py``, the half of the cases that no
    threshold was set on; docs/log.md).

    Args:
        unsound: results that should not be believed.
        doubted: how many of them the rule doubts.
        sound: results that can be believed.
        false_doubts: how many of them it doubts.
        false_cares: how many of them get "care".
    """

    unsound: int
    doubted: int
    sound: int
    false_doubts: int = 0
    false_cares: int = 0


def _as_they_are(facts: Any) -> Facts | None:
    return cast(Facts, facts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule(Generic[Results_contra]):
    """One row of a table of rules. Its texts are format strings of the facts (see `phrase`).

    Args:
        name: unique within a table.
        measure: results -> facts; None where the rule does not apply, which then gives no check. Left out where the
            results of a table are facts already.
        limits: fact -> its thresholds; the worst level counts. A fact that is missing or None is fine.
        found: what was measured, in words.
        rule: the rule in words; here the names of limits stand for their thresholds: ``{share.care:.0%}``.
        cases: fact -> a case with words of its own; the first that holds takes the place of limits and ``found``.
        remedy: what to do where the check is not fine.
        terms: other names in the texts, such as constants.
        obvious: whether a verdict leaves the check out of its sentence as long as all is fine.
        rates: how often the rule erred where the truth is known; None where that was not studied.
    """

    name: str
    measure: Callable[[Results_contra], Facts | None] = _as_they_are
    limits: Mapping[str, Limit] = field(default_factory=dict)
    found: str
    rule: str = ""
    cases: Mapping[str, Case] = field(default_factory=dict)
    remedy: str = ""
    terms: Facts = field(default_factory=dict)
    obvious: bool = False
    rates: ErrorRates | None = None

    def check(self, results: Results_contra) -> Check | None:
        """Apply the rule; None where it does not apply."""
        facts = self.measure(results)
        if facts is None:
            return None
        case = next((case for name, case in self.cases.items() if facts.get(name)), None)
        level, found, remedy = (
            (self.grade(facts), self.found, self.remedy) if case is None else (case.level, case.found, case.remedy)
        )
        values = {**self.terms, **facts, level: True}
        return Check(
            name=self.name,
            level=level,
            found=phrase(found, values),
            rule=phrase(self.rule, {**values, **self.limits}),
            remedy="" if level == "fine" else phrase(remedy or self.remedy, values),
        )

    def grade(self, facts: Facts) -> Level:
        """The worst level of the facts by the limits."""
        known = [limit.grade(facts[name]) for name, limit in self.limits.items() if facts.get(name) is not None]
        return max(known, key=LEVELS.index, default="fine")

    def on(self, part: Callable[[Whole], Results_contra], rates: ErrorRates | None = None) -> "Rule[Whole]":
        """The same rule for a table whose results have those of this rule as a part.

        Args:
            part: of the table's results.
            rates: the error rates among them.
        """
        row: Rule[Any] = self
        return replace(row, measure=lambda results: self.measure(part(results)), rates=rates)


class _Formatter(string.Formatter):
    """Formats as `str.format`, with a space before a percent sign, and a dash for None."""

    def format_field(self, value: Any, format_spec: str) -> str:
        text = "–" if value is None else format(value, format_spec)
        return f"{text[:-1]} %" if format_spec.endswith("%") else text


def phrase(text: str, values: Facts) -> str:
    """Fill in a format string: as `str.format`, with parts in brackets that are there only where a value holds.

    ``{found} of {asked}[late?, {late} too late][!late?, all in time]``: the first part is there if ``late`` is neither
    0, None, empty nor missing, the second part if it is. The name of the level is such a value, too: ``[doubt?...]``.
    """
    chosen = OPTIONAL.sub(lambda part: part[3] if bool(values.get(part[2])) != bool(part[1]) else "", text)
    return _Formatter().vformat(chosen, (), values)


def apply_rules(rules: Sequence[Rule[Whole]], results: Whole) -> list[Check]:
    """The checks of all rules that apply, in their order."""
    return [check for rule in rules if (check := rule.check(results)) is not None]


def judge(rules: Sequence[Rule[Whole]], results: Whole, training: str = "") -> Verdict:
    """Apply a table of rules to results.

    Args:
        rules: rows of the table.
        results: what the rules measure.
        training: the verdict of the training run on its latents, to go with this one.
    """
    return conclude(apply_rules(rules, results), training, [rule.name for rule in rules if rule.obvious])


def conclude(checks: Sequence[Check], training: str = "", obvious: Sequence[str] = ()) -> Verdict:
    """Combine checks into a verdict: its level is the worst of them, its sentence names those that are not fine.

    Where all are fine it names all but the ``obvious`` ones, which go without saying.
    """
    levels: list[Level] = [check.level for check in checks]
    level: Level = max(levels, key=LEVELS.index, default="fine")
    if level == "fine":
        found = [check.found for check in checks if check.name not in obvious]
        sentence = f"{OPENINGS[level]}: {'; '.join(found)}." if found else f"{OPENINGS[level]}."
    else:
        by_weight = sorted(checks, key=lambda check: -LEVELS.index(check.level))  # stable
        worst, *others = [check.found for check in by_weight if check.level != "fine"]
        sentence = f"{OPENINGS[level]}: {worst}." + (f" Also, {'; '.join(others)}." if others else "")
    return Verdict(level=level, sentence=sentence, checks=list(checks), training=training)
