"""Steps in bfloat16: near those in float32, all but the layers in float32; and the layout of weights."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from lso.vae import training
from lso.vae.checkpoint import load_model, pack_model
from lso.vae.config import Precision, Protocol, from_toml, to_toml
from lso.vae.errors import UsageError
from lso.vae.precision import widened
from lso.vae.step import Info, Knobs, State, draw_noise, init, step
from tests.vae.small import PAIRS, batch_for, config, digits, example, kind_of, small_model

NAMES = ("vae", "ne-vae-se", "iwae", "sa-vae", "skip-vae", "pixelcnn")
SOME = [(name, arch) for name, arch in PAIRS if name in NAMES and (name, arch) != ("sa-vae", "he2019-small")]  # slow


def stepped(name: str, arch: str, precision: Precision) -> tuple[State, Info, Tensor]:
    """A first step, and its gradient as one vector."""
    chosen = example(name)
    state = init(small_model(chosen, arch), chosen, Protocol(precision=precision, clip=0.0))
    x = batch_for(arch, 16)
    binarize = kind_of(arch) == "image"
    noise = draw_noise(chosen, state.model, tuple(x.shape), binarize=binarize, seed=0, step=0, device=x.device)
    info = step(state, x, noise, Knobs(torch.tensor(1.0), torch.tensor(1e-3)))
    return state, info, torch.cat([p.grad.flatten() for p in state.model.parameters() if p.grad is not None])


@pytest.mark.parametrize(("name", "arch"), SOME)
def test_a_step_in_bfloat16_is_near_the_one_in_float32(name: str, arch: str) -> None:
    _, exact, gradient = stepped(name, arch, "float32")
    state, info, reduced = stepped(name, arch, "bfloat16")
    assert all(value.dtype == torch.float32 for value in (*info, *state.model.parameters(), reduced))
    # bfloat16 has 8 bits: a rounding is 0.2 to 0.4 %, and those of pixels and layers average out.
    torch.testing.assert_close(info.loss, exact.loss, rtol=0.01, atol=0)
    assert info.loss != exact.loss, "computed in float32 after all"
    assert torch.cosine_similarity(reduced, gradient, dim=0) > 0.99


def test_a_training_in_bfloat16_ends_where_the_other_does(tmp_path: Path) -> None:
    ends = []
    for precision in ("float32", "bfloat16"):
        run = training.train(config(epochs=6, precision=precision), digits(), tmp_path / precision)
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
        assert widened(torch.ones(1, dtype=dtype)).dtype == after


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
