"""Checks of single values, with a two-line error for one out of range or of a wrong type; and plurals. Torch-free."""

from typing import Any, Literal, get_args, get_origin

from lso.vae.errors import UsageError


def require(condition: bool, expected: str, got: object, remedy: str) -> None:
    """Raise a two-line error (what was expected, what came, what to do) unless a condition holds."""
    if not condition:
        raise UsageError(f"expected {expected}, got {got!r}", remedy)


def convert(value: Any, annotation: Any, where: str) -> Any:
    """A value as its annotation (bool, int, float, str or a Literal) wants it; text is read as on the command line."""
    if get_origin(annotation) is Literal:
        if value in get_args(annotation):
            return value
        raise UsageError(
            f"{where}: expected one of {', '.join(get_args(annotation))}, got {value!r}", "Choose one of them."
        )
    wanted = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}[annotation]
    try:
        if annotation is bool:
            return {"true": True, "false": False}[str(value).lower()]
        if annotation is str and isinstance(value, str):
            return value
        if annotation is int and isinstance(value, int | str) and not isinstance(value, bool):
            return int(value)  # not by way of float, which is exact up to 53 bits only
        if annotation in (int, float) and not isinstance(value, bool) and isinstance(value, int | float | str):
            number = float(value)
            if number == number and (annotation is float or number.is_integer()):
                return annotation(number)
    except (ValueError, KeyError):
        pass
    raise UsageError(f"{where}: expected {wanted}, got {value!r}", f"Give {wanted}.")


def format_duration(seconds: float) -> str:
    """A duration in words, such as ``3 min 20 s``."""
    if seconds < 9.95:
        return f"{seconds:z.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def short_number(value: float) -> str:
    """A number with the four digits that count: ``0.1235``, ``20,000``."""
    return f"{value:z,.0f}" if 1e4 <= abs(value) < 1e9 else f"{value:z.4g}"


def pluralize(count: int, word: str) -> str:
    """A count with its noun: ``1 run``, ``1,200 runs``."""
    return f"{count:,} {word}{'s' * (count != 1)}"
