"""Fields of configuration dataclasses that say what they set; flags, checks and documentation are made from them.

Torch-free, since the help of the command line reads them.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args, get_origin

from lso.vae.errors import UsageError

C = TypeVar("C", bound=type)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What there is to say of a field beside its type and its default."""

    help: str  # for the command line and the documentation
    unit: str = ""  # a flag in seconds takes 90s, 9m or 1.5h
    heading: str = ""  # in the help of the command line; empty: it has no flag
    metavar: str = "N"
    flag: str = ""  # name of the flag; empty: made from the field's
    former: str = ""  # an earlier name of the flag, which still works and is not listed
    table: str = ""  # "module:TABLE" whose rows are the names that can be given; their summaries complete in the shell
    implied: bool = False  # whether the default of the flag is another than the field's; `help` then states it
    changeable: bool = False  # whether a resumed run may be given another value
    # Limits of a number: least <= x, above < x, x <= most, x < below.
    least: float | None = None
    above: float | None = None
    most: float | None = None
    below: float | None = None
    remedy: str = ""  # what to do about a value beyond them, if it is more than to name the default

    @property
    def description(self) -> str:
        """What it sets and in which unit, in sentences."""
        return self.help + (f" In {self.unit}." if self.unit else "")

    def allows(self, value: float) -> bool:
        """Whether a value lies within the limits; NaN does not."""
        return (
            (self.least is None or value >= self.least)
            and (self.above is None or value > self.above)
            and (self.most is None or value <= self.most)
            and (self.below is None or value < self.below)
        )

    def expectation(self, name: str) -> str:
        """The limits in words, such as ``0 < decay <= 1`` or ``learning_rate > 0 and finite``."""
        low = self.least if self.above is None else self.above
        unit = f" {self.unit}" if self.unit else ""
        sign = ">=" if self.above is None else ">"
        if low is None:
            return f"{name} <= {self.most:g}" if self.below is None else f"{name} < {self.below:g}"
        if self.below == float("inf"):
            return f"{name} {sign} {low:g}{unit} and finite"
        if self.most is None and self.below is None:
            return f"{name} {sign} {low:g}{unit}"
        high, end = (self.most, "<=") if self.below is None else (self.below, "<")
        return f"{low:g} {'<=' if self.above is None else '<'} {name} {end} {high:g}"


def setting(default: Any, help: str, **facts: Any) -> Any:
    """A field of a dataclass with its default and its `Setting`; a callable default makes one for each instance."""
    metadata = {"setting": Setting(help=help, **facts)}
    if callable(default):
        return dataclasses.field(default_factory=default, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def same_setting(owner: type, name: str, **changes: Any) -> Any:
    """A field like that of another dataclass, perhaps with another ``default`` or other facts."""
    field = owner.__dataclass_fields__[name]  # type: ignore[attr-defined]
    default = changes.pop("default", field.default)
    return dataclasses.field(
        default=default, metadata={"setting": dataclasses.replace(field.metadata["setting"], **changes)}
    )


def field_settings(owner: type) -> Mapping[str, Setting]:
    """The `Setting` of each field of a dataclass that has one."""
    return {field.name: field.metadata["setting"] for field in dataclasses.fields(owner) if "setting" in field.metadata}


def check_fields(config: Any) -> None:
    """Check the numbers and the choices of a dataclass, in ``__post_init__``; None is no number.

    Raises:
        UsageError: for a number beyond the limits of its `Setting`, or what is not one of the words of a `Literal`.
    """
    for field in dataclasses.fields(config):
        known, value = field.metadata.get("setting"), getattr(config, field.name)
        if known is None:
            continue
        remedy = known.remedy or f"{_plain(field.default)} is the default."
        if get_origin(field.type) is Literal and value not in get_args(field.type):
            words = [f"{field.name}={word}" for word in get_args(field.type)]
            raise UsageError(f"expected {', '.join(words[:-1])} or {words[-1]}, got {value!r}", remedy)
        if isinstance(value, int | float) and not known.allows(value):
            raise UsageError(f"expected {known.expectation(field.name)}, got {value!r}", remedy)


def _plain(default: Any) -> str:
    return f"{default:g}" if isinstance(default, float) else str(default)


def documented(owner: C) -> C:
    """A decorator of such dataclasses: their docstring gets the section ``Args:`` from the settings."""
    lines = [f"        {name}: {known.description}" for name, known in field_settings(owner).items()]
    before, _, raises = (owner.__doc__ or "").rstrip().partition("\n    Raises:")
    owner.__doc__ = "\n".join([before, "", "    Args:", *lines, *([f"    Raises:{raises}"] if raises else []), "    "])
    return owner
