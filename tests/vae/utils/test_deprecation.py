"""Words of the public surface that have become others: the old ones do what the current ones do, and warn."""

import inspect
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import lso
from lso.vae.config.training import from_dict, from_folder, to_toml
from lso.vae.errors import RunError, UsageError
from lso.vae.runs import Run, update_run
from lso.vae.training.callbacks import Limits, TrainingCallback
from lso.vae.training.loop import train_model
from lso.vae.utils import run_schema
from lso.vae.utils.deprecation import RenamedWarning, renamed_arguments
from tests.vae.small import config, digits

FIELDS = """
import dataclasses, inspect, warnings
from lso.vae import Protocol
from lso.vae.config.components import SquaredReencoding

with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    protocol = Protocol(judge="last", judge_from=0)
    assert protocol == Protocol(monitor="last", monitor_from=0) and protocol.judge_from == 0
    assert dataclasses.replace(protocol, judge="elbo").monitor == "elbo"
    assert SquaredReencoding(shown="hard") == SquaredReencoding(reconstruction="hard")
assert "judge" not in inspect.signature(Protocol).parameters
print(*(warning.message for warning in told), sep="\\n")
"""


def test_old_fields_are_set_and_read() -> None:
    """In a process of its own: where annotations are checked, initializers are told their own names alone."""
    done = subprocess.run([sys.executable, "-c", FIELDS], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "judge of Protocol is called monitor now",
        "judge_from of Protocol is called monitor_from now",
        "judge_from of Protocol is called monitor_from now",
        "judge of Protocol is called monitor now",
        "shown of SquaredReencoding is called reconstruction now",
    ]


def test_old_parameters_of_methods_and_keys_of_configurations() -> None:
    with pytest.warns(RenamedWarning, match="shown of method ne-vae-lp is called reconstruction now"):
        old = lso.method("ne-vae-lp", c=0, shown="hard")
    assert old == lso.method("ne-vae-lp", c=0, reconstruction="hard") and "shown" not in old.params
    with pytest.raises(UsageError, match="unknown parameter of vae 'shown'"):
        lso.method("vae", shown="hard")
    with pytest.warns(RenamedWarning, match=r"judge of \[protocol\] is called monitor now"):
        assert from_dict({"protocol": {"judge": "last"}}).protocol.monitor == "last"
    with pytest.warns(RenamedWarning), pytest.raises(UsageError, match=r"protocol\.monitor"):
        from_dict({"protocol": {"judge": "best"}})


def test_old_attribute_is_read() -> None:
    with pytest.warns(RenamedWarning, match="alone of Method is called reason_not_batchable now"):
        assert lso.method("svi").alone == lso.method("svi").reason_not_batchable != ""


def test_folders_keep_their_words_and_nobody_is_told() -> None:
    chosen = config("ne-vae-se:reconstruction=hard", monitor="elbo", monitor_from=0)
    text = to_toml(chosen)
    old = text.replace("monitor", "judge").replace('reconstruction = "hard"', 'shown = "hard"')
    assert old != text and from_folder(old, "config.toml") == from_folder(text, "config.toml") == chosen


class Count(TrainingCallback):
    epochs = 0

    def epoch(self, row: Mapping[str, Any]) -> None:
        self.epochs += 1


def test_old_keywords_reach_the_function(tmp_path: Path) -> None:
    heard = Count()
    where: dict[str, Any] = {"dataset": digits(), "out": tmp_path / "r", "limits": Limits(steps=2), "epochs": 1}
    with pytest.warns(RenamedWarning, match=r"watch of train\(\) is called callback now"):
        lso.train("vae", watch=heard, **where)  # type: ignore[call-arg]
    assert heard.epochs == 1  # the row of the untrained model
    for function in (lso.evaluate, lso.minimize, lso.optimize, lso.resume, lso.search_targets, lso.weighted_retraining):
        names = inspect.signature(function).parameters
        assert "callback" in names and "watch" not in names, function.__name__


def test_the_warning_names_the_line_of_the_caller() -> None:
    lines = ["from lso.vae import Protocol", "from lso import evaluate, method", "p = Protocol(judge='last')"]
    lines += [
        "p.judge",
        "method('ne-vae-se', shown='hard')",
        "try: evaluate(None, None, watch=1)",
        "except Exception: pass",
    ]
    command = [sys.executable, "-W", "always", "-c", "\n".join(lines)]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    assert [line.split()[0] for line in told.splitlines() if "Renamed" in line] == [
        f"<string>:{n}:" for n in (3, 4, 5, 6)
    ]


def test_one_that_is_unknown_is_refused_as_ever() -> None:
    @renamed_arguments(watch="callback")
    def work(*, callback: int = 0) -> int:
        return callback

    assert work(callback=3) == 3
    with pytest.raises(TypeError, match="unexpected keyword argument 'wach'"):
        work(wach=3)  # type: ignore[call-arg]


def test_a_folder_states_its_format_and_one_of_a_later_format_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = train_model(config(epochs=0), digits(), tmp_path / "r")
    assert run.info["format"] == run_schema.FORMAT
    with monkeypatch.context() as later:
        later.setattr(run_schema, "FORMAT", run_schema.FORMAT + 1)
        update_run(run, sentence="")
    with pytest.raises(RunError, match=f"has format {run_schema.FORMAT + 1}, expected at most {run_schema.FORMAT}"):
        _ = Run(run.path).info
