"""Text files of all kinds as lines: whatever is not kept is counted, whatever cannot be read is one clear error."""

import gzip
from pathlib import Path

import pytest

from lso.tasks.datasets.line_reader import MAX_LINE_BYTES, parse_lines, read_text_lines
from lso.vae.errors import DataError

LINES = ["a cat sat .", "ein Käse", "日本 語"]


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("packed", [True, False])
def test_the_same_lines_whatever_their_ends(tmp_path: Path, mark: bytes, end: str, last: bool, packed: bool) -> None:
    content = mark + (end.join(LINES) + end * last).encode()
    path = written(tmp_path / "x.txt", gzip.compress(content) if packed else content)
    assert list(read_text_lines(path).texts) == LINES
    assert (
        read_text_lines(path).notes
        == {
            "\n": (),
            "\r": ("x.txt: lines end in CR.",),
            "\r\n": (f"x.txt: {2 + last} lines end in CR LF.",),
        }[end]
    )


def test_only_line_ends_end_a_line() -> None:
    """What `str.splitlines` takes for one too: form feed, next line, line separator; and a CR among LF."""
    assert list(parse_lines("a\fb\x85c\u2028d\re\nf".encode(), "x").texts) == ["a\fb\x85c\u2028d\re", "f"]


def test_blank_lines_are_counted() -> None:
    found = parse_lines(b"a\n\n \t\nb\n\n", "x.txt")
    assert list(found.texts) == ["a", "b"]
    assert found.notes == ("x.txt: 3 of 5 lines are blank and left out.",)


def test_one_word_and_a_tab_on_every_line_is_a_label() -> None:
    found = parse_lines(b"pos\tgood food\nneg\tbad\n0 \t x\ty\npos\t\n", "x.txt")
    assert list(found.texts) == ["good food", "bad", " x\ty"]
    assert list(found.labels) == ["pos", "neg", "0"]
    assert found.notes == ("x.txt: lines with a label but no text, left out: 1.",)


@pytest.mark.parametrize("content", [b"1\tgood\nbad\n", b"good food\t1\nbad food\t0\n", b"\tgood\n\tbad\n"])
def test_other_tabs_are_white_space(content: bytes) -> None:
    found = parse_lines(content, "x.txt")
    assert not found.labels and len(found.texts) == 2 and all("\t" in text for text in found.texts[:1])
    if content.startswith(b"1"):
        (note,) = found.notes
        assert note.startswith(
            "x.txt: 1 of 2 lines begin with a word and a TAB; as not all do, these words are taken as"
        )


PACKED = gzip.compress(b"some text\n" * 50, mtime=0)  # cases have the same names whenever they are collected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "x.txt is empty"),
        (b"\xef\xbb\xbf", "x.txt is empty"),
        (b"\n \r\n\t\n", "x.txt has only blank lines"),
        (b"1\t\n0\t \n", "x.txt has labels but no text"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "x.txt is not a text file: byte 9 is 0"),
        ("käse\n".encode("utf-16"), "x.txt is UTF-16, expected UTF-8"),
        ("a\n".encode("utf-32"), "x.txt is UTF-32, expected UTF-8"),
        ("good\nkäse\n".encode("latin-1"), "x.txt is not UTF-8: byte 0xe4 in line 2"),
        (PACKED[:26], "cannot read .*x.txt: Compressed file ended"),
        (PACKED[:20] + b"\xff" * 20, "cannot read .*x.txt: "),
    ],
)
def test_what_is_no_text_is_one_error_of_two_lines(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read_text_lines(written(tmp_path / "x.txt", content))
    assert len(str(caught.value).splitlines()) == 2


def test_a_missing_file_and_a_folder_are_told(tmp_path: Path) -> None:
    for path in (tmp_path / "none.txt", tmp_path):
        with pytest.raises(DataError, match="cannot read"):
            read_text_lines(path)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("end", [b"\n", b"\r"])
def test_a_line_that_is_no_sequence_is_refused_by_its_number(tmp_path: Path, packed: bool, end: bytes) -> None:
    short = b"a b c" + end
    whole = short * 3 + b"x" * (MAX_LINE_BYTES + 1) + end + short
    path = written(tmp_path / "x.txt", gzip.compress(whole, 1) if packed else whole)
    number = 4 if end == b"\n" else 1  # lines are counted by LF
    with pytest.raises(DataError, match=f"x.txt: line {number} is longer than 1,000,000 bytes"):
        read_text_lines(path)
    path.write_bytes(short * (MAX_LINE_BYTES // len(short) + 1) + b"x" * MAX_LINE_BYTES)
    assert len(read_text_lines(path).texts[-1]) == MAX_LINE_BYTES
