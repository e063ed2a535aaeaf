"""Annotations of `lso` are checked while its tests run: shapes, types, fields, of arguments and of what comes back."""

from collections.abc import Callable
from typing import Any, Literal

import pytest
import torch
from beartype import beartype
from beartype.roar import BeartypeCallHintViolation
from jaxtyping import Float, TypeCheckError
from torch import Tensor

from lso.vae.distributions.gaussian import DiagonalGaussian, normal_log_prob
from lso.vae.utils.validation import pluralize
from tests.annotations import has_shape, leaves, once

WRONG = (BeartypeCallHintViolation, TypeCheckError)


@pytest.fixture(autouse=True)
def hooked(request: pytest.FixtureRequest) -> None:
    if not request.config.getoption("jaxtyping_packages"):
        pytest.skip("--jaxtyping-packages, which pyproject.toml gives, was taken away")


def test_annotations_of_functions_methods_and_fields_are_checked() -> None:
    two, three = torch.zeros(4, 2), torch.zeros(4, 3)
    wrong: list[tuple[Callable[..., Any], tuple[Any, ...]]] = [
        (normal_log_prob, (two, two, three)),  # a shape that another argument has set
        (normal_log_prob, (two.long(), two, two)),  # a kind of number
        (DiagonalGaussian, (two, three)),
        (DiagonalGaussian(two, two).log_prob, (three,)),
        (pluralize, (1.5, "line")),  # no shape anywhere
    ]
    for what, given in wrong:
        with pytest.raises(WRONG):
            what(*given)


def test_what_comes_back_is_checked_against_what_was_given() -> None:
    @once(beartype)
    def doubled(x: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        return x if len(x) < 3 else x.repeat(2)

    @once(beartype)
    def length(x: "Float[Tensor, ' n']") -> int:  # in quotes
        return len(x) if len(x) < 3 else str(len(x))  # type: ignore[return-value]

    for what in (doubled, length):
        what(torch.zeros(2))
        with pytest.raises(WRONG):
            what(torch.zeros(3))


def test_shapes_and_names_are_found_in_any_annotation() -> None:
    shape = Float[Tensor, " n"]
    annotation: Any
    for annotation in (shape, shape | None, list[shape], Callable[[int, shape], None], tuple[dict[str, shape], ...]):
        assert any(map(has_shape, leaves(annotation)))
    for annotation in (Tensor, int | None, list[Tensor], Callable[[int], Tensor], None, Any, Literal["n"]):
        assert not any(map(has_shape, leaves(annotation))) and "n" not in leaves(annotation)
    for annotation in ("n", tuple["n", int], Callable[[list["n"]], None]):  # type: ignore[name-defined]  # noqa: F821
        assert "n" in leaves(annotation)
