"""Is the decoder still what it was during the search? Codes that it found are decoded again.

A decoder that keeps something from call to call (a cache, running statistics, a counter) can answer two calls in a row
alike, so that `lso.decoders.decoder` sees nothing, and yet have answered otherwise when the search asked.
"""

import math
from collections.abc import Sequence

import torch

from lso.black_box.result import SearchResult
from lso.decoders.decoder import DecoderFinding, relative_gap, rounding_tolerance
from lso.results.evaluation import End, ends
from lso.results.result import Evaluation, Result

ROWS = 16  # calls decoded again, of the first and of the last asks each
LEAST = 4  # with fewer, a hash that rounding changed could be all there is
CHANGED = 0.75  # share of decoded data that differ; without an encoder rounding on another machine may change some
HINT = "Look for running statistics, caches or counters: the same code must decode alike at any time."


def values_again(result: Result) -> list[DecoderFinding]:
    """Whether the ends of a search by gradient still have the values that it recorded."""
    objective = result.objective
    with torch.no_grad():
        again = objective(result.z)
    gap = relative_gap(again, result.value)
    if gap <= rounding_tolerance(objective.decoder.dtype or result.value.dtype):
        return []
    seen = f"the same codes have other values now than at the end of the search, by {gap:.2g} relative"
    return [DecoderFinding("stateful", seen, HINT)]


def objects_again(result: SearchResult) -> list[DecoderFinding]:
    """Whether codes of a black-box search still decode to what it recorded; the score is not called."""
    asks: dict[int, list[Evaluation]] = {}
    for record in result.records:
        asks.setdefault(int(record.ask or 0), []).append(record)
    whole = list(asks.values())[:-1] or list(asks.values())  # the last one may have been cut
    for name, order in (("first", whole), ("last", whole[::-1])):
        rows = changed = 0
        for records in order:
            if rows < ROWS:
                rows, changed = rows + len(records), changed + _changed(result, records)
        if rows >= LEAST and changed > CHANGED * rows:
            seen = f"{changed} of the {name} {rows} codes decode now to something else than during the search"
            return [DecoderFinding("stateful", seen, HINT)]
    return []


def _changed(result: SearchResult, records: Sequence[Evaluation]) -> int:
    """How many codes of an ask decode to something else; all of it together, as then, or rounding would differ."""
    z = torch.tensor([record.z for record in records], dtype=torch.float64)
    found, decoder = ends(result.objective, z), result.objective.decoder
    allowed = rounding_tolerance(decoder.dtype or torch.float32)
    return sum(_differs(end, record, allowed) for end, record in zip(found, records, strict=True))


def _differs(end: End, record: Evaluation, allowed: float) -> bool:
    """Whether a code decodes to something else, and not merely to other last digits.

    On another machine, or with other threads, rounding changes the hash of nearly every large picture. What the encoder
    makes of it tells how far it changed, where there is an encoder.
    """
    if end.decoded_hash == record.decoded_hash:
        return False
    now, then = end.reencoding_error, record.reencoding_error
    return now is None or then is None or not math.isclose(now, then, rel_tol=allowed)
