"""Which trainings may go as one batched model: all that is not a member's own has to be equal, new fields too."""

from dataclasses import dataclass, field, fields, make_dataclass, replace
from typing import Any, get_args

import pytest

from lso.vae.config.methods import Method, method
from lso.vae.config.protocol import Protocol
from lso.vae.config.training import SECTIONS, TrainConfig
from lso.vae.errors import UsageError
from lso.vae.training.batchable import MEMBER_FIELDS, batch_key
from tests.vae.small import config

METHOD = method("vae", anneal=1.0)


def grown(part: Any, value: float) -> Any:
    """The same part of a configuration with one more field, as a later version may have it."""
    cls = make_dataclass(
        "Grown", [("extra", float, field(default=0.0))], bases=(type(part),), frozen=True, slots=True, kw_only=True
    )
    return cls(**{each.name: getattr(part, each.name) for each in fields(part)}, extra=value)


@pytest.mark.parametrize("part", ["method", "protocol", "architecture", "data"])
def test_a_field_that_is_added_later_keeps_trainings_apart(part: str) -> None:
    chosen = config("vae")
    of = [replace(chosen, **{part: grown(getattr(chosen, part), value)}) for value in (0.0, 1.0)]
    assert batch_key(of[0]) is not None and batch_key(of[0]) == batch_key(of[0])
    assert batch_key(of[0]) != batch_key(of[1])
    assert len({batch_key(one) for one in of}) == 2, "hashable, as groups are formed by it"


def test_a_field_of_the_whole_that_is_added_later_keeps_trainings_apart() -> None:
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Longer(TrainConfig):
        extra: float = 0.0

    chosen = config("vae")
    sections = {each.name: getattr(chosen, each.name) for each in fields(chosen)}
    one, other = (Longer(**sections, extra=value) for value in (0.0, 1.0))
    assert batch_key(one) != batch_key(other)


@pytest.mark.parametrize("name", [each.name for each in fields(Protocol)])
def test_protocols_that_differ_anywhere_but_in_rates_are_kept_apart(name: str) -> None:
    chosen = config("vae")
    before, words = getattr(chosen.protocol, name), get_args(Protocol.__annotations__[name])
    if words:
        value: Any = next(word for word in words if word != before)
    elif isinstance(before, bool):
        value = not before
    else:
        value = before / 2 or 3 if isinstance(before, float) else before + 1
    other = replace(chosen, protocol=replace(chosen.protocol, **{name: value}))
    assert (batch_key(chosen) == batch_key(other)) == (name in MEMBER_FIELDS[Protocol]), name


def test_what_is_a_members_own_may_differ() -> None:
    chosen = config("vae", anneal=1)
    for other in (
        config("vae", seed=5),
        config("vae", learning_rate=1e-2, encoder_learning_rate=1e-4),
        config("vae", anneal=3),
        config("beta-vae:beta=0.3"),
    ):
        assert batch_key(other) == batch_key(chosen)
    assert batch_key(config("free-bits")) != batch_key(chosen) != batch_key(config("ne-vae-se"))


def test_a_baseline_refuses_whatever_acts_on_latents() -> None:
    """`Method` asks by exclusion too: a field that is added later is an axis."""
    later = make_dataclass(
        "Later", [("extra", float, field(default=0.0))], bases=(Method,), frozen=True, slots=True, kw_only=True
    )
    assert not later(name="b", latents=False).latents
    with pytest.raises(UsageError, match="no latents"):
        later(name="b", latents=False, extra=1.0)
    with pytest.raises(UsageError, match="no latents"):
        Method(name="b", latents=False, skip=True)


def test_the_file_of_a_training_has_every_section() -> None:
    assert {each.name for each in fields(TrainConfig)} == {"seed", "method", *SECTIONS}
