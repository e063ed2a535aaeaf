"""Tokenizers and what joins their tokens again; packing against a loop over tokens; vocabularies."""

import random
from collections import Counter
from pathlib import Path

import pytest
import torch

from lso.tasks.datasets.packing import TokenTypes, encode_lines, pack, renumber, token_frequencies
from lso.tasks.datasets.tokenizers import TOKENIZERS, choose_joiner, tokenize_lines, tokenizer
from lso.tasks.datasets.vocabulary import commonest_tokens, read_vocabulary
from lso.vae.errors import DataError, UsageError
from lso.vae.vocabulary import END, START, UNKNOWN, Vocabulary

LINES = ["the cat sat", "a  cat", "the dog"]


def pairs(text: str) -> list[str]:
    """Two characters a token."""
    return [text[i : i + 2] for i in range(0, len(text), 2)]


@pytest.mark.parametrize("name", TOKENIZERS)
def test_decoded_text_reads_as_the_original(name: str) -> None:
    chosen = tokenizer(name)
    lines = ["the cat , it sat .", "naïve 日本"]
    joiner, exact = choose_joiner(chosen, lines)
    assert exact
    vocabulary = Vocabulary.of((token for found in tokenize_lines(lines, chosen) for token in found), joiner)
    corpus, unknown = encode_lines(lines, vocabulary, chosen)
    assert [vocabulary.text(row) for row in corpus.padded().tolist()] == lines
    assert unknown.tolist() == [0, 0]


def test_a_function_of_the_user_s_is_imported_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_splitter.py").write_text(
        "def halves(text):\n    return [text[:2], text[2:]]\nhalves.joiner = ''\n"
    )
    monkeypatch.chdir(tmp_path)
    chosen = tokenizer("own_splitter:halves")
    assert (chosen.name, chosen.joiner, chosen.split("abc")) == ("own_splitter:halves", "", ["ab", "c"])


def test_a_function_itself_has_a_name_that_can_be_imported_again() -> None:
    chosen = tokenizer(pairs)
    assert tokenizer(chosen.name).split is pairs


def test_the_joiner_of_a_function_is_found_from_the_text() -> None:
    assert choose_joiner(tokenizer(pairs), LINES) == ("", True)
    assert choose_joiner(tokenizer(str.split), LINES) == (" ", False)  # two spaces
    assert choose_joiner(tokenizer(lambda text: text.upper().split()), ["b a", "a b"])[1] is False


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("wrods", "unknown tokenizer 'wrods'\nDid you mean 'words'"),
        ("no_such_module:f", "cannot import the tokenizer no_such_module:f: No module"),
        ("os:no_such_function", "cannot import the tokenizer os:no_such_function"),
        ("os:sep", "the tokenizer os:sep is not a function"),
    ],
)
def test_a_wrong_name_is_told(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        tokenizer(name)


@pytest.mark.parametrize("wrong", [lambda text: 1 / 0, lambda text: None, lambda text: text, lambda text: [1]])
def test_a_function_that_fails_or_gives_no_strings_is_told(wrong: object) -> None:
    with pytest.raises(UsageError, match=r"the tokenizer .*lambda.* (failed|returned).*\nA tokenizer takes a text"):
        pack(["a"], tokenizer(wrong), TokenTypes())  # type: ignore[arg-type]


def test_packed_lines_are_those_of_a_loop_over_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lso.tasks.datasets.packing.CHUNK_LINES", 7)
    rng = random.Random(0)
    lines = [" ".join(rng.choices(["a", "b", "<unk>", "zz", "</s>", "<pad>"], k=rng.randrange(5))) for _ in range(40)]
    vocabulary = Vocabulary.of(["b", "a"])
    corpus, unknown = encode_lines(lines, vocabulary, tokenizer("words"))
    known = {"b": 4, "a": 5}
    expected = [[START, *(known.get(token, UNKNOWN) for token in line.split()), END] for line in lines]
    assert corpus.lengths.tolist() == [len(row) for row in expected]
    assert corpus.tokens.tolist() == [number for row in expected for number in row]
    assert unknown.tolist() == [row.count(UNKNOWN) for row in expected]


def test_a_part_is_numbered_without_the_rest() -> None:
    types = TokenTypes()
    corpus = pack(["a b", "c", "b d"], tokenizer("words"), types)[torch.tensor([2, 0])]
    found = renumber(corpus, types.table(Vocabulary.of(["b"])))
    assert found.tokens.tolist() == [START, 4, UNKNOWN, END, START, UNKNOWN, 4, END]
    assert token_frequencies(corpus, 8).tolist() == [0, 2, 2, 0, 1, 2, 0, 1]


def test_the_commonest_tokens_come_first_and_ties_keep_their_order() -> None:
    lines = ["c a b a", "b d c <unk> <unk> <unk>"]
    types = TokenTypes()
    number = token_frequencies(pack(lines, tokenizer("words"), types), 20)
    tally = Counter(token for line in lines for token in line.split() if token != "<unk>")
    assert commonest_tokens(types, number) == [token for token, _ in tally.most_common()] == ["c", "a", "b", "d"]
    assert commonest_tokens(types, number, size=2) == ["c", "a"]
    assert commonest_tokens(types, number, min_count=2) == ["c", "a", "b"]
    with pytest.raises(
        DataError,
        match=r"no token occurs 9 times in the training data; the most frequent one occurs 3 times\nLower --min-count",
    ):
        commonest_tokens(types, number, min_count=9)


def test_a_vocabulary_file_is_one_token_a_line(tmp_path: Path) -> None:
    path = tmp_path / "vocab.txt"
    path.write_bytes(b"<pad>\n<s>\n</s>\n<unk>\r\nb\n\na\nb\n \n")
    assert read_vocabulary(path) == ["b", "a", " "]
    for content, message in [(b"a\nb 7\n", "line 2 of vocab.txt has several words"), (b"<unk>\n", "has no tokens")]:
        path.write_bytes(content)
        with pytest.raises(DataError, match=message):
            read_vocabulary(path)
