"""Decoding against enumeration of a tiny model, and against a scripted decoder whose answers are known."""

import math
from collections import Counter
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from lso.vae.errors import UsageError
from lso.vae.models.sequence_decoding import CHECK_INTERVAL, beam_search, decode_greedily, sample_tokens
from lso.vae.models.vae import VAE
from lso.vae.utils.random import generator
from lso.vae.vocabulary import END, PAD, START
from tests.vae.sequence_models import LONGEST, WORDS, codes, everything, forced, tiny

Adjust = Callable[[list[float]], list[float]]


class Scripted:
    """Says word 4 until a code's own count of tokens is made, and counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def begin(self, z: Tensor) -> tuple[Tensor, ...]:
        return (torch.zeros(len(z), dtype=torch.int64),)

    def advance(self, state: tuple[Tensor, ...], token: Tensor, z: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        self.calls += 1
        made = state[0] + 1
        logits = torch.zeros(len(z), WORDS)
        logits[:, [PAD, START]] = 90.0  # never to be drawn
        logits[:, 4] = 30.0
        logits[made > z[:, 0], END] = 60.0
        return logits, (made,)


def trees(made: VAE, z: Tensor, adjust: Adjust) -> list[float]:
    """Log-probability of each of `everything`, the distribution of each token changed by ``adjust``."""
    x, found = everything(), []
    logits = forced(made, z.expand(len(x), -1), x)
    for sequence, at in zip(x.tolist(), logits, strict=True):
        log_p = 0.0
        for t, token in enumerate(sequence[1 : LONGEST - 1]):  # the end at the limit is given
            if token != PAD:
                p = adjust(at[t].tolist())[token]
                log_p += math.log(p) if p else -math.inf
        found.append(log_p)
    return found


def softmax(logits: list[float]) -> list[float]:
    """All words, those that may not be drawn too."""
    return [math.exp(value) / sum(map(math.exp, logits)) for value in logits]


def allowed(logits: list[float], temperature: float = 1.0, top_p: float = 1.0) -> list[float]:
    """Probabilities of the words that may be drawn, by the textbook."""
    weights = [0.0 if word in (PAD, START) else math.exp(value / temperature) for word, value in enumerate(logits)]
    p = [weight / sum(weights) for weight in weights]
    kept: list[int] = []
    for word in sorted(range(len(p)), key=lambda word: -p[word]):
        if sum(p[other] for other in kept) < top_p:
            kept.append(word)
    inside = sum(p[word] for word in kept)
    return [value / inside if word in kept else 0.0 for word, value in enumerate(p)]


@pytest.mark.parametrize("variant", ["lstm", "transformer"])
@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.6, 1.0), (1.7, 0.7)])
def test_sequences_are_drawn_as_often_as_they_are_likely(variant: str, temperature: float, top_p: float) -> None:
    made, n = tiny(variant).eval(), 20_000
    z = codes(made, 1)
    p = [math.exp(value) for value in trees(made, z, lambda logits: allowed(logits, temperature, top_p))]
    assert sum(p) == pytest.approx(1, abs=1e-9)
    noise = torch.rand(n, LONGEST, generator=generator(0, "decoding"), dtype=torch.float64)
    drawn = sample_tokens(made.stepwise, z.expand(n, -1), noise, temperature, top_p)
    counts = Counter(tuple(row + [PAD] * (LONGEST - len(row))) for row in drawn.tolist())
    names = [tuple(row) for row in everything().tolist()]
    assert set(counts) <= {name for name, share in zip(names, p, strict=True) if share > 0}
    # Pearson's statistic over those expected at least 5 times, the rest as one: mean df, variance 2 df.
    often = [i for i, share in enumerate(p) if n * share >= 5]
    pairs = [(counts[names[i]], n * p[i]) for i in often]
    pairs.append((n - sum(a for a, _ in pairs), n - sum(b for _, b in pairs)))
    statistic = sum((a - b) ** 2 / b for a, b in pairs if b > 1e-6)
    df = sum(b > 1e-6 for _, b in pairs) - 1
    assert df >= 3 and abs(statistic - df) < 4 * math.sqrt(2 * df)


@pytest.mark.parametrize("variant", ["lstm", "lstm of 2 layers", "transformer"])
def test_a_beam_of_one_is_greedy(variant: str) -> None:
    made = tiny(variant, longest=14).eval()
    z = 2 * codes(made, 20)
    one, other = beam_search(made.stepwise, z, 1, 14), decode_greedily(made.stepwise, z, 14)
    assert torch.equal(one, other) and len(set(map(tuple, one.tolist()))) > 3


@pytest.mark.parametrize("variant", ["lstm", "transformer"])
@pytest.mark.parametrize("penalty", [0.0, 0.8])
def test_a_wide_beam_finds_the_best_of_all_sequences(variant: str, penalty: float) -> None:
    made = tiny(variant, spread=0.5).eval()
    z, x = 2 * codes(made, 6), everything()
    found, wanted, narrow = (
        beam_search(made.stepwise, z, 70, LONGEST, penalty),
        [],
        beam_search(made.stepwise, z, 1, LONGEST, penalty),
    )
    for code in z:
        log_p = torch.tensor(trees(made, code[None], softmax))
        rank = log_p / (x[:, 1:] != PAD).sum(1) ** penalty
        wanted.append(x[rank.argmax()])
    best = torch.stack(wanted)
    assert torch.equal(torch.nn.functional.pad(found, (0, LONGEST - found.shape[1])), best)
    assert not torch.equal(torch.nn.functional.pad(narrow, (0, LONGEST - narrow.shape[1])), best)


def by_hand(made: VAE, code: Tensor, width: int, longest: int) -> list[int]:
    """A beam search that keeps lists and decodes every prefix anew."""
    beams = [(0.0, [START])]
    for _ in range(longest - 2):
        found = [beam for beam in beams if beam[1][-1] == END]
        for score, prefix in beams:
            if prefix[-1] != END:
                log_p = forced(made, code, torch.tensor([[*prefix, END]]))[0, -1].log_softmax(-1).tolist()
                found += [(score + log_p[word], [*prefix, word]) for word in range(WORDS) if word not in (PAD, START)]
        beams = sorted(found, reverse=True)[:width]
    best = beams[0][1]
    return best if best[-1] == END else [*best, END]


@pytest.mark.parametrize("variant", ["lstm of 2 layers", "transformer"])
def test_a_narrow_beam_is_the_textbooks(variant: str) -> None:
    made = tiny(variant, skip=True, longest=9).eval()
    z = 2 * codes(made, 6)
    found = beam_search(made.stepwise, z, 3, 9)
    wanted = [by_hand(made, code[None], 3, 9) for code in z]
    assert [row[: len(best)] for row, best in zip(found.tolist(), wanted, strict=True)] == wanted


@pytest.mark.parametrize("how", ["greedy", "sample", "beam"])
def test_all_stops_soon_after_the_last_has_ended(how: str) -> None:
    decoder, z = Scripted(), torch.tensor([[3.0], [0.0], [9.0]])
    made = {
        "greedy": lambda: decode_greedily(decoder, z, 1000),
        "sample": lambda: sample_tokens(decoder, z, torch.rand(3, 1000, generator=generator(0, "noise"))),
        "beam": lambda: beam_search(decoder, z, 2, 1000),
    }[how]()
    assert made.tolist() == [[START, *[4] * k, END, *[PAD] * (9 - k)] for k in (3, 0, 9)]
    assert 10 <= decoder.calls < 10 + CHECK_INTERVAL


class Late:
    """Two sequences: one that ends at once, and one of 30 tokens that is unlikely up to the ninth and certain then."""

    def begin(self, z: Tensor) -> tuple[Tensor, ...]:
        return (torch.zeros(len(z), dtype=torch.int64),)

    def advance(self, state: tuple[Tensor, ...], token: Tensor, z: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        made = int(state[0][0]) + 1
        p = (
            {4: 0.7, END: 0.3}
            if made == 1
            else {4: 0.2, PAD: 0.8}
            if made < 10
            else {4: 1.0}
            if made < 30
            else {END: 1}
        )
        return torch.tensor([[p.get(word, 1e-30) for word in range(WORDS)]]).log().expand(len(z), -1), (state[0] + 1,)


def test_under_a_penalty_a_long_sequence_may_overtake_one_that_has_ended() -> None:
    # Over the tokens of each: log 0.3 = -1.2 at once; -1.45 at the first look at what has ended, -0.44 in the end.
    z = torch.zeros(1, 1)
    assert beam_search(Late(), z, 2, 100, length_penalty=1.0).tolist() == [[START, *[4] * 29, END]]
    assert beam_search(Late(), z, 2, 100).tolist() == [[START, END]]


@pytest.mark.parametrize("longest", [2, 3, 4, 11])
def test_what_does_not_end_is_ended_at_the_limit(longest: int) -> None:
    z = torch.tensor([[3.0], [0.0], [900.0]])
    wanted = [[START, *[4] * min(k, longest - 2), END] for k in (3, 0, 900)]
    noise = torch.rand(3, longest, generator=generator(0, "noise"))
    for made in (
        decode_greedily(Scripted(), z, longest),
        sample_tokens(Scripted(), z, noise),
        beam_search(Scripted(), z, 3, longest),
    ):
        assert made.tolist() == [row + [PAD] * (longest - len(row)) for row in wanted]


def test_no_codes_make_no_sequences() -> None:
    for variant in ("lstm", "transformer"):
        made = tiny(variant).eval()
        z = codes(made, 0)
        assert all(
            len(found) == 0 for found in (decode_greedily(made.stepwise, z, 9), beam_search(made.stepwise, z, 3, 9))
        )
        assert len(sample_tokens(made.stepwise, z, torch.rand(0, 9))) == 0


def test_a_draw_is_a_function_of_its_own_code_and_uniforms() -> None:
    made = tiny("transformer", longest=20).eval()
    z, noise = codes(made, 8), torch.rand(8, 20, generator=generator(0, "noise"), dtype=torch.float64)
    together = sample_tokens(made.stepwise, z, noise)
    assert torch.equal(together, sample_tokens(made.stepwise, z, noise))
    for i in range(8):
        alone = sample_tokens(made.stepwise, z[i : i + 1], noise[i : i + 1])
        assert torch.equal(alone[0], together[i, : alone.shape[1]]) and bool(
            (together[i, alone.shape[1] :] == PAD).all()
        )


def test_a_cold_or_narrow_draw_is_greedy() -> None:
    made = tiny(longest=12).eval()
    z, noise = codes(made, 10), torch.rand(10, 12, generator=generator(0, "noise"))
    wanted = decode_greedily(made.stepwise, z, 12)
    assert torch.equal(sample_tokens(made.stepwise, z, noise, temperature=1e-4), wanted)
    assert torch.equal(sample_tokens(made.stepwise, z, noise, top_p=1e-4), wanted)


def test_generate_is_these() -> None:
    made = tiny().eval()
    z, noise = codes(made, 5), torch.rand(LONGEST, generator=generator(0, "noise"))
    assert torch.equal(made.generate(z, "greedy"), decode_greedily(made.stepwise, z, LONGEST))
    assert torch.equal(made.generate(z, "sample", noise), sample_tokens(made.stepwise, z, noise.double().expand(5, -1)))
    assert torch.equal(made.generate(z, "sample"), made.generate(z, "sample"))
    with pytest.raises(UsageError, match="sequences have no mean"):
        made.generate(z)


def test_values_out_of_range_are_refused() -> None:
    decoder, z = Scripted(), torch.zeros(1, 1)
    for temperature in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(UsageError, match="temperature > 0"):
            sample_tokens(decoder, z, torch.rand(1, 5), temperature=temperature)
    for top_p in (0.0, 1.1, math.nan):
        with pytest.raises(UsageError, match="top_p <= 1"):
            sample_tokens(decoder, z, torch.rand(1, 5), top_p=top_p)
    with pytest.raises(UsageError, match="width >= 1"):
        beam_search(decoder, z, 0, 5)
    with pytest.raises(UsageError, match="length penalty >= 0"):
        beam_search(decoder, z, 1, 5, length_penalty=-1.0)
    with pytest.raises(UsageError, match="longest >= 2"):
        decode_greedily(decoder, z, 1)
    with pytest.raises(UsageError, match="longest >= 2"):
        beam_search(decoder, z, 2, 0)
    with pytest.raises(UsageError, match="longest >= 2"):
        sample_tokens(decoder, z, torch.rand(1, 1))
