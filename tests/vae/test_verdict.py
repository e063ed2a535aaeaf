"""The verdict on collapse: when it speaks and what it suggests."""

import pytest

from lso.vae.methods import METHODS, parse_method
from lso.vae.verdict import collapse_verdict


@pytest.mark.parametrize(
    ("active", "latent", "collapsed"), [(6, 32, True), (7, 32, False), (0, 2, True), (1, 5, False)]
)
def test_verdict_falls_below_a_fifth_of_the_latents(active: int, latent: int, collapsed: bool) -> None:
    assert bool(collapse_verdict(active, latent, "vae")) == collapsed


def test_verdict_counts_in_words_that_fit() -> None:
    none, one, two = (collapse_verdict(n, 32, "vae").partition(";")[0] for n in range(3))
    assert none == "Posterior collapse: none of 32 latent dimensions is active"
    assert one == "Posterior collapse: only 1 of 32 latent dimensions is active, so a search moves in few of them"
    assert two == "Posterior collapse: only 2 of 32 latent dimensions are active, so a search moves in few of them"


@pytest.mark.parametrize("name", METHODS)
def test_verdict_suggests_other_methods_that_exist(name: str) -> None:
    verdict = collapse_verdict(1, 32, name)
    assert verdict.startswith("Posterior collapse: only 1 of 32") and verdict.count("\n") == 0
    suggested = [
        word.strip(".,;") for word in verdict.split("try ")[1].split() if word.partition(":")[0].strip(",") in METHODS
    ]
    assert len(suggested) >= 3
    assert all(parse_method(text).name != name or name == "ne-vae-se" for text in suggested)
