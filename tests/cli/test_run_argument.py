"""A run is named by position or as --model, in every command that takes one, and different names are refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner, Result

from lso.cli.commands import COMMANDS
from lso.cli.main import _load_command
from lso.cli.options import NamedRun, RunPath
from lso.cli.run_argument import takes_run
from lso.vae.errors import UsageError
from lso.vae.runs import Run

Lso = Callable[..., Result]
SEVERAL = {"benchmark image-targets"}  # takes several models: by position and as --models


def test_every_command_that_takes_a_run_takes_it_both_ways() -> None:
    both = set()
    for name in COMMANDS.keys() - SEVERAL:
        parameters = _load_command(name).params
        by_position = any(one.param_type_name == "argument" and "RUN" in (one.metavar or "") for one in parameters)
        flags = {flag for one in parameters for flag in one.opts}
        assert by_position == ("--model" in flags), name
        assert by_position or "--resume" not in flags, name
        both |= {name} if by_position else set()
    assert both >= {"train", "evaluate", "optimize", "report", "sample", "encode", "decode", "interpolate", "traverse"}
    assert "doctor" in both


def called(command: Callable[..., None], *arguments: str) -> Any:
    """What the command got; a `UsageError` is raised."""
    app = typer.Typer()
    app.command()(command)
    result = CliRunner().invoke(app, arguments)
    if result.exception is not None:
        raise result.exception
    return result.stdout.strip()


@takes_run
def one(run: RunPath = None) -> None:
    print(run)


@takes_run
def three(run: NamedRun, a: Annotated[str, typer.Argument()], b: Annotated[str, typer.Argument()]) -> None:
    print(run, a, b)


Several = Annotated[list[Path] | None, typer.Argument()]


def several(paths: Several = None) -> None:
    print(" ".join(map(str, paths)) if paths else "none")


Resume = Annotated[Path | None, typer.Option()]


def train(resume: Resume = None) -> None:
    print(resume)


ALL = takes_run(several, parameter="paths")
TRAIN = takes_run(train, parameter="resume")


@pytest.mark.parametrize(
    ("command", "arguments", "got"),
    [
        (one, (), "None"),
        (one, ("a",), "a"),
        (one, ("--model", "a"), "a"),
        (one, ("a", "--model", "./a"), "a"),  # one folder by two names
        (three, ("r", "x", "y"), "r x y"),
        (three, ("--model", "r", "x", "y"), "r x y"),
        (three, ("r", "x", "y", "--model", "r"), "r x y"),
        (three, ("--model", "r", "./x // y", "z/"), "r ./x // y z/"),
        (ALL, (), "none"),
        (ALL, ("a", "b"), "a b"),
        (ALL, ("--model", "a", "--model", "b"), "a b"),
        (TRAIN, (), "None"),
        (TRAIN, ("--resume", "a"), "a"),
        (TRAIN, ("--model", "a"), "a"),
        (TRAIN, ("a",), "a"),
        (TRAIN, ("a", "--resume", "a", "--model", "a"), "a"),
    ],
)
def test_each_way_names_the_run(command: Callable[..., None], arguments: tuple[str, ...], got: str) -> None:
    assert called(command, *arguments) == got


@pytest.mark.parametrize(
    ("command", "arguments", "words"),
    [
        (one, ("a", "--model", "b"), "different runs were given: RUN a and --model b"),
        (ALL, ("a", "b", "--model", "a"), "different runs were given: RUN a b and --model a"),
        (TRAIN, ("--resume", "a", "--model", "b"), "different runs were given: --resume a and --model b"),
        (three, ("r", "x"), "missing argument B"),
        (three, (), "missing argument RUN and A and B"),
        (three, ("--model", "r", "x"), "missing argument B"),
        (three, ("r", "x", "y", "--model", "s"), "different runs"),
        (TRAIN, ("digits",), "digits is a task and no run"),
    ],
)
def test_what_names_no_run_or_two_is_refused(
    command: Callable[..., None], arguments: tuple[str, ...], words: str
) -> None:
    with pytest.raises(UsageError, match=words) as error:
        called(command, *arguments)
    assert error.value.hint and "\n" not in error.value.message + error.value.hint


def test_a_command_line_names_the_model_either_way(lso: Lso, run: Run) -> None:
    draws = [
        lso("sample", *way, "-n", 2, "--out", f"{number}.png", "-q")
        for number, way in enumerate(((run.path,), ("--model", run.path)))
    ]
    assert all(result.exit_code == 0 for result in draws)
    assert Path("0.png").read_bytes() == Path("1.png").read_bytes()
    assert lso("encode", "--model", run.path, "--data", "test:2", "--out", "codes.npz", "-q").exit_code == 0
    assert lso("decode", "--model", run.path, "codes.npz", "--out", "images", "-q").exit_code == 0
    assert len(list(Path("images").iterdir())) == 2
    refused = lso("evaluate", run.path, "--model", "elsewhere")
    assert refused.exit_code == 2 and len(refused.stderr.strip().splitlines()) == 2
    finished = lso("train", run.path)
    assert finished.exit_code == 0 and "already finished" in finished.stderr
