"""What a terminal shows of a report: its cards and the best object, from the content of ``report.json``."""

from collections.abc import Mapping, Sequence
from typing import Any

from lso.reports.key_numbers import compare_key_numbers
from lso.reports.report import VERDICT_WORDS
from lso.reports.tables import Table, number, percent

SHOWN_DIMS = 6  # numbers of a code; all of them stand in report.json
SHOWN_TEXT = 60  # characters of an object


def essence_table(reports: Mapping[str, Mapping[str, Any]]) -> Table:
    """The cards of one report with their notes, or those of several side by side.

    Args:
        reports: name -> content of its ``report.json``.
    """
    if len(reports) == 1:
        (found,) = reports.values()
        rows = [[card["label"], card["value"], card["note"]] for card in found["cards"]]
        return Table(columns=["number", "value", ""], rows=[*rows, *_best_row(found)])
    cards = {name: {card["label"]: card["value"] for card in found["cards"]} for name, found in reports.items()}
    labels = list(dict.fromkeys(label for own in cards.values() for label in own))
    rows = [[label, *(own.get(label, "") for own in cards.values())] for label in labels]
    words = [VERDICT_WORDS[found["verdict"]["level"]] for found in reports.values()]
    return Table(columns=["number", *reports], rows=[*rows, ["verdict", *words]])


def verbose_table(reports: Mapping[str, Mapping[str, Any]]) -> Table:
    """All key numbers of one report, or of several side by side."""
    essences = {name: found["essence"] for name, found in reports.items()}
    return compare_key_numbers(
        {name: {k: v for k, v in own.items() if k != "verdict"} for name, own in essences.items()}
    )


def _best_row(found: Mapping[str, Any]) -> Sequence[list[str]]:
    """The best object of a search: what it is, its code, and how typical that is."""
    best = found.get("best_object")
    if not best:
        return []
    text = best["object"]
    shown = "see the report" if text is None else text if len(text) <= SHOWN_TEXT else text[: SHOWN_TEXT - 3] + "..."
    code = ", ".join(number(value, 3) for value in best["z"][:SHOWN_DIMS]) + ", ..." * (len(best["z"]) > SHOWN_DIMS)
    typical = "typical" if best["typical"] else "not typical"
    where = f"z = ({code}), {typical} of the prior (norm percentile {percent(best['percentile'])})"
    return [["best object", shown, f"value {number(best['value'])}; {where}"]]
