"""The ``lso`` command: the table of commands, and the one place where an error becomes two lines and an exit code."""

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
from lso.cli.commands import list as listing
from lso.vae.errors import LsoError, UsageError
from lso.vae.launch import process_info
from lso.vae.utils.deprecation import RenamedWarning

USAGE: Any = typer.BadParameter.__base__  # the parser's usage errors; where the class lives depends on typer's version
WORK, LOOK, HELP = "Train, search, judge", "Look at a latent space", "Find out"

app = typer.Typer(
    name="lso",
    help="Train a VAE whose latents do not collapse, search its latent space, and see whether to believe the result.",
    epilog="Start here:\n\n  lso train --method ne-vae-se\n\n  lso optimize --target test:20 --optimizer adam",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def debugging() -> bool:
    """Whether tracebacks are wanted."""
    return os.environ.get("LSO_DEBUG", "") not in ("", "0")


def unexpected(error: Exception) -> tuple[str, str]:
    """What to say of an exception that is not ours: the machine's, or a bug."""
    if isinstance(error, OSError) and error.strerror:
        where = error.filename or "reading or writing"
        return f"{where}: {error.strerror}", "Check the path, its permissions and the space on the disk."
    if isinstance(error, ModuleNotFoundError):
        return f"{error.name} is not installed", "`lso doctor` shows what is missing and the line that installs it."
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return f"out of memory: {error}", "Take less at a time, a smaller --batch-size or --limit, or another --device."
    return f"internal error: {type(error).__name__}: {error}", "Run it again with --debug for the traceback."


def guarded(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose errors are two lines and an exit code.

    1 failed, 2 wrong usage, 130 Ctrl-C, 141 the reader of the output went away; an unexpected exception is 1.

    Args:
        command: to run.
    Returns:
        The same with errors handled; with `debugging` they come through.
    """

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            if command is not train.train and process_info().count > 1:
                raise UsageError(
                    f"torchrun started several processes, and {command.__name__} is the work of one",
                    "Start it without torchrun; `lso train` is for several.",
                )
            with _renamed_words_told(), console.answer_alone() if kwargs.get("json") else nullcontext():
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
                _let_go_of_stdout()
                if error.errno == errno.EPIPE:
                    raise typer.Exit(141) from None
            if debugging():
                raise
            console.error(*unexpected(error))
            raise typer.Exit(1) from None

    return run


@contextmanager
def _renamed_words_told() -> Iterator[None]:
    """An old word in a flag or a configuration file is told in one line, without the place in the code."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", RenamedWarning)
        shown_as_ever = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
            if issubclass(category, RenamedWarning):
                console.say(str(message), "warning: ", err=True, fg="yellow")
            else:
                shown_as_ever(message, category, *place, **more)

        warnings.showwarning = show
        yield


def _let_go_of_stdout() -> None:
    """Where nothing more can be written there: the exit of the process would complain once more."""
    try:
        sys.stdout.flush()
    except OSError:
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _version(wanted: bool | None) -> None:
    if wanted:
        from lso import __version__

        typer.echo(f"lso {__version__}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks; also LSO_DEBUG=1.")] = False,
    version: Annotated[
        bool | None, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Options before the command."""
    if debug:
        os.environ["LSO_DEBUG"] = "1"


def _add(name: str, command: Callable[..., None], panel: str, *examples: str, to: typer.Typer = app) -> None:
    text = "Examples:\n\n" + "\n\n".join(f"  {example}" for example in examples)
    to.command(name, rich_help_panel=panel or None, epilog=text)(guarded(command))


_add(
    "train",
    train.train,
    WORK,
    "lso train --method ne-vae-se",
    "lso train --method beta-vae:beta=0.2 --data images/ --latent-dim 16",
)
_add(
    "evaluate",
    evaluate.evaluate,
    WORK,
    "lso evaluate",
    "lso evaluate runs/a --split validation --limit 100 --json",
)
_add(
    "optimize",
    optimize.optimize,
    WORK,
    "lso optimize --target test:20 --optimizer adam",
    "lso optimize --model runs/a --target images/ --starts 4 --out search",
)
_add(
    "sweep",
    sweep.sweep,
    WORK,
    "lso sweep --method vae-anneal --method ne-vae-se --latent-dim 8,16,32 --seeds 3",
    "lso sweep --method vae --task omniglot --latent-dim 8,32 --seeds 5 --time-limit 9m --out runs/au",
)
_add(
    "reproduce",
    reproduce.reproduce,
    WORK,
    "lso reproduce nevae2021_table1 --time-limit 9m",
    "lso reproduce he2019_table2 --rows VAE,Ours --seeds 1 --limit 1000 --epochs 2 --arch he2019-small --out small",
    "lso reproduce he2019_table1_5_text_yelp --rows LSTM-LM,VAE,Ours --data yelp/ --seeds 1 --time-limit 9m",
)
_add("report", report.report, WORK, "lso report runs/a runs/b", "lso report runs/a --out comparison --json")
_add("sample", sample.sample, LOOK, "lso sample -n 100", "lso sample runs/a -n 16 --seed 1 --out sample.png")
_add("encode", encode.encode, LOOK, "lso encode --data test", "lso encode runs/a --data images/ --out codes.npz")
_add("decode", decode.decode, LOOK, "lso decode runs/a codes.npz", "lso decode runs/a codes.npz --out decoded/")
_add(
    "interpolate",
    interpolate.interpolate,
    LOOK,
    "lso interpolate runs/a test:3 test:8",
    "lso interpolate runs/a one.png two.png --steps 16 --out path.png",
)
_add("traverse", traverse.traverse, LOOK, "lso traverse", "lso traverse runs/a --dim 0,5 --range 5 --steps 21")
_add("list", listing.listing, HELP, "lso list methods", "lso list runs --json")
_add("doctor", doctor.doctor, HELP, "lso doctor", "lso doctor runs/a")

benchmarks = typer.Typer(no_args_is_help=True, help="The papers' benchmarks.")
app.add_typer(benchmarks, name="benchmark", rich_help_panel=WORK)
_add(
    "image-targets",
    benchmark.image_targets,
    "",
    "lso benchmark image-targets --models runs/vae runs/ne-vae-se --targets 50",
    "lso benchmark image-targets runs/a runs/b --targets 10 --max-steps 300 --lr 0.01,0.03",
    to=benchmarks,
)

_add(
    "lagging",
    benchmark.lagging,
    "",
    "lso benchmark lagging --quick",
    "lso benchmark lagging --seeds 3 --limit 4000 --stride 0.1 --time-limit 30m",
    to=benchmarks,
)

settings = typer.Typer(no_args_is_help=True, help="Show or write the configuration of a training; runs nothing.")
app.add_typer(settings, name="config", rich_help_panel=HELP)
_add(
    "show",
    config.show,
    "",
    "lso config show --method ne-vae-se",
    "lso config show --config runs/a/config.toml --epochs 200",
    to=settings,
)
_add(
    "init",
    config.init,
    "",
    "lso config init --method ne-vae-se",
    "lso config init --task mnist --out mnist.toml",
    to=settings,
)


def main() -> None:
    """Entry point of ``lso`` and of ``python -m lso``. ``--debug`` may stand anywhere."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # letters that the terminal's encoding lacks
    arguments = sys.argv[1:]
    if "--debug" in arguments:
        os.environ["LSO_DEBUG"] = "1"
        arguments.remove("--debug")
    command = typer.main.get_command(app)
    try:
        code = command.main(arguments, prog_name="lso", standalone_mode=False)
    except USAGE as error:  # typer's own would come in a box
        where = error.ctx.command_path if error.ctx is not None else "lso"
        if message := error.format_message():  # without one it is the help that was asked for by no arguments
            console.error(message, f"`{where} -h` shows what it takes.")
        sys.exit(error.exit_code)
    except typer.Abort:
        sys.exit(130)
    sys.exit(code if isinstance(code, int) else 0)
