"""The error tree: two lines, exit codes, nearest names."""

import pytest

from lso.vae.errors import DataError, DivergedError, LsoError, RunError, ShapeError, UsageError, unknown_name


@pytest.mark.parametrize("kind", [UsageError, ShapeError, DataError, RunError, DivergedError])
def test_every_error_is_one_tree_with_two_lines(kind: type[LsoError]) -> None:
    error = kind("what is wrong", "what to do")
    assert isinstance(error, LsoError)
    assert str(error) == "what is wrong\nwhat to do" and (error.message, error.hint) == ("what is wrong", "what to do")
    assert str(kind("alone")) == "alone"


def test_exit_code_is_two_for_usage_and_one_for_the_rest() -> None:
    assert [kind.exit_code for kind in (UsageError, ShapeError)] == [2, 2]
    assert [kind.exit_code for kind in (LsoError, DataError, RunError, DivergedError)] == [1, 1, 1, 1]
    assert issubclass(UsageError, ValueError)  # for callers who know nothing of the tree


def test_unknown_name_offers_the_nearest_and_lists_all() -> None:
    near = unknown_name("method", "ne-vae-sq", ["vae", "ne-vae-se"])
    assert str(near) == "unknown method 'ne-vae-sq'\nDid you mean 'ne-vae-se'? Known: ne-vae-se, vae."
    assert unknown_name("method", "qqqq", ["vae"]).hint == "Known: vae."
