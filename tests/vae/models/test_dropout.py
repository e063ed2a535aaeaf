"""Dropout by uniforms that are handed in."""

from typing import Any

import pytest
import torch

from lso.vae.config.methods import method
from lso.vae.errors import UsageError
from lso.vae.models.dropout import Dropout, WordDropout, uniform_shapes, use_dropout_noise
from lso.vae.training import step
from lso.vae.utils.random import generator
from lso.vae.vocabulary import START, UNKNOWN
from tests.vae.sequence_models import codes, mixed, padded, tiny, uniforms

N = 400


def noise(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=generator(0, "u"))


def test_a_share_is_dropped_and_the_rest_is_raised() -> None:
    module = Dropout(0.3, 50)
    with use_dropout_noise(module, [noise(N, 5, 50)]):
        h = module(torch.ones(N, 5, 50))
    n = h.numel()
    # Binomial: 4 deviations.
    assert abs((h == 0).float().mean() - 0.3) < 4 * (0.3 * 0.7 / n) ** 0.5
    torch.testing.assert_close(h.unique(), torch.tensor([0.0, 1 / 0.7]))


def test_words_are_dropped_to_unknown_but_not_the_start() -> None:
    module, tokens = WordDropout(0.4), torch.full((N, 20), 9)
    tokens[:, 0] = START
    with use_dropout_noise(module, [noise(N, 20)]):
        found = module(tokens)
    assert bool((found[:, 0] == START).all()) and found.unique().tolist() == [START, UNKNOWN, 9]
    assert abs((found[:, 1:] == UNKNOWN).float().mean() - 0.4) < 4 * (0.4 * 0.6 / (19 * N)) ** 0.5


def test_nothing_is_dropped_in_eval_mode_or_at_share_0() -> None:
    h = torch.randn(2, 3, 4)
    assert Dropout(0.5, 4).eval()(h) is h and Dropout(0.0, 4)(h) is h
    tokens = torch.full((2, 3), 9)
    assert WordDropout(0.5).eval()(tokens) is tokens and WordDropout(0.0)(tokens) is tokens


def test_copies_of_a_batch_share_their_uniforms() -> None:
    module, h = Dropout(0.5, 4), torch.ones(3, 2, 4)
    with use_dropout_noise(module, [noise(3, 2, 4)]):
        assert torch.equal(module(h.repeat(4, 1, 1)), module(h).repeat(4, 1, 1))


@pytest.mark.parametrize("variant", ["lstm of 2 layers", "transformer"])
def test_a_models_dropout_is_a_function_of_its_uniforms(variant: str) -> None:
    made, x = tiny(variant), padded(mixed())
    z, u = codes(made, len(x)), uniforms(made, x)
    shapes = uniform_shapes(made, tuple(x.shape))
    assert [tuple(part.shape) for part in u] == list(shapes) and (len(x), x.shape[1] - 1) in shapes  # the word drop's

    def value(used: list[torch.Tensor]) -> torch.Tensor:
        with use_dropout_noise(made, used):
            return made.decode(z, x).log_prob(x)

    assert torch.equal(value(u), value(u))
    for i in range(len(u)):
        other = [1 - part if j == i else part for j, part in enumerate(u)]
        assert not torch.allclose(value(other), value(u))
    kept = value([torch.ones_like(part) for part in u])  # nothing dropped, yet raised
    assert not torch.allclose(kept, made.eval().decode(z, x).log_prob(x))


def test_dropout_without_uniforms_or_with_too_few_is_an_error() -> None:
    made, x = tiny(), padded(mixed())
    z, u = codes(made, len(x)), uniforms(made, x)
    with pytest.raises(UsageError, match="without its uniforms"):
        made.decode(z, x)
    with pytest.raises(ValueError, match="zip"), use_dropout_noise(made, u[:-1]):
        pass
    for _ in range(2):  # they are gone after either
        with pytest.raises(UsageError, match=r"model\.eval\(\)"):
            made.decode(z, x)
        with use_dropout_noise(made, u):
            made.decode(z, x)


def test_each_dropout_of_a_step_has_uniforms_of_its_own() -> None:
    made = tiny("lstm of 2 layers")
    options: dict[str, Any] = {"binarize": False, "seed": 0, "device": torch.device("cpu")}
    one, two, inner = (
        step.draw_noise(method("vae"), made, (3, 6), step=at, inner=within, **options).dropout
        for at, within in ((0, 0), (1, 0), (0, 1))
    )
    parts = [part.flatten()[:15] for noise in (one, two, inner) for part in noise]
    # Of the words, the embeddings and the last output.
    assert len(one) == 3 and len({tuple(part.tolist()) for part in parts}) == 9
