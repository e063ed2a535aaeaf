"""A module of the user's own: trained by every method that suits it, resumed to the same bits, else refused."""

import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lso.vae import checkpoint, runs
from lso.vae.config.architectures import architecture
from lso.vae.config.methods import METHODS
from lso.vae.config.protocol import Protocol
from lso.vae.config.training import TrainConfig, to_toml
from lso.vae.errors import RunError, UsageError
from lso.vae.launch import ProcessInfo
from lso.vae.metrics.evaluation import evaluate_split
from lso.vae.models.sequence_decoding import decode_greedily
from lso.vae.models.user_module import latent_size, make_module
from lso.vae.models.vae import VAE, build
from lso.vae.runs import Run
from lso.vae.training.batchable import reason_not_batchable
from lso.vae.training.loop import Limits, TrainingCallback, resume_training, train_model
from lso.vae.training.module_checks import check_module
from lso.vae.training.setup import create_trainer
from lso.vae.utils import user_module
from lso.vae.utils.user_module import architecture_name
from tests.vae import own_modules
from tests.vae.own_modules import Pictures, Words
from tests.vae.small import assert_same_run, digits, quick, sentences

ROOT = Path(__file__).resolve().parents[3]
LIKELIHOODS = {"Words": "categorical", "WordsByStep": "categorical", "Bag": "categorical", "HardWords": "categorical"}
REFUSED = {
    "skip-vae": "has a decoder of its own",
    "pixelcnn": "is a module that decodes codes",
    "lstm-lm": "is a module that decodes codes",
}


def name_of(module: str) -> str:
    return f"tests.vae.own_modules:{module}"


def config(method: str = "vae", module: str = "Pictures", **protocol: Any) -> TrainConfig:
    """Two epochs of four steps of a module of `own_modules`."""
    networks = architecture(name_of(module), 0, LIKELIHOODS.get(module))
    options = {"epochs": 2, "batch_size": 32, "binarize": "none" if module in LIKELIHOODS else "dynamic", **protocol}
    return TrainConfig(method=quick(method), architecture=networks, protocol=Protocol(**options))


def data_of(module: str) -> Any:
    return sentences() if module in LIKELIHOODS else digits()


def model_of(module: str, method: str = "vae") -> VAE:
    """The VAE that a training would begin with."""
    chosen, data = config(method, module), data_of(module)
    made = make_module(getattr(own_modules, module), chosen.architecture, data.shape)
    sizes = replace(chosen.architecture, latent_dim=latent_size(made))
    return build(sizes, False, data.shape, 0, chosen.method.inference, data.vocabulary, module=made)


@pytest.fixture(autouse=True)
def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test begins as a process that was given no module."""
    monkeypatch.setattr(user_module, "_given", {})


class Kill(TrainingCallback):
    """Ends the session at a step, as a power cut would."""

    def __init__(self, at: int) -> None:
        self.at = at

    def step(self, done: int) -> None:
        if done == self.at:
            raise KeyboardInterrupt


# --- every method, to the same bits -----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [name for name in METHODS if name not in REFUSED])
def test_a_run_cut_in_an_epoch_is_the_unbroken_one(method: str, tmp_path: Path) -> None:
    chosen, data = config(method), digits()
    whole = train_model(chosen, data, tmp_path / "whole")
    assert whole.info["status"] == "finished" and whole.config.architecture.latent_dim == 3
    cut = train_model(chosen, data, tmp_path / "cut", limits=Limits(steps=3))
    torch.manual_seed(5)  # the global generator of another process
    torch.rand(7)
    assert_same_run(resume_training(Run(cut.path, trust=True), data).path, whole.path)


@pytest.mark.parametrize(
    ("module", "method"),
    [
        ("DropoutInDecode", "aggressive"),
        ("SharedLayer", "ne-vae-lp"),
        ("Pixels", "ne-vae-se"),
        ("Words", "ne-vae-se"),
        ("Bag", "aggressive"),
        ("Bag", "sa-vae"),
    ],
)
def test_modules_of_each_kind_are_resumed_to_the_same_bits(module: str, method: str, tmp_path: Path) -> None:
    chosen, data = config(method, module, epochs=1), data_of(module)
    whole = train_model(chosen, data, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):  # killed before there is a checkpoint: from the stored first weights
        train_model(chosen, data, tmp_path / "killed", callback=Kill(2))
    (tmp_path / "killed" / runs.LAST).unlink()
    assert_same_run(resume_training(Run(tmp_path / "killed", trust=True), data).path, whole.path)


@pytest.mark.parametrize(("method", "words"), REFUSED.items())
def test_methods_that_cannot_train_it_say_why(method: str, words: str) -> None:
    from lso.tasks.training.plan import plan

    task = "expressions" if method == "lstm-lm" else "digits"
    with pytest.raises(UsageError, match=words) as error:
        plan({"method": method, "architecture": {"name": "lab:Net"}, "data": {"task": task}})
    assert error.value.hint


@pytest.mark.parametrize(
    ("module", "method", "words"),
    [
        ("SharedLayer", "aggressive", "encode and decode of .* share both.weight"),
        ("DropoutInDecode", "svi", "draws random numbers at each call"),
        ("DropoutInDecode", "sa-vae", "draws random numbers at each call"),
        ("HardWords", "ne-vae-se", "takes token numbers only"),
    ],
)
def test_methods_that_need_more_of_a_module_say_what(module: str, method: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        check_module(model_of(module, method), quick(method))
    check_module(model_of(module), quick("vae"))


@pytest.mark.parametrize("method", ["svi", "sa-vae"])
def test_dropout_of_the_library_suits_methods_that_refuse_another(method: str, tmp_path: Path) -> None:
    run = train_model(config(method, "DropoutOfLso"), digits(), tmp_path / "r", limits=Limits(steps=2))
    assert run.info["status"] == "stopped"


def test_halves_are_those_of_the_computation() -> None:
    model = model_of("SharedLayer")
    halves = {half: {id(p) for p in weights} for half, weights in model.halves.items()}
    names = {half: {name for name, p in model.named_parameters() if id(p) in ids} for half, ids in halves.items()}
    assert names["encoder"] and all("to_code" in name for name in names["encoder"])
    assert all("to_image" in name or "both" in name for name in names["decoder"])
    assert sum(map(len, names.values())) == len(list(model.parameters()))


def test_frozen_weights_stay(tmp_path: Path) -> None:
    module = Pictures()
    module.to_image[0].requires_grad_(False)
    user_module.remember(architecture_name(module), module)
    run = train_model(config(), digits(), tmp_path / "r")
    trained = run.model().module
    assert isinstance(trained, Pictures) and trained is not module
    before, after = module.to_image.state_dict(), trained.to_image.state_dict()
    assert torch.equal(before["0.weight"], after["0.weight"]) and not torch.equal(before["2.weight"], after["2.weight"])
    assert int(module.steps) == 0 < int(trained.steps)  # a copy was trained


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("NoDecode", "has no method decode"),
        ("NoLatents", "has latent_dim None, expected a whole number"),
        ("OneTensor", r"encode of \(3, 1, 8, 8\) gives Tensor, expected mean and log_var"),
        ("FlatImages", r"decode\(z\) gives \(3, 64\), expected a tensor of shape \(3, 1, 8, 8\)"),
        ("NotFinite", r"encode \(log_var\) gives values that are not finite"),
        ("Counter", "changes calls in training, which is not in its state_dict"),
        ("LooseBuffer", "changes average in training, which is not in its state_dict"),
        ("NumpyNoise", "gives other results when a step is taken again"),
        ("NoisyEval", "decode gives another result in eval mode"),
        ("BatchStatistics", r"in eval mode encode \(mean\) of a datum depends on the others of its batch"),
        ("Peeking", "is autoregressive, and what decode"),
        ("Double", "in torch.float64, expected float32"),
        ("NoWeights", "has no weights to train"),
        ("NeedsMore", "needs depth, and is given shape and latent_dim at most"),
        ("Fails", "raised RuntimeError: no such file"),
        ("FailsLater", "failed on a few random data.*no attribute 'missing'"),
    ],
)
def test_a_broken_promise_is_told_in_two_lines(module: str, words: str, tmp_path: Path) -> None:
    state = torch.get_rng_state()
    with pytest.raises(UsageError, match=words) as error:
        train_model(config(module=module), digits(), tmp_path / "r")
    assert error.value.hint and "\n" not in error.value.message + error.value.hint
    assert not (tmp_path / "r").exists() and torch.equal(state, torch.get_rng_state())


def test_what_does_no_harm_is_accepted() -> None:
    check_module(model_of("LastActivations"), quick("vae"))


def test_a_run_is_opened_by_its_module_alone(tmp_path: Path) -> None:
    run = train_model(config(), digits(), tmp_path / "r")
    cut = train_model(config(), digits(), tmp_path / "s", limits=Limits(steps=1))
    user_module._given.clear()  # as another process, to which the folder may be a stranger's
    with pytest.raises(UsageError, match="names the module"):
        run.model()
    model = Run(run.path, trust=True).model()
    assert isinstance(model.module, Pictures)
    for other, words in (
        (Pictures(latent_dim=5), "has 5 latents .* latent_dim is 3"),
        (Pictures(width=9), r"has other weights than those of .*: to_code.1.0.weight is \(9, 64\) and was \(12, 64\)"),
        (own_modules.SharedLayer(), "has other weights than those of .*both.weight is new"),
        (nn.Linear(1, 1), "has no method encode"),
    ):
        user_module.remember(run.config.architecture.name, other)
        with pytest.raises(UsageError, match=words) as error:
            run.model()
        assert "\n" not in error.value.message + error.value.hint
    changed = Pictures()
    changed.to_image[1] = nn.Tanh()  # the same weights, another network
    user_module.remember(run.config.architecture.name, changed)
    with pytest.raises(UsageError, match="computes something else than in training"):
        run.model()
    with pytest.raises(UsageError, match="computes something else than in training"):
        resume_training(cut, digits())


def test_a_module_that_cannot_be_imported_has_to_be_given(tmp_path: Path) -> None:
    class Local(Pictures):
        pass

    name = user_module.architecture_name(Local())
    user_module.remember(name, Local())
    chosen = replace(config(), architecture=architecture(name, 0))
    run = train_model(chosen, digits(), tmp_path / "r")
    user_module._given.clear()
    with pytest.raises(UsageError, match="made where it cannot be imported from") as error:
        Run(run.path, trust=True).model()
    assert "lso.load(run, model=...)" in error.value.hint
    user_module.remember(name, Local)  # the class serves as well
    assert isinstance(run.model().module, Local)


def test_a_damaged_checkpoint_is_no_fault_of_the_module(tmp_path: Path) -> None:
    run = train_model(config(), digits(), tmp_path / "r", limits=Limits(steps=1))
    values = torch.load(run.path / runs.LAST, weights_only=True)
    values["model"].pop("decoder.module.steps")
    checkpoint.save_last(values, run.path / runs.LAST)
    with pytest.raises(RunError, match="does not fit this run"):
        resume_training(Run(run.path, trust=True), digits())


def test_folders_made_from_a_trusted_run_are_opened_as_well(tmp_path: Path) -> None:
    """As weighted retraining does, round by round."""
    run = train_model(config(), digits(), tmp_path / "r")
    user_module._given.clear()
    begun = Run(run.path, trust=True).model()
    again = train_model(run.config, digits(), tmp_path / "s", start=begun, limits=Limits(steps=2))
    user_module._given.clear()
    assert Run(run.path, trust=True).model().latent_dim == 3
    assert resume_training(Run(again.path), digits()).info["status"] == "finished"
    assert Run(again.path).model().latent_dim == 3


def test_several_processes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lso.vae.training.setup.process_info", lambda: ProcessInfo(rank=0, local=0, count=2))
    with pytest.raises(UsageError, match="which one process trains, and there are 2"):
        create_trainer(config(), digits(), tmp_path / "r")


def test_names_are_those_of_what_can_be_imported() -> None:
    for model in (Pictures, Pictures(), partial(Pictures, width=4), name_of("Pictures")):
        assert architecture_name(model) == name_of("Pictures")
    with pytest.raises(UsageError, match="cannot be imported from"):
        user_module.find_source(architecture_name(lambda: Pictures()), True)


# --- what is made of codes --------------------------------------------------------------------------------------------


def test_images_of_an_autoregressive_module_follow_its_conditionals() -> None:
    model = model_of("Pixels").eval()
    z, noise = torch.randn(2, 3), torch.rand(2, 1, 8, 8)
    with torch.no_grad():
        drawn = model.generate(z, "sample", noise)
        assert torch.equal(drawn, model.decode(z, drawn).sample(noise))
        greedy = model.generate(z, "greedy")
        assert torch.equal(greedy, model.decode(z, greedy).mode)


def test_sequences_are_the_same_token_by_token_and_by_prefix() -> None:
    slow, fast = model_of("Words").eval(), model_of("WordsByStep").eval()
    fast.load_state_dict(slow.state_dict())
    z = torch.randn(6, 3)
    assert torch.equal(decode_greedily(slow.stepwise, z, 7), decode_greedily(fast.stepwise, z, 7))
    bag = model_of("Bag").eval()
    tokens = bag.generate(z, "greedy")
    logits = bag.module.decode(z)  # type: ignore[operator,union-attr]
    logits[..., :2] = -torch.inf
    assert torch.equal(tokens[:, 1], logits[:, 0].argmax(-1))


def test_a_trained_one_is_measured_like_any_model(tmp_path: Path) -> None:
    run = train_model(config("iwae", "Words", epochs=1), sentences(), tmp_path / "r")
    model = Run(run.path, trust=True).model()
    assert isinstance(model.module, Words) and model.module.out.weight is model.module.embedding.weight
    found = evaluate_split(model, sentences().test, iw_samples=5, seed=0, split="test")
    assert found.iw_nll is not None and 0 < found.iw_nll <= found.neg_elbo + 1 and len(found.activity) == 3
    assert "trained alone" in reason_not_batchable(run.config)


def test_any_shape_of_pixels_will_do(tmp_path: Path) -> None:
    class Rows(nn.Module):
        latent_dim = 2

        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(10, 4), nn.Linear(2, 10)

        def encode(self, x: torch.Tensor) -> Any:
            return self.first(x.flatten(1)).chunk(2, -1)

        def decode(self, z: torch.Tensor) -> torch.Tensor:
            return self.last(z).view(-1, 1, 1, 10)  # type: ignore[no-any-return]

    import lso

    x = torch.rand(60, 1, 1, 10)
    data = lso.Dataset(name="rows", train=x[:40], validation=x[40:50], test=x[50:])
    settings: Mapping[str, Any] = {"protocol": {"binarize": "none"}, "architecture": {"likelihood": "gaussian"}}
    run = lso.train("vae", model=Rows(), dataset=data, epochs=1, out=tmp_path / "r", settings=settings, device="cpu")
    assert run.info["status"] == "finished" and (run.path / "report.html").is_file()


# --- killed -----------------------------------------------------------------------------------------------------------

CHILD = """
import sys
from pathlib import Path
import torch
from lso.vae.config.training import from_toml
from lso.vae.training import loop as training
from tests.vae.small import digits
torch.set_num_threads(1)
training.CHECKPOINT_SECONDS = 0.05
training.train_model(from_toml(Path(sys.argv[1]).read_text()), digits(), Path(sys.argv[2]))
"""


def test_a_killed_process_resumes_to_the_unbroken_run(tmp_path: Path) -> None:
    chosen = config("ne-vae-se", epochs=200, patience=4, max_decays=40)
    (tmp_path / "config.toml").write_text(to_toml(chosen))
    path = tmp_path / "killed"
    with subprocess.Popen([sys.executable, "-c", CHILD, tmp_path / "config.toml", path], cwd=ROOT) as child:
        while child.poll() is None and (
            not (path / runs.METRICS).exists() or len((path / runs.METRICS).read_bytes().splitlines()) < 12
        ):
            time.sleep(0.005)
        child.send_signal(signal.SIGKILL)
    assert Run(path).info["status"] == "running"
    limit = Limits(steps=4 * (Run(path).metrics()[-1]["epoch"] + 3))  # the rest need not be as long as planned
    resumed = resume_training(Run(path, trust=True), digits(), limits=limit)
    whole = train_model(chosen, digits(), tmp_path / "whole", limits=limit)
    assert_same_run(resumed.path, whole.path)
