"""How numbers, tables, durations and paths look."""

import json
import math
from pathlib import Path

import pytest

from lso.cli.bars import Reading
from lso.cli.console import Console, number, shown, span, strict, table_lines
from lso.cli.options import seconds
from lso.cli.progress import brief_text, metrics_text
from lso.vae.config import DataConfig
from lso.vae.errors import UsageError


def test_columns_of_numbers_stand_to_the_right_and_text_to_the_left() -> None:
    lines = table_lines(("name", "n"), [["a", 1], ["long name", None], ["b", 12345]])
    assert lines == ["name           n", "a              1", "long name      -", "b          12345"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (1.23456, "1.235"),
        (-0.0, "0"),
        (1e-9, "1e-09"),
        (7, "7"),
        (20000.0, "20,000"),
        (16625.54, "16,626"),
    ],
)
def test_numbers_have_four_digits_that_count(value: float | None, text: str) -> None:
    assert number(value) == text


def test_an_epoch_s_numbers_are_never_minus_zero() -> None:
    """An estimate of what cannot be negative can be, by its noise: mutual information of -0.001."""
    keys = ("neg_elbo", "reconstruction", "kl", "reencoding_error", "mi", "kl_weight", "train_loss", "perplexity")
    row = {**dict.fromkeys(keys, -0.001), "epoch": 0, "active_units": 0, "learning_rate": 1e-3}
    for latent in (0, 4):
        text = metrics_text(row, 1, latent, verbose=True)
        assert "-0.00" not in text and "0.00" in text and ("MI 0.00" in text) == bool(latent)
        assert "-0.00" not in brief_text(row, 1, latent)


@pytest.mark.parametrize(
    ("value", "text"), [(0.44, "0.4 s"), (9.96, "10 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")]
)
def test_durations_read_as_people_say_them(value: float, text: str) -> None:
    assert span(value) == text


@pytest.mark.parametrize(("text", "value"), [("90", 90), ("90s", 90), ("9m", 540), ("9min", 540), ("1.5h", 5400)])
def test_durations_are_read(text: str, value: float) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", "m", "9 days", "-3", "nan"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="cannot read the time"):
        seconds(text)


def test_json_is_strict() -> None:
    value = {"a": math.nan, "b": [math.inf, 1.5], "c": Path("x"), "d": True, 3: None}
    assert json.loads(json.dumps(strict(value), allow_nan=False)) == {
        "a": None,
        "b": [None, 1.5],
        "c": "x",
        "d": True,
        "3": None,
    }


def test_under_json_nothing_else_is_printed_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(json=True)
    console.result("text")
    console.table(("a",), [["b"]])
    console.note("progress")
    console.emit({"x": 1})
    printed = capsys.readouterr()
    assert json.loads(printed.out) == {"x": 1}
    assert printed.err == "progress\n"


def test_quiet_keeps_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(quiet=True)
    console.notes(["a note", "Warning: a doubt"])
    assert capsys.readouterr().err == "warning: a doubt\n"


def test_paths_below_the_working_folder_are_relative(tmp_path: Path) -> None:
    assert shown(Path.cwd() / "runs" / "a") == str(Path("runs") / "a")
    assert shown("/") == "/"


def test_progress_says_what_is_done_once(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Not "reading reading photos"."""
    monkeypatch.setattr("lso.cli.bars.LINE_SECONDS", 0.0)
    reading = Reading(Console())
    for done in (1, 2):
        reading("looking at photos", done, 2)
    for done in (1, 2):
        reading("reading photos", done, 2)
    reading.close()
    lines = capsys.readouterr().err.splitlines()
    assert any(line.startswith("looking at photos: ") for line in lines)
    assert any(line.startswith("reading photos: ") for line in lines)
    assert not any("reading reading" in line or "reading looking" in line for line in lines)


def test_what_a_size_of_0_means_is_said() -> None:
    """Files of several sizes, or larger than 64 pixels, become 32x32."""
    with pytest.raises(UsageError, match="a size of 8 to 64 pixels, got 4") as error:
        DataConfig(size=4)
    assert error.value.hint == "0, the default, is the images' own where all have one of 8 to 64 pixels, else 32."
