"""The pictures or texts of a search report: targets, starts and results side by side."""

from typing import Any

import torch
from torch import Tensor

from lso.analysis.convergence import cost_of
from lso.analysis.reconstruction import diff_tokens
from lso.analysis.summary import SearchSummary
from lso.decoders.decoder import is_image
from lso.reports.images import data_uri, image_png
from lso.reports.tables import number

MAX_TARGETS, MAX_STARTS = 20, 8
MAX_BYTES = 1_000_000  # of all pixels of a page; of larger images fewer rows are shown


def gallery(summary: SearchSummary) -> dict[str, Any]:
    """Rows of pictures for the template.

    The keys are ``rows`` (name, whether the target was missed, and tiles), ``starts`` (names), ``targets`` (whether
    targets are pictures) and ``note``.
    """
    result, event = summary.result, tuple(summary.decoded.shape[2:])
    if summary.result.objective.decoder.vocabulary is not None:
        return {"rows": [], "starts": [], "targets": False, "note": _text_note(summary)}
    if not is_image(event):
        return {
            "rows": [],
            "starts": [],
            "targets": False,
            "note": f"Decoded data have shape {event}; only images are shown.",
        }
    targets, starts = result.z.shape[:2]
    columns = list(range(min(starts, MAX_STARTS)))
    fits = max(1, MAX_BYTES // (torch.Size(event).numel() * (3 + 2 * len(columns))))
    rows = chosen_targets(cost_of(result, result.value).min(1).values, min(MAX_TARGETS, fits))
    images = result.objective.targets
    note = "The value stands under each picture; green marks the start with the best end. "
    if len(rows) < targets:
        note += f"Shown: {len(rows)} of {targets} targets, evenly spaced from the best to the worst result. "
    if len(columns) < starts:
        note += f"Shown: the first {len(columns)} of {starts} starts (best and best typical are taken from all)."
    return {
        "rows": [_row(summary, t) | {"tiles": tiles(summary, t, columns, images)} for t in rows],
        "starts": [result.start_names[s] for s in columns],
        "targets": images is not None,
        "note": note,
    }


def text_rows(summary: SearchSummary) -> list[dict[str, Any]]:
    """Rows of texts for the template where sequences are decoded, one for each shown target; else empty.

    The keys are ``name``, ``missed`` (whether it is not reproduced) and ``lines`` (what, value, pieces of text with
    whether they differ from the target, and whether it is the winning start).
    """
    result, decoder = summary.result, summary.result.objective.decoder
    if decoder.vocabulary is None:
        return []
    rows = chosen_targets(cost_of(result, result.value).min(1).values, MAX_TARGETS)
    return [_row(summary, t) | {"lines": _lines(summary, t)} for t in rows]


def _row(summary: SearchSummary, target: int) -> dict[str, Any]:
    missed = summary.reproduction is not None and bool(summary.reproduction.missed[target])
    return {"name": summary.target_names[target], "missed": missed}


def _lines(summary: SearchSummary, target: int) -> list[dict[str, Any]]:
    result, decoder = summary.result, summary.result.objective.decoder
    targets, won = result.objective.targets, int(summary.best_index[1][target])
    typical = int(summary.best_typical_index[1][target])
    wanted = None if targets is None else targets[target].cpu()

    def line(
        what: str, value: Tensor | None, tokens: Tensor, against: Tensor | None, best: bool = False
    ) -> dict[str, Any]:
        shown = "" if value is None else _value(value)
        return {"what": what, "value": shown, "pieces": diff_tokens(decoder, tokens, against), "won": best}

    found = [] if wanted is None else [line("target", None, wanted, None)]
    found.append(line("best", result.value[target, won], summary.decoded[target, won], wanted, True))
    if typical != won:
        found.append(line("best typical", result.value[target, typical], summary.decoded[target, typical], wanted))
    for start in range(min(result.z.shape[1], MAX_STARTS)):
        name, ends = result.start_names[start], (summary.decoded0, summary.decoded)
        for what, value, tokens in zip(("start", "end"), (result.value0, result.value), ends, strict=True):
            best = start == won and what == "end"
            found.append(line(f"{what} {name}", value[target, start], tokens[target, start], wanted, best))
    return found


def _text_note(summary: SearchSummary) -> str:
    targets, starts = summary.result.z.shape[:2]
    note = f"What codes decode to ({summary.result.objective.decoder.generation.told()}), with the value of each code. "
    note += "Green marks the start with the best end; tokens that the target does not have there are underlined. "
    if targets > MAX_TARGETS:
        note += f"Shown: {MAX_TARGETS} of {targets} targets, evenly spaced from the best to the worst result. "
    return note + (f"Shown: the first {MAX_STARTS} of {starts} starts." if starts > MAX_STARTS else "")


def chosen_targets(best: Tensor, limit: int) -> list[int]:
    """All targets in order, or evenly spaced ranks from the best value to the worst."""
    if len(best) <= limit:
        return list(range(len(best)))
    ranks = torch.linspace(0, len(best) - 1, limit).round().long()
    return [int(t) for t in best.argsort(stable=True)[ranks]]


def tiles(summary: SearchSummary, target: int, columns: list[int], images: Tensor | None) -> list[dict[str, Any]]:
    """The pictures of one target: the target, best, best typical, then start and end of each start."""
    result = summary.result
    won, typical = int(summary.best_index[1][target]), int(summary.best_typical_index[1][target])
    row = [] if images is None else [_tile(images[target].double().cpu(), "target", "")]
    for name, start in (("best", won), ("best typical", typical)):
        strange = name == "best typical" and bool(summary.best_typical.atypical[target])
        row.append(
            _tile(
                summary.decoded[target, start], name, "none typical" if strange else _value(result.value[target, start])
            )
        )
    for start in columns:
        name = result.start_names[start]
        row.append(
            _tile(summary.decoded0[target, start], f"start {name}", _value(result.value0[target, start]), edge=True)
        )
        row.append(
            _tile(summary.decoded[target, start], f"end {name}", _value(result.value[target, start]), won=start == won)
        )
    return row


def _value(value: Tensor) -> str:
    return number(float(value), 3)


def _tile(image: Tensor, alt: str, value: str, *, won: bool = False, edge: bool = False) -> dict[str, Any]:
    return {
        "uri": data_uri(image_png(image)),
        "alt": f"{alt} {value}".strip(),
        "value": value,
        "won": won,
        "edge": edge,
    }
