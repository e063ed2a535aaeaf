"""The run that a command works on: given by position or as ``--model``, by one declaration for all commands."""

import functools
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import typer
from typer.models import ArgumentInfo

from lso.cli.options import complete_runs
from lso.tasks.task import TASKS
from lso.vae.errors import UsageError

POSITION, FLAG = "run", "model"  # parameters that typer sees


def takes_run(
    command: Callable[..., None] | None = None, *, parameter: str = POSITION, panel: str | None = None
) -> Any:
    """Let a command take its run both by position and as ``--model``; used as a decorator.

    Required arguments after the run keep their order, so that ``lso decode --model RUN CODES`` names the codes.

    Args:
        command: gets the run as ``parameter``, None where it was not given; a list where it takes several.
        parameter: declared as a `typer.Argument`, or as an option such as ``--resume``, beside which the run may then
            stand by position, too.
        panel: heading of ``--model`` in the help.
    """
    if command is None:
        return functools.partial(takes_run, parameter=parameter, panel=panel)
    own = {one.name: one for one in inspect.signature(command).parameters.values()}
    several = get_origin(_plain(own[parameter].annotation)) is list
    by_position = _is_argument(own[parameter])
    option = "" if by_position else f"--{parameter.replace('_', '-')}"
    place = parameter if by_position else POSITION
    required = [one.name for one in own.values() if one.default is one.empty and _is_argument(one)]
    others = [name for name in required if name != parameter]

    @functools.wraps(command)
    def run(**arguments: Any) -> None:
        flags = {"--model": arguments.pop(FLAG) or None}
        if option:
            flags = {option: arguments.pop(parameter), **flags}
        if any(flags.values()):
            _make_way(arguments, [place, *others])
        if others:
            arguments |= {name: _converted(own[name], arguments[name]) for name in (place, *others)}
        if "task" in own or option:
            _refuse_task(arguments[place])
        arguments[parameter] = _only_run({"RUN": arguments.pop(place), **flags})
        if missing := [name for name in required if arguments[name] is None]:
            raise UsageError(
                f"missing argument {' and '.join(map(str.upper, missing))}",
                f"Write RUN {' '.join(map(str.upper, others))}, or --model RUN {' '.join(map(str.upper, others))}.",
            )
        command(**arguments)

    parameters = [_as_optional(one) if one.name in required else one for one in own.values()]
    if others:  # the run's place may hold a sentence, which as a path would lose "./" and doubled slashes
        parameters = [_as_text(one) if one.name == place else one for one in parameters]
    if option:
        parameters.append(
            _parameter(POSITION, Path | None, typer.Argument(metavar="RUN", help=f"The same as {option} RUN.", **SHOWN))
        )
    kind = list[Path] | None if several else Path | None
    words = "The same as RUN" + ("; give the flag several times for several runs." if several else ".")
    parameters.append(
        _parameter(FLAG, kind, typer.Option("--model", help=words, metavar="RUN", rich_help_panel=panel, **SHOWN))
    )
    parameters = [one.replace(kind=one.KEYWORD_ONLY) for one in parameters]
    # typer reads parameters from these two attributes, as of `lso.cli.flags.with_flags`.
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    return run


SHOWN: Mapping[str, Any] = {"show_default": False, "autocompletion": complete_runs}


def _parameter(name: str, kind: Any, declared: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind, declared])


def _plain(annotation: Any) -> Any:
    """The type of a parameter, without typer's declaration and without None."""
    kind = get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
    return next((one for one in get_args(kind) if kind != list[Path] and one is not type(None)), kind)


def _is_argument(one: inspect.Parameter) -> bool:
    return any(isinstance(part, ArgumentInfo) for part in get_args(one.annotation))


def _as_optional(one: inspect.Parameter) -> inspect.Parameter:
    """A required argument that typer does not ask for, so that it may stand in the place of the run."""
    kind, *declared = get_args(one.annotation)
    return one.replace(default=None, annotation=Annotated[(kind | None, *declared)])


def _as_text(one: inspect.Parameter) -> inspect.Parameter:
    """An optional argument whose text typer leaves as it is."""
    _, *declared = get_args(one.annotation)
    return one.replace(annotation=Annotated[(str | None, *declared)])


def _converted(one: inspect.Parameter, value: Any) -> Any:
    """What was given, in the type that the command declares."""
    return None if value is None else _plain(one.annotation)(value)


def _make_way(arguments: dict[str, Any], names: list[str]) -> None:
    """Move arguments by position one place on where a flag names the run and the last place is empty."""
    if len(names) > 1 and arguments[names[-1]] is None:
        first, *values = (arguments[name] for name in names[:-1])
        arguments |= dict(zip(names, [None, first, *values], strict=True))


def _refuse_task(given: Any) -> None:
    """Refuse the name of a task in the place of a run."""
    if isinstance(given, Path) and str(given) in TASKS and not given.exists():
        raise UsageError(f"{given} is a task and no run", f"Write --task {given}.")


def _only_run(named: Mapping[str, Any]) -> Any:
    """The run that was given in one of these ways, None where in none; refused if two name different ones."""
    given = {way: value for way, value in named.items() if value}
    if len({tuple(map(_identity, value if isinstance(value, list) else [value])) for value in given.values()}) > 1:
        texts = [
            f"{way} {' '.join(map(str, value if isinstance(value, list) else [value]))}" for way, value in given.items()
        ]
        raise UsageError(
            f"different runs were given: {' and '.join(texts)}", "Name the run once, by position or as --model."
        )
    return next(iter(given.values()), None)


def _identity(path: Path) -> str:
    return str(path.resolve())
