"""What tells decoded objects apart."""

from dataclasses import dataclass

import numpy as np
import pytest

from lso.results.evaluation import content_hash, repr_without_address
from lso.vae.errors import UsageError


@dataclass
class Told:
    text: str


class Untold:
    pass


def test_equal_objects_have_one_digest_and_others_another() -> None:
    assert content_hash(Told("a")) == content_hash(Told("a")) != content_hash(Told("b"))
    assert content_hash(np.ones(3)) == content_hash(np.ones(3)) != content_hash(np.zeros(3))
    assert (
        content_hash("made at 0x7f") == content_hash("made at 0x7f") != content_hash("made")
    )  # a string may well hold an address


def test_objects_that_show_an_address_are_refused_since_equal_ones_would_differ() -> None:
    for item in (Untold(), (1, [Untold()]), lambda: 0):
        with pytest.raises(UsageError, match="cannot be told apart"):
            content_hash(item)


def test_functions_are_named_alike_in_every_process() -> None:
    assert repr_without_address(content_hash).startswith("<function content_hash") and "0x" not in repr_without_address(
        content_hash
    )
    assert repr_without_address(0.5) == "0.5"
