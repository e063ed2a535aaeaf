"""What fields say of themselves: limits in words, choices, docstrings; and that every setting says something."""

import dataclasses
import math
from typing import Any, Literal

import pytest

from lso.tasks.retraining.options import RetrainingConfig, RetrainingSession
from lso.tasks.search.options import BlackBoxConfig, BlackBoxSession, GradientSession, SearchConfig
from lso.vae.config.architectures import Architecture
from lso.vae.config.methods import METHODS, parameter_settings, parameters
from lso.vae.config.protocol import DataConfig, Protocol
from lso.vae.errors import UsageError
from lso.vae.utils.settings import Setting, check_fields, documented, field_settings, same_setting, setting

CONFIGS: tuple[type, ...] = (Architecture, Protocol, DataConfig, SearchConfig, GradientSession, BlackBoxConfig)
CONFIGS += (BlackBoxSession, RetrainingConfig, RetrainingSession)


@documented
@dataclasses.dataclass(frozen=True, kw_only=True)
class Oven:
    """How a cake is baked.

    Raises:
        UsageError: if it would burn.
    """

    heat: float = setting(180.0, "Temperature.", unit="degrees", above=0, below=math.inf)
    minutes: int | None = setting(None, "Time.", least=1, most=90, remedy="40 is usual.")
    rack: Literal["low", "middle"] = setting("middle", "Where it stands.")

    def __post_init__(self) -> None:
        check_fields(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stove:
    heat: float = same_setting(Oven, "heat", default=90.0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"heat": 0.0}, "expected heat > 0 degrees and finite, got 0.0\n180 is the default."),
        ({"heat": math.nan}, "expected heat > 0 degrees and finite, got nan"),
        ({"minutes": 91}, "expected 1 <= minutes <= 90, got 91\n40 is usual."),
        ({"rack": "top"}, "expected rack=low or rack=middle, got 'top'\nmiddle is the default."),
    ],
)
def test_a_value_beyond_its_limits_is_refused_in_two_lines(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        Oven(**values)
    assert str(caught.value).startswith(message)


def test_what_fields_say_is_in_the_docstring_before_the_errors() -> None:
    text = str(Oven.__doc__)
    assert "        heat: Temperature. In degrees.\n        minutes: Time." in text
    assert text.index("Args:") < text.index("Raises:")
    assert Stove().heat == 90 and field_settings(Stove)["heat"] is not field_settings(Oven)["minutes"]
    assert field_settings(Stove)["heat"] == field_settings(Oven)["heat"]


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"least": 1}, "x >= 1"),
        ({"above": 0, "most": 1}, "0 < x <= 1"),
        ({"least": 0, "below": 1}, "0 <= x < 1"),
        ({"below": math.inf}, "x < inf"),
    ],
)
def test_limits_are_told_in_words(limits: dict[str, float], words: str) -> None:
    assert Setting(help="", **limits).expectation("x") == words  # type: ignore[arg-type]


@pytest.mark.parametrize("config", CONFIGS)
def test_every_setting_says_what_it_sets(config: type) -> None:
    known = field_settings(config)
    assert list(known) == [field.name for field in dataclasses.fields(config)]
    assert all(one.help[0].isupper() or one.help[0] in "1k" or one.help.startswith("adam") for one in known.values())
    assert all(one.help.endswith(".") for one in known.values())


@pytest.mark.parametrize("name", METHODS)
def test_every_parameter_of_a_method_says_what_it_sets(name: str) -> None:
    known = parameter_settings(name)
    assert list(known) == list(parameters(name)) and all(one.help.endswith(".") for one in known.values())
