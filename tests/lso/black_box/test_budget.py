"""The accounts, by hand-made records."""

from dataclasses import replace
from itertools import permutations

import pytest
import torch

from lso.black_box.budget import Ledger, SearchLimits
from lso.results.result import Evaluation


def record(call: int, outcome: str = "evaluated", duplicate_of: int | None = None, reason: str = "") -> Evaluation:
    return Evaluation(
        z=[0.0],
        decoded_hash=str(call),
        value=1.0 if outcome == "evaluated" else float("nan"),
        valid=outcome == "evaluated",
        duplicate_of=duplicate_of,
        norm_percentile=0.5,
        reencoding_error=None,
        seconds=0.0,
        call=call,
        ask=0,
        outcome=outcome,
        reason=reason,
    )


def ledger(*words: str) -> Ledger:
    """``d``: a duplicate; else the outcome's first letter."""
    full = {"e": "evaluated", "i": "invalid", "f": "failed", "t": "timed_out", "l": "lost"}
    found = Ledger()
    for call, word in enumerate(words):
        row = record(call, duplicate_of=0) if word == "d" else record(call, full[word], reason="because.")
        found.add(row, str(call))
    return found


def test_counters_add_up() -> None:
    found = ledger(*"eeddifttl").counters()
    assert found == {"calls": 9, "unique": 2, "duplicate": 2, "invalid": 1, "failed": 2, "timed_out": 2}
    assert found["calls"] == sum(value for key, value in found.items() if key != "calls")


@pytest.mark.parametrize(
    ("words", "limits", "status"),
    [
        ("ee", SearchLimits(budget=2, max_calls=20), "finished"),
        ("edd", SearchLimits(budget=2, max_calls=20, patience=2), "decoder_ignores_latent"),
        ("eii", SearchLimits(budget=2, max_calls=20, patience=2), "invalid"),
        ("eidid", SearchLimits(budget=2, max_calls=5), "invalid"),
        ("eft", SearchLimits(budget=2, max_calls=20, patience=2), "failed"),
        ("ell", SearchLimits(budget=2, max_calls=20, patience=2), "failed"),
        ("eddd", SearchLimits(budget=2, max_calls=4), "decoder_ignores_latent"),
        ("dded", SearchLimits(budget=2, max_calls=4), "decoder_ignores_latent"),
        ("eeed", SearchLimits(budget=9, max_calls=4), "max_calls"),
        ("dde", SearchLimits(budget=2, max_calls=20, patience=2), ""),
    ],
)
def test_status_says_what_ended_the_search(words: str, limits: SearchLimits, status: str) -> None:
    end = ledger(*words).end_status(limits)
    assert (end[0] if end else "") == status
    assert end is None or (end[1].endswith(".") and ".." not in end[1] and "  " not in end[1])


def test_sentences_count_and_give_the_reason() -> None:
    kind, sentence = ledger(*"efttd").end_status(SearchLimits(budget=2, max_calls=20, patience=4)) or ("", "")
    assert kind == "failed" and "Of the last 4 calls of the score, 3 failed" in sentence and "because." in sentence
    kind, sentence = ledger(*"eddd").end_status(SearchLimits(budget=2, max_calls=4)) or ("", "")
    assert "All 4 calls were made, for 1 of 2 unique valid objects." in sentence and "of the last 4 codes" in sentence


@pytest.mark.parametrize("patience", [4, 200])
def test_who_mends_the_score_is_told_what_resuming_takes(patience: int) -> None:
    """Calls that failed count: where they were all that there may be, resuming alone would end at once."""
    _, spent = ledger(*"efft").end_status(SearchLimits(budget=2, max_calls=4, patience=patience)) or ("", "")
    assert spent.endswith("and resume with a larger max_calls.")
    _, early = ledger(*"efft").end_status(SearchLimits(budget=2, max_calls=40, patience=2)) or ("", "")
    assert early.endswith("or raise the timeout, and resume.")


def test_accounts_do_not_depend_on_the_order_in_which_calls_end() -> None:
    rows = [record(0), record(1, duplicate_of=0), record(2), record(3, "invalid"), record(4, duplicate_of=2)]
    for order in permutations(rows):
        found = Ledger()
        for row in order:
            found.add(row, str(row.call))
        assert found.unique == 2 and sorted(int(row.call or 0) for row in found.idle) == [3, 4]


def test_lost_object_is_not_known() -> None:
    found = Ledger()
    found.add(record(0, "lost"), "a")
    assert found.known == {}
    found.add(record(1), "a")
    found.add(record(2, duplicate_of=1), "a")
    assert found.known["a"].call == 1


def test_a_smaller_budget_than_was_spent_is_said() -> None:
    ends = [ledger(*"eee").end_status(SearchLimits(budget=budget, max_calls=20)) for budget in (3, 2)]
    assert [end and end[1] for end in ends] == [
        "The budget of 3 unique valid objects is spent.",
        "The budget of 2 unique valid objects is spent: 3 were scored.",
    ]


def test_failures_get_another_chance_and_collapse_does_not() -> None:
    limits = SearchLimits(budget=5, max_calls=50, patience=3)
    failed, collapsed = ledger(*"efff"), ledger(*"eddd")
    for one in (failed, collapsed):
        assert one.end_status(limits) is not None
        one.retry()
    assert failed.end_status(limits) is None and collapsed.end_status(limits) is not None


@pytest.mark.parametrize(
    ("first", "spread", "status"),
    [
        ("distinct", 0.01, "stands_still"),
        ("distinct", 1.0, "decoder_ignores_latent"),
        ("equal", 0.01, "decoder_ignores_latent"),
    ],
)
def test_a_search_that_stands_still_is_told_from_a_decoder_that_ignores_its_latent(
    first: str, spread: float, status: str
) -> None:
    found = Ledger()
    z = torch.randn(60, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for call, code in enumerate(z):
        fresh = call == 0 or (call < 20 and first == "distinct")
        row = replace(
            record(call, duplicate_of=None if fresh else 0), z=(code if call < 20 else spread * code).tolist()
        )
        found.add(row, str(call if fresh else 0))
    end = found.end_status(SearchLimits(budget=100, max_calls=1000, patience=40))
    assert end is not None and end[0] == status
