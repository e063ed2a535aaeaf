"""Sequences from codes: functions of code and seed, whatever the batch."""

from typing import Any

import pytest
import torch

from lso.decoders import generation
from lso.decoders.decoder import Decoder
from lso.decoders.generation import Generation, generate_sequences, vocabulary_of
from lso.vae.errors import UsageError
from lso.vae.vocabulary import END, PAD, START
from tests.lso.example_decoders import planted
from tests.vae.sequence_models import LATENT, LONGEST, codes, tiny

WAYS = [
    Generation(),
    Generation(how="beam", beam_width=3),
    Generation(how="sample", temperature=0.7, top_p=0.9),
    Generation(how="sample", common=False, seed=1),
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.told())
@pytest.mark.parametrize("variant", ["lstm", "transformer"])
def test_texts_are_functions_of_the_code_whatever_the_batch(
    way: Generation, variant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny(variant).eval()
    z, seen = 4 * codes(model, 9), list[tuple[int, int]]()
    whole = generate_sequences(model, z, way)
    assert whole.shape == (9, LONGEST) and bool((whole[:, 0] == START).all())
    assert bool(((whole == END).sum(1) == 1).all()) and len(torch.unique(whole, dim=0)) > 1
    monkeypatch.setattr(generation, "MAX_CODES_PER_PASS", 4)
    assert torch.equal(generate_sequences(model, z, way, lambda *at: seen.append(at)), whole)
    assert seen == [(4, 9), (8, 9), (9, 9)]


def test_a_beam_of_one_is_greedy_and_uniforms_are_common_or_own() -> None:
    model = tiny().eval()
    z = codes(model, 6)
    assert torch.equal(generate_sequences(model, z, Generation(how="beam", beam_width=1)), generate_sequences(model, z))
    same = z[:1].expand(6, -1)
    assert len(torch.unique(generate_sequences(model, same, Generation(how="sample")), dim=0)) == 1
    assert len(torch.unique(generate_sequences(model, same, Generation(how="sample", common=False)), dim=0)) > 1
    assert generate_sequences(model, z[:0]).shape == (0, LONGEST)


def test_a_model_without_vocabulary_speaks_in_numbers() -> None:
    model = tiny().eval()
    words = vocabulary_of(model)
    assert words.text([START, 5, 6, END, PAD]) == "5 6"
    texts = Decoder(model, generation=Generation(how="sample"))(torch.zeros(2, 2, LATENT))
    assert isinstance(texts, list) and len(texts) == 4 and len(set(texts)) == 1


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"temperature": 0.5}, "temperature belongs to decoding by sample, and this is decoding by greedy"),
        ({"how": "sample", "beam_width": 2}, "beam_width belongs to decoding by beam"),
        ({"how": "sample", "temperature": 0.0}, "temperature > 0"),
        ({"how": "sample", "top_p": 1.5}, "0 < top_p <= 1"),
        ({"how": "beam", "beam_width": 0}, "beam width >= 1"),
    ],
)
def test_ways_that_are_none_are_refused(values: dict[str, Any], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        Generation(**values)


def test_a_generation_is_of_sequences() -> None:
    with pytest.raises(UsageError, match="generation is for VAEs of sequences"):
        Decoder(planted().model, generation=Generation())
    told = Generation(how="sample", temperature=0.5, top_p=0.9)
    assert told.told() == "samples from uniforms common to all codes, temperature 0.5, the likeliest 90 %"
    assert told.record() == {"how": "sample", "temperature": 0.5, "top_p": 0.9, "uniforms": "common"}
