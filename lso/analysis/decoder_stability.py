"""Whether the decoder still decodes codes as it did during the search.

A decoder that keeps state between calls (a cache, running statistics, a counter) can answer two calls in a row
alike, which passes the checks of `lso.decoders.decoder`, and yet have answered otherwise during the search.
"""

import math
from collections.abc import Sequence

import torch

from lso.black_box.result import SearchResult
from lso.decoders.decoder import DecoderFinding, relative_gap, rounding_tolerance
from lso.results.evaluation import DecodedCode, decode_codes
from lso.results.result import Evaluation, Result

CALLS_CHECKED = 16  # calls decoded again among the first asks, and as many among the last
MIN_CALLS = 4  # with fewer, all hashes that differ could differ by rounding
CHANGED_SHARE = (
    0.75  # share of decoded data that differ; without an encoder rounding on another machine may change some
)
HINT = "Look for running statistics, caches or counters: a code must decode to the same datum at any time."


def recheck_values(result: Result) -> list[DecoderFinding]:
    """Evaluate the ends of a gradient search again and report if their values changed."""
    objective = result.objective
    with torch.no_grad():
        again = objective(result.z)
    gap = relative_gap(again, result.value)
    if gap <= rounding_tolerance(objective.decoder.dtype or result.value.dtype):
        return []
    seen = f"the codes found have other values now than at the end of the search (relative difference {gap:.2g})"
    return [DecoderFinding("stateful", seen, HINT)]


def recheck_objects(result: SearchResult) -> list[DecoderFinding]:
    """Decode codes of a black-box search again and report if most decode to something else; no score is called."""
    asks: dict[int, list[Evaluation]] = {}
    for record in result.records:
        asks.setdefault(int(record.ask or 0), []).append(record)
    whole = list(asks.values())[:-1] or list(asks.values())  # the last ask may have been interrupted
    for name, order in (("first", whole), ("last", whole[::-1])):
        rows = changed = 0
        for records in order:
            if rows < CALLS_CHECKED:
                rows, changed = rows + len(records), changed + _changed(result, records)
        if rows >= MIN_CALLS and changed > CHANGED_SHARE * rows:
            seen = f"{changed} of the {name} {rows} codes now decode to something else than during the search"
            return [DecoderFinding("stateful", seen, HINT)]
    return []


def _changed(result: SearchResult, records: Sequence[Evaluation]) -> int:
    """Number of codes of an ask that now decode to something else."""
    # The whole ask is decoded as one batch, as during the search: in another batch rounding would differ.
    z = torch.tensor([record.z for record in records], dtype=torch.float64)
    found, decoder = decode_codes(result.objective, z), result.objective.decoder
    allowed = rounding_tolerance(decoder.dtype or torch.float32)
    return sum(_differs(end, record, allowed) for end, record in zip(found, records, strict=True))


def _differs(end: DecodedCode, record: Evaluation, allowed: float) -> bool:
    """Whether a code now decodes to something else, beyond rounding.

    On another machine, or with other threads, rounding changes the hash of nearly every large picture. Where there is
    an encoder, the change of the re-encoding error tells how far the picture changed.
    """
    if end.decoded_hash == record.decoded_hash:
        return False
    now, then = end.reencoding_error, record.reencoding_error
    return now is None or then is None or not math.isclose(now, then, rel_tol=allowed)
