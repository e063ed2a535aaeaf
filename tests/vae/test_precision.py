"""Steps in bfloat16: near those in float32, all but the layers in float32; processors without; the layout of weights.

What a processor can do is asked of `lso.vae.precision.time_layer` alone, whose answer some tests replace.
"""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from lso.vae import precision as precisions
from lso.vae.checkpoint import load_model, pack_model
from lso.vae.config.protocol import Precision, Protocol
from lso.vae.config.training import from_toml, to_toml
from lso.vae.errors import UsageError
from lso.vae.precision import Layer, explain_slowdown, explain_unsupported, list_layers, to_float32
from lso.vae.runs import Run
from lso.vae.training import loop as training
from lso.vae.training.loop import Limits, TrainingCallback
from lso.vae.training.step import State, StepInputs, StepMetrics, draw_noise, fresh_state, step
from tests.vae.small import PAIRS, batch_for, config, contents, digits, example, kind_of, rows, sentences, small_model

CPU = torch.device("cpu")
NAMES = ("vae", "ne-vae-se", "iwae", "sa-vae", "skip-vae", "pixelcnn")
SOME = [(name, arch) for name, arch in PAIRS if name in NAMES and (name, arch) != ("sa-vae", "he2019-small")]  # slow


def stepped(name: str, arch: str, precision: Precision) -> tuple[State, StepMetrics, Tensor]:
    """A first step, and its gradient as one vector."""
    chosen = example(name)
    state = fresh_state(small_model(chosen, arch), chosen, Protocol(precision=precision, clip=0.0))
    x = batch_for(arch, 16)
    binarize = kind_of(arch) == "image"
    noise = draw_noise(chosen, state.model, tuple(x.shape), binarize=binarize, seed=0, step=0, device=x.device)
    info = step(state, x, noise, StepInputs(torch.tensor(1.0), torch.tensor(1e-3)))
    return state, info, torch.cat([p.grad.flatten() for p in state.model.parameters() if p.grad is not None])


@pytest.mark.parametrize(("name", "arch"), SOME)
def test_a_step_in_bfloat16_is_near_the_one_in_float32(name: str, arch: str) -> None:
    if why := explain_unsupported("bfloat16", small_model(example(name), arch), CPU):
        pytest.skip(why)
    _, exact, gradient = stepped(name, arch, "float32")
    state, info, reduced = stepped(name, arch, "bfloat16")
    assert all(value.dtype == torch.float32 for value in (*info, *state.model.parameters(), reduced))
    # bfloat16 has 8 bits: a rounding is 0.2 to 0.4 %, and those of pixels and layers average out.
    torch.testing.assert_close(info.loss, exact.loss, rtol=0.01, atol=0)
    assert info.loss != exact.loss, "computed in float32 after all"
    assert torch.cosine_similarity(reduced, gradient, dim=0) > 0.99


class Warned(TrainingCallback):
    """Keeps what it is told, in order."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def warn(self, text: str) -> None:
        self.told.append(text)

    def start(self, run: Run, steps: int, done: int) -> None:
        self.told.append("start")


def answers(patch: pytest.MonkeyPatch, times: dict[Layer, float]) -> None:
    """A processor on which layers in bfloat16 take so many times as long; one that is not named fails as in oneDNN."""

    def seconds(layer: Layer, precision: Precision, device: torch.device) -> float:
        if precision == "bfloat16" and layer not in times:
            raise RuntimeError("could not create a primitive descriptor for it. Run with ONEDNN_VERBOSE=all.")
        return 0.01 * times[layer] if precision == "bfloat16" else 0.01

    patch.setattr(precisions, "time_layer", seconds)


def test_what_the_processor_cannot_compute_is_refused_before_a_folder_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(monkeypatch, {"convolution": 0.6, "linear layer": 0.6})
    with pytest.raises(UsageError, match="this CPU cannot compute") as refused:
        training.train_model(config(arch="lstm", precision="bfloat16"), sentences(), tmp_path / "r")
    lines = str(refused.value).splitlines()
    assert len(lines) == 2 and "could not create a primitive descriptor" in lines[0] and "float32" in lines[1]
    assert "LSTM" in lines[0] and not (tmp_path / "r").exists()
    # What has no such layer is trained, and so is what asks for none.
    for number, chosen in enumerate((config(precision="bfloat16"), config(precision="float32"))):
        run = training.train_model(chosen, digits(), tmp_path / f"{number}", limits=Limits(steps=1))
        assert run.info["status"] == "stopped" and "slower" not in run.info["sentence"]


def test_a_run_goes_on_only_where_its_precision_can_be_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(monkeypatch, {"linear layer": 0.6})
    run = training.train_model(config(precision="bfloat16"), digits(), tmp_path / "r", limits=Limits(steps=5))
    before = contents(run.path)
    answers(monkeypatch, {})
    with pytest.raises(UsageError, match="linear layer failed"):
        training.resume_training(run, digits())
    assert contents(run.path) == before
    answers(monkeypatch, {"linear layer": 3.9})
    callback = Warned()
    assert training.resume_training(run, digits(), callback=callback).info["status"] == "finished"
    assert "3.9 times as long" in callback.told[0] and "3.9 times as long" in run.info["sentence"]
    whole = training.train_model(config(precision="bfloat16"), digits(), tmp_path / "whole")
    assert rows(run.path) == rows(whole.path)


@pytest.mark.parametrize(("ratio", "told"), [(0.5, False), (1.1, False), (3.9, True)])
def test_where_bfloat16_is_slower_it_is_said_before_training_with_the_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ratio: float, told: bool
) -> None:
    answers(monkeypatch, {"convolution": 1.0, "linear layer": ratio})
    callback = Warned()
    run = training.train_model(
        config(precision="bfloat16"), digits(), tmp_path / "r", callback=callback, limits=Limits(steps=1)
    )
    wanted = "bfloat16 is slower on this CPU: one small linear layer took 3.9 times as long (39 against 10 ms)"
    assert callback.told == ([wanted, "start"] if told else ["start"])
    assert (wanted in run.info["sentence"]) == told


def test_only_layers_that_a_model_has_are_tried() -> None:
    wanted = {
        "mlp": ("linear layer",),
        "he2019-small": ("convolution", "linear layer"),
        "lstm": ("LSTM", "linear layer"),
        "transformer": ("linear layer",),
    }
    assert {arch: list_layers(small_model(example("vae"), arch)) for arch in wanted} == wanted


def test_the_processor_is_asked_once_and_nothing_else_changes() -> None:
    """The real question, whatever this processor answers: a time, or what `explain_unsupported` says."""
    precisions.time_layer.cache_clear()
    torch.manual_seed(0)
    before = torch.get_rng_state()
    model = small_model(example("vae"), "lstm")
    for _ in range(2):
        said = explain_unsupported("bfloat16", model, CPU)
        assert said or isinstance(explain_slowdown("bfloat16", model, CPU), str)
    assert precisions.time_layer.cache_info().currsize == (0 if said else 4)
    assert precisions.time_layer("linear layer", "float32", CPU) > 0
    assert not explain_unsupported("float32", model, CPU) and not explain_slowdown("float32", model, CPU)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_training_in_bfloat16_ends_where_the_other_does(tmp_path: Path) -> None:
    ends = []
    for precision in ("float32", "bfloat16"):
        run = training.train_model(config(epochs=6, precision=precision), digits(), tmp_path / precision)
        ends.append(run.best())
        assert all(value.dtype == torch.float32 for value in load_model(run.path / "model.safetensors").parameters())
    for key in ("neg_elbo", "kl", "reconstruction"):
        assert ends[1][key] == pytest.approx(ends[0][key], rel=0.02, abs=0.05), key
    assert ends[1]["neg_elbo"] != ends[0]["neg_elbo"]


def test_the_precision_is_part_of_the_configuration() -> None:
    chosen = config(precision="bfloat16")
    assert from_toml(to_toml(chosen)) == chosen
    with pytest.raises(UsageError, match="precision"):
        from_toml('[protocol]\nprecision = "float8"\n')


def test_widened_keeps_what_is_wide() -> None:
    for dtype, after in ((torch.float64,) * 2, (torch.float32,) * 2, (torch.bfloat16, torch.float32)):
        assert to_float32(torch.ones(1, dtype=dtype)).dtype == after


@pytest.mark.parametrize("arch", ["he2019-small", "kim2018"])
def test_weights_of_convolutions_lie_with_channels_innermost_and_mean_the_same(arch: str) -> None:
    model = small_model(example("vae"), arch).double().eval()
    inner = torch.channels_last
    assert all(w.is_contiguous(memory_format=inner) for w in model.parameters() if w.ndim == 4)
    plain = small_model(example("vae"), arch).double().eval()
    for weight in plain.parameters():
        weight.data = weight.data.contiguous()
    assert not all(w.is_contiguous(memory_format=inner) for w in plain.parameters() if w.ndim == 4)
    x = batch_for(arch).double()
    for one, other in zip(
        (model.encode(x).mean, model.decode(model.encode(x).mean, x).log_prob(x)),
        (plain.encode(x).mean, plain.decode(plain.encode(x).mean, x).log_prob(x)),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)
    assert pack_model(model, model.state_dict()) == pack_model(plain, plain.state_dict()), "a file has one layout"
