"""Tables that pages take from the code and from docs/log.md, so that they cannot drift: no mkdocs here."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from docs.site.command_pages import cell
from lso.vae.metrics.verdict import Rule, phrase
from lso.vae.utils.lazy import resolve

LOG = Path(__file__).resolve().parents[1] / "log.md"
STUDY = "Does the verdict tell the truth? The whole study, anew"  # entry of the log with the error rates
SUBJECTS = {
    "searches": "searches of both kinds",
    "by gradient": "by gradient",
    "black box": "black box",
    "trainings": "trainings",
}
# "module:TABLE" of rules, by the word that a page writes: {{ rules search }}.
RULES: Mapping[str, str] = {
    "search": "lso.analysis.verdict:SEARCH_RULES",
    "black box": "lso.analysis.black_box_verdict:BLACK_BOX_RULES",
    "retraining": "lso.tasks.retraining.summary:RETRAINING_RULES",
}


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table in Markdown; None is an empty cell."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join('' if one is None else str(one) for one in line)} |" for line in lines)


def listed(kind: str) -> str:
    """What ``lso list KIND`` prints, as a table."""
    columns, rows = resolve(f"lso.cli.commands.list:_list_{kind}")()
    return markdown_table(
        columns, [[f"`{row[0]}`", *(None if one is None else cell(str(one)) for one in row[1:])] for row in rows]
    )


def study_rows(half: str = "testing") -> dict[str, list[str]]:
    """Cells of the study's table in docs/log.md: subject -> number of cases, missed, false alarm and so on.

    Args:
        half: ``testing``, on which no threshold was set, or ``tuning``.
    """
    entry = LOG.read_text(encoding="utf-8").partition(STUDY)[2].partition("\n## ")[0]
    found = re.findall(rf"^\| {half} \| ([a-z ]+), (\d+) \| (.+) \|$", entry, re.MULTILINE)
    return {subject: [count, *cells.split(" | ")] for subject, count, cells in found}


def error_rates() -> str:
    """How often the verdict errs, from the log's entry on the whole study."""
    rows = [
        [SUBJECTS[subject], cells[0], *(_in_words(one) for one in cells[1:5])]
        for subject, cells in study_rows().items()
    ]
    columns = ["", "cases", "missed", "false alarm", "overpraised", "grudged"]
    return markdown_table(columns, rows)


def _in_words(rate: str) -> str:
    """``3 of 64 = 4.7 % [1.0, 13.1]`` as ``3 of 64 (1 to 13 %)``."""
    shown = re.fullmatch(r"(\d+ of \d+) = [\d.]+ % \[([\d.]+), ([\d.]+)\]", rate)
    if shown is None:
        raise ValueError(
            f"docs/log.md: expected `3 of 64 = 4.7 % [1.0, 13.1]`, got {rate!r}; write it so, or adapt here"
        )
    return f"{shown[1]} ({float(shown[2]):.0f} to {float(shown[3]):.0f} %)"


def rules(name: str) -> str:
    """A table of rules: what each asks, and of how many results whose truth is known it doubted which."""
    rows = []
    for rule in resolve(RULES[name]):
        rates = rule.rates
        erred = (
            "not studied"
            if rates is None
            else f"doubts {rates.doubted} of {rates.unsound} unsound, {rates.false_doubts} of {rates.sound} sound"
            + (f"; care for {rates.false_cares} sound" if rates.false_cares else "")
        )
        rows.append([f"**{rule.name}**", cell(rule_in_words(rule)), erred])
    return markdown_table(["rule", "what it asks", "in the study"], rows)


def rule_in_words(rule: Rule[Any]) -> str:
    """The rule with its limits, all of its optional parts among them."""
    everything = dict.fromkeys(re.findall(r"\[!?(\w+)\?", rule.rule), True)
    words = re.sub(r"\{bound:[^}]*\}", "a bound in", rule.rule)
    return phrase(
        words, {**everything, "measure": "against the mean decode of prior draws", **rule.terms, **rule.limits}
    )


# What a page writes between double braces, with its argument: {{ list methods }}, {{ rules search }}.
MARKS: Mapping[str, Callable[[str], str]] = {"list": listed, "rules": rules}
