"""Flags made from the fields of configuration dataclasses, by their `lso.vae.utils.settings.Setting`."""

import dataclasses
import functools
import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

import typer

from lso.cli.options import completion, seconds
from lso.vae.config.architectures import Architecture
from lso.vae.config.protocol import METHOD, SEED, DataConfig, Protocol
from lso.vae.utils.deprecation import RenamedWarning
from lso.vae.utils.settings import Setting, field_settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """A flag that sets one field of a dataclass."""

    section: str  # of the values that a command gets; empty for the top level
    key: str  # in that section
    kind: Any  # type of the field
    setting: Setting
    default: Any = None  # None: the flag has none, and `help` says what holds without it
    ranged: bool = True  # whether typer checks and shows the least value; else the configuration does, by its own error

    @property
    def name(self) -> str:
        """As it is typed."""
        return self.setting.flag or f"--{self.key.replace('_', '-')}"

    @property
    def variable(self) -> str:
        """The flag's name as a Python identifier, by which typer passes its value."""
        return self.name.strip("-").replace("-", "_") if self.setting.flag else self.key

    @property
    def typed(self) -> type:
        """The type as which typer reads it: a choice, a list and a time are text."""
        kind = self.kind
        if NoneType in get_args(kind):
            kind = next(one for one in get_args(kind) if one is not NoneType)
        text = get_origin(kind) in (Literal, Sequence) or self.setting.unit == "seconds"
        return str if text else kind

    def read(self, value: Any) -> Any:
        """What was typed as the field has it."""
        if self.setting.unit == "seconds":
            return seconds(value)
        if get_origin(self.kind) is Sequence:
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    def parameter(self, former: bool = False) -> inspect.Parameter:
        """The flag, or its former name, as a keyword parameter of a typer command."""
        setting, flag = self.setting, self.setting.former if former else self.name
        default = ",".join(self.default) if isinstance(self.default, tuple) else self.default
        option = typer.Option(
            f"{flag}/--no-{flag[2:]}" if self.typed is bool and default is not False else flag,
            help=setting.help,
            rich_help_panel=setting.heading,
            metavar=None if self.typed is bool else setting.metavar,
            show_default=default is not None,
            autocompletion=completion(setting.table) if setting.table else None,
            hidden=former,
            min=int(setting.least) if self.ranged and self.typed is int and setting.least is not None else None,
        )
        kind = self.typed if default is not None else self.typed | None
        annotation = Annotated[kind, option]  # type: ignore[valid-type]
        variable = setting.former.strip("-").replace("-", "_") if former else self.variable
        return inspect.Parameter(variable, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def flags_of(owner: type, section: str, *, implied: bool = False) -> list[Flag]:
    """The flags of the fields of a dataclass that have a heading; ``implied`` ones have no default of their own."""
    kinds = {field.name: field for field in dataclasses.fields(owner)}
    return [
        Flag(
            section=section,
            key=key,
            kind=kinds[key].type,
            setting=setting,
            default=None if implied or setting.implied else kinds[key].default,
            ranged=not implied,
        )
        for key, setting in field_settings(owner).items()
        if setting.heading
    ]


def with_flags(command: Callable[..., None], flags: Sequence[Flag]) -> Callable[..., None]:
    """Give a command these flags in place of its parameter ``values``, a nested mapping of what was given.

    A value that is the flag's default does not count as given.
    """

    @functools.wraps(command)
    def run(**arguments: Any) -> None:
        values: dict[str, Any] = {}
        for flag in flags:
            value = arguments.pop(flag.variable)
            if flag.setting.former and (old := arguments.pop(flag.parameter(former=True).name)) is not None:
                message = f"{flag.setting.former} is called {flag.name} now"
                warnings.warn(message, category=RenamedWarning, stacklevel=2)
                value = old if value is None else value
            if value is not None and (value := flag.read(value)) != flag.default:
                (values.setdefault(flag.section, {}) if flag.section else values)[flag.key] = value
        command(values=values, **arguments)

    added = [flag.parameter() for flag in flags]
    added += [flag.parameter(former=True) for flag in flags if flag.setting.former]
    own = [p.replace(kind=p.KEYWORD_ONLY) for p in inspect.signature(command).parameters.values()]
    at = [p.name for p in own].index("values")
    parameters = [*own[:at], *added, *own[at + 1 :]]
    # typer reads parameters from these two attributes, so the wrapper can offer flags that are in no source text.
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run


# --- the configuration of a training ----------------------------------------------------------------------------------

FIRST = ("epochs", "batch_size", "lengths")  # of the protocol's, in the help: what is changed most
FLAGS: tuple[Flag, ...] = (
    Flag(section="", key="method", kind=str, setting=METHOD),
    *flags_of(Architecture, "architecture", implied=True),
    Flag(section="", key="seed", kind=int, setting=SEED, ranged=False),
    *flags_of(DataConfig, "data", implied=True),
    *sorted(flags_of(Protocol, "protocol", implied=True), key=lambda flag: flag.key not in FIRST),
)


def configurable(command: Callable[..., None], flags: Sequence[Flag] = FLAGS) -> Callable[..., None]:
    """Give a command the flags of a training's configuration; see `with_flags`."""
    return with_flags(command, flags)


def given_flags(values: Mapping[str, Any]) -> list[str]:
    """The names of the flags that set these values of a training's configuration."""
    names = {(flag.section, flag.key): flag.name for flag in FLAGS}
    return [
        names[section, key]
        for section, part in values.items()
        for section, key in ([(section, key) for key in part] if isinstance(part, Mapping) else [("", section)])
    ]
