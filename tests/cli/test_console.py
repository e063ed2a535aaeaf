"""How numbers, tables, durations and paths look."""

import io
import json
import math
import re
from pathlib import Path

import pytest

import lso.cli
from lso.cli.console import (
    CONTROLS,
    Console,
    display_path,
    error,
    format_duration,
    format_number,
    table_lines,
    to_strict_json,
)
from lso.cli.options import seconds
from lso.cli.progress import make_progress, show_reading
from lso.vae.callbacks import Event
from lso.vae.config.protocol import DataConfig
from lso.vae.errors import UsageError
from lso.vae.progress import ALL_METRICS, BRIEF, format_fields


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
    assert format_number(value) == text


def test_an_epoch_s_numbers_are_never_minus_zero() -> None:
    """An estimate of what cannot be negative can be, by its noise: mutual information of -0.001."""
    keys = ("neg_elbo", "reconstruction", "kl", "reencoding_error", "mi", "kl_weight", "train_loss", "perplexity")
    row = {**dict.fromkeys(keys, -0.001), "epoch": 0, "active_units": 0, "learning_rate": 1e-3}
    for latent in (0, 4):
        values = {**row, "epochs": 1, "latent_dim": latent}
        text = format_fields(ALL_METRICS, values)
        assert "-0.00" not in text and "0.00" in text and ("MI within batches 0.00" in text) == bool(latent)
        assert "-0.00" not in format_fields(BRIEF, values)


@pytest.mark.parametrize(
    ("value", "text"), [(0.44, "0.4 s"), (9.96, "10 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")]
)
def test_durations_read_as_people_say_them(value: float, text: str) -> None:
    assert format_duration(value) == text


@pytest.mark.parametrize(("text", "value"), [("90", 90), ("90s", 90), ("9m", 540), ("9min", 540), ("1.5h", 5400)])
def test_durations_are_read(text: str, value: float) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", "m", "9 days", "-3", "nan"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="cannot read the duration"):
        seconds(text)


def test_json_is_strict() -> None:
    value = {"a": math.nan, "b": [math.inf, 1.5], "c": Path("x"), "d": True, 3: None}
    assert json.loads(json.dumps(to_strict_json(value), allow_nan=False)) == {
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


HOSTILE = "\x1b]0;title\x07\x1b[2Jname\r\x9b1A\u202etxt"
TAMED = "\\x1b]0;title\\x07\\x1b[2Jname\\x0d\\x9b1A\\u202etxt"


def test_controls_in_what_others_wrote_are_shown_and_not_acted_on(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(verbose=True)
    log = lambda text: make_progress(console).on_log(Event(work="training", text=text))  # noqa: E731
    for tell in (console.result, console.note, console.warn, log):
        tell(HOSTILE)
        printed = capsys.readouterr()
        assert (printed.out + printed.err).removeprefix("warning: ") == TAMED + "\n"
    console.result(HOSTILE, "red")  # what is no terminal gets no colour
    error(HOSTILE, HOSTILE)
    printed = capsys.readouterr()
    line = TAMED.replace("\\x0d", " ")  # white space is collapsed in errors
    assert printed.out == TAMED + "\n" and printed.err == f"error: {line}\n{line}\n"
    console.table((HOSTILE, "n"), [[f"{HOSTILE}\n\tb", 1]])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and lines[0].startswith(TAMED) and lines[1] == f"{TAMED}\\n\\tb  1"
    Console(json=True).emit({"é": HOSTILE + "\x7f"})
    printed = capsys.readouterr()
    assert "é" in printed.out and json.loads(printed.out) == {"é": HOSTILE + "\x7f"}
    assert not set(printed.out.replace("\n", "")) & set(map(chr, CONTROLS))


def test_all_that_commands_print_goes_through_the_console() -> None:
    """Elsewhere fixed words alone: the version, and what follows Ctrl-C."""
    found = {
        path.name
        for path in Path(lso.cli.__file__).parent.rglob("*.py")
        if re.search(r"typer\.(secho|echo|style)|\bprint\(|std(out|err)\.write", path.read_text(encoding="utf-8"))
    }
    assert found == {"console.py", "main.py", "signals.py"}


def test_the_colour_of_a_line_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal there are escape sequences, those of the line's own colour and no others."""
    told: list[str] = []
    monkeypatch.setattr("typer.echo", lambda text, err: told.append(text))
    Console().result(HOSTILE, "red")
    Console().warn(HOSTILE)
    assert told == [f"\x1b[31m{TAMED}\x1b[0m", f"\x1b[33mwarning: \x1b[0m{TAMED}"]


def test_a_bar_on_a_terminal_shows_names_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    progress = make_progress(Console())
    for name in (f"[bold]{HOSTILE}", f"[red]{HOSTILE}"):
        progress.on_start(Event(work=name, total=10))
    progress.on_log(Event(work="training", text=HOSTILE))
    progress.close()
    shown = terminal.getvalue()
    assert f"[bold]{TAMED}" in shown and f"[red]{TAMED}" in shown  # nor is it rich's markup
    assert "\x1b]0;" not in shown and "\x1b[2J" not in shown and "\x9b" not in shown and "\u202e" not in shown


def test_quiet_keeps_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(quiet=True)
    console.notes(["a note", "Warning: a doubt"])
    assert capsys.readouterr().err == "warning: a doubt\n"


def test_paths_below_the_working_folder_are_relative(tmp_path: Path) -> None:
    assert display_path(Path.cwd() / "runs" / "a") == str(Path("runs") / "a")
    assert display_path("/") == "/"


def test_progress_says_what_is_done_once(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Not "reading reading photos"."""
    monkeypatch.setattr("lso.vae.progress.LINE_SECONDS", 0.0)
    with show_reading(Console()) as show:
        for done in (1, 2):
            show("looking at photos", done, 2)
        for done in (1, 2):
            show("reading photos", done, 2)
    lines = capsys.readouterr().err.splitlines()
    assert any(line.startswith("looking at photos: ") for line in lines)
    assert any(line.startswith("reading photos: ") for line in lines)
    assert not any("reading reading" in line or "reading looking" in line for line in lines)


def test_what_a_size_of_0_means_is_said() -> None:
    """Files of several sizes, or larger than 64 pixels, become 32x32."""
    with pytest.raises(UsageError, match="a size of 8 to 64 pixels, got 4") as error:
        DataConfig(size=4)
    assert (
        error.value.hint
        == "0, the default, keeps the images' own size where all have the same from 8 to 64 pixels, else takes 32."
    )
