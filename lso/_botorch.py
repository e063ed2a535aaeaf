"""Importing BoTorch without a deprecation warning of its dependencies."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def importing_botorch() -> Iterator[None]:
    """Ignore the warning that `torch.jit.script` is deprecated, in imports inside the block.

    linear_operator, a dependency of GPyTorch, causes it under torch >= 2.12.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*torch\.jit\.script", category=DeprecationWarning)
        yield
