"""The pictures or texts of a search report: targets, starts and results side by side."""

import torch
from torch import Tensor

from lso.analysis.convergence import cost_of
from lso.analysis.reconstruction import diff_tokens
from lso.analysis.summary import SearchSummary
from lso.decoders.decoder import is_image
from lso.reports.report import TextLine, Texts, Tile, TileRow, Tiles
from lso.reports.tables import number

MAX_TARGETS, MAX_STARTS = 20, 8
MAX_BYTES = 1_000_000  # of all pixels of a page; of larger images fewer rows are shown


def gallery(summary: SearchSummary) -> Tiles | None:
    """The pictures of each shown target: itself, best, best typical, start and end of each start; None without images.

    Left out are targets and starts beyond the limits above; `gallery_note` says which.
    """
    result = summary.result
    if result.objective.decoder.vocabulary is not None or not is_image(tuple(summary.decoded.shape[2:])):
        return None
    images, columns = result.objective.targets, _shown_starts(summary)
    heads = [*([] if images is None else [("target", 1, "")]), ("best", 1, ""), ("best typical", 1, "")]
    heads += [(result.start_names[s], 2, "start, end") for s in columns]
    rows = [
        TileRow(name=summary.target_names[t], remark=_missed(summary, t), tiles=tiles(summary, t, columns, images))
        for t in _shown_targets(summary)
    ]
    return Tiles(rows=rows, heads=heads)


def gallery_note(summary: SearchSummary) -> str:
    """What the gallery or the texts show, and what they leave out."""
    event, (targets, starts) = tuple(summary.decoded.shape[2:]), summary.result.z.shape[:2]
    if (decoder := summary.result.objective.decoder).vocabulary is not None:
        note = f"What codes decode to ({decoder.generation.told()}), with the value of each code. Green marks the "
        note += "start with the best end; tokens that the target does not have there are underlined. "
    elif not is_image(event):
        return f"Decoded data have shape {event}; only images are shown."
    else:
        note = "The value stands under each picture; green marks the start with the best end. "
    if (shown := len(_shown_targets(summary))) < targets:
        note += f"Shown: {shown} of {targets} targets, evenly spaced from the best to the worst result. "
    if starts > MAX_STARTS:
        note += f"Shown: the first {MAX_STARTS} of {starts} starts (best and best typical are taken from all)."
    return note.strip()


def _shown_starts(summary: SearchSummary) -> list[int]:
    return list(range(min(summary.result.z.shape[1], MAX_STARTS)))


def _shown_targets(summary: SearchSummary) -> list[int]:
    """The targets that a page shows: of large images fewer."""
    limit = MAX_TARGETS
    if summary.result.objective.decoder.vocabulary is None:
        pixels = torch.Size(summary.decoded.shape[2:]).numel()
        limit = min(limit, max(1, MAX_BYTES // (pixels * (3 + 2 * len(_shown_starts(summary))))))
    return chosen_targets(cost_of(summary.result, summary.result.value).min(1).values, limit)


def text_rows(summary: SearchSummary) -> list[Texts]:
    """The texts of each shown target where sequences are decoded; else none."""
    if summary.result.objective.decoder.vocabulary is None:
        return []
    return [
        Texts(title=summary.target_names[t], remark=_missed(summary, t), lines=_lines(summary, t))
        for t in _shown_targets(summary)
    ]


def _missed(summary: SearchSummary, target: int) -> str:
    missed = summary.reproduction is not None and bool(summary.reproduction.missed[target])
    return "not reproduced" * missed


def _lines(summary: SearchSummary, target: int) -> list[TextLine]:
    result, decoder = summary.result, summary.result.objective.decoder
    targets, won = result.objective.targets, int(summary.best_index[1][target])
    typical = int(summary.best_typical_index[1][target])
    wanted = None if targets is None else targets[target].cpu()

    def line(what: str, value: Tensor | None, tokens: Tensor, against: Tensor | None, best: bool = False) -> TextLine:
        shown = "" if value is None else _value(value)
        return TextLine(what=what, value=shown, pieces=diff_tokens(decoder, tokens, against), won=best)

    found = [] if wanted is None else [line("target", None, wanted, None)]
    found.append(line("best", result.value[target, won], summary.decoded[target, won], wanted, True))
    if typical != won:
        found.append(line("best typical", result.value[target, typical], summary.decoded[target, typical], wanted))
    for start in _shown_starts(summary):
        name, ends = result.start_names[start], (summary.decoded0, summary.decoded)
        for what, value, tokens in zip(("start", "end"), (result.value0, result.value), ends, strict=True):
            best = start == won and what == "end"
            found.append(line(f"{what} {name}", value[target, start], tokens[target, start], wanted, best))
    return found


def chosen_targets(best: Tensor, limit: int) -> list[int]:
    """All targets in order, or evenly spaced ranks from the best value to the worst."""
    if len(best) <= limit:
        return list(range(len(best)))
    ranks = torch.linspace(0, len(best) - 1, limit).round().long()
    return [int(t) for t in best.argsort(stable=True)[ranks]]


def tiles(summary: SearchSummary, target: int, columns: list[int], images: Tensor | None) -> list[Tile]:
    """The pictures of one target: the target, best, best typical, then start and end of each start."""
    result, name = summary.result, summary.target_names[target]
    won, typical = int(summary.best_index[1][target]), int(summary.best_typical_index[1][target])

    def tile(image: Tensor, what: str, value: str, *, won: bool = False, edge: bool = False) -> Tile:
        return Tile(image=image, alt=f"{name}, {what} {value}".strip(), value=value, won=won, edge=edge)

    row = [] if images is None else [tile(images[target].double().cpu(), "target", "")]
    none_typical = bool(summary.best_typical.atypical[target])
    row.append(tile(summary.decoded[target, won], "best", _value(result.value[target, won])))
    value = "none typical" if none_typical else _value(result.value[target, typical])
    row.append(tile(summary.decoded[target, typical], "best typical", value))
    for start in columns:
        of, ends = result.start_names[start], (result.value0[target, start], result.value[target, start])
        row.append(tile(summary.decoded0[target, start], f"start {of}", _value(ends[0]), edge=True))
        row.append(tile(summary.decoded[target, start], f"end {of}", _value(ends[1]), won=start == won))
    return row


def _value(value: Tensor) -> str:
    return number(float(value), 3)
