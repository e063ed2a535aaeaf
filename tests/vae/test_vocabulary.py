"""Vocabularies."""

import subprocess
import sys

import pytest

from lso.vae.errors import UsageError
from lso.vae.vocabulary import END, PAD, SPECIALS, START, UNKNOWN, Vocabulary


def test_numbers_follow_the_order_of_the_tokens() -> None:
    words = Vocabulary.of(["b", "a", "b", "<unk>", "c"])
    assert words.tokens == (*SPECIALS, "b", "a", "c") and len(words) == 7
    assert words.encode(["a", "never", "<unk>", "b"]) == [START, 5, UNKNOWN, UNKNOWN, 4, END]
    assert (PAD, START, END, UNKNOWN) == (0, 1, 2, 3)


def test_what_is_known_comes_back() -> None:
    words = Vocabulary.of(["the", "cat", "sat"])
    numbers = words.encode(["the", "cat", "sat"])
    assert words.decode([*numbers, PAD, PAD]) == ["the", "cat", "sat"] and words.text(numbers) == "the cat sat"
    assert words.decode([START, 4, END, 5]) == ["the"] and words.decode([4, 5]) == ["the", "cat"]
    assert Vocabulary.of("abc", joiner="").text([1, 6, 4, 2]) == "ca"
    assert words.text([START, UNKNOWN, 4, END]) == "<unk> the" and words.text([START, END]) == ""


def test_the_hash_tells_order_and_joiner() -> None:
    one = Vocabulary.of("ab")
    assert one.hash() == Vocabulary.of("ab").hash() and one == Vocabulary.of("ab")
    assert (
        len({one.hash(), Vocabulary.of("ba").hash(), Vocabulary.of("ab", "").hash(), Vocabulary.of(["ab"]).hash()}) == 4
    )


def test_specials_come_first_and_nothing_twice() -> None:
    for tokens in (("a", "b"), (*SPECIALS, "a", "a"), ("a", *SPECIALS)):
        with pytest.raises(UsageError, match="distinct tokens that begins with <pad> <s> </s> <unk>"):
            Vocabulary(tokens)


def test_it_takes_no_torch() -> None:
    code = "import sys, lso.vae.vocabulary; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
