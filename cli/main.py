"""The ``lso`` command: registers all commands and turns their errors into two lines of text and an exit code."""

import errno
import functools
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from io import TextIOWrapper
from typing import Annotated, Any

import typer

from lso.cli import console
from lso.cli.commands import (
    benchmark,
    config,
    decode,
    doctor,
    encode,
    evaluate,
    interpolate,
    optimize,
    report,
    reproduce,
    sample,
    sweep,
    train,
    traverse,
)
from lso.cli.commands import list as list_command
from lso.vae.errors import LsoError, UsageError
from lso.vae.launch import process_info
from lso.vae.utils.deprecation import RenamedWarning

# Base class of the parser's usage errors; typer has click's in some versions and a copy of its own in others.
USAGE_ERROR: Any = typer.BadParameter.__base__
# Headings of `lso --help`.
WORK, LOOK, HELP = "Train, evaluate, search, compare", "Look at a latent space", "Help"

app = typer.Typer(
    name="lso",
    help="Train a VAE whose latents do not collapse, search its latent space, and see whether to believe the result.",
    epilog="Start here:\n\n  lso train --method ne-vae-se\n\n  lso optimize --target test:20 --optimizer adam",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def debugging() -> bool:
    """Whether ``--debug`` or LSO_DEBUG asks for tracebacks."""
    return os.environ.get("LSO_DEBUG", "") not in ("", "0")


def explain_unexpected(error: Exception) -> tuple[str, str]:
    """Message and hint for an exception that is no `LsoError`: of the system (disk, memory, a package), else a bug."""
    if isinstance(error, OSError) and error.strerror:
        where = error.filename or "reading or writing"
        return f"{where}: {error.strerror}", "Check the path, its permissions and the space on the disk."
    if isinstance(error, ModuleNotFoundError):
        return f"{error.name} is not installed", "`lso doctor` shows what is missing and the line that installs it."
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return f"out of memory: {error}", "Use a smaller --batch-size or --limit, or another --device."
    return (
        f"internal error: {type(error).__name__}: {error}",
        "This is a bug. Run the command again with --debug for the traceback.",
    )


def guarded(command: Callable[..., None], name: str) -> Callable[..., None]:
    """Wrap a command so that its errors become two lines of text and an exit code; `debugging` lets them through.

    Exit codes: 1 failed (an unexpected exception too), 2 wrong usage, 130 Ctrl-C, 141 the reader of stdout has gone.
    """

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            if command is not train.train and process_info().count > 1:
                raise UsageError(
                    f"torchrun started several processes, but `lso {name}` runs in one",
                    "Start it without torchrun; only `lso train` uses several processes.",
                )
            with _show_renamed_warnings(), console.answer_alone() if kwargs.get("json") else nullcontext():
                command(*args, **kwargs)
            sys.stdout.flush()
        except LsoError as error:
            if debugging():
                raise
            console.error(error.message, error.hint)
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            typer.echo("\ninterrupted" if sys.stderr.isatty() else "interrupted", err=True)  # after the terminal's ^C
            raise typer.Exit(130) from None
        except (typer.Exit, typer.Abort, typer.BadParameter):
            raise
        except Exception as error:
            if isinstance(error, OSError):
                _discard_stdout_if_broken()
                if error.errno == errno.EPIPE:
                    raise typer.Exit(141) from None
            if debugging():
                raise
            console.error(*explain_unexpected(error))
            raise typer.Exit(1) from None

    return run


@contextmanager
def _show_renamed_warnings() -> Iterator[None]:
    """Print warnings about renamed flags and keys in one line, without Python's file name and line of code."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", RenamedWarning)
        default_showwarning = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *args: Any, **kwargs: Any) -> None:
            if issubclass(category, RenamedWarning):
                console.print_line(str(message), "warning: ", err=True, fg="yellow")
            else:
                default_showwarning(message, category, *args, **kwargs)

        warnings.showwarning = show
        yield


def _discard_stdout_if_broken() -> None:
    """Point stdout to the null device if it cannot be written: Python flushes it on exit and would report it again."""
    try:
        sys.stdout.flush()
    except OSError:
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _print_version(requested: bool | None) -> None:
    if requested:
        from lso import __version__

        typer.echo(f"lso {__version__}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[
        bool,
        typer.Option("--debug", help="Show tracebacks of errors. The environment variable LSO_DEBUG=1 does the same."),
    ] = False,
    version: Annotated[
        bool | None,
        typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    """Options before the command."""
    if debug:
        os.environ["LSO_DEBUG"] = "1"


def _register(name: str, command: Callable[..., None], panel: str, *examples: str, to: typer.Typer = app) -> None:
    text = "Examples:\n\n" + "\n\n".join(f"  {example}" for example in examples)
    to.command(name, rich_help_panel=panel or None, epilog=text)(guarded(command, name))


_register(
    "train",
    train.train,
    WORK,
    "lso train --method ne-vae-se",
    "lso train --method beta-vae:beta=0.2 --data images/ --latent-dim 16",
)
_register(
    "evaluate",
    evaluate.evaluate,
    WORK,
    "lso evaluate",
    "lso evaluate runs/a --split validation --limit 100 --json",
)
_register(
    "optimize",
    optimize.optimize,
    WORK,
    "lso optimize --target test:20 --optimizer adam",
    "lso optimize --model runs/a --target images/ --starts 4 --out search",
)
_register(
    "sweep",
    sweep.sweep,
    WORK,
    "lso sweep --method vae-anneal --method ne-vae-se --latent-dim 8,16,32 --seeds 3",
    "lso sweep --method vae --task omniglot --latent-dim 8,32 --seeds 5 --time-limit 9m --out runs/au",
)
_register(
    "reproduce",
    reproduce.reproduce,
    WORK,
    "lso reproduce nevae2021_table1 --time-limit 9m",
    "lso reproduce he2019_table2 --rows VAE,Ours --seeds 1 --limit 1000 --epochs 2 --arch he2019-small --out small",
    "lso reproduce he2019_table1_5_text_yelp --rows LSTM-LM,VAE,Ours --data yelp/ --seeds 1 --time-limit 9m",
)
_register("report", report.report, WORK, "lso report runs/a runs/b", "lso report runs/a --out comparison --json")
_register("sample", sample.sample, LOOK, "lso sample -n 100", "lso sample runs/a -n 16 --seed 1 --out sample.png")
_register("encode", encode.encode, LOOK, "lso encode --data test", "lso encode runs/a --data images/ --out codes.npz")
_register("decode", decode.decode, LOOK, "lso decode runs/a codes.npz", "lso decode runs/a codes.npz --out decoded/")
_register(
    "interpolate",
    interpolate.interpolate,
    LOOK,
    "lso interpolate runs/a test:3 test:8",
    "lso interpolate runs/a one.png two.png --steps 16 --out path.png",
)
_register("traverse", traverse.traverse, LOOK, "lso traverse", "lso traverse runs/a --dim 0,5 --range 5 --steps 21")
_register("list", list_command.list_names, HELP, "lso list methods", "lso list runs --json")
_register("doctor", doctor.doctor, HELP, "lso doctor", "lso doctor runs/a")

benchmarks = typer.Typer(no_args_is_help=True, help="Run an experiment of a paper: image-targets or lagging.")
app.add_typer(benchmarks, name="benchmark", rich_help_panel=WORK)
_register(
    "image-targets",
    benchmark.image_targets,
    "",
    "lso benchmark image-targets --models runs/vae runs/ne-vae-se --targets 50",
    "lso benchmark image-targets runs/a runs/b --targets 10 --max-steps 300 --lr 0.01,0.03",
    to=benchmarks,
)

_register(
    "lagging",
    benchmark.lagging,
    "",
    "lso benchmark lagging --quick",
    "lso benchmark lagging --seeds 3 --limit 4000 --stride 0.1 --time-limit 30m",
    to=benchmarks,
)

settings = typer.Typer(
    no_args_is_help=True, help="Show or write the configuration that a training would have; trains nothing."
)
app.add_typer(settings, name="config", rich_help_panel=HELP)
_register(
    "show",
    config.show,
    "",
    "lso config show --method ne-vae-se",
    "lso config show --config runs/a/config.toml --epochs 200",
    to=settings,
)
_register(
    "init",
    config.init,
    "",
    "lso config init --method ne-vae-se",
    "lso config init --task mnist --out mnist.toml",
    to=settings,
)


def main() -> None:
    """Entry point of ``lso`` and ``python -m lso``."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a letter that the terminal's encoding lacks is no error
    arguments = sys.argv[1:]
    if "--debug" in arguments:  # anywhere in the line, so that it can be appended to a command that failed
        os.environ["LSO_DEBUG"] = "1"
        arguments.remove("--debug")
    command = typer.main.get_command(app)
    try:
        code = command.main(arguments, prog_name="lso", standalone_mode=False)
    except USAGE_ERROR as error:  # typer would print it in a box
        where = error.ctx.command_path if error.ctx is not None else "lso"
        if message := error.format_message():  # empty where typer has printed the help for a command without arguments
            console.error(message, f"`{where} -h` shows the arguments and options.")
        sys.exit(error.exit_code)
    except typer.Abort:
        sys.exit(130)
    sys.exit(code if isinstance(code, int) else 0)
