"""Importing BoTorch without a warning that is not ours to mend."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def importing_botorch() -> Iterator[None]:
    """Silence what linear_operator, below GPyTorch, says on import under torch >= 2.12: `torch.jit.script` is
    deprecated.

    Yields:
        Nothing; imports inside the block are quiet about this one thing.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*torch\.jit\.script", category=DeprecationWarning)
        yield
