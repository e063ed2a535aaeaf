"""The ``lso`` command: loads the command that is asked for, and turns errors into two lines and an exit code."""

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
from typer.core import TyperGroup

from lso.cli import console
from lso.cli.commands import COMMANDS, GROUPS
from lso.vae.errors import LsoError, UsageError
from lso.vae.launch import process_info
from lso.vae.utils.deprecation import RenamedWarning
from lso.vae.utils.lazy import resolve

# Base class of the parser's usage errors; typer has click's in some versions and a copy of its own in others.
USAGE_ERROR: Any = typer.BadParameter.__base__


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
            if name != "train" and process_info().count > 1:
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
        typer.echo(_describe_torch())
        raise typer.Exit


def _describe_torch() -> str:
    """The version of PyTorch, and the device on which commands compute by default."""
    try:
        import torch
    except ImportError as error:  # e.g. a library of the system is missing: `lso doctor` says more
        return f"torch cannot be imported ({error})"
    name = f"cuda ({torch.cuda.get_device_name()})" if torch.cuda.is_available() else "cpu"
    return f"torch {torch.__version__}, device {name}"


@functools.cache
def _load_command(name: str) -> Any:
    """Import a command of `COMMANDS` and read its arguments and options."""
    row = COMMANDS[name]
    alone = typer.Typer(add_completion=False)
    examples = "Examples:\n\n" + "\n\n".join(f"  {example}" for example in row.examples)
    function = resolve(f"lso.cli.commands.{row.function}")
    alone.command(name.split()[-1], epilog=examples)(guarded(function, name))
    return typer.main.get_command(alone)


class LazyGroup(TyperGroup):
    """A group that imports the command that is called, and lists the others by their rows."""

    def load(self, name: str) -> Any:
        """The command of this name, imported, or the group of this name."""
        path = name if self.name == app.info.name else f"{self.name} {name}"
        return self.commands[name] if path in GROUPS else _load_command(path)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The name that the arguments begin with, its command, and the arguments after it."""
        name, listed, rest = super().resolve_command(ctx, args)
        return name, listed if name is None else self.load(name), rest


app = typer.Typer(
    cls=LazyGroup,
    name="lso",
    help="Train a VAE whose latents do not collapse, search its latent space, and see whether to believe the result.",
    epilog="Start here:\n\n  lso train --method ne-vae-se\n\n  lso optimize --target test:20 --optimizer adam",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def options(
    debug: Annotated[
        bool,
        typer.Option("--debug", help="Show tracebacks of errors. The environment variable LSO_DEBUG=1 does the same."),
    ] = False,
    version: Annotated[
        bool | None,
        typer.Option(
            "--version",
            help="Print the versions of lso and torch and the device, and exit.",
            callback=_print_version,
            is_eager=True,
        ),
    ] = False,
) -> None:
    """Options before the command."""
    if debug:
        os.environ["LSO_DEBUG"] = "1"


def _list_commands() -> None:
    """Register what lists and completion show of the commands; `LazyGroup` loads them."""
    groups = {"": app}
    for name, group in GROUPS.items():
        groups[name] = typer.Typer(cls=LazyGroup, no_args_is_help=True, help=group.summary)
        app.add_typer(groups[name], name=name, rich_help_panel=group.panel)
    for path, row in COMMANDS.items():
        above, _, name = path.rpartition(" ")
        groups[above].command(name, help=row.summary, rich_help_panel=row.panel or None)(lambda: None)


_list_commands()


def _usage_hint(context: Any, where: str, message: str) -> str:
    """What to do about a wrong argument or option; `context` is that of the command, None without one."""
    from lso.tasks.task import TASKS

    hint = f"`{where} -h` shows the arguments and options."
    words = message.partition("unexpected extra argument")[2].replace("(", " ").replace(")", " ").split()
    named = [word for word in words if word in TASKS]
    takes_task = any("--task" in option.opts for option in context.command.params) if context is not None else False
    return f"Write --task {named[0]}. {hint}" if named and takes_task else hint


def run_command_line() -> None:
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
            console.error(message, _usage_hint(error.ctx, where, message))
        sys.exit(error.exit_code)
    except typer.Abort:
        sys.exit(130)
    sys.exit(code if isinstance(code, int) else 0)
