"""Annotations are checked while tests run, each once a call.

The hook that `--jaxtyping-packages` installs binds and checks the arguments of every function twice, shapes or not,
which took more time than what most tests are about. Here the same checks are beartype's alone where no annotation has
a shape, and made in one pass where one has.
"""

from collections.abc import Callable, Iterator
from functools import wraps
from inspect import isclass, isfunction, isgeneratorfunction
from typing import Any, ForwardRef, Literal, get_args, get_origin

import jaxtyping

hooked: Any = jaxtyping  # the module in which the hook looks for its decorator
jaxtyped = hooked.jaxtyped


def leaves(annotation: Any) -> Iterator[Any]:
    """What an annotation is made of: types, arrays with their shapes, names."""
    if get_origin(annotation) is Literal:  # whose strings are no names
        return
    parts = annotation if isinstance(annotation, list) else get_args(annotation)  # a list: arguments of a Callable
    if not parts:
        yield annotation
    for part in parts:
        yield from leaves(part)


def has_shape(leaf: Any) -> bool:
    """Whether it is an array with a shape."""
    return isclass(leaf) and issubclass(leaf, jaxtyping.AbstractArray)


def once(typechecker: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The decorator that the hook puts on functions and classes."""

    def decorate(what: Any) -> Any:
        found = [leaf for one in getattr(what, "__annotations__", {}).values() for leaf in leaves(one)]
        shaped = [leaf for leaf in found if has_shape(leaf)]
        if (
            not isfunction(what)
            or any(isinstance(leaf, str | ForwardRef) for leaf in found)  # names, which may never be there
            or (shaped and isgeneratorfunction(what))
            or any("{" in leaf.dim_str for leaf in shaped)  # sizes that ask for arguments
        ):
            return jaxtyped(what, typechecker=typechecker)
        checked = typechecker(what)
        return _alone(checked) if shaped else checked

    return decorate


def _alone(checked: Callable[..., Any]) -> Callable[..., Any]:
    """Names in shapes mean the same within a call, and nothing outside it."""
    sizes = jaxtyped("context")

    @wraps(checked)
    def call(*args: Any, **kwargs: Any) -> Any:
        with sizes:
            return checked(*args, **kwargs)

    return call


def check_once() -> None:
    """Have what is imported from now on checked so."""
    hooked.jaxtyped = lambda *, typechecker: once(typechecker)
