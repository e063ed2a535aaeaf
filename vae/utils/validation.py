"""Single values checked: a two-line error where one is out of range or of the wrong type; and counts. Torch-free."""

from typing import Any, Literal, get_args, get_origin

from lso.vae.errors import UsageError


def require(condition: bool, what: str, got: object, remedy: str) -> None:
    """Raise a two-line error unless a parameter is in range."""
    if not condition:
        raise UsageError(f"expected {what}, got {got!r}", remedy)


def convert(value: Any, annotation: Any, where: str) -> Any:
    """Check a value against a plain annotation, reading strings as the command line gives them."""
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
            return int(value)  # not by way of float, which holds 53 bits
        if annotation in (int, float) and not isinstance(value, bool) and isinstance(value, int | float | str):
            number = float(value)
            if number == number and (annotation is float or number.is_integer()):
                return annotation(number)
    except (ValueError, KeyError):
        pass
    raise UsageError(f"{where}: expected {wanted}, got {value!r}", f"Give {wanted}.")


def pluralize(count: int, word: str) -> str:
    """A number with its noun."""
    return f"{count:,} {word}{'s' * (count != 1)}"
