"""What tells decoded objects apart."""

from dataclasses import dataclass

import numpy as np
import pytest

from lso.results.evaluation import digest, unaddressed
from lso.vae.errors import UsageError


@dataclass
class Told:
    text: str


class Untold:
    pass


def test_equal_objects_have_one_digest_and_others_another() -> None:
    assert digest(Told("a")) == digest(Told("a")) != digest(Told("b"))
    assert digest(np.ones(3)) == digest(np.ones(3)) != digest(np.zeros(3))
    assert digest("made at 0x7f") == digest("made at 0x7f") != digest("made")  # a string may well hold an address


def test_objects_that_show_an_address_are_refused_since_equal_ones_would_differ() -> None:
    for item in (Untold(), (1, [Untold()]), lambda: 0):
        with pytest.raises(UsageError, match="cannot be told apart"):
            digest(item)


def test_functions_are_named_alike_in_every_process() -> None:
    assert unaddressed(digest).startswith("<function digest") and "0x" not in unaddressed(digest)
    assert unaddressed(0.5) == "0.5"
