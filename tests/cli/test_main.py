"""The shell around the commands: help, laziness, exit codes."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import Result

from lso import __version__
from lso.cli import main
from lso.cli.commands import COMMANDS, GROUPS
from lso.cli.commands import list as list_command
from lso.vae.utils.lazy import resolve

HEAVY = ("torch", "numpy", "botorch", "gpytorch", "matplotlib", "sklearn", "scipy", "pandas", "PIL")
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("arguments", [[], ["--help"], ["train", "--help"], ["list", "methods"], ["config", "show"]])
def test_no_heavy_package_is_imported(arguments: list[str]) -> None:
    code = (
        "import sys\n"
        f"sys.argv = ['lso', *{arguments!r}]\n"
        "from lso.cli.main import run_command_line\n"
        "try: run_command_line()\n"
        "except SystemExit: pass\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stderr.splitlines()[-1] == "[]"
    assert len(done.stdout) > 100


@pytest.mark.parametrize(
    ("arguments", "loaded"),
    [
        ([], []),
        (["--help"], []),
        (["benchmark", "--help"], []),
        (["train", "--help"], ["train"]),
        (["benchmark", "lagging", "--help"], ["benchmark"]),
    ],
)
def test_a_command_is_imported_when_it_is_asked_for(arguments: list[str], loaded: list[str]) -> None:
    code = (
        "import sys\n"
        f"sys.argv = ['lso', *{arguments!r}]\n"
        "from lso.cli.main import run_command_line\n"
        "try: run_command_line()\n"
        "except SystemExit: pass\n"
        "print([name[17:] for name in sys.modules if name.startswith('lso.cli.commands.')], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stderr.splitlines()[-1] == str(loaded)


@pytest.mark.parametrize("path", COMMANDS)
def test_the_row_of_a_command_says_what_the_command_says(path: str) -> None:
    row = COMMANDS[path]
    assert row.summary == resolve(f"lso.cli.commands.{row.function}").__doc__.splitlines()[0]
    assert bool(row.panel) == (" " not in path)
    assert all(example.startswith(f"lso {path}") for example in row.examples) and len(row.examples) >= 2


@pytest.mark.parametrize("path", COMMANDS)
def test_help_of_every_command_ends_with_its_examples(lso: Callable[..., Result], path: str) -> None:
    result = lso(*path.split(), "--help")
    assert result.exit_code == 0
    examples = result.stdout.split("Examples:")[1]
    assert examples.count(f"lso {path}") == len(COMMANDS[path].examples)
    assert "Examples" not in examples


def test_alone_it_prints_help_with_every_command(lso: Callable[..., Result]) -> None:
    text = lso().stdout
    assert all(f" {name} " in text for name in [*COMMANDS, *GROUPS] if " " not in name)
    assert "--install-completion" in text


def test_version(lso: Callable[..., Result]) -> None:
    """And which PyTorch would compute where."""
    first, second = lso("--version").stdout.splitlines()
    assert first == f"lso {__version__}" and second.startswith(f"torch {torch.__version__}, device c")


@pytest.mark.parametrize(
    ("typed", "known"),
    [
        ("lso tr", {"train", "traverse"}),
        ("lso benchmark ", {"image-targets", "lagging"}),
        ("lso train --method ne", {"ne-vae-se", "ne-vae-lp"}),
        ("lso train --log ", {"tensorboard"}),
        ("lso export --to ", {"onnx", "pt2"}),
        ("lso optimize --model runs/d", {"runs/digits"}),
        ("lso evaluate runs/", {"runs/digits"}),
    ],
)
@pytest.mark.usefixtures("run")
def test_the_shell_completes_commands_names_and_runs(
    typed: str, known: set[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the function that `lso --show-completion bash` prints asks for them."""
    monkeypatch.setenv("_LSO_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", typed)
    monkeypatch.setenv("COMP_CWORD", str(len(typed.split()) - (not typed.endswith(" "))))
    monkeypatch.setattr(sys, "argv", ["lso"])
    with pytest.raises(SystemExit):
        main.run_command_line()
    assert set(capsys.readouterr().out.split()) == known


def test_an_unknown_command_or_option_is_wrong_usage(lso: Callable[..., Result]) -> None:
    assert lso("trian").exit_code == 2
    assert "train" in lso("trian").stderr
    assert lso("train", "--metod", "vae").exit_code == 2


def _broken(*_: Any, **__: Any) -> None:
    raise KeyError("a bug")


def test_a_bug_is_two_lines_and_exit_code_1(lso: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(list_command, "_list_methods", _broken)
    result = lso("list", "methods")
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        "error: internal error: KeyError: 'a bug'",
        "This is a bug. Run the command again with --debug for the traceback.",
    ]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (PermissionError(13, "Permission denied", "a/file"), "a/file: Permission denied"),
        (ModuleNotFoundError("No module named 'rdkit'", name="rdkit"), "rdkit is not installed"),
        (MemoryError("too much"), "out of memory: too much"),
    ],
)
def test_what_the_machine_refuses_is_no_bug(error: Exception, message: str) -> None:
    assert main.explain_unexpected(error)[0] == message


def test_debug_shows_the_traceback_wherever_it_stands(
    lso: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(list_command, "_list_methods", _broken)
    monkeypatch.setenv("LSO_DEBUG", "0")
    monkeypatch.setattr(sys, "argv", ["lso", "list", "methods", "--debug"])
    with pytest.raises(KeyError):
        main.run_command_line()


@pytest.mark.parametrize(
    ("arguments", "words", "hint"),
    [
        (["lits"], "No such command 'lits'", "`lso -h`"),
        (["train", "--epochs", "many"], "'many' is not a valid int", "`lso train -h`"),
        (["train", "--epoch", "3"], "No such option: --epoch", "`lso train -h`"),
        (["list"], "Missing argument", "`lso list -h`"),
        (["sweep", "digits"], "unexpected extra argument", "Write --task digits."),
        (["train", "digits"], "digits is a task and no run", "Write --task digits."),
    ],
)
def test_what_the_parser_refuses_is_two_lines_too(
    arguments: list[str],
    words: str,
    hint: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["lso", *arguments])
    with pytest.raises(SystemExit) as ended:
        main.run_command_line()
    first, second = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2 and first.startswith("error: ") and words in first and hint in second


def test_without_arguments_there_is_help_and_no_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["lso"])
    with pytest.raises(SystemExit):
        main.run_command_line()
    found = capsys.readouterr()
    assert "Usage: lso" in found.out + found.err and "error:" not in found.err


def test_ctrl_c_before_there_is_anything_to_save_is_130(
    lso: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(list_command, "_list_methods", interrupt)
    assert lso("list", "methods").exit_code == 130


def test_a_reader_that_goes_away_is_141_and_silent(process: Callable[..., "subprocess.Popen[str]"]) -> None:
    started = process("config", "show", "--method", "vae")
    assert started.stdout is not None and started.stderr is not None
    started.stdout.close()
    assert started.wait(30) == 141
    assert started.stderr.read() == ""


@pytest.mark.parametrize("kind", ["methods", "architectures", "tasks", "optimizers", "models", "runs"])
def test_lists_are_json_too(lso: Callable[..., Result], kind: str) -> None:
    result = lso("list", kind, "--json")
    rows = json.loads(result.stdout)
    assert isinstance(rows, list)
    assert all(row["what it is"] for row in rows)
