"""What is left out means the same in Python and on the command line: every default of each public function is compared.

Both sides are derived: from the signatures (and the settings that they take), and from the commands' options, with
what a command makes of an option that is left out. A difference is a row of `ON_PURPOSE`, said in help and docstring.
"""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import pytest

import lso
from lso.cli.commands import optimize as optimize_command
from lso.cli.commands.latent_common import DrawOptions
from lso.cli.main import _load_command
from lso.optimizers import parse_optimizer
from lso.tasks.retraining.options import RetrainingConfig
from lso.tasks.search.options import BlackBoxConfig, SearchConfig
from lso.tasks.training.multi_run import train_all
from lso.tasks.training.plan import explain_method, plan
from lso.tasks.training.run_set import EvaluationSpec
from lso.vae.config.methods import METHODS, RECOMMENDED, parse_method

Values = Mapping[str, Any]


# --- the command line -------------------------------------------------------------------------------------------------


def flags(command: str) -> dict[str, Any]:
    """The option of each parameter of a command, by name."""
    return {one.name: one for one in _load_command(command).params}


def defaults(command: str) -> dict[str, Any]:
    """What each option is where it is left out, by the name of its parameter."""
    found = {name: one.default for name, one in flags(command).items()}
    return {name: getattr(value, "value", value) for name, value in found.items()}  # choices are enumerations


def of_search(kind: str) -> dict[str, Any]:
    """What `lso optimize` searches with where no option is given but what makes the search one of this kind."""
    name, options = parse_optimizer("adam" if kind == "gradient" else "turbo")
    given = {"every": 50} if kind == "retraining" else {}
    make = {
        "gradient": (optimize_command._gradient, SearchConfig),
        "black_box": (optimize_command._black_box, BlackBoxConfig),
        "retraining": (optimize_command._retraining, RetrainingConfig),
    }[kind]
    target = "test:1" if kind == "gradient" else None
    settings, session = make[0](given, name, options, target, 0)
    return defaults("optimize") | dataclasses.asdict(make[1](**settings)) | session


def of_texts(default: str, common: bool) -> dict[str, Any]:
    """How a command decodes codes into text where no option is given."""
    return dataclasses.asdict(DrawOptions().for_text(default, common=common))  # type: ignore[arg-type]


# --- Python -----------------------------------------------------------------------------------------------------------


def parameters(function: Callable[..., Any]) -> dict[str, Any]:
    """The defaults of a function, those of the settings that it takes in their place."""
    found: dict[str, Any] = {}
    for name, one in inspect.signature(function).parameters.items():
        if dataclasses.is_dataclass(one.default) and name == "config":
            found |= {f.name: getattr(one.default, f.name) for f in dataclasses.fields(one.default)}
        elif name == "config" and one.kind is one.VAR_KEYWORD:
            found |= dataclasses.asdict(RetrainingConfig(optimizer=found["optimizer"]))
        elif one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL) and one.default is not one.empty:
            found[name] = one.default
    return found


# Function -> what its command takes where nothing is given.
PAIRS: dict[str, tuple[Callable[..., Any], Callable[[], Values]]] = {
    "train": (lso.train, lambda: defaults("train")),
    "resume": (lso.resume, lambda: defaults("train")),
    "load": (lso.load, lambda: defaults("evaluate")),
    "Run": (lso.Run, lambda: defaults("evaluate")),
    "evaluate": (lso.evaluate, lambda: defaults("evaluate")),
    "search_targets": (lso.search_targets, lambda: of_search("gradient")),
    "minimize": (lso.minimize, lambda: of_search("gradient")),
    "optimize": (lso.optimize, lambda: of_search("black_box")),
    "weighted_retraining": (lso.weighted_retraining, lambda: of_search("retraining")),
    "export": (lso.export, lambda: defaults("export")),
    "VAE.generate": (lso.VAE.generate, lambda: defaults("sample")),
    "Generation of decode": (lso.Generation, lambda: of_texts("greedy", True)),
    "Generation of sample": (lso.Generation, lambda: of_texts("sample", False)),
    "sweep": (train_all, lambda: defaults("sweep")),
    "evaluation of sweep": (EvaluationSpec, lambda: defaults("sweep") | {"iw_samples": 500}),  # as its help says
}
RENAMED = {("evaluation of sweep", "limit"): "test_limit", ("sweep", "seconds"): "time_limit"}
# Public functions that no command calls: they are parts of what commands do.
WITHOUT_COMMAND = {"invert", "load_dataset", "make_optimizer", "method", "probe"}
# Parameters that no option sets, and parameters whose name an option has for something else.
NO_OPTION = {
    "callback", "progress", "told", "facts", "limits",  # how a caller watches and stops; Ctrl-C and bars in a terminal
    "dataset", "settings", "model", "pixels", "files",  # objects; a command has files and flags
    "window", "trace_every", "bounds", "start_names", "options", "patience", "scored",  # details of a search
    "executor",  # --workers
    "resume",  # --resume RUN, of a run and not of a truth value
    "known",  # codes and values; the option is a number of data that the task knows
    "made", "name", "spec", "longer", "repeats", "learning_rate", "noise", "how",
}  # fmt: skip
# (function, parameter) -> why it differs, words of the option's help and words of the docstring that say so.
ON_PURPOSE: dict[tuple[str, str], tuple[str, str, str]] = {
    ("load", "device"): (
        "in Python the model meets tensors of the user's, which are on the CPU; commands move all data themselves",
        "lso.load in Python: cpu",
        "the CPU, where tensors of yours are",
    ),
    ("optimize", "batch"): (
        "one code at a time makes the most of each call; the command line keeps --workers busy",
        "in Python: 1",
        "the command line proposes 4",
    ),
    ("weighted_retraining", "batch"): (
        "the published setting; on the command line as of all black-box searches",
        "in Python: 1",
        "batch 1",
    ),
    ("weighted_retraining", "budget"): (
        "the published setting; on the command line as of all black-box searches",
        "in Python: 500",
        "budget 500",
    ),
    ("Generation of sample", "common"): (
        "draws of `lso sample` are to be independent; a search needs the same text for the same code",
        "",
        "function of the code",
    ),
    ("sweep", "together"): (
        "the function trains one after the other, as published tables are; a sweep batches where that is faster",
        "Default: batched where that was measured to be faster",
        "",
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_defaults_are_the_same_on_both_sides(name: str) -> None:
    function, command = PAIRS[name]
    mine, theirs = parameters(function), command()
    compared = 0
    for parameter, value in mine.items():
        other = RENAMED.get((name, parameter), parameter)
        if parameter in NO_OPTION and (name, parameter) not in ON_PURPOSE:
            continue
        assert other in theirs, f"{parameter} of {name} has no option of that name: see NO_OPTION and RENAMED"
        compared += 1
        found = tuple(theirs[other]) if isinstance(theirs[other], list) else theirs[other]
        if (name, parameter) in ON_PURPOSE:
            assert found != value, f"{parameter} of {name} differs no more: its row of ON_PURPOSE goes"
        else:
            assert found == value, f"{parameter} of {name} is {value!r} in Python and {found!r} on the command line"
    assert compared


@pytest.mark.parametrize(("name", "parameter"), ON_PURPOSE)
def test_differences_are_said_on_both_sides(name: str, parameter: str) -> None:
    reason, in_help, in_docstring = ON_PURPOSE[name, parameter]
    command = {"load": "evaluate", "sweep": "sweep", "Generation of sample": "sample"}.get(name, "optimize")
    assert reason
    if in_help:
        assert in_help in flags(command)[parameter].help
    if in_docstring:
        assert in_docstring in " ".join((inspect.getdoc(PAIRS[name][0]) or "").split())


def test_every_public_function_is_compared() -> None:
    public = {name for name in lso.__all__ if inspect.isfunction(getattr(lso, name))}
    assert public == {name for name in PAIRS if name in public} | WITHOUT_COMMAND


def test_both_sides_train_the_same_where_nothing_is_given(monkeypatch: pytest.MonkeyPatch, lso_command: Any) -> None:
    """The plan, the method that is recommended, and the sentence that says so."""
    planned: list[Any] = []

    def stop(full: Any, *_: Any, **__: Any) -> Any:
        planned.append(full)
        raise lso.LsoError("planned")

    monkeypatch.setattr("lso.tasks.training.experiment.train_planned", stop)
    told: list[str] = []

    class Listen(lso.Callback):
        def on_log(self, event: Any) -> None:
            told.append(event.text)

    with pytest.raises(lso.LsoError, match="planned"):
        lso.train(callback=Listen())
    result = lso_command("train")
    assert "planned" in result.stderr and len(planned) == 2 and planned[0] == planned[1]
    assert len(told) == 1 and told[0] in " ".join(result.stderr.split())
    assert told[0].startswith("No method was given: taking ne-vae-se") and "\n" not in told[0]
    told.clear()
    with pytest.raises(lso.LsoError, match="planned"):
        lso.train("vae", callback=Listen())
    assert not told


@pytest.fixture
def lso_command(lso: Any) -> Any:
    """`lso` names the package here."""
    return lso


@pytest.mark.parametrize(("task", "kind"), [("digits", "image"), ("expressions", "sequence")])
def test_a_recommended_method_suits_its_data(task: str, kind: str) -> None:
    full = plan({"data": {"task": task}})
    row = RECOMMENDED[kind]  # type: ignore[index]
    assert full.method == parse_method(row.method)
    assert full.method.name in METHODS and row.method.partition(":")[0] == full.method.name
    sentence = explain_method({"data": {"task": task}}, None, full)
    assert row.method in sentence and row.reason in sentence
    assert explain_method({"method": "vae"}, None, full) == ""
